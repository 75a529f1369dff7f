"""Images become the input of the network as in gfocal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.preprocess import InputSettings
from gfocal.models.predict import as_rgb as as_rgb_tensor
from gfocal.models.predict import stack_inputs
from gfocal_runtime.images import as_rgb, network_input
from gfocal_runtime.metadata import ExportedFileError, InputRule

sides = st.integers(1, 90)


def both(image: np.ndarray, rule: InputSettings) -> tuple[np.ndarray, np.ndarray]:
    """The input that gfocal_runtime makes of an image (H, W, 3), and gfocal's, in units of pixel values."""
    own = InputRule(rule.mean, rule.std, rule.short_side, rule.long_side, rule.multiple, rule.antialias, rule.stretch)
    batch, sizes = network_input([image], own)
    wanted = stack_inputs([0], [torch.from_numpy(image).permute(2, 0, 1)], rule)
    assert [list(size) for size in sizes] == wanted.sizes.tolist()
    scale = np.array(rule.std, np.float32)[:, None, None]
    return batch[0] * scale, wanted.images[0].numpy() * scale


@given(
    sides,
    sides,
    st.integers(2, 90),
    st.integers(0, 60),
    st.integers(0, 99),
    st.sampled_from(["antialias", "plain", "stretch"]),
)
@settings(max_examples=60)
def test_equals_gfocal(height: int, width: int, short: int, more: int, seed: int, how: str) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rule = InputSettings(
        short_side=short, long_side=short + more, antialias=how == "antialias", stretch=how == "stretch"
    )
    found, wanted = both(image, rule)
    # Pillow's weights have more bits than torch's, so that a few values are rounded to the other neighbor.
    assert np.abs(found - wanted).max() < (1.001 if how == "antialias" else 1e-3)


def test_few_values_of_a_large_image_differ() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    found, wanted = both(image, InputSettings(short_side=320, long_side=512))
    assert (np.abs(found - wanted) > 1e-3).mean() < 0.005


def test_images_are_read_as_in_gfocal(tmp_path: Path) -> None:
    folder = tmp_path
    random = np.random.default_rng(0)
    rgba = Image.fromarray(random.integers(0, 256, (9, 13, 4), np.uint8))
    rgba.save(folder / "a.png")
    rgba.convert("P").save(folder / "p.gif")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba.convert("RGB").save(folder / "turned.jpg", exif=exif)
    rgba.convert("CMYK").save(folder / "cmyk.jpg")
    rgba.convert("L").save(folder / "gray.png")
    for file in sorted(folder.iterdir()):
        assert np.array_equal(as_rgb(file), as_rgb_tensor(file).permute(1, 2, 0).numpy()), file.name


def test_what_is_no_image(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8broken")
    with pytest.raises(ExportedFileError, match=r"broken\.jpg: cannot be read"):
        as_rgb(broken)
    with pytest.raises(ValueError, match="uint8"):
        as_rgb(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="more than 8 bits"):
        as_rgb(Image.fromarray(np.zeros((3, 4), np.uint16)))

"""Detection by tiles: equal to the whole image where one tile has it, and with all that detections know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gfocal.data.preprocess import InputSettings
from gfocal.errors import ImageError
from gfocal.models.detector import Detector
from gfocal.models.tiled import align, detect_in_tiles, detect_tiled
from gfocal.models.zoo import create
from gfocal.ops.tiles import Tiling
from gfocal.structures import Detections

OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
LOWEST = 0.005  # below the scores of an untrained detector


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    model = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=64)
    model.decode_settings = replace(model.decode_settings, max_detections=20)
    find_small_things(model)
    return model.eval()


def find_small_things(model: Detector) -> None:
    """Change an untrained detector, whose boxes fill the image and whose scores are all alike."""
    with torch.no_grad():
        model.head.cls_out.weight.mul_(30)
        bins = torch.arange(model.head.num_bins)
        model.head.box_out.bias.copy_((-2.0 * (bins - 1).abs()).repeat(4))


def make_image(height: int, width: int) -> Tensor:
    numbers = torch.Generator().manual_seed(height + width)
    small = torch.randint(0, 256, (1, 3, height // 6 + 1, width // 6 + 1), generator=numbers).float()
    image = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return image[0].to(torch.uint8)


def assert_equal(a: Detections, b: Detections) -> None:
    assert len(a) == len(b) > 3
    assert torch.equal(a.labels, b.labels)
    for name in ("boxes", "scores", "edges", "points", "bin_sizes"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [(96, 96), (60, 96), (96, 33)])
def test_an_image_in_one_tile_gives_what_it_gives_as_a_whole(model: Detector, size: tuple[int, int]) -> None:
    image = make_image(*size)
    whole = model.detect(image, LOWEST)
    tiled = model.detect(image, LOWEST, tile=96)
    assert isinstance(whole, Detections)
    assert isinstance(tiled, Detections)
    assert_equal(whole, tiled)
    assert tiled.size == size
    assert tiled.source is not None
    assert tiled.source.get() is image


def test_the_parts_of_an_image_are_found_where_they_are(model: Detector) -> None:
    """Without overlap, and with nothing cut, each tile gives what it gives alone."""
    one = make_image(96, 96)
    image = torch.cat([torch.cat([one, one], 2), torch.cat([one, one], 2)], 1)
    alone = model.detect(one, LOWEST)
    tiled = model.detect(image, LOWEST, tile=96, overlap=0.0)
    assert isinstance(alone, Detections)
    assert isinstance(tiled, Detections)
    inside = alone[((alone.boxes > 2) & (alone.boxes < 94)).all(1)]
    assert len(inside) > 0
    for x, y in ((0, 0), (96, 0), (0, 96), (96, 96)):
        shift = torch.tensor([x, y, x, y])
        for box, point in zip(inside.boxes + shift, inside.points + shift[:2], strict=True):
            near = (tiled.boxes - box).abs().amax(1) < 0.01
            assert (tiled.points[near] == point).all(1).any()


def test_images_of_any_kind_and_several_at_once(model: Detector, tmp_path: Path) -> None:
    image = make_image(150, 130)
    array = image.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    kinds = [tmp_path / "a.tif", str(tmp_path / "a.tif"), Image.fromarray(array), array, image]
    found = model.detect(kinds, LOWEST, tile=64)
    assert isinstance(found, list)
    for one in found:
        assert_equal(one, found[0])
    batched = detect_tiled(model, image, Tiling(64), LOWEST, batch_size=4)
    assert isinstance(batched, Detections)
    assert_equal(batched, found[0])
    assert len(found[0]) > model.decode_settings.max_detections  # the limit is that of a tile
    assert (found[0].scores[:-1] >= found[0].scores[1:]).all()
    of_opencv = model.detect(array[..., ::-1].copy(), LOWEST, color="bgr", tile=64)
    assert isinstance(of_opencv, Detections)
    assert_equal(of_opencv, found[0])


def test_thresholds_are_those_of_each_class(model: Detector) -> None:
    image = make_image(150, 130)
    every = model.detect(image, LOWEST, tile=64)
    assert isinstance(every, Detections)
    assert 0 < int((every.labels == 1).sum()) < len(every)
    found = model.detect(image, [LOWEST, 1.0], tile=64)
    assert isinstance(found, Detections)
    assert len(found) == int((every.labels == 0).sum())


def test_a_detector_that_stretches_gets_tiles_of_full_size(model: Detector) -> None:
    stretching = InputSettings(short_side=64, long_side=96, stretch=True)
    settings = model.input_settings
    model.input_settings = stretching
    try:
        assert align(Tiling(100), stretching) == Tiling(100)  # two scales have no common grid
        found = model.detect(make_image(150, 130), LOWEST, tile=100)
    finally:
        model.input_settings = settings
    assert isinstance(found, Detections)
    assert len(found)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes <= torch.tensor([130, 150, 130, 150])).all()


def test_tiles_begin_where_cells_of_the_network_do() -> None:
    assert align(Tiling(1024), InputSettings(short_side=512, long_side=800)).grid == 128
    assert align(Tiling(1000), InputSettings(short_side=800, long_side=800)).grid == 80


class BrokenRows:
    size = (500, 100)

    def read(self, top: int, bottom: int) -> np.ndarray:
        if bottom > 300:
            raise ImageError("image.tif: the file ends before its pixels")
        return np.zeros((bottom - top, 100, 3), np.uint8)


def test_an_image_that_breaks_on_the_way_is_an_error_and_nothing_waits(model: Detector) -> None:
    seen = []
    with pytest.raises(ImageError, match="ends before its pixels"):
        detect_in_tiles(model, BrokenRows(), Tiling(100), 0.3, on_tile=seen.append)
    assert 1 <= len(seen) <= 4


def test_what_is_no_tile_size(model: Detector) -> None:
    with pytest.raises(ValueError, match="tiles have 32 to"):
        model.detect(make_image(60, 60), tile=8)
    with pytest.raises(ValueError, match="overlap"):
        model.detect(make_image(60, 60), tile=64, overlap=1)

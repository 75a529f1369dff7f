"""Images that are nearly the same are found, and those that only resemble each other are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import texture
from PIL import Image, ImageFilter

from gfocal.data.fingerprints import Fingerprint, compute_fingerprint, find_near_duplicates

CHANGES = {
    "smaller": lambda image: image.resize((96, 72)),
    "larger": lambda image: image.resize((400, 300), Image.Resampling.BICUBIC),
    "darker": lambda image: image.point(lambda value: int(0.7 * value)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "gray": lambda image: image.convert("L"),
    "cut by a pixel": lambda image: image.crop((1, 1, image.width - 1, image.height - 1)),
}


def fingerprints(folder: Path, images: list[Image.Image], quality: int = 90) -> list[Fingerprint]:
    found = []
    for i, image in enumerate(images):
        image.save(folder / f"{i}.jpg", quality=quality)
        found.append(compute_fingerprint(folder / f"{i}.jpg"))
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(tmp_path: Path, change: str) -> None:
    originals = [texture(i) for i in range(5)]
    found = find_near_duplicates(fingerprints(tmp_path, [*originals, *map(CHANGES[change], originals)]))
    assert [(a, b) for a, b, _ in found] == [(i, i + 5) for i in range(5)]


def test_heavy_compression_is_seen_through(tmp_path: Path) -> None:
    originals = [texture(i) for i in range(5)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = find_near_duplicates(
        fingerprints(tmp_path / "a", originals) + fingerprints(tmp_path / "b", originals, quality=15)
    )
    assert [(a, b) for a, b, _ in found] == [(i, i + 5) for i in range(5)]


def test_other_images_are_not_found(tmp_path: Path) -> None:
    even = [Image.new("RGB", (160, 120), (shade, shade, shade)) for shade in (10, 200)]
    ramps = [Image.fromarray(np.tile(np.linspace(0, 255, 160, dtype=np.uint8), (120, 1)))]
    ramps.append(ramps[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    mirrored = [texture(i) for i in range(60)] + [texture(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert find_near_duplicates(fingerprints(tmp_path, [*mirrored, *even, *ramps])) == []
    assert find_near_duplicates([]) == find_near_duplicates(fingerprints(tmp_path, even[:1])) == []


def test_the_light_of_a_scene_alone_makes_no_near_duplicate(tmp_path: Path) -> None:
    """Gray copies that correlate, but other things to be seen; and the same slopes, but other gray copies."""
    ramp = np.tile(np.linspace(20, 235, 160), (120, 1))
    things = [
        Image.fromarray(
            np.clip(ramp + (np.asarray(texture(i).convert("L"), np.float64) - 128) / 8, 0, 255).astype("u1")
        )
        for i in range(20)
    ]
    assert find_near_duplicates(fingerprints(tmp_path, things)) == []
    place = np.linspace(0, 1, 160)
    bent = [Image.fromarray(np.tile((255 * place**power).astype("u1"), (120, 1))) for power in (0.3, 3.0)]
    assert find_near_duplicates(fingerprints(tmp_path, bent, quality=100)) == []

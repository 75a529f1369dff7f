"""When gfocal check says that images should be cut into tiles."""

from __future__ import annotations

import pytest
import torch

from calibrations import Annotated
from gfocal.checks.tile_size import check_tiles, choose_tiles, measure_small_objects
from gfocal.data.dataset import Sample
from gfocal.data.preprocess import InputSettings
from gfocal.ops.tiles import Tiling


def make_data(side: float, size: tuple[int, int], count: int = 20) -> Annotated:
    """Images of one size with square boxes of one side."""
    boxes = torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side]]).repeat(4, 1)
    labels, crowd = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
    return Annotated(
        tuple(Sample(image_id=i, path=None, size=size, boxes=boxes, labels=labels, crowd=crowd) for i in range(count))
    )


SETTINGS = InputSettings(short_side=800, long_side=1333)


def test_small_objects_in_large_images_are_a_finding() -> None:
    small = measure_small_objects(make_data(50, (6000, 8000)), SETTINGS)
    assert small is not None
    assert small.share == 1
    assert small.image_side == pytest.approx(50)
    assert small.input_side == pytest.approx(50 * 800 / 6000, rel=0.01)
    assert small.tiling == Tiling(832, 0.15)
    assert small.tile_side == pytest.approx(48, abs=2)
    (finding,) = check_tiles(make_data(50, (6000, 8000)), SETTINGS, "train", "data")
    assert finding.code == "objects-small-at-input"
    assert "100% of the objects have a side under 12 pixels" in finding.text
    assert "50 pixels becomes 6.7, and 48 in tiles of --tile 832 --overlap 0.15" in finding.text


@pytest.mark.parametrize(
    ("side", "size"),
    [
        (200, (6000, 8000)),  # 27 pixels at the input
        (10, (800, 1000)),  # small, but tiles would not make it larger
        (12, (1200, 1600)),
    ],
)
def test_other_images_are_not(side: float, size: tuple[int, int]) -> None:
    assert check_tiles(make_data(side, size), SETTINGS, "train", "data") == []
    assert check_tiles(make_data(side, size, 0), SETTINGS, "train", "data") == []


def test_tiles_enlarge_pixels_twice_at_most_and_overlap_by_the_objects() -> None:
    assert choose_tiles(3.0, 5.0, SETTINGS) == (Tiling(416, 0.1), pytest.approx(3 * 800 / 416))
    assert choose_tiles(100.0, 5000.0, SETTINGS)[0].overlap == 0.5
    tiling, _ = choose_tiles(60.0, 200.0, SETTINGS)
    assert tiling.largest_side >= 200

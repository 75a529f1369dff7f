"""FoveaBox's assignment against a slow reimplementation that paints cells, and its corner cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import (
    SIZES,
    STRIDES,
    area,
    check_alone,
    check_compiles,
    check_empty,
    check_never_waits,
    check_rules,
    ground_truth,
    levels_of,
    masked,
    part_of,
    pyramid,
    random_images,
    whole,
)

from gfocal.assigners.fovea import assign_fovea, fovea, scale_ranges
from gfocal.structures import BACKGROUND, Points

POINTS = pyramid(160, 224)
RANGES = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))


def slow_fovea(points: Points, boxes: list[list[float]], sigma: float) -> tuple[list[int], float]:
    """The box of every point of one image, and how near the closest rounding was to another whole number."""
    painted, nearest = [], math.inf
    for (height, width), stride, (low, high) in zip(points.shapes, STRIDES, RANGES, strict=True):
        canvas = [[BACKGROUND] * width for _ in range(height)]
        fitting = [g for g, box in enumerate(boxes) if low**2 <= area(box) <= high**2]
        for g in sorted(fitting, key=lambda g: -area(boxes[g])):
            x1, y1, x2, y2 = (value / stride for value in boxes[g])
            middle = (
                (x1 + x2) / 2 - sigma * (x2 - x1) / 2 - 0.5,
                (y1 + y2) / 2 - sigma * (y2 - y1) / 2 - 0.5,
                (x1 + x2) / 2 + sigma * (x2 - x1) / 2 - 0.5,
                (y1 + y2) / 2 + sigma * (y2 - y1) / 2 - 0.5,
            )
            nearest = min([nearest, *(abs(value - round(value)) for value in middle)])
            left, top = math.ceil(middle[0]), math.ceil(middle[1])
            right, bottom = math.floor(middle[2]), math.floor(middle[3])
            left, right = (min(max(value, 0), width - 1) for value in (left, right))
            top, bottom = (min(max(value, 0), height - 1) for value in (top, bottom))
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    canvas[row][column] = g
        painted += [g for row in canvas for g in row]
    return painted, nearest


@pytest.mark.parametrize("sigma", [0.4, 0.5])  # of the second every product is exact: no decision is too near
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(sigma: float, seed: int) -> None:
    images = random_images(seed)
    targets, part = ground_truth(images), part_of(POINTS, SIZES)
    got = assign_fovea(POINTS, targets, part, sigma)
    check_rules(got, targets, part)
    for i, boxes in enumerate(images):
        want, nearest = slow_fovea(POINTS, boxes, sigma)
        assume(sigma == 0.5 or nearest > 1e-5)
        assert got.gt_index[i].tolist() == masked(want, part[i])


def levels_with(box: list[float]) -> list[int]:
    """The levels that have a point for a box."""
    points = pyramid(2048, 2048)
    got = assign_fovea(points, ground_truth([[box]]), whole(points)).gt_index[0]
    return sorted({level for level, g in zip(levels_of(points), got.tolist(), strict=True) if g == 0})


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        (31, [0]),
        (32, [0, 1]),
        (64, [0, 1, 2]),
        (65, [1, 2]),
        (128, [1, 2, 3]),
        (129, [2, 3]),
        (512, [3, 4]),
        (513, [4]),
    ],
)
def test_a_box_is_on_the_levels_whose_range_it_fits(side: int, levels: list[int]) -> None:
    """Centered on a cell's center of every level: 1088 = 8.5 x 128 = 17 x 64 ... + half a cell of the coarsest."""
    middles = {level: 1024 + STRIDES[level] / 2 for level in levels}
    for level, middle in middles.items():
        box = [middle - side / 2, middle - side / 2, middle + side / 2, middle + side / 2]
        assert level in levels_with(box)
        assert set(levels_with(box)) <= set(levels)


def test_scale_ranges_are_the_published_ones() -> None:
    assert scale_ranges(STRIDES) == [tuple(map(float, ends)) for ends in RANGES]
    assert scale_ranges((16,)) == [(1.0, 256.0)]


def test_boxes_too_small_and_too_large_have_no_points() -> None:
    points = pyramid(160, 224)
    for box in ([36.0, 36, 36, 90], [36, 36, 36.9, 36.9], [-2000, -2000, 2000, 2000]):
        got = assign_fovea(points, ground_truth([[box]]), whole(points))
        assert (got.gt_index == BACKGROUND).all()


def test_a_fovea_between_two_centers_is_empty_and_one_beyond_the_map_is_clamped() -> None:
    start, end = torch.tensor([3.0, 3.0, 9.9, -4.0]), torch.tensor([5.0, 9.0, 12.0, -2.0])
    first, last = fovea(start, end, 0.4, 8)
    assert first.tolist() == [4, 5, 7, 0]  # 3.6 - 0.5 -> 4; 4.8 - 0.5 -> 5
    assert last.tolist() == [3, 6, 7, 0]  # 4.4 - 0.5 -> 3; 7.2 - 0.5 -> 6


def test_a_smaller_box_overrides_whatever_the_order_and_of_equal_ones_the_last() -> None:
    large, small = [20.0, 20, 80, 80], [40.0, 40, 76, 76]
    one_way = assign_fovea(POINTS, ground_truth([[large, small]]), whole(POINTS)).gt_index
    other_way = assign_fovea(POINTS, ground_truth([[small, large]]), whole(POINTS)).gt_index
    assert torch.equal(one_way, torch.where(other_way >= 0, 1 - other_way, other_way))
    alone = [assign_fovea(POINTS, ground_truth([[box]]), whole(POINTS)).gt_index == 0 for box in (large, small)]
    assert (alone[0] & alone[1]).any()  # else there was no conflict
    assert torch.equal(one_way == 1, alone[1])

    twice = assign_fovea(POINTS, ground_truth([[large, large]]), whole(POINTS)).gt_index
    assert torch.equal(twice == 1, alone[0])
    assert not (twice == 0).any()


def test_laws_of_all_assigners() -> None:
    check_empty(assign_fovea, POINTS)
    check_alone(assign_fovea, POINTS)
    check_never_waits(assign_fovea, POINTS)


def test_compiles_into_one_graph() -> None:
    check_compiles(assign_fovea, POINTS)

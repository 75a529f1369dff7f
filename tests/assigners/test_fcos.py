"""FCOS against a slow reimplementation, against torchvision, and its corner cases."""

from __future__ import annotations

import math
from types import SimpleNamespace

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
    distances,
    ground_truth,
    levels_of,
    masked,
    part_of,
    pyramid,
    random_boxes,
    random_images,
    whole,
)
from torchvision.models.detection.fcos import FCOS

from gfocal.assigners.fcos import assign_fcos, smallest_box
from gfocal.ops.points import make_points
from gfocal.structures import BACKGROUND, Assignment, Points, Targets

POINTS = pyramid(160, 224)
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))


def with_center_sampling(points: Points, targets: Targets, part: torch.Tensor) -> Assignment:
    return assign_fcos(points, targets, part, center_radius=1.5)


def slow_fcos(points: Points, boxes: list[list[float]], radius: float | None) -> list[int]:
    found = []
    for xy, level in zip(points.xy.tolist(), levels_of(points), strict=True):
        best, smallest = BACKGROUND, math.inf
        for g, box in enumerate(boxes):
            region = list(box)
            if radius is not None:
                half_side = radius * points.level_strides[level]
                x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                region = [
                    max(box[0], x - half_side),
                    max(box[1], y - half_side),
                    min(box[2], x + half_side),
                    min(box[3], y + half_side),
                ]
            inside = all(distance > 0 for distance in distances(xy, region))
            low, high = RANGES[level]
            if inside and low <= max(distances(xy, box)) <= high and area(box) < smallest:
                best, smallest = g, area(box)
        found.append(best)
    return found


@pytest.mark.parametrize("radius", [None, 1.5])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(radius: float | None, seed: int) -> None:
    images = random_images(seed)
    targets, part = ground_truth(images), part_of(POINTS, SIZES)
    got = assign_fcos(POINTS, targets, part, radius)
    check_rules(got, targets, part)
    for i, boxes in enumerate(images):
        assert got.gt_index[i].tolist() == masked(slow_fcos(POINTS, boxes, radius), part[i])


@pytest.mark.parametrize("radius", [math.inf, 1.5, 0.7])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_equals_torchvision(radius: float, seed: int) -> None:
    """Which leaves out the ends of ranges, and has 1e8 - area in float32, in steps of 8: chance avoids both."""
    points = pyramid(320, 448)
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(random_boxes(8, (320, 448), generator)) + torch.rand(8, 4, generator=generator) / 8
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).sort().values
    assume(areas.diff().min() > 16)
    half = points.strides.unsqueeze(1) / 2
    anchors = torch.cat((points.xy - half, points.xy + half), 1)
    matcher = SimpleNamespace(
        center_sampling_radius=radius,
        head=SimpleNamespace(compute_loss=lambda targets, outputs, anchors, matched: matched),
    )
    want = FCOS.compute_loss(matcher, [{"boxes": boxes}], {}, [anchors], points.counts)  # type: ignore[arg-type]
    got = assign_fcos(points, ground_truth([boxes.tolist()]), whole(points), None if radius == math.inf else radius)
    assert torch.equal(got.gt_index[0], want[0])


def one_point(x: float, y: float) -> Points:
    """Of the finest level, with a coarser one behind, so that the finest has an end."""
    points = make_points([(1, 1), (1, 1)], (8, 16))
    return Points(
        torch.tensor([[x, y], [1e6, 1e6]]), points.strides, points.cells, points.shapes, points.level_strides
    )


@pytest.mark.parametrize(
    ("box", "radius", "positive"),
    [
        ([0, 0, 64, 60], None, True),
        ([0, 0, 20, 10], None, False),  # its edge
        ([20, 10, 40, 40], None, False),  # its corner
        ([0, 0, 84, 60], None, True),  # the farthest edge is 64 pixels away
        ([0, 0, 84.25, 60], None, False),
        ([0, 0, 64, 20], 1.5, False),  # the center is 12 pixels away
        ([0, 0, 63.5, 20], 1.5, True),
        ([0, 0, 40, 10], 1.5, False),  # near the center, on the edge
    ],
)
def test_ends_of_ranges_and_edges(box: list[float], radius: float | None, positive: bool) -> None:
    points = one_point(20, 10)
    assert slow_fcos(points, [box], radius)[0] == (0 if positive else BACKGROUND)
    assert assign_fcos(points, ground_truth([[box]]), whole(points), radius).gt_index[0, 0] == (
        0 if positive else BACKGROUND
    )


def test_at_the_end_of_a_range_two_levels_take_a_box() -> None:
    points = make_points([(16, 16), (8, 8)], (8, 16), "corner")
    got = assign_fcos(points, ground_truth([[[0, 0, 80, 80]]]), whole(points)).gt_index[0]
    at_16 = (points.xy == 16).all(1)  # 64 pixels from the right edge
    assert got[at_16].tolist() == [0, 0]


def test_ranges_follow_the_strides() -> None:
    """One level takes every size; levels of strides 4 and 8 part at 32 pixels."""
    single = make_points([(40, 40)], (8,), "center")
    got = assign_fcos(single, ground_truth([[[0, 0, 320, 320]]]), whole(single))
    assert (got.gt_index == 0).all()
    two = make_points([(80, 80), (40, 40)], (4, 8), "center")
    ends = (two.xy.unsqueeze(1) - torch.tensor([[0.0, 0], [60, 60]])).abs().amax((1, 2))
    got = assign_fcos(two, ground_truth([[[0, 0, 60, 60]]]), whole(two)).gt_index[0]
    inside = (two.xy < 60).all(1)
    assert torch.equal(got == 0, inside & torch.where(two.strides == 4, ends <= 32, ends >= 32))


def test_of_two_identical_boxes_the_first_gets_all_points() -> None:
    box = [30.0, 31, 90, 97]
    once, twice = (assign_fcos(POINTS, ground_truth([[box] * n]), whole(POINTS)) for n in (1, 2))
    assert (once.gt_index >= 0).any()
    assert torch.equal(once.gt_index, twice.gt_index)


def test_smallest_box_in_a_batch() -> None:
    claims = torch.tensor(
        [[[True, True], [False, False], [True, False]], [[False, True], [True, True], [True, True]]]
    )
    got = smallest_box(claims, torch.tensor([[4.0, 2.0], [3.0, 3.0]]))
    assert got.tolist() == [[1, BACKGROUND, 0], [1, 0, 0]]


@pytest.mark.parametrize("assign", [assign_fcos, with_center_sampling])
def test_laws_of_all_assigners(assign) -> None:
    check_empty(assign, POINTS)
    check_alone(assign, POINTS)
    check_never_waits(assign, POINTS)


@pytest.mark.parametrize("assign", [assign_fcos, with_center_sampling])
def test_compiles_into_one_graph(assign) -> None:
    check_compiles(assign, POINTS)


def test_the_strides_of_these_tests_are_those_of_the_ranges() -> None:
    assert POINTS.level_strides == STRIDES
    assert [high for _, high in RANGES[:-1]] == [8 * stride for stride in STRIDES[:-1]]

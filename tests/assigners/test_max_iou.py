"""Max-IoU assignment against a slow reimplementation, against torchvision's matchers, and its corner cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import (
    SIZES,
    Box,
    area,
    check_alone,
    check_compiles,
    check_empty,
    check_never_waits,
    check_rules,
    ground_truth,
    part_of,
    pyramid,
    random_boxes,
    random_images,
    whole,
    with_anchors,
)
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_iou

from gfocal.assigners import max_iou
from gfocal.assigners.max_iou import assign_max_iou
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

POINTS = with_anchors(pyramid(160, 224))
RETINANET = (0.5, 0.4, True)
SSD = (0.5, 0.5, False)


def as_ssd(points: Points, targets: Targets, part: torch.Tensor) -> Assignment:
    return assign_max_iou(points, targets, part, *SSD)


def overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (area(a) + area(b) - shared)


def slow_max_iou(
    anchors: list[list[float]],
    boxes: list[list[float]],
    part: list[bool],
    positive: float,
    negative: float,
    all_best: bool,
) -> list[int]:
    # Areas of these tests are exact, and a quotient is the same in float32 as in float64 and then rounded.
    overlaps = np.array([[overlap(anchor, box) for box in boxes] for anchor in anchors], np.float32).tolist()
    found = []
    for values, takes_part in zip(overlaps, part, strict=True):
        best = max(values, default=0)
        if not takes_part:
            found.append(PADDING)
        elif best < negative:
            found.append(BACKGROUND)
        elif best < positive:
            found.append(PADDING)
        else:
            found.append(values.index(best))
    for g in range(len(boxes)):
        column = [values[g] if takes_part else -1 for values, takes_part in zip(overlaps, part, strict=True)]
        highest = max(column)
        if highest > 0:
            best = [i for i, value in enumerate(column) if value == highest]
            for i in best if all_best else best[:1]:
                found[i] = g
    return found


@pytest.mark.parametrize("numbers", [RETINANET, SSD, (0.7, 0.3, True)])
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(numbers: tuple[float, float, bool], seed: int) -> None:
    images = random_images(seed)
    targets, part = ground_truth(images), part_of(POINTS, SIZES)
    got = assign_max_iou(POINTS, targets, part, *numbers)
    check_rules(got, targets, part)
    for i, boxes in enumerate(images):
        assert got.gt_index[i].tolist() == slow_max_iou(POINTS.anchors.tolist(), boxes, part[i].tolist(), *numbers)


def scene(seed: int) -> torch.Tensor:
    """Boxes of one image, each with an anchor that overlaps it."""
    boxes = torch.tensor(random_boxes(8, (160, 224), torch.Generator().manual_seed(seed)))
    return boxes[box_iou(boxes, POINTS.anchors).amax(1) > 0]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equals_torchvision_for_retinanet(seed: int) -> None:
    """But for the box of an anchor taken in step 4: there it is the anchor's best, not the one it is best for."""
    boxes = scene(seed)
    got = assign_max_iou(POINTS, ground_truth([boxes.tolist()]), whole(POINTS)).gt_index[0]
    overlaps = box_iou(boxes, POINTS.anchors)
    want = Matcher(0.5, 0.4, allow_low_quality_matches=True)(overlaps)
    assert torch.equal(got.clamp(max=0), want.clamp(max=0))
    by_threshold = ~(overlaps == overlaps.amax(1, keepdim=True)).any(0)
    assert torch.equal(got[by_threshold], want[by_threshold])


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equals_torchvision_for_ssd(seed: int) -> None:
    boxes = scene(seed)
    got = as_ssd(POINTS, ground_truth([boxes.tolist()]), whole(POINTS)).gt_index[0]
    assert torch.equal(got, SSDMatcher(0.5)(box_iou(boxes, POINTS.anchors)))
    assert (got != PADDING).all()


def points_of(anchors: list[list[float]]) -> Points:
    boxes = torch.tensor(anchors, dtype=torch.float32)
    count = len(anchors)
    return Points(
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        torch.full((count,), 8.0),
        torch.zeros(count, 2),
        ((1, 1),),
        (8,),
        boxes,
        count,
    )


def test_the_ends_of_the_ranges() -> None:
    """At ``positive`` an anchor is positive, at ``negative`` it is ignored."""
    points = points_of([[0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 4, 4], [0, 0, 4, 3.5], [50, 50, 60, 60]])
    got = assign_max_iou(points, ground_truth([[[0, 0, 8, 8]]]), whole(points), 0.5, 0.25)
    assert got.gt_index.tolist() == [[0, 0, PADDING, BACKGROUND, BACKGROUND]]


@pytest.mark.parametrize(("all_best", "want"), [(True, [0, 0, 0, -1]), (False, [0, -1, -1, -1])])
def test_a_box_that_no_anchor_overlaps_enough_has_its_best(all_best: bool, want: list[int]) -> None:
    points = points_of([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [30, 30, 40, 40]])
    got = assign_max_iou(points, ground_truth([[[6, 6, 10, 10]]]), whole(points), 0.5, 0.4, all_best)
    assert got.gt_index.tolist() == [want]


def test_the_last_box_that_an_anchor_is_best_for_has_it() -> None:
    """Even from a box that it overlaps more."""
    points = points_of([[0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 2]]
    for order in (boxes, boxes[::-1]):
        got = assign_max_iou(points, ground_truth([order]), whole(points))
        assert got.gt_index.tolist() == [[1, BACKGROUND]]


@pytest.mark.parametrize("box", [[50.0, 50, 50, 50], [50, 20, 50, 90], [900, 900, 950, 950]])
@pytest.mark.parametrize("numbers", [RETINANET, SSD])
def test_a_box_that_overlaps_no_anchor_claims_none(box: list[float], numbers: tuple[float, float, bool]) -> None:
    """MMDetection's rule to the letter would give it all of them."""
    other = [30.0, 30, 100, 95]
    got = assign_max_iou(POINTS, ground_truth([[other, box]]), whole(POINTS), *numbers)
    alone = assign_max_iou(POINTS, ground_truth([[other]]), whole(POINTS), *numbers)
    assert (alone.gt_index == 0).any()
    assert torch.equal(got.gt_index, alone.gt_index)


def test_anchors_beyond_an_images_padding_are_nobodys_best() -> None:
    """The box's best anchors lie outside: it has the best of those inside."""
    part = part_of(POINTS, [(160, 64)])
    box = [40.0, 40, 100, 104]
    got = assign_max_iou(POINTS, ground_truth([[box]]), part).gt_index[0]
    best = (box_iou(torch.tensor([box]), POINTS.anchors)[0]).argmax()
    assert not part[0, best]
    assert ((got == 0) & part[0]).any()
    assert (got[~part[0]] == PADDING).all()


def test_more_boxes_than_are_compared_in_one_go() -> None:
    boxes = random_boxes(3 * max_iou.BOXES_AT_ONCE - 3, (160, 224), torch.Generator().manual_seed(3))
    got = assign_max_iou(POINTS, ground_truth([boxes], multiple=1), whole(POINTS))
    want = slow_max_iou(POINTS.anchors.tolist(), boxes, [True] * len(POINTS.xy), *RETINANET)
    assert got.gt_index[0].tolist() == want
    assert got.gt_index.max() > 2 * max_iou.BOXES_AT_ONCE


def test_points_without_anchors_and_swapped_thresholds_are_mistakes() -> None:
    plain = pyramid(64, 64)
    with pytest.raises(AssertionError, match="anchors"):
        assign_max_iou(plain, ground_truth([[]]), whole(plain))
    with pytest.raises(AssertionError, match=r"0\.4"):
        assign_max_iou(POINTS, ground_truth([[]]), whole(POINTS), 0.4, 0.5)


@pytest.mark.parametrize("assign", [assign_max_iou, as_ssd])
def test_laws_of_all_assigners(assign) -> None:
    check_empty(assign, POINTS)
    check_alone(assign, POINTS)
    check_never_waits(assign, POINTS)


@pytest.mark.parametrize("assign", [assign_max_iou, as_ssd])
def test_compiles_into_one_graph(assign) -> None:
    check_compiles(assign, POINTS)

"""SAPD's assignment and weights against a slow reimplementation, and its corner cases."""

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
    distances,
    ground_truth,
    levels_of,
    masked,
    part_of,
    pyramid,
    random_images,
    whole,
)

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.sapd import assign_sapd
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

POINTS = pyramid(160, 224)


def random_level_weights(targets: Targets, seed: int) -> torch.Tensor:
    """Of three levels each, the others 0. (B, G, L)"""
    logits = torch.randn(*targets.valid.shape, len(STRIDES), generator=torch.Generator().manual_seed(seed))
    weights = logits.softmax(-1)
    return torch.where(weights >= weights.topk(3).values[..., -1:], weights, 0.0)


def slow_sapd(
    points: Points, boxes: list[list[float]], level_weights: list[list[float]], effective: float, eta: float
) -> tuple[list[int], list[float], float]:
    """Box and weight of every point of one image, and how near the closest decision was."""
    found, weights, nearest = [], [], math.inf
    for xy, level in zip(points.xy.tolist(), levels_of(points), strict=True):
        best, smallest, weight = BACKGROUND, math.inf, 1.0
        for g, box in enumerate(boxes):
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            gap_x = effective * (box[2] - box[0]) / 2 - abs(xy[0] - x)
            gap_y = effective * (box[3] - box[1]) / 2 - abs(xy[1] - y)
            if area(box) > 0:
                nearest = min(nearest, abs(gap_x), abs(gap_y))
            if gap_x > 0 and gap_y > 0 and level_weights[g][level] > 0 and area(box) < smallest:
                left, top, right, bottom = distances(xy, box)
                ratio = min(left, right) * min(top, bottom) / (max(left, right) * max(top, bottom))
                best, smallest, weight = g, area(box), ratio**eta * level_weights[g][level]
        found.append(best)
        weights.append(weight)
    return found, weights, nearest


@pytest.mark.parametrize(("effective", "eta"), [(0.2, 1.0), (0.5, 2.0)])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(effective: float, eta: float, seed: int) -> None:
    images = random_images(seed)
    targets, part = ground_truth(images), part_of(POINTS, SIZES)
    level_weights = random_level_weights(targets, seed)
    got = assign_sapd(POINTS, targets, part, level_weights, effective, eta)
    check_rules(got, targets, part)
    assert got.weights is not None
    for i, boxes in enumerate(images):
        want, weights, nearest = slow_sapd(POINTS, boxes, level_weights[i].tolist(), effective, eta)
        assume(nearest > 1e-4 or effective == 0.5)  # halves are exact: there no decision is too near
        assert got.gt_index[i].tolist() == masked(want, part[i])
        torch.testing.assert_close(got.weights[i], torch.tensor(weights) * part[i])


def test_without_level_weights_they_are_one() -> None:
    targets, part = ground_truth(random_images(4)), part_of(POINTS, SIZES)
    got = assign_sapd(POINTS, targets, part)
    ones = assign_sapd(POINTS, targets, part, torch.ones(*targets.valid.shape, len(STRIDES)))
    assert (got.gt_index >= 0).any()
    assert torch.equal(got.gt_index, ones.gt_index)
    assert torch.equal(got.weights, ones.weights)


def test_weights_fall_from_one_at_the_center_and_are_one_for_background_and_nought_beyond_the_padding() -> None:
    part = part_of(POINTS, [(160, 96)])
    box = [4.0, 4, 84, 84]  # around the point at 44, 44, with the points beside it
    got = assign_sapd(POINTS, ground_truth([[box]]), part)
    positive = got.gt_index[0] == 0
    finest = positive & (POINTS.strides == 8)
    assert POINTS.xy[finest].amin(0).tolist() == [44, 44]  # an effective box ends before the points beside it
    assert got.weights[0, finest].tolist() == [1]
    assert set(got.weights[0, got.gt_index[0] == BACKGROUND].tolist()) == {1}
    assert set(got.weights[0, got.gt_index[0] == PADDING].tolist()) == {0}

    wider = assign_sapd(POINTS, ground_truth([[box]]), part, effective=0.5)
    beside = (POINTS.strides == 8) & (POINTS.xy == torch.tensor([52.0, 44.0])).all(1)
    assert wider.weights[0, beside].tolist() == pytest.approx([32 / 48])
    steeper = assign_sapd(POINTS, ground_truth([[box]]), part, effective=0.5, eta=3.0)
    assert steeper.weights[0, beside].tolist() == pytest.approx([(32 / 48) ** 3])


def test_a_box_is_on_every_level_that_it_is_assigned_to() -> None:
    """And where it is not, its points are free for a larger box."""
    large, small = [-80.0, -80, 208, 208], [-32.0, -32, 160, 160]
    targets = ground_truth([[large, small]], multiple=1)
    level_weights = torch.ones(1, 2, 5)
    level_weights[0, 1, 3:] = 0
    got = assign_sapd(POINTS, targets, whole(POINTS), level_weights).gt_index[0]
    everywhere = assign_sapd(POINTS, targets, whole(POINTS)).gt_index[0]
    by_level = [set(level.tolist()) - {BACKGROUND} for level in got.split(POINTS.counts)]
    assert by_level == [{0, 1}, {0, 1}, {1}, set(), {0}]
    assert set(everywhere.split(POINTS.counts)[4].tolist()) == {BACKGROUND, 1}


def test_gradients_reach_the_level_weights_of_positive_points_alone() -> None:
    # The first box is a line through points: all distances to its sides that they have in x are zero.
    images = [[[44.0, 20, 44, 90], *boxes] for boxes in random_images(4)]
    targets, part = ground_truth(images), part_of(POINTS, SIZES)
    level_weights = torch.full((*targets.valid.shape, len(STRIDES)), 0.2, requires_grad=True)
    got = assign_sapd(POINTS, targets, part, level_weights)
    got.weights.sum().backward()
    want = torch.zeros_like(level_weights)
    for i, g in ((i, g) for i in range(len(images)) for g in range(targets.valid.shape[1])):
        for level in range(len(STRIDES)):
            mine = (got.gt_index[i] == g) & (POINTS.strides == STRIDES[level])
            want[i, g, level] = got.weights.detach()[i][mine].sum() / 0.2
    assert want.count_nonzero() > 5
    torch.testing.assert_close(level_weights.grad, want)


def test_of_two_identical_boxes_the_first_gets_all_points_and_zero_area_none() -> None:
    box, line = [30.0, 31, 90, 97], [44.0, 20, 44, 90]
    once = assign_sapd(POINTS, ground_truth([[box]]), whole(POINTS))
    more = assign_sapd(POINTS, ground_truth([[box, box, line, [44, 44, 44, 44]]]), whole(POINTS))
    assert (once.gt_index >= 0).any()
    assert torch.equal(once.gt_index, more.gt_index)
    assert torch.equal(once.weights, more.weights)


def test_other_assigners_have_no_weights() -> None:
    assert assign_atss(POINTS, ground_truth([[]]), whole(POINTS)).weights is None


def softly(points: Points, targets: Targets, part: torch.Tensor) -> Assignment:
    level_weights = torch.arange(1.0, 6.0).expand(*targets.valid.shape, -1)
    return assign_sapd(points, targets, part, level_weights)


@pytest.mark.parametrize("assign", [assign_sapd, softly])
def test_laws_of_all_assigners(assign) -> None:
    check_empty(assign, POINTS)
    check_alone(assign, POINTS)
    check_never_waits(assign, POINTS)


@pytest.mark.parametrize("assign", [assign_sapd, softly])
def test_compiles_into_one_graph(assign) -> None:
    check_compiles(assign, POINTS)

"""DSLA against a slow reimplementation, its laws and its corner cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import (
    SIZES,
    check_alone,
    check_compiles,
    check_empty,
    check_never_waits,
    check_rules,
    distances,
    masked,
    part_of,
    pyramid,
    random_boxes,
    random_images,
    whole,
)
from torch import Tensor
from torch.nn import functional as F

from gfocal.assigners import dsla
from gfocal.assigners.dsla import assign_dsla, choose, class_cost, number_of_points
from gfocal.ops.boxes import boxes_from_distances, iou
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets, pad_targets

POINTS = pyramid(160, 224)
NUM_CLASSES = 4


def predictions(seed: int, num_images: int = 1, points: Points = POINTS) -> tuple[Tensor, Tensor]:
    """Logits and boxes of every point; many boxes of neighbors are much alike."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_images, len(points.xy), NUM_CLASSES, generator=generator) * 2 - 2
    ltrb = torch.rand(num_images, len(points.xy), 4, generator=generator) * 5
    return logits, boxes_from_distances(points.xy, ltrb * points.strides.unsqueeze(1))


def labeled(images: list[list[list[float]]], seed: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(0, NUM_CLASSES, (len(boxes),), generator=generator) for boxes in images]
    return pad_targets([torch.tensor(boxes).reshape(-1, 4) for boxes in images], labels)


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / max(union, 1e-6)


def slow_cost(logits: list[float], label: int, y: float) -> float:
    cost = -3 * math.log(y + 1e-7)
    for c, x in enumerate(logits):
        s, target = 1 / (1 + math.exp(-x)), y if c == label else 0.0
        cost -= (target - s) ** 2 * (target * math.log(s) + (1 - target) * math.log(1 - s))
    return cost


def slow_dsla(
    boxes: list[list[float]], labels: list[int], part: Tensor, logits: Tensor, predicted: Tensor
) -> tuple[list[int], float]:
    """The box of every point of one image, and how near the closest decision was."""
    xy, x, guessed = POINTS.xy.tolist(), logits.tolist(), predicted.tolist()
    candidates = [p for p in range(len(xy)) if part[p] and any(min(distances(xy[p], box)) > 0 for box in boxes)]
    found, nearest = [BACKGROUND] * len(xy), math.inf
    cost: dict[tuple[int, int], float] = {}
    claims: dict[int, list[int]] = {}
    for g, box in enumerate(boxes if candidates else []):
        overlaps = [overlap(guessed[p], box) for p in candidates]
        for p, y in zip(candidates, overlaps, strict=True):
            cost[g, p] = slow_cost(x[p], labels[g], y)
        total = sum(sorted(overlaps)[-13:])
        nearest = min(nearest, abs(total - round(total)) if total > 0.5 else 1)
        k = max(1, int(total))
        order = sorted(candidates, key=lambda p: cost[g, p])
        if k < len(order):
            nearest = min(nearest, cost[g, order[k]] - cost[g, order[k - 1]])
        for p in order[:k]:
            claims.setdefault(p, []).append(g)
    for p, boxes_of_point in claims.items():
        found[p] = boxes_of_point[0]
        if len(boxes_of_point) > 1:
            found[p] = min(range(len(boxes)), key=lambda g: cost[g, p])
            rest = [cost[g, p] - cost[found[p], p] for g in range(len(boxes)) if boxes[g] != boxes[found[p]]]
            nearest = min([nearest, *rest])
    return found, nearest


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(seed: int) -> None:
    images = random_images(seed)
    targets, part = labeled(images, seed), part_of(POINTS, SIZES)
    if seed % 2:  # duplicates are of one class
        targets = replace(targets, labels=torch.zeros_like(targets.labels))
    logits, boxes = predictions(seed, len(SIZES))
    got = assign_dsla(POINTS, targets, part, logits, boxes)
    check_rules(got, targets, part)
    for i, gt_boxes in enumerate(images):
        want, nearest = slow_dsla(gt_boxes, targets.labels[i].tolist(), part[i], logits[i], boxes[i])
        assume(nearest > 1e-4)
        assert got.gt_index[i].tolist() == masked(want, part[i])


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12))
def test_the_order_of_boxes_permutes_the_result(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = labeled([random_boxes(count, (160, 224), generator)], seed)
    logits, boxes = predictions(seed)
    before = assign_dsla(POINTS, targets, whole(POINTS), logits, boxes).gt_index[0]
    order = torch.randperm(targets.valid.shape[1], generator=generator)  # rows that are no ground truth, too
    moved = Targets(*(x[:, order] for x in (targets.boxes, targets.labels, targets.valid, targets.ignored)))
    after = assign_dsla(POINTS, moved, whole(POINTS), logits, boxes).gt_index[0]
    assume((before >= 0).any())  # a small box may lie between points
    assert torch.equal(torch.where(after >= 0, order[after.clamp(min=0)], after), before)


@given(seed=st.integers(0, 10**6))
def test_every_box_has_between_one_and_thirteen_claims(seed: int) -> None:
    images = random_images(seed)
    targets, part = labeled(images, seed), part_of(POINTS, SIZES)
    logits, boxes = predictions(seed, len(SIZES))
    got = assign_dsla(POINTS, targets, part, logits, boxes)
    assert got.slots.shape == (len(SIZES), 13 * targets.valid.shape[1])
    number = number_of_points(iou(boxes.unsqueeze(1), targets.boxes.unsqueeze(2)))
    assert number.min() >= 1
    assert number.max() <= 13
    positives = (got.gt_index >= 0).sum(1)
    assert (positives <= (number * targets.valid).sum(1)).all()


def test_the_class_cost_is_the_sum_over_all_classes() -> None:
    targets = labeled(random_images(3))
    logits, boxes = predictions(3, len(SIZES))
    overlaps = iou(boxes.unsqueeze(1), targets.boxes.unsqueeze(2))
    target = overlaps.unsqueeze(-1) * F.one_hot(targets.labels, NUM_CLASSES).unsqueeze(2)  # (B, G, P, C)
    x = logits.unsqueeze(1).expand_as(target)
    bce = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    want = (bce * (target - x.sigmoid()) ** 2).sum(-1)
    torch.testing.assert_close(class_cost(logits, targets.labels, overlaps), want, rtol=1e-5, atol=1e-6)
    half = class_cost(logits.half(), targets.labels, overlaps)
    torch.testing.assert_close(half, class_cost(logits.half().float(), targets.labels, overlaps))


def test_the_class_cost_is_never_negative_nor_lost_for_extreme_logits() -> None:
    x = torch.tensor([[[200.0, -200, 30], [-200, -200, -200], [20, 20, 20]]])
    cost = class_cost(x, torch.tensor([[0, 1]]), torch.full((1, 2, 3), 0.5))
    assert cost.isfinite().all()
    assert (cost >= 0).all()
    assert cost[0, 0].tolist() == pytest.approx([0.25 * 100 + 30, 0.25 * 100, 0.25 * 10 + 40], rel=1e-5)


def test_a_claimed_point_goes_to_the_box_of_least_cost_of_all() -> None:
    """Even to one that did not claim it, which may end with more than its k, and the others with none."""
    cost = torch.tensor([[[5.0, 1.0, 9, 9], [6.0, 2.0, 9, 9], [0.2, 0.5, 9, 9]]])
    gt_index, slots, positive = choose(cost, torch.tensor([[1, 1, 1]]), 2)
    assert gt_index.tolist() == [[2, 2, BACKGROUND, BACKGROUND]]
    assert slots.tolist() == [[1, 0, 1, 0, 0, 1]]
    assert positive.tolist() == [[True, False, False, False, True, False]]
    # A single claim stands, whatever it costs others.
    gt_index, _, _ = choose(cost[:, :2], torch.tensor([[2, 1]]), 2)
    assert gt_index.tolist() == [[0, 0, BACKGROUND, BACKGROUND]]
    gt_index, _, _ = choose(cost[:, [0, 2]], torch.tensor([[1, 1]]), 2)
    assert gt_index.tolist() == [[1, 0, BACKGROUND, BACKGROUND]]


def test_of_two_identical_boxes_the_first_gets_all_points() -> None:
    box = [30.0, 31, 90, 97]
    logits, boxes = predictions(5)
    once = assign_dsla(POINTS, labeled([[box]]), whole(POINTS), logits, boxes)
    twice = pad_targets([torch.tensor([box, box])], [labeled([[box]]).labels[0, :1].repeat(2)])
    again = assign_dsla(POINTS, twice, whole(POINTS), logits, boxes)
    assert (once.gt_index == 0).any()
    assert torch.equal(once.gt_index, again.gt_index)


def test_a_box_without_points_gets_one_if_another_box_has_points_and_else_none() -> None:
    between, around = [17.0, 17, 19, 19], [100.0, 60, 190, 140]  # points lie at 12, 16, 20, 24
    logits, boxes = predictions(6)
    alone = assign_dsla(POINTS, labeled([[between]]), whole(POINTS), logits, boxes)
    assert (alone.gt_index == BACKGROUND).all()
    assert not alone.slot_positive.any()
    together = assign_dsla(POINTS, labeled([[between, around]]), whole(POINTS), logits, boxes)
    taken = POINTS.xy[together.gt_index[0] == 0]
    assert len(taken) == 1
    assert ((taken > torch.tensor([100.0, 60])) & (taken < torch.tensor([190.0, 140]))).all()


def test_better_predictions_get_the_points() -> None:
    """Thirteen points that predict the box well are its points, wherever in the box they are."""
    box = torch.tensor([20.0, 20, 150, 120])
    logits, boxes = predictions(7)
    inside = ((POINTS.xy > box[:2]) & (POINTS.xy < box[2:])).all(1).nonzero().flatten()
    chosen = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(0))[:13]].sort().values
    boxes[0, chosen] = box
    targets = labeled([[box.tolist()]])
    logits[0, chosen] = torch.where(torch.arange(NUM_CLASSES) == targets.labels[0, 0], 6.0, -6.0)
    got = assign_dsla(POINTS, targets, whole(POINTS), logits, boxes).gt_index[0]
    assert (got == 0).nonzero().flatten().tolist() == chosen.tolist()


def test_a_map_of_fewer_points_than_topk() -> None:
    points = pyramid(32, 64)
    few = Points(points.xy[:8], points.strides[:8], points.cells[:8], ((1, 8),), (8,))
    logits, boxes = predictions(8, points=few)
    boxes[:] = torch.tensor([0.0, 0, 64, 8])
    got = assign_dsla(few, labeled([[[0, 0, 64, 8]]]), whole(few), logits, boxes)
    assert got.gt_index.tolist() == [[0] * 8]
    assert got.slots.shape == (1, 8 * 8)


def test_points_beyond_the_padding_are_no_candidates() -> None:
    part = part_of(POINTS, [(160, 96)])
    logits, boxes = predictions(9)
    got = assign_dsla(POINTS, labeled([[[60.0, 20, 200, 140]]]), part, logits, boxes)
    assert (got.gt_index[~part] == PADDING).all()
    assert (got.gt_index >= 0).any()


def test_parts_of_a_batch_are_assigned_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, part = labeled(random_images(4)), part_of(POINTS, SIZES)
    logits, boxes = predictions(4, len(SIZES))
    want = assign_dsla(POINTS, targets, part, logits, boxes)
    for pairs in (1, 2 * len(POINTS.xy) * targets.valid.shape[1]):
        monkeypatch.setattr(dsla, "PAIRS_AT_ONCE", pairs)
        got = assign_dsla(POINTS, targets, part, logits, boxes)
        assert torch.equal(got.gt_index, want.gt_index)
        assert torch.equal(got.slots, want.slots)
        assert torch.equal(got.slot_positive, want.slot_positive)


def test_no_gradient_flows() -> None:
    logits, boxes = predictions(1)
    logits.requires_grad_()
    boxes.requires_grad_()
    assignment = assign_dsla(POINTS, labeled([[[10.0, 10, 60, 60]]]), whole(POINTS), logits, boxes)
    assert not assignment.gt_index.requires_grad
    assert assignment.weights is None


def with_predictions(points: Points, targets: Targets, part: Tensor) -> Assignment:
    logits, boxes = predictions(2)
    return assign_dsla(points, targets, part, logits.expand(len(part), -1, -1), boxes.expand(len(part), -1, -1))


def test_laws_of_all_assigners() -> None:
    check_empty(with_predictions, POINTS)
    check_alone(with_predictions, POINTS)
    check_never_waits(with_predictions, POINTS)


def test_compiles_into_one_graph() -> None:
    logits, boxes = predictions(2, len(SIZES))

    def assign(points: Points, targets: Targets, part: Tensor) -> Assignment:
        return assign_dsla(points, targets, part, logits, boxes)

    check_compiles(assign, POINTS)

"""TAL against a slow reimplementation, its laws and its corner cases."""

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

from gfocal.assigners import dsla
from gfocal.assigners.tal import assign_tal
from gfocal.ops.boxes import boxes_from_distances, iou
from gfocal.ops.points import drop_empty_slots, exclude_ignored
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets, pad_targets

POINTS = pyramid(160, 224)
NUM_CLASSES = 4
TOPK = 13


def predictions(seed: int, num_images: int = 1, points: Points = POINTS) -> tuple[Tensor, Tensor]:
    """Logits and boxes of every point."""
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
    return shared / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared, 1e-6)


def slow_tal(
    boxes: list[list[float]], labels: list[int], part: Tensor, logits: Tensor, predicted: Tensor
) -> tuple[list[int], list[float], float]:
    """The paper's section 3.2 for one image: box and target of every point, and how near the closest decision was."""
    xy, x, guessed = POINTS.xy.tolist(), logits.double().tolist(), predicted.double().tolist()
    found, targets, nearest = [BACKGROUND] * len(xy), [0.0] * len(xy), math.inf
    u = [[overlap(guess, box) for guess in guessed] for box in boxes]
    t = [
        [of_box[p] ** 6 / (1 + math.exp(-x[p][label])) for p in range(len(xy))]
        for of_box, label in zip(u, labels[: len(u)], strict=True)
    ]
    claims: dict[int, list[int]] = {}
    for g, box in enumerate(boxes):
        inside = [p for p in range(len(xy)) if part[p] and min(distances(xy[p], box)) > 0.01]
        inside.sort(key=lambda p: -t[g][p])
        if len(inside) > TOPK:
            nearest = min(nearest, t[g][inside[TOPK - 1]] / max(t[g][inside[TOPK]], 1e-300) - 1)
        for p in inside[:TOPK]:
            claims.setdefault(p, []).append(g)
    for p, of_point in claims.items():
        found[p] = max(of_point, key=lambda g: (u[g][p], -g))
        others = [u[found[p]][p] - u[g][p] for g in of_point if boxes[g] != boxes[found[p]]]
        nearest = min([nearest, *others])
    for g in range(len(boxes)):
        mine = [p for p, box in enumerate(found) if box == g]
        for p in mine:
            targets[p] = t[g][p] / max(t[g][q] for q in mine) * max(u[g][q] for q in mine)
    return found, targets, nearest


def target_of_points(assignment: Assignment) -> Tensor:
    """(B, P): the target of each positive point, 0 elsewhere."""
    assert assignment.weights is not None
    values = torch.zeros(assignment.gt_index.shape)
    return values.scatter_add(1, assignment.slots, assignment.weights * assignment.slot_positive)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(seed: int) -> None:
    images = random_images(seed)
    targets, part = labeled(images, seed), part_of(POINTS, SIZES)
    logits, boxes = predictions(seed, len(SIZES))
    got = assign_tal(POINTS, targets, part, logits, boxes)
    check_rules(got, targets, part)
    values = target_of_points(got)
    for i, gt_boxes in enumerate(images):
        want, of_points, nearest = slow_tal(gt_boxes, targets.labels[i].tolist(), part[i], logits[i], boxes[i])
        assume(nearest > 1e-5)
        assert got.gt_index[i].tolist() == masked(want, part[i])
        assert values[i].tolist() == pytest.approx(of_points, rel=1e-3, abs=1e-6)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12))
def test_the_order_of_boxes_permutes_the_result(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = labeled([random_boxes(count, (160, 224), generator)], seed)
    logits, boxes = predictions(seed)
    before = assign_tal(POINTS, targets, whole(POINTS), logits, boxes)
    order = torch.randperm(targets.valid.shape[1], generator=generator)  # rows that are no ground truth, too
    moved = Targets(*(x[:, order] for x in (targets.boxes, targets.labels, targets.valid, targets.ignored)))
    after = assign_tal(POINTS, moved, whole(POINTS), logits, boxes)
    index = after.gt_index
    assert torch.equal(torch.where(index >= 0, order[index.clamp(min=0)], index), before.gt_index)
    assert torch.equal(target_of_points(after), target_of_points(before))


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_each_box_alone_gets_its_points_and_its_best_iou_as_the_largest_target(seed: int) -> None:
    """So many as there are inside it, at most thirteen; targets are the IoU's at most."""
    generator = torch.Generator().manual_seed(seed)
    (box,) = random_boxes(1, (160, 224), generator)
    logits, boxes = predictions(seed)
    got = assign_tal(POINTS, labeled([[box]], seed), whole(POINTS), logits, boxes)
    inside = sum(min(distances(xy, box)) > 0.01 for xy in POINTS.xy.tolist())
    assert (got.gt_index == 0).sum() == min(TOPK, inside)
    values, overlaps = target_of_points(got)[0], iou(boxes[0], torch.tensor(box))
    best = overlaps[got.gt_index[0] == 0].max().item() if inside else 0.0
    assert values.min() >= 0
    assert values.max().item() == pytest.approx(best, rel=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_targets_lie_between_zero_and_the_largest_iou_of_their_box(seed: int) -> None:
    targets, part = labeled(random_images(seed), seed), part_of(POINTS, SIZES)
    logits, boxes = predictions(seed, len(SIZES))
    got = assign_tal(POINTS, targets, part, logits, boxes)
    assert got.weights is not None
    assert got.slots.shape == got.weights.shape == (len(SIZES), TOPK * targets.valid.shape[1])
    assert (got.weights[~got.slot_positive] == 0).all()
    of_box = got.weights.view(len(SIZES), -1, TOPK)
    overlaps = iou(boxes.unsqueeze(1), targets.boxes.unsqueeze(2)).gather(2, got.slots.view_as(of_box))
    best = torch.where(got.slot_positive.view_as(of_box), overlaps, 0.0).amax(-1)
    torch.testing.assert_close(of_box.amax(-1), best)


def test_no_score_and_no_overlap_is_too_low() -> None:
    """t would be 0 in float32 for every point: the best still learns the best IoU; without overlap targets are 0."""
    logits, _ = predictions(1)
    logits[:] = -60 + 0.01 * torch.arange(logits.shape[1]).view(1, -1, 1)
    box = [30.0, 31, 110, 97]
    small = boxes_from_distances(POINTS.xy, torch.full((len(POINTS.xy), 4), 0.05)).unsqueeze(0)
    got = assign_tal(POINTS, labeled([[box]]), whole(POINTS), logits, small)
    values = target_of_points(got)
    assert (got.gt_index == 0).sum() == TOPK
    assert values.max().item() == pytest.approx(0.1**2 / (80 * 66), rel=1e-3)
    beyond = assign_tal(POINTS, labeled([[box]]), whole(POINTS), logits, small + 1000)
    assert (beyond.gt_index == 0).sum() == TOPK
    assert (target_of_points(beyond) == 0).all()


@pytest.mark.parametrize(("alpha", "beta", "chosen"), [(1.0, 0.0, "score"), (0.0, 1.0, "box")])
def test_the_exponents_weight_score_and_box(alpha: float, beta: float, chosen: str) -> None:
    box = torch.tensor([20.0, 20, 150, 120])
    targets = labeled([[box.tolist()]])
    logits, boxes = predictions(7)
    inside = ((POINTS.xy > box[:2]) & (POINTS.xy < box[2:])).all(1).nonzero().flatten()
    scored, boxed = inside[:TOPK], inside[-TOPK:]
    logits[0, scored, targets.labels[0, 0]] = 9.0
    boxes[0, boxed] = box
    got = assign_tal(POINTS, targets, whole(POINTS), logits, boxes, alpha=alpha, beta=beta).gt_index[0]
    assert (got == 0).nonzero().flatten().tolist() == (scored if chosen == "score" else boxed).tolist()


def test_a_map_of_fewer_points_than_topk() -> None:
    points = pyramid(32, 64)
    few = Points(points.xy[:8], points.strides[:8], points.cells[:8], ((1, 8),), (8,))
    logits, boxes = predictions(8, points=few)
    got = assign_tal(few, labeled([[[0, 0, 64, 8]]]), whole(few), logits, boxes)
    assert got.gt_index.tolist() == [[0] * 8]
    assert got.slots.shape == (1, 8 * 8)


def test_points_beyond_the_padding_are_no_candidates() -> None:
    part = part_of(POINTS, [(160, 96)])
    logits, boxes = predictions(9)
    got = assign_tal(POINTS, labeled([[[60.0, 20, 200, 140]]]), part, logits, boxes)
    assert (got.gt_index[~part] == PADDING).all()
    assert (got.gt_index >= 0).any()


def test_parts_of_a_batch_are_assigned_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, part = labeled(random_images(4)), part_of(POINTS, SIZES)
    logits, boxes = predictions(4, len(SIZES))
    want = assign_tal(POINTS, targets, part, logits, boxes)
    monkeypatch.setattr(dsla, "PAIRS_AT_ONCE", 1)
    got = assign_tal(POINTS, targets, part, logits, boxes)
    assert torch.equal(got.gt_index, want.gt_index)
    assert torch.equal(target_of_points(got), target_of_points(want))


def test_half_precision_logits_and_no_gradient() -> None:
    logits, boxes = predictions(1)
    targets = labeled([[[10.0, 10, 60, 60]]])
    half = assign_tal(POINTS, targets, whole(POINTS), logits.half().requires_grad_(), boxes.requires_grad_())
    full = assign_tal(POINTS, targets, whole(POINTS), logits.half().float(), boxes)
    assert half.weights is not None
    assert full.weights is not None
    assert half.weights.dtype == torch.float32
    assert torch.equal(half.weights, full.weights)
    assert not half.weights.requires_grad


def test_targets_stay_with_their_slots() -> None:
    """Where points in ignored regions and empty slots are left out."""
    images = random_images(5)
    targets, part = labeled(images), part_of(POINTS, SIZES)
    logits, boxes = predictions(5, len(SIZES))
    before = assign_tal(POINTS, targets, part, logits, boxes)
    region = torch.zeros_like(targets.valid)
    region[:, -1] = True
    ignored = replace(targets, boxes=targets.boxes.clone(), ignored=region)
    ignored.boxes[:, -1] = torch.tensor([0.0, 0, 300, 300])
    excluded = exclude_ignored(before, POINTS, ignored)
    assert (excluded.gt_index != BACKGROUND).all()
    after = drop_empty_slots(excluded)
    assert after.slots.shape[1] < before.slots.shape[1]
    assert torch.equal(target_of_points(after), target_of_points(before))
    assert torch.equal(after.gt_index >= 0, before.gt_index >= 0)


def with_predictions(points: Points, targets: Targets, part: Tensor) -> Assignment:
    logits, boxes = predictions(2)
    return assign_tal(points, targets, part, logits.expand(len(part), -1, -1), boxes.expand(len(part), -1, -1))


def test_laws_of_all_assigners() -> None:
    check_empty(with_predictions, POINTS)
    check_alone(with_predictions, POINTS)
    check_never_waits(with_predictions, POINTS)


def test_compiles_into_one_graph() -> None:
    logits, boxes = predictions(2, len(SIZES))

    def assign(points: Points, targets: Targets, part: Tensor) -> Assignment:
        return assign_tal(points, targets, part, logits, boxes)

    check_compiles(assign, POINTS)

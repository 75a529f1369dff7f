"""Localization distillation: a further term, of the student alone, at positives and in the region around them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from device_waits import waits
from gfocal.assigners.atss import assign_atss
from gfocal.assigners.tal import assign_tal
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.distillation import DistillingCriterion, Taught, valuable_region
from gfocal.criteria.gfl import GFLCriterion
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.losses.divergence import edge_divergence
from gfocal.ops.boxes import diou, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Assignment, HeadOutputs, Points, Targets
from small_batches import SIZES, grid, ground_truth, random_outputs

GENERAL = GeneralDistribution(4)
BASES: dict[str, Taught] = {
    "gfl": GFLCriterion(GENERAL),
    "dense": DenseCriterion(GENERAL, dfl_weight=0.25, box_weights="equal"),
    "nanodet": NanoDetCriterion(GENERAL),
    "tal": DenseCriterion(GENERAL, assign_tal, task_aligned=True, cls_loss="varifocal", dfl_weight=0.25),
}


def distilling(base: str = "gfl", **more: Any) -> DistillingCriterion:
    teacher: Any = None  # whose outputs are given
    return DistillingCriterion(BASES[base], teacher, **more)


def distilled(outputs: HeadOutputs, **more: Any) -> Tensor:
    found = distilling(**more)(outputs, ground_truth(), SIZES).distill
    assert found is not None
    return found


@pytest.mark.parametrize("base", BASES)
def test_the_other_terms_are_those_without_a_teacher(base: str) -> None:
    outputs, targets = random_outputs(with_teacher=True), ground_truth()
    found, wanted = distilling(base)(outputs, targets, SIZES), BASES[base](outputs, targets, SIZES)
    assert found.distill is not None
    assert (found.distill >= 0).all()
    assert found.distill.sum() > 0
    torch.testing.assert_close(found.total, wanted.total + found.distill.sum())
    assert found.terms() == wanted.terms() | {"distill": found.distill.sum()}


@pytest.mark.parametrize("base", BASES)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(base: str) -> None:
    outputs = random_outputs(with_teacher=True)
    same = replace(outputs, teacher_box_logits=outputs.box_logits.detach())
    found = distilled(same, base=base)
    assert torch.equal(found, torch.zeros(3))
    (gradient,) = torch.autograd.grad(found.sum(), same.box_logits)
    assert gradient.abs().max() < 1e-7


def test_the_main_region_is_the_mean_over_positives_weighted_by_their_scores() -> None:
    outputs, targets = random_outputs(with_teacher=True), ground_truth()
    assignment = assign_atss(outputs.points, targets, inside_own_padding(outputs.points, SIZES))
    is_positive = assignment.gt_index >= 0  # (B, P)
    w = outputs.cls_logits.sigmoid().amax(-1)[is_positive]
    assert outputs.teacher_box_logits is not None
    d = edge_divergence(outputs.box_logits[is_positive], outputs.teacher_box_logits[is_positive], 5.0).mean(-1)
    wanted = 0.5 * (w * d).sum() / w.sum().clamp(min=1)
    torch.testing.assert_close(distilled(outputs, weight=0.5, region_weight=0.0, temperature=5.0).sum(), wanted)
    equal = distilled(outputs, base="dense", weight=0.5, region_weight=0.0, temperature=5.0).sum()
    torch.testing.assert_close(equal, 0.5 * d.mean())


def test_the_region_is_the_mean_over_its_points_weighted_by_the_iou_of_their_anchors() -> None:
    outputs, targets = random_outputs(with_teacher=True), ground_truth()
    r = valuable_region(outputs.points, targets, inside_own_padding(outputs.points, SIZES))
    assert outputs.teacher_box_logits is not None
    d = edge_divergence(outputs.box_logits, outputs.teacher_box_logits, 10.0).mean(-1)
    wanted = 0.3 * (r * d).sum() / r.sum().clamp(min=1)
    torch.testing.assert_close(distilled(outputs, weight=0.0, region_weight=0.3).sum(), wanted)


def by_hand(points: Points, box: Tensor) -> Tensor:
    """The region of one box, point after point."""
    half = points.strides.unsqueeze(-1) * 4
    anchors = torch.cat((points.xy - half, points.xy + half), -1)
    overlaps, near = iou(anchors, box), diou(anchors, box)
    center = (box[:2] + box[2:]) / 2
    start, candidates = 0, []
    for count in points.counts:
        distance = (points.xy[start : start + count] - center).norm(dim=-1)
        candidates.append(overlaps[start + distance.topk(min(9, count), largest=False).indices])
        start += count
    threshold = torch.cat(candidates).mean() + torch.cat(candidates).std()
    return torch.where((near < threshold) & (near >= threshold / 4), overlaps, 0.0)


def test_the_region_lies_between_a_quarter_of_the_threshold_of_atss_and_the_threshold() -> None:
    targets, points = ground_truth(), grid()
    everywhere = torch.ones(2, len(points.xy), dtype=torch.bool)
    found = valuable_region(points, targets, everywhere)
    wanted = torch.stack([by_hand(points, box) for box in targets.boxes[0, :3]]).amax(0)
    torch.testing.assert_close(found[0], wanted)
    assert 10 < (found[0] > 0).sum() < len(points.xy)
    assert not found[1].any()  # an image without objects
    part = inside_own_padding(points, torch.tensor([[64, 64], [64, 64]]))
    assert not valuable_region(points, targets, part)[~part].any()


@pytest.mark.parametrize("base", BASES)
def test_only_the_students_edges_are_taught(base: str) -> None:
    outputs = random_outputs(with_teacher=True)
    assert outputs.teacher_box_logits is not None
    outputs.teacher_box_logits.requires_grad_()
    distilled(outputs, base=base).sum().backward()
    assert outputs.box_logits.grad is not None
    assert outputs.box_logits.grad.abs().sum() > 0
    assert outputs.teacher_box_logits.grad is None
    assert outputs.cls_logits.grad is None  # scores are weights, not taught


def test_the_gradient_is_right() -> None:
    outputs, targets = random_outputs(with_teacher=True), ground_truth()
    chosen, taught = distilling(), outputs.teacher_box_logits
    assert taught is not None

    def term(box_logits: Tensor) -> Tensor:
        doubled = replace(outputs, box_logits=box_logits, teacher_box_logits=taught.double())
        found = chosen(doubled, targets, SIZES).distill
        assert found is not None
        return found.sum()

    start = outputs.box_logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(term, start, fast_mode=True)


def test_images_without_objects_teach_nothing() -> None:
    outputs = random_outputs(with_teacher=True)
    losses = distilling()(outputs, ground_truth(0), SIZES)
    assert losses.distill is not None
    assert torch.equal(losses.distill, torch.zeros(3))
    losses.total.backward()
    assert outputs.box_logits.grad is not None
    assert outputs.box_logits.grad.isfinite().all()


def test_a_batch_is_assigned_once() -> None:
    calls = 0

    def assign(*arguments: Any) -> Assignment:
        nonlocal calls
        calls += 1
        return assign_atss(*arguments)

    base = GFLCriterion(GENERAL, assign=assign)
    outputs, targets = random_outputs(with_teacher=True), ground_truth(2)
    losses = DistillingCriterion(base, None)(outputs, targets, SIZES)  # type: ignore[arg-type]
    assert calls == 1
    torch.testing.assert_close(losses.box, GFLCriterion(GENERAL)(outputs, targets, SIZES).box)


def test_what_changes_over_a_run_still_does() -> None:
    base = DenseCriterion(GENERAL, dfl_weight=0.25, beta_warmup=0.5)
    chosen = DistillingCriterion(base, None, sum_over_processes=lambda x: 2 * x)  # type: ignore[arg-type]
    later = chosen.at_epoch(3, 12)
    assert isinstance(later.base, DenseCriterion)
    assert later.base.unmodulated == pytest.approx(0.5)


@pytest.mark.parametrize("count", [0, 3])
def test_it_waits_for_nothing(count: int) -> None:
    outputs, targets = random_outputs(with_teacher=True), ground_truth(count)
    assert waits(lambda: distilling()(outputs, targets, SIZES).total.backward()) == Counter()


@pytest.mark.parametrize("base", ["gfl", "tal", "nanodet"])
def test_it_compiles_into_one_graph(base: str) -> None:
    chosen, outputs, targets = distilling(base), random_outputs(with_teacher=True), ground_truth()

    def loss(outputs: HeadOutputs, targets: Targets) -> Tensor:
        return chosen(outputs, targets, SIZES).total

    torch._dynamo.reset()
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(outputs, targets)
    torch.testing.assert_close(found, loss(outputs, targets))

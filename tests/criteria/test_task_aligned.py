"""A criterion with task-aligned assignment and with the Varifocal Loss, against the slow way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from device_waits import waits
from gfocal.assigners.tal import assign_tal
from gfocal.criteria.dense import DenseCriterion
from gfocal.losses import distribution_focal_loss, giou_loss, quality_focal_loss, varifocal_loss
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Assignment, HeadOutputs, Targets, pad_targets
from small_batches import SIZES, ground_truth, random_outputs

GENERAL = GeneralDistribution(4)
ALIGNED = DenseCriterion(GENERAL, assign_tal, task_aligned=True, dfl_weight=0.25)
VARIFOCAL = DenseCriterion(GENERAL, cls_loss="varifocal", dfl_weight=0.25)
CRITERIA = {
    "tal": ALIGNED,
    "varifocal": VARIFOCAL,
    "both": replace(ALIGNED, cls_loss="varifocal"),
    "both, equal": replace(ALIGNED, cls_loss="varifocal", box_weights="equal"),
    "tal, warming up": replace(ALIGNED, box_weights="equal", unmodulated=0.5),
}


def assignment_of(criterion: DenseCriterion, outputs: HeadOutputs, targets: Targets) -> Assignment:
    part = inside_own_padding(outputs.points, SIZES)
    if not criterion.task_aligned:
        return criterion.assign(outputs.points, targets, part)
    with torch.no_grad():
        boxes = GENERAL.boxes(outputs.box_logits, outputs.points)
    return assign_tal(outputs.points, targets, part, outputs.cls_logits, boxes)


@pytest.mark.parametrize("name", CRITERIA)
def test_the_losses_equal_the_slow_way(name: str) -> None:
    criterion, outputs, targets = CRITERIA[name], random_outputs(), ground_truth()
    losses = criterion(outputs, targets, SIZES)
    assignment = assignment_of(criterion, outputs, targets)
    quality = torch.zeros_like(outputs.cls_logits)
    found, weights, targets_sum = [], [], 0.0
    for i, m in assignment.slot_positive.nonzero().tolist():
        p = int(assignment.slots[i, m])
        g = int(assignment.gt_index[i, p])
        here, box = outputs.points.select(torch.tensor(p)), targets.boxes[i, g]
        predicted = GENERAL.boxes(outputs.box_logits[i, p], here)
        value = iou(predicted, box).item() if assignment.weights is None else assignment.weights[i, m].item()
        quality[i, p, targets.labels[i, g]] = value
        targets_sum += value
        bins = (distances_to_edges(here.xy, box) / here.strides).clamp(0, GENERAL.n - 0.1)
        dfl = distribution_focal_loss(outputs.box_logits[i, p], bins).mean()
        found.append(2 * giou_loss(predicted, box) + 0.25 * dfl)
        score = outputs.cls_logits[i, p].sigmoid().max().item()
        aligned = 1.0 if criterion.box_weights == "equal" else value
        weights.append(aligned if criterion.task_aligned else score)
    assert len(found) > 10

    loss = varifocal_loss if criterion.cls_loss == "varifocal" else quality_focal_loss
    of_points = loss(outputs.cls_logits, quality)
    plain = quality_focal_loss(outputs.cls_logits, quality, 0.0)
    of_points = torch.where(quality > 0, of_points.lerp(plain, criterion.unmodulated), of_points)
    cls = of_points[inside_own_padding(outputs.points, SIZES)].sum()
    number = max(targets_sum, 1.0) if criterion.task_aligned else len(found) + 1  # the empty image counts one
    weight = torch.tensor(weights)
    box = (torch.stack(found) * weight).sum() / weight.sum().clamp(min=1)
    torch.testing.assert_close(losses.cls.sum(), cls / number)
    torch.testing.assert_close(losses.box.sum() + losses.dfl.sum(), box)
    inputs = (outputs.cls_logits, outputs.box_logits)
    ours, slow = (torch.autograd.grad(total, inputs) for total in (losses.total, cls / number + box))
    for one, other in zip(ours, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_background_is_left_out_where_there_may_be_objects() -> None:
    targets, outputs = ground_truth(1), random_outputs()
    region = pad_targets(
        [torch.cat((targets.boxes[0, :1], torch.tensor([[0.0, 0, 96, 64]]))), torch.zeros(0, 4)],
        [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64)],
        [torch.tensor([False, True]), torch.tensor([], dtype=torch.bool)],
    )
    losses = CRITERIA["both"](outputs, region, SIZES)
    (gradient,) = torch.autograd.grad(losses.cls.sum(), outputs.cls_logits)
    moved = (gradient[0] != 0).any(-1)
    positive = assignment_of(ALIGNED, outputs, region).gt_index[0] >= 0
    assert positive.any()
    assert torch.equal(moved, positive)


def test_better_scores_and_boxes_raise_targets() -> None:
    """The best aligned point's target is the IoU of the best box of its object; no other's is larger."""
    outputs, targets = random_outputs(), ground_truth(1)
    found = assignment_of(ALIGNED, outputs, targets)
    assert found.weights is not None
    boxes = GENERAL.boxes(outputs.box_logits.detach(), outputs.points)
    best = iou(boxes[0], targets.boxes[0, :1])[found.gt_index[0] == 0].max()
    torch.testing.assert_close(found.weights[0].max(), best)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cls_loss": "varifocal", "quality": "none"}, "not quality='none'"),
        ({"task_aligned": True, "quality": "guided"}, "quality='guided' does not learn"),
    ],
)
def test_choices_without_a_joint_quality_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DenseCriterion(GENERAL), **changes)


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("name", CRITERIA)
def test_it_waits_for_nothing(name: str, count: int) -> None:
    outputs, targets = random_outputs(), ground_truth(count)
    assert waits(lambda: CRITERIA[name](outputs, targets, SIZES).total.backward()) == Counter()
    assert outputs.cls_logits.grad is not None
    assert outputs.cls_logits.grad.isfinite().all()


@pytest.mark.slow  # a teacher's criterion with both is compiled in any case
@pytest.mark.parametrize("name", ["both, equal", "tal, warming up"])
def test_it_compiles_into_one_graph(name: str) -> None:
    outputs, targets = random_outputs(), ground_truth()

    def loss(outputs: HeadOutputs, targets: Targets) -> Tensor:
        return CRITERIA[name](outputs, targets, SIZES).total

    torch._dynamo.reset()
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(outputs, targets)
    torch.testing.assert_close(found, loss(outputs, targets))
    assert found.isfinite()


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 0), (6, 2), (12, 4), (18, 6), (24, 8)])
def test_atss_assigns_in_the_first_third_of_a_run(epochs: int, first: int) -> None:
    of_epochs = [ALIGNED.at_epoch(epoch, epochs) for epoch in range(epochs)]
    assert [one.task_aligned for one in of_epochs] == [False] * first + [True] * (epochs - first)
    assert all(one == DenseCriterion(GENERAL, dfl_weight=0.25) for one in of_epochs[:first])
    assert all(one == ALIGNED for one in of_epochs[first:])

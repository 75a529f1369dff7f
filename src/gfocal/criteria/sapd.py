"""The training loss of SAPD (Zhu et al. 2020): soft-weighted points on soft-selected levels.

    L = 1/W (sum over all points of w FL - sum over positives of w log IoU) + 0.1 L_select,   W = sum of positives' w

1. The cost of a ground-truth box on each level is the mean loss of the points in the middle of the box.
2. The selector predicts a weight of each level for the box; L_select trains it to favor the level of least cost.
3. A positive's weight w is its centerness times its level's weight for the box; background has weight 1.

The selector is trained from the start, but its weights are used (``soft``) only in the second half of the epochs, as
published. Before, each box is assigned to its level of least cost alone. Untrained weights are nearly equal: the
levels that they happen to favor would learn every box, become the cheapest, and stay so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.assigners.sapd import assign_sapd, is_in_the_middle
from gfocal.criteria.gfl import Assign, identity, rows
from gfocal.losses import focal_loss
from gfocal.losses.box import log_iou_loss
from gfocal.losses.sparse import sparse_focal_loss
from gfocal.models.detector import Detector
from gfocal.models.sapd import level_weights
from gfocal.ops.points import exclude_ignored, inside_own_padding
from gfocal.structures import PADDING, HeadOutputs, Losses, Targets


@dataclass(frozen=True)
class SAPDCriterion:
    """SAPD's loss with its weights. Call it as ``GFLCriterion``, with outputs of a model in training mode.

    The selector's loss is ``Losses.quality``, that of each box at its level of least cost.
    """

    model: Detector = field(repr=False)  # its box coder and its ``head.selector`` are used
    assign: Assign = assign_sapd
    soft: bool = False  # whether the selector's weights are used, or each box goes to its level of least cost
    topk: int = 3  # levels that learn a box, when soft
    effective: float = 0.2  # side of a box's middle, as a fraction of the box's (the paper's epsilon)
    gamma: float = 2.0  # of the Focal Loss
    alpha: float | None = 0.25  # of the Focal Loss: weight of positives
    cls_weight: float = 1.0
    box_weight: float = 1.0
    selector_weight: float = 0.1  # the paper's lambda
    exclude_ignored: bool = True  # as in GFLCriterion
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def at_epoch(self, epoch: int, epochs: int) -> SAPDCriterion:
        """The criterion of an epoch: in the second half of a run the selector's weights are used."""
        return replace(self, soft=2 * epoch >= epochs)

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch; arguments as those of ``GFLCriterion``.

        Raises:
            ValueError: the outputs are of a model in evaluation mode.
        """
        points = outputs.points
        boxes = self.model.box_coder.boxes(outputs.box_logits, points)  # (B, P, 4)
        taking_part = inside_own_padding(points, sizes)  # (B, P)

        costs = self.loss_per_level(outputs, boxes, targets, taking_part)  # (B, G, L)
        selector = self.model.head.get_submodule("selector")
        weights, selector_loss = sapd_levels(
            selector, outputs, targets, costs, self.topk, self.soft, self.sum_over_processes
        )
        assignment = self.assign(points, targets, taking_part, weights, effective=self.effective)
        if self.exclude_ignored:
            assignment = exclude_ignored(assignment, points, targets)
        assert assignment.weights is not None
        weight = assignment.weights * (assignment.gt_index != PADDING)  # (B, P): the slots are all points, in order
        positive = assignment.gt_index >= 0

        gt_of_point = assignment.gt_index.clamp(min=0)
        labels = rows(targets.labels, gt_of_point)
        slots = assignment.slots
        cls = sparse_focal_loss(outputs.cls_logits, slots, labels, positive, self.gamma, self.alpha) * weight
        gt_boxes = rows(targets.boxes, gt_of_point)
        box = log_iou_loss(outputs.box_logits, self.model.box_coder, points, boxes, gt_boxes)
        box = torch.where(positive, box, 0.0) * weight

        normalizer = self.sum_over_processes((weight * positive).sum()).clamp(min=1)
        cls_levels, box_levels = (
            torch.stack([part.sum() for part in term.split(points.counts, 1)]) / normalizer for term in (cls, box)
        )
        return Losses(
            cls=cls_levels * self.cls_weight,
            box=box_levels * self.box_weight,
            dfl=torch.zeros_like(box_levels),
            num_positives=positive.sum().float(),
            quality=selector_loss * self.selector_weight,
        )

    @torch.no_grad()
    def loss_per_level(self, outputs: HeadOutputs, boxes: Tensor, targets: Targets, taking_part: Tensor) -> Tensor:
        """Mean over the points in the middle of each ground-truth box of Focal Loss and box loss, on each level.

        outputs, decoded boxes (B, P, 4), targets, taking_part (B, P) -> (B, G, L); infinite where there is no point.
        """
        points = outputs.points
        found = []
        # One image after the other: the losses of all points on all boxes of a whole batch are too much memory.
        for i in range(len(boxes)):
            logits = outputs.cls_logits[i].float()  # (P, C)
            off, on = (
                focal_loss(logits, torch.full_like(logits, target), self.gamma, self.alpha) for target in (0, 1)
            )
            cls = off.sum(1, keepdim=True) + (on - off)[:, targets.labels[i]]  # (P, G)
            gt_boxes = targets.boxes[i].float()
            pair = boxes[i].unsqueeze(1), gt_boxes
            box = log_iou_loss(outputs.box_logits[i], self.model.box_coder, points, *pair)  # (P, G)
            inside = is_in_the_middle(points.xy, gt_boxes, self.effective) & taking_part[i].unsqueeze(1)
            total = torch.where(inside, cls + box, 0.0).split(points.counts)
            number = [level.sum(0) for level in inside.split(points.counts)]
            mean = [t.sum(0) / n.clamp(min=1) for t, n in zip(total, number, strict=True)]
            found.append(
                torch.stack([torch.where(n > 0, m, torch.inf) for m, n in zip(mean, number, strict=True)], -1)
            )
        return torch.stack(found)


def sapd_levels(
    selector: nn.Module,
    outputs: HeadOutputs,
    targets: Targets,
    loss_per_level: Tensor,
    topk: int = 3,
    soft: bool = False,
    sum_over_processes: Callable[[Tensor], Tensor] = identity,
) -> tuple[Tensor, Tensor]:
    """The weight of each level for each ground-truth box, and the selector's own loss.

    Args:
        selector: a ``LevelSelector``.
        outputs: of a detector in training mode, which have a ``pyramid``.
        targets: ground truth in pixels of the network's input.
        loss_per_level: (B, G, L) loss of each level on each box; infinite where no point of the level lies in it.
        topk: levels that learn a box, when soft.
        soft: whether the weights are the selector's, or 1 at the level of least loss alone.
        sum_over_processes: of the number of boxes.

    Returns:
        Weights (B, G, L) without gradient, 0 for rows that are padding. And the selector's cross-entropy (L,): that
        of each box at its level of least loss, divided by the number of boxes.
    """
    if outputs.pyramid is None:
        raise ValueError("the selector needs the pyramid, which the detector returns in training mode: model.train()")
    logits = selector(outputs.pyramid, targets.boxes)  # (B, G, L)
    least, best = loss_per_level.min(-1)  # (B, G)
    levels = torch.arange(logits.shape[-1], device=logits.device)
    at_best = (best.unsqueeze(-1) == levels).to(logits.dtype)  # (B, G, L)
    weights = level_weights(logits, topk) if soft else at_best

    trained = targets.valid & least.isfinite()  # a box without a point in its middle has no level of least cost
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), best.flatten(), reduction="none").view_as(least)
    cross_entropy = torch.where(trained, cross_entropy, 0.0) / sum_over_processes(trained.sum()).clamp(min=1)
    return weights * targets.valid.unsqueeze(-1), (cross_entropy.unsqueeze(-1) * at_best).sum((0, 1))

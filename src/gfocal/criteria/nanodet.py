"""The training loss of NanoDet-Plus (RangiLyu 2021): that of GFL, under an assignment by the predictions themselves.

    L = 1/N sum_z QFL  +  1/W sum_positives w_z (2 GIoU loss + 1/4 DFL),   N = number of positives, W = sum of w

1. The auxiliary head decides which points are to predict which box, by its predictions (the Assign Guidance Module).
   The detector has it in training mode only; without it the main head decides for itself.
2. A positive's quality is the IoU of the box that the deciding head predicts, for both heads.
3. Both heads are trained on this: the loss is the sum of theirs, with each head's own scores as w.

Boxes are in pixels of the network's input throughout, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gfocal.assigners.dsla import assign_dsla
from gfocal.criteria.gfl import Assign, identity, level_of_point, rows, sum_per_level
from gfocal.losses import distribution_focal_loss, giou_loss
from gfocal.losses.numerics import at_least_float32
from gfocal.losses.sparse import sparse_quality_focal_loss
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import exclude_ignored, inside_own_padding
from gfocal.structures import PADDING, Assignment, HeadOutputs, Losses, Targets


@dataclass(frozen=True)
class Match:
    """What both heads are to predict."""

    assignment: Assignment
    gt_boxes: Tensor  # (B, M, 4) of each slot, pixels
    labels: Tensor  # (B, M)
    quality: Tensor  # (B, M) IoU of the deciding head's box, 0 where the slot is not positive


@dataclass(frozen=True)
class NanoDetCriterion:
    """NanoDet-Plus's loss with its weights. Call it as ``GFLCriterion``."""

    box_coder: GeneralDistribution = field(default_factory=lambda: GeneralDistribution(7))
    assign: Assign = assign_dsla
    beta: float = 2.0  # of QFL, not of the assigner's cost
    cls_weight: float = 1.0
    box_weight: float = 2.0  # of the GIoU loss
    dfl_weight: float = 0.25  # of DFL averaged over the four sides
    auxiliary_weight: float = 1.0  # of all losses of the auxiliary head
    range_margin: float = 0.1  # as in GFLCriterion
    exclude_ignored: bool = True  # as in GFLCriterion
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def at_epoch(self, epoch: int, epochs: int) -> NanoDetCriterion:
        """The criterion of an epoch: the same in all."""
        return self

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch, both heads' added; arguments as those of ``GFLCriterion``."""
        match = self.match(outputs, targets, sizes)
        main = self.head_losses(outputs, match)
        if outputs.auxiliary is None:
            return main
        other, weight = self.head_losses(outputs.auxiliary, match), self.auxiliary_weight
        return Losses(
            cls=main.cls + weight * other.cls,
            box=main.box + weight * other.box,
            dfl=main.dfl + weight * other.dfl,
            num_positives=main.num_positives,
        )

    @torch.no_grad()
    def match(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Match:
        """Assign the points of a batch by the predictions of the auxiliary head, or else of the main one."""
        points = outputs.points
        deciding = outputs if outputs.auxiliary is None else outputs.auxiliary
        boxes = self.box_coder.boxes(deciding.box_logits, points)  # (B, P, 4)
        assignment = self.assign(points, targets, inside_own_padding(points, sizes), deciding.cls_logits, boxes)
        if self.exclude_ignored:
            assignment = exclude_ignored(assignment, points, targets)
        gt_of_slot = assignment.gt_index.gather(1, assignment.slots).clamp(min=0)  # (B, M)
        gt_boxes = rows(targets.boxes, gt_of_slot)
        overlaps = iou(rows(boxes, assignment.slots), gt_boxes)
        quality = torch.where(assignment.slot_positive, overlaps, 0.0)
        return Match(assignment, gt_boxes, rows(targets.labels, gt_of_slot), quality)

    def head_losses(self, outputs: HeadOutputs, match: Match) -> Losses:
        """Losses of one head."""
        points, assignment = outputs.points, match.assignment
        slots, positive = assignment.slots, assignment.slot_positive  # (B, M)
        cls_logits = outputs.cls_logits  # (B, P, C)
        qfl = sparse_quality_focal_loss(cls_logits, slots, match.labels, match.quality, self.beta)  # (B, P)
        qfl = qfl * (assignment.gt_index != PADDING)

        score = at_least_float32(rows(cls_logits.detach(), slots).amax(-1)).sigmoid()  # (B, M)
        weight = torch.where(positive, score, 0.0)
        box_logits = rows(outputs.box_logits.flatten(2), slots).unflatten(-1, (4, -1))  # (B, M, 4, K)
        here = points.select(slots)
        giou = giou_loss(self.box_coder.boxes(box_logits, here), match.gt_boxes) * weight
        # A point outside its box has a negative distance to some edge, whose target is 0.
        distances = distances_to_edges(here.xy, match.gt_boxes) / here.strides.unsqueeze(-1) / self.box_coder.delta
        bins = distances.clamp(0, self.box_coder.n - self.range_margin)
        dfl = distribution_focal_loss(box_logits, bins).mean(-1) * weight  # (B, M)

        num_positives = positive.sum().float()
        cls_normalizer = self.sum_over_processes(num_positives).clamp(min=1)
        box_normalizer = self.sum_over_processes(weight.sum()).clamp(min=1)
        level = level_of_point(points.counts, slots.device)[slots]  # (B, M)
        return Losses(
            cls=torch.stack([part.sum() for part in qfl.split(points.counts, 1)])
            * (self.cls_weight / cls_normalizer),
            box=sum_per_level(giou, level, len(points.counts)) * (self.box_weight / box_normalizer),
            dfl=sum_per_level(dfl, level, len(points.counts)) * (self.dfl_weight / box_normalizer),
            num_positives=num_positives,
        )

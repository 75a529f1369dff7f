"""The training loss of SSD (Liu et al. 2016, eq. 1), and of SSD with QFL (Li et al. 2020, table 1b).

    L = 1/N (sum of softmax cross-entropies over positives and hard negatives + sum of smooth L1 over positives)

With ``quality="joint"`` QFL replaces the cross-entropy and the selection of negatives: all points take part, and a
positive's target is the IoU of its predicted box. Such a detector is built with ``softmax=False``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gfocal.assigners.max_iou import assign_max_iou
from gfocal.criteria.gfl import Assign, identity, rows
from gfocal.losses.box import BoxLoss, SmoothL1Loss
from gfocal.losses.sparse import sparse_quality_focal_loss
from gfocal.losses.ssd import background_cross_entropy, hard_negatives
from gfocal.ops.box_coders import BoxCoder
from gfocal.ops.boxes import iou
from gfocal.ops.points import exclude_ignored, inside_own_padding
from gfocal.structures import BACKGROUND, HeadOutputs, Losses, Targets

# Positive: anchors of IoU 0.5 or more, and for each box the one anchor that it overlaps most; else background.
assign_ssd: Assign = partial(assign_max_iou, positive=0.5, negative=0.5, all_best=False)
smooth_l1: BoxLoss = SmoothL1Loss(1.0)


@dataclass(frozen=True)
class SSDCriterion:
    """SSD's loss with its weights. Call it as ``GFLCriterion``."""

    box_coder: BoxCoder
    assign: Assign = assign_ssd
    quality: Literal["none", "joint"] = "none"
    beta: float = 2.0  # of QFL
    negatives: float = 3.0  # hard negatives for each positive of an image, of the softmax
    box_loss: BoxLoss = smooth_l1
    cls_weight: float = 1.0
    box_weight: float = 1.0
    exclude_ignored: bool = True  # as in GFLCriterion
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def at_epoch(self, epoch: int, epochs: int) -> SSDCriterion:
        """The criterion of an epoch: the same in all."""
        return self

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch; arguments as those of ``GFLCriterion``.

        As published, an image without objects has no hard negatives, and so no softmax loss; QFL counts it.
        """
        points = outputs.points
        cls_logits = outputs.cls_logits  # (B, P, C)
        assignment = self.assign(points, targets, inside_own_padding(points, sizes))
        if self.exclude_ignored:
            assignment = exclude_ignored(assignment, points, targets)
        positive, negative = assignment.gt_index >= 0, assignment.gt_index == BACKGROUND  # (B, P)
        gt_of_point = assignment.gt_index.clamp(min=0)
        gt_boxes, gt_labels = rows(targets.boxes, gt_of_point), rows(targets.labels, gt_of_point)
        boxes = self.box_coder.boxes(outputs.box_logits, points)  # (B, P, 4)

        if self.quality == "joint":
            value = torch.where(positive, iou(boxes.detach(), gt_boxes), 0.0)
            cls = sparse_quality_focal_loss(cls_logits, assignment.slots, gt_labels, value, self.beta)
            cls = cls * (positive | negative)
        else:
            cls = background_cross_entropy(cls_logits, torch.where(positive, gt_labels, BACKGROUND))
            cls = torch.where(positive | hard_negatives(cls, positive, negative, self.negatives), cls, 0.0)
        box = self.box_loss(outputs.box_logits, self.box_coder, points, boxes, gt_boxes)
        box = torch.where(positive, box, 0.0)

        num_positives = positive.sum(1).clamp(min=1).sum().float()  # an image without objects counts one
        normalizer = self.sum_over_processes(num_positives)
        cls_levels, box_levels = (
            torch.stack([part.sum() for part in term.split(points.counts, 1)]) / normalizer for term in (cls, box)
        )
        return Losses(
            cls=cls_levels * self.cls_weight,
            box=box_levels * self.box_weight,
            dfl=torch.zeros_like(box_levels),
            num_positives=positive.sum().float(),
        )

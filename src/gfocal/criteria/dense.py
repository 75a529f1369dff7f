"""The training loss of every dense detector in the paper, with its choices as fields.

Li et al. 2020 compare detectors along five axes, and each axis is a field here: which points learn which box
(``assign``), how an edge is represented (``box_coder``, with or without DFL), how the quality of a box is predicted
(``quality``, figure 6) and measured (``measure``), and the classification loss. With the choices of GFL the losses
equal those of ``GFLCriterion``; a test compares the two.

How quality is predicted (``quality``):

* ``none``: not at all, there is only the class score; Focal Loss, one-hot.
* ``branch``: by a branch beside the class score, trained by binary cross-entropy on positives; at test time both are
  multiplied.
* ``guided``: not at all; the measure weights the Focal Loss of positives, whose target stays one-hot.
* ``joint``: by the class score itself: QFL, or the Varifocal Loss in its place (``cls_loss``).

With ``task_aligned`` the assigner decides by predictions, and gives the targets of ``joint``: they take the place of
the measure, weight the box losses, and their sum is the normalizer of the class loss too (Feng et al. 2021).
Predictions of the first epochs tell little, so ATSS and the measure stand in for a third of the run (``atss_share``).

Two further choices keep rare and small classes from being lost, whose boxes are bad for long: their QFL targets are
low, so the modulating factor |y - s|^beta leaves little of their loss, so their scores stay low, so do the weights of
their box losses, and so their boxes stay bad. ``beta_warmup`` fades in that factor of positives in the course of a
run; ``box_weights`` takes the scores out of the box losses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gfocal.assigners.atss import assign_atss
from gfocal.criteria.gfl import Assign, identity, level_of_point, rows, sum_per_level
from gfocal.losses import distribution_focal_loss
from gfocal.losses.box import BoxLoss, overlap_loss
from gfocal.losses.sparse import (
    sparse_focal_loss,
    sparse_quality_focal_loss,
    sparse_varifocal_loss,
    sparse_warming_quality_focal_loss,
)
from gfocal.ops.box_coders import BoxCoder
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import drop_empty_slots, exclude_ignored, inside_own_padding
from gfocal.structures import PADDING, Assignment, HeadOutputs, Losses, Targets

Quality = Literal["none", "branch", "guided", "joint"]
Measure = Literal["iou", "centerness"]
BoxWeights = Literal["quality", "equal"]
ClsLoss = Literal["qfl", "varifocal"]


@dataclass(frozen=True)
class DenseCriterion:
    """The five axes and the weights of the losses. Call it as ``GFLCriterion``."""

    box_coder: BoxCoder
    assign: Assign = assign_atss
    quality: Quality = "joint"
    measure: Measure = "iou"
    task_aligned: bool = False  # whether ``assign`` takes predictions too and gives targets, as ``assign_tal``
    atss_share: float = 1 / 3  # of a task-aligned run, at its beginning, is assigned by ATSS; 4 of 12 epochs of TOOD
    cls_loss: ClsLoss = "qfl"  # of joint
    beta: float = 2.0  # of QFL
    varifocal_gamma: float = 2.0
    varifocal_alpha: float = 0.75  # weight of background
    gamma: float = 2.0  # of the Focal Loss
    alpha: float | None = 0.25  # of the Focal Loss: weight of positives
    box_loss: BoxLoss = overlap_loss
    cls_weight: float = 1.0
    box_weight: float = 2.0
    dfl_weight: float = 0.0  # 0: no DFL; GFL has 0.25
    quality_weight: float = 1.0
    range_margin: float = 0.1  # of DFL, as in GFLCriterion
    # Share of a run in which QFL's modulating factor of positives is faded in, from 1; 0: it acts from the start, as
    # published.
    beta_warmup: float = 0.0
    # Of the box losses. "quality": the score or measure, as published (section 3), or the targets of TAL; "equal":
    # each positive counts one.
    box_weights: BoxWeights = "quality"
    unmodulated: float = 0.0  # how far that factor is taken to 1 in this epoch, 0..1; set by ``at_epoch``
    count_images: bool = False  # FoveaBox divides its class loss by positives plus images
    exclude_ignored: bool = True  # as in GFLCriterion
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def __post_init__(self) -> None:
        if self.dfl_weight and not isinstance(self.box_coder, GeneralDistribution):
            raise ValueError("DFL trains a General distribution; this box coder has no bins (box='general')")
        if self.quality != "joint" and self.cls_loss != "qfl":
            raise ValueError(
                f"the Varifocal Loss learns the quality in the class score, not quality={self.quality!r}"
            )
        if self.quality != "joint" and self.task_aligned:
            raise ValueError(f"TAL gives targets of the class score, which quality={self.quality!r} does not learn")

    def at_epoch(self, epoch: int, epochs: int) -> DenseCriterion:
        """The criterion of an epoch: the same in all, but for the warm-up of beta and the beginning of TAL."""
        criterion = self
        if self.beta_warmup:
            criterion = replace(criterion, unmodulated=max(0.0, 1 - epoch / epochs / self.beta_warmup))
        if self.task_aligned and epoch < int(self.atss_share * epochs):
            criterion = replace(criterion, assign=assign_atss, task_aligned=False)
        return criterion

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch; arguments as those of ``GFLCriterion``.

        Raises:
            ValueError: ``quality`` is ``branch``, but the detector has none.
        """
        points = outputs.points
        cls_logits = outputs.cls_logits  # (B, P, C)
        assignment = self.match(outputs, targets, sizes)
        if self.exclude_ignored:
            assignment = exclude_ignored(assignment, points, targets)
        assignment = drop_empty_slots(assignment)
        taking_part = assignment.gt_index != PADDING  # (B, P)
        slots, positive = assignment.slots, assignment.slot_positive  # (B, M)

        of_slots = points.select(slots)
        gt_of_slot = assignment.gt_index.gather(1, slots).clamp(min=0)  # (B, M)
        gt_boxes = rows(targets.boxes, gt_of_slot)  # (B, M, 4)
        box_logits = rows(outputs.box_logits.flatten(2), slots).unflatten(-1, (4, -1)).float()  # (B, M, 4, K)
        boxes = self.box_coder.boxes(box_logits, of_slots)  # (B, M, 4)
        ltrb = distances_to_edges(of_slots.xy, gt_boxes)  # (B, M, 4)

        value = iou(boxes.detach(), gt_boxes) if self.measure == "iou" else centerness(ltrb)
        value = torch.where(positive, value if assignment.weights is None else assignment.weights, 0.0)  # (B, M)
        gt_labels = rows(targets.labels, gt_of_slot)
        number = value.sum() if self.task_aligned else positive.sum(1).clamp(min=1).sum().float()
        cls_normalizer = self.sum_over_processes(number + len(sizes) * self.count_images).clamp(min=1)
        cls = self._cls_loss(cls_logits, value, positive, slots, gt_labels) * taking_part  # (B, P)

        weight = self._box_weights(cls_logits, value, positive, slots)  # (B, M)
        box_normalizer = self.sum_over_processes(weight.sum()).clamp(min=1)
        box = self.box_loss(box_logits, self.box_coder, of_slots, boxes, gt_boxes)
        box = torch.where(positive, box, 0.0) * weight  # slots without ground truth may give any value
        level = level_of_point(points.counts, slots.device)[slots]  # (B, M)
        num_levels = len(points.counts)
        return Losses(
            cls=torch.stack([part.sum() for part in cls.split(points.counts, 1)])
            * (self.cls_weight / cls_normalizer),
            box=sum_per_level(box, level, num_levels) * (self.box_weight / box_normalizer),
            dfl=sum_per_level(self._dfl(box_logits, ltrb, of_slots.strides) * weight, level, num_levels)
            * (self.dfl_weight / box_normalizer),
            num_positives=positive.sum().float(),
            quality=self._quality_loss(outputs, value, positive, slots, level),
        )

    def match(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Assignment:
        """Assign the points of a batch, by the predictions if ``task_aligned``."""
        points = outputs.points
        taking_part = inside_own_padding(points, sizes)
        if not self.task_aligned:
            return self.assign(points, targets, taking_part)
        with torch.no_grad():
            boxes = self.box_coder.boxes(outputs.box_logits.float(), points)  # (B, P, 4)
            return self.assign(points, targets, taking_part, outputs.cls_logits, boxes)

    def _cls_loss(
        self, cls_logits: Tensor, value: Tensor, positive: Tensor, slots: Tensor, gt_labels: Tensor
    ) -> Tensor:
        """(B, P), summed over classes."""
        if self.quality == "joint" and self.cls_loss == "varifocal":
            gamma, alpha = self.varifocal_gamma, self.varifocal_alpha
            return sparse_varifocal_loss(cls_logits, slots, gt_labels, value, gamma, alpha)
        if self.quality == "joint" and self.unmodulated:
            beta, unmodulated = self.beta, self.unmodulated
            return sparse_warming_quality_focal_loss(cls_logits, slots, gt_labels, value, beta, unmodulated)
        if self.quality == "joint":
            return sparse_quality_focal_loss(cls_logits, slots, gt_labels, value, self.beta)
        loss = sparse_focal_loss(cls_logits, slots, gt_labels, positive, self.gamma, self.alpha)
        if self.quality == "guided":
            # 1 for background, the measure for positives: 1 + (value - 1) at the one positive slot of a point.
            less = torch.where(positive, value - 1, 0.0)
            loss = loss * torch.ones_like(loss).scatter_add(1, slots, less)
        return loss

    def _box_weights(self, cls_logits: Tensor, value: Tensor, positive: Tensor, slots: Tensor) -> Tensor:
        """(B, M): the quality scores weight the box losses (section 3); without any, each positive counts one."""
        if self.quality == "none" or self.box_weights == "equal":
            return positive.float()
        if self.quality == "joint" and not self.task_aligned:
            score = rows(cls_logits.detach(), slots).amax(-1).float().sigmoid()
            return torch.where(positive, score, 0.0)
        return value

    def _dfl(self, box_logits: Tensor, ltrb: Tensor, strides: Tensor) -> Tensor:
        """(B, M), the mean over the four sides; zeros without DFL."""
        if not self.dfl_weight:
            return torch.zeros_like(strides)
        assert isinstance(self.box_coder, GeneralDistribution)
        bins = (ltrb / (strides * self.box_coder.delta).unsqueeze(-1)).clamp(0, self.box_coder.n - self.range_margin)
        return distribution_focal_loss(box_logits, bins).mean(-1)

    def _quality_loss(
        self, outputs: HeadOutputs, value: Tensor, positive: Tensor, slots: Tensor, level: Tensor
    ) -> Tensor | None:
        """(L,) of a separate branch: binary cross-entropy on the positives; None without a branch."""
        if self.quality != "branch":
            return None
        if outputs.quality_logits is None:
            raise ValueError("quality='branch', but the detector has no quality branch (quality_branch=True)")
        logits = rows(outputs.quality_logits.float(), slots)
        loss = torch.where(positive, F.binary_cross_entropy_with_logits(logits, value, reduction="none"), 0.0)
        normalizer = self.sum_over_processes(positive.sum().float()).clamp(min=1)
        return sum_per_level(loss, level, len(outputs.points.counts)) * (self.quality_weight / normalizer)


def centerness(ltrb: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (Tian et al. 2019); 0 outside the box. (..., 4) -> (...)"""
    ltrb = ltrb.clamp(min=0)
    least = torch.minimum(ltrb[..., :2], ltrb[..., 2:])
    most = torch.maximum(ltrb[..., :2], ltrb[..., 2:]).clamp(min=1e-6)
    ratio = least / most  # (..., 2)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()

"""Localization distillation (Zheng et al. 2022): a trained teacher's edge distributions, learned beside the labels.

    L_LD = 1/N_w sum_positives w_z D_z weight  +  1/N_r sum_z r_z D_z region_weight,    N_w = sum w, N_r = sum r

D_z is the mean over the four edges of T^2 KL(teacher || student) at temperature T (``edge_divergence``).

* Main region: the positives of the student's own criterion; w is their score, as in the box losses of GFL, or one
  where the criterion has no quality estimate or equal weights.
* Valuable localization region: points around each box that are no good positives but see some of it. Those whose
  square anchor has a DIoU with the box between a quarter of ATSS's threshold of the box and the threshold; r is the
  IoU of anchor and box, 0 elsewhere. Some of them may be positives too, as published.

The published code has no N_w and N_r, so that its weight grows with the images per process, takes the mean over the
n + 1 bins where a divergence has their sum, and divides the second term by four more. Here both terms are weighted
means of true divergences: where N_w is n + 1 = 17, about that of two images of COCO, the first terms are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gfocal.assigners.atss import mean_plus_std, nearest_points
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import GFLCriterion, identity, level_of_point, rows, sum_per_level
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.losses.divergence import edge_divergence
from gfocal.models.detector import Detector
from gfocal.ops.boxes import diou, iou
from gfocal.ops.points import at, drop_empty_slots, inside_own_padding
from gfocal.structures import Assignment, HeadOutputs, Losses, Points, Targets

Taught = GFLCriterion | DenseCriterion | NanoDetCriterion  # criteria of detectors with General distributions


@dataclass(frozen=True)
class DistillingCriterion:
    """A criterion, and the term of a teacher beside it. Call it as ``GFLCriterion``.

    The outputs must have the teacher's: ``gfocal.training.teaching.TaughtNetwork`` adds them.
    """

    base: Taught
    teacher: Detector
    weight: float = 0.25  # of the main region
    region_weight: float = 0.25  # of the valuable localization region; 0: without it
    temperature: float = 10.0
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def at_epoch(self, epoch: int, epochs: int) -> DistillingCriterion:
        """The criterion of an epoch: that of the labels in this epoch, and the same teacher."""
        return replace(self, base=self.base.at_epoch(epoch, epochs))

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch; arguments as those of ``GFLCriterion``."""
        assignment = self._assign(outputs, targets, sizes)  # once, for the labels and the teacher
        base = replace(self.base, assign=lambda *_: assignment, sum_over_processes=self.sum_over_processes)
        losses = base(outputs, targets, sizes)
        distill = self.weight * self.divergence(outputs, self.main_region(outputs, assignment))
        if self.region_weight:
            part = inside_own_padding(outputs.points, sizes)
            region = as_slots(valuable_region(outputs.points, targets, part))
            distill = distill + self.region_weight * self.divergence(outputs, region)
        return replace(losses, distill=distill)

    def divergence(self, outputs: HeadOutputs, region: Assignment) -> Tensor:
        """Weighted mean over the slots of a region, by pyramid level. (L,)"""
        assert outputs.teacher_box_logits is not None, "a criterion with a teacher needs a TaughtNetwork"
        assert region.weights is not None
        slots, counts = region.slots, outputs.points.counts
        student = rows(outputs.box_logits.flatten(2), slots).unflatten(-1, (4, -1))  # (B, M, 4, K)
        teacher = rows(outputs.teacher_box_logits.flatten(2), slots).unflatten(-1, (4, -1))
        loss = edge_divergence(student, teacher, self.temperature).mean(-1) * region.weights  # (B, M)
        normalizer = self.sum_over_processes(region.weights.sum()).clamp(min=1)
        level = at(level_of_point(counts, slots.device), slots)
        return sum_per_level(loss, level, len(counts)) / normalizer

    def _assign(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Assignment:
        if isinstance(self.base, NanoDetCriterion):
            return self.base.match(outputs, targets, sizes).assignment
        if isinstance(self.base, DenseCriterion):
            return self.base.match(outputs, targets, sizes)
        return self.base.assign(outputs.points, targets, inside_own_padding(outputs.points, sizes))

    @torch.no_grad()
    def main_region(self, outputs: HeadOutputs, assignment: Assignment) -> Assignment:
        """The positives, weighted as the base weights its box losses: by their scores, TAL's targets, or equally."""
        assignment = drop_empty_slots(assignment)
        weight = assignment.slot_positive.float()  # (B, M)
        dense = self.base if isinstance(self.base, DenseCriterion) else None
        if dense is None or (dense.quality != "none" and dense.box_weights != "equal"):
            score = rows(outputs.cls_logits, assignment.slots).amax(-1).float().sigmoid()
            weight = weight * (score if assignment.weights is None else assignment.weights)
        return replace(assignment, weights=weight)


@torch.no_grad()
def valuable_region(
    points: Points,
    targets: Targets,
    taking_part: Bool[Tensor, "B P"],
    share: float = 0.25,
    topk: int = 9,
    anchor_scale: float = 8.0,
) -> Float[Tensor, "B P"]:
    """Weight of each point in the valuable localization region: the IoU of its anchor, 0 outside of the region.

    Args:
        points: P points of all levels.
        targets: ground truth, boxes in pixels of the network's input. A point in the regions of several boxes counts
            with the one that its anchor overlaps most.
        taking_part: (B, P) bool, as ``inside_own_padding`` gives it.
        share: of ATSS's threshold, from which on a DIoU lies in the region; below the threshold itself.
        topk: candidates per level of ATSS.
        anchor_scale: side of the anchor in strides.
    """
    gt_boxes = targets.boxes.float()
    candidates, is_candidate = nearest_points(points, gt_boxes, taking_part, topk)  # (B, G, A)
    half_side = (points.strides * (anchor_scale / 2)).unsqueeze(-1)
    anchors = torch.cat((points.xy - half_side, points.xy + half_side), -1)  # (P, 4)
    overlaps = iou(at(anchors, candidates), gt_boxes.unsqueeze(2))  # (B, G, A)
    threshold = mean_plus_std(overlaps, is_candidate).unsqueeze(-1)  # (B, G, 1)
    found = []
    # One image after another: all boxes against all points is the largest table of a step.
    for boxes, limit, valid in zip(gt_boxes.unbind(), threshold.unbind(), targets.valid.unbind(), strict=True):
        nearness = diou(anchors, boxes.unsqueeze(1))  # (G, P)
        inside = (nearness < limit) & (nearness >= share * limit) & valid.unsqueeze(-1)
        found.append(torch.where(inside, iou(anchors, boxes.unsqueeze(1)), 0.0).amax(0))
    return torch.where(taking_part, torch.stack(found), 0.0)


def as_slots(weights: Float[Tensor, "B P"]) -> Assignment:
    """Points with weights as slots: all of them, on a CPU about as many as have one."""
    number = weights.shape[1]
    slots = torch.arange(number, device=weights.device).expand(len(weights), number)
    return drop_empty_slots(Assignment(slots, slots, weights > 0, weights))

"""The training loss of GFL (Li et al. 2020, eq. 8): the file to read first.

    L = 1/N_q sum_z QFL  +  1/N_w sum_positives w_z (lambda_0 GIoU loss + lambda_1 DFL)

1. Assign points to ground-truth boxes.
2. A positive's quality is the IoU of its predicted box with its ground truth; QFL makes it the class score's target.
3. GIoU loss and DFL train its box, weighted by w, the point's highest score of any class.

All weights and normalizers of the method are here and nowhere else. Nothing synchronizes with a device, no shape
depends on data (but for the number of empty slots, on a CPU), and an image without objects takes the same path as
every other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from gfocal.assigners.atss import assign_atss
from gfocal.losses import giou_loss
from gfocal.losses.gfl import expectation_and_dfl
from gfocal.losses.sparse import sparse_quality_focal_loss
from gfocal.ops.boxes import boxes_from_distances, distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import at, drop_empty_slots, exclude_ignored, inside_own_padding
from gfocal.structures import PADDING, Assignment, HeadOutputs, Losses, Targets

Assign = Callable[..., Assignment]


@runtime_checkable
class Criterion(Protocol):
    """What a training run needs of a criterion: a frozen dataclass that is called as ``GFLCriterion`` below."""

    @property
    def sum_over_processes(self) -> Callable[[Tensor], Tensor]:
        """Sum of a tensor over all training processes."""
        ...

    def at_epoch(self, epoch: int, epochs: int) -> Criterion:
        """The criterion of an epoch, counted from 0, in a run of so many."""
        ...

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch."""
        ...


def identity(value: Tensor) -> Tensor:
    """The sum over processes, where there is only one."""
    return value


@dataclass(frozen=True)
class GFLCriterion:
    """Eq. 8 with its weights. Call it with outputs, targets and image sizes."""

    box_coder: GeneralDistribution = field(default_factory=GeneralDistribution)
    assign: Assign = assign_atss
    beta: float = 2.0  # of QFL
    cls_weight: float = 1.0
    box_weight: float = 2.0  # lambda_0, of the GIoU loss
    # lambda_1, of DFL averaged over the four sides. The paper can be read as the average alone; the published
    # models were trained with both the average and the quarter.
    dfl_weight: float = 0.25
    # Distances are clamped to n - range_margin bins, for DFL only, as in the published models.
    range_margin: float = 0.1
    # Whether background inside ignored regions is left out of the class loss; in the published models it was not.
    exclude_ignored: bool = True
    # Sum of a tensor over all training processes: each computes its share of the loss of the whole batch.
    sum_over_processes: Callable[[Tensor], Tensor] = identity

    def at_epoch(self, epoch: int, epochs: int) -> GFLCriterion:
        """The criterion of an epoch: the same in all."""
        return self

    def __call__(self, outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Losses:
        """Losses of a batch.

        Args:
            outputs: of a detector whose head predicts what ``box_coder`` reads.
            targets: ground truth in pixels of the network's input.
            sizes: (B, 2) height and width of each image before padding.
        """
        points = outputs.points
        cls_logits = outputs.cls_logits  # (B, P, C)
        assignment = self.assign(points, targets, inside_own_padding(points, sizes))
        if self.exclude_ignored:
            assignment = exclude_ignored(assignment, points, targets)
        assignment = drop_empty_slots(assignment)
        taking_part = assignment.gt_index != PADDING  # (B, P)
        slots, positive = assignment.slots, assignment.slot_positive  # (B, M)

        # Ground truth and prediction of every slot, in units of the point's stride.
        strides = at(points.strides, slots).unsqueeze(-1)  # (B, M, 1)
        xy_strided = at(points.xy, slots) / strides
        gt_of_slot = assignment.gt_index.gather(1, slots).clamp(min=0)  # (B, M)
        gt_boxes_strided = rows(targets.boxes, gt_of_slot) / strides  # (B, M, 4)
        distances = distances_to_edges(xy_strided, gt_boxes_strided) / self.box_coder.delta  # (B, M, 4)
        bins = distances.clamp(0, self.box_coder.n - self.range_margin)
        box_logits = rows(outputs.box_logits.flatten(2), slots).unflatten(-1, (4, -1))  # (B, M, 4, K)
        expected_bins, dfl = expectation_and_dfl(box_logits, bins)  # (B, M, 4)
        boxes_strided = boxes_from_distances(xy_strided, expected_bins * self.box_coder.delta)

        quality = torch.where(positive, iou(boxes_strided.detach(), gt_boxes_strided), 0.0)  # (B, M)
        labels = rows(targets.labels, gt_of_slot)
        qfl = sparse_quality_focal_loss(cls_logits, slots, labels, quality, self.beta) * taking_part  # (B, P)
        num_positives = positive.sum(1).clamp(min=1).sum().float()  # an image without objects counts one

        score = rows(cls_logits.detach(), slots).amax(-1).float().sigmoid()  # (B, M)
        weight = torch.where(positive, score, 0.0)
        giou = giou_loss(boxes_strided, gt_boxes_strided) * weight
        dfl = dfl.mean(-1) * weight  # (B, M)

        cls_normalizer = self.sum_over_processes(num_positives)
        box_normalizer = self.sum_over_processes(weight.sum()).clamp(min=1)
        level = at(level_of_point(points.counts, slots.device), slots)  # (B, M)
        return Losses(
            cls=torch.stack([part.sum() for part in qfl.split(points.counts, 1)])
            * (self.cls_weight / cls_normalizer),
            box=sum_per_level(giou, level, len(points.counts)) * (self.box_weight / box_normalizer),
            dfl=sum_per_level(dfl, level, len(points.counts)) * (self.dfl_weight / box_normalizer),
            num_positives=positive.sum().float(),
        )


def rows(values: Shaped[Tensor, "B N *rest"], index: Int[Tensor, "B M"]) -> Shaped[Tensor, "B M *rest"]:
    """Rows of each image by index. values (B, N) or (B, N, R), index (B, M) -> (B, M) or (B, M, R)"""
    if values.dim() == 2:
        return values.gather(1, index)
    # Along the first dimension torch copies rows as a whole, and adds their gradients so: several times as fast.
    num_images, num_rows, width = values.shape
    first = torch.arange(num_images, device=index.device).unsqueeze(1) * num_rows
    flat = (index + first).view(-1, 1).expand(-1, width)  # (B * M, R)
    return values.flatten(0, 1).gather(0, flat).view(num_images, -1, width)


def level_of_point(counts: list[int], device: torch.device) -> Tensor:
    """Index of the pyramid level of every point. (P,)"""
    return torch.cat([torch.full((c,), i, dtype=torch.int64, device=device) for i, c in enumerate(counts)])


def sum_per_level(values: Float[Tensor, "B M"], level: Int[Tensor, "B M"], num_levels: int) -> Float[Tensor, " L"]:
    """Sum of (B, M) values by the level of each slot. -> (L,)"""
    # F.one_hot would synchronize with the device, to check that every index is in range.
    levels = torch.arange(num_levels, device=level.device)
    membership = (level.flatten().unsqueeze(1) == levels).to(values.dtype)  # (B*M, L)
    return values.flatten() @ membership

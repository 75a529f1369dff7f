"""Task-aligned assignment of TOOD (Feng et al. 2021): the points that score high and predict the box well.

Like DSLA it looks at what a detector predicts now, so an assignment changes during training.

1. The alignment of a point with a box is t = s^alpha u^beta: s is its score for the box's class, u the IoU of the box
   that it predicts.
2. Of the points inside a box, the ``topk`` of largest t become positive.
3. A point that several boxes claim goes to the one it overlaps most, then to the first.
4. The target of a positive's class score is t / (largest t) (largest u), the largest among the positives of its box:
   the best aligned point learns the best IoU. It is the weight of the positive's box losses too.

So the points of a box that is predicted badly by all of them have low targets, and any box with points inside has
positives, as long as no other box takes them.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gfocal.assigners.atss import INSIDE_MARGIN
from gfocal.assigners.dsla import images_at_once, predicted_overlaps
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets


def assign_tal(
    points: Points,
    targets: Targets,
    taking_part: Tensor,
    cls_logits: Tensor,
    boxes: Tensor,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels.
        targets: ground truth, boxes in pixels of the network's input. A box without points inside is unassigned.
        taking_part: (B, P) bool, False for points beyond an image's own padding; they are no candidates.
        cls_logits: (B, P, C) predicted, any float dtype; no gradient flows.
        boxes: (B, P, 4) predicted, in pixels of the network's input, not clipped.
        topk: points of a box.
        alpha: exponent of the score in the alignment, at least 0.
        beta: exponent of the IoU in the alignment, at least 0.

    Returns:
        An ``Assignment`` with ``weights``, which are the targets, and M = G * topk slots, of fewer where there are
        fewer than ``topk`` points.
    """
    batch = (targets.boxes.float(), targets.labels, targets.valid, taking_part, cls_logits.detach(), boxes.detach())
    found = []
    for gt_boxes, labels, valid, part, logits, predicted in zip(
        *(x.split(images_at_once(points, targets)) for x in batch), strict=True
    ):
        overlaps = predicted_overlaps(predicted, gt_boxes)
        alignment = log_alignment(logits, labels, overlaps, alpha, beta)
        candidate = inside_each(points.xy, gt_boxes) & part.unsqueeze(1) & valid.unsqueeze(2)
        found.append(choose(torch.where(candidate, alignment, -torch.inf), overlaps, topk))
    gt_index, slots, slot_positive, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Assignment(torch.where(taking_part, gt_index, PADDING), slots, slot_positive, weights)


def log_alignment(
    cls_logits: Float[Tensor, "B P C"],
    labels: Int[Tensor, "B G"],
    overlaps: Float[Tensor, "B G P"],
    alpha: float,
    beta: float,
) -> Float[Tensor, "B G P"]:
    """Step 1: log t of each point with each box, finite; t itself would be 0 in float32 at low scores and IoUs.

    Logits (B, P, C), labels (B, G), IoUs (B, G, P) -> (B, G, P)
    """
    x = cls_logits.to(torch.promote_types(cls_logits.dtype, torch.float32)).transpose(1, 2)  # (B, C, P)
    x = x.gather(1, labels.unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # (B, G, P), of the box's class
    least = torch.finfo(overlaps.dtype).tiny
    return alpha * F.logsigmoid(x) + beta * overlaps.clamp(min=least).log()


def inside_each(xy: Float[Tensor, "P 2"], gt_boxes: Float[Tensor, "B G 4"]) -> Bool[Tensor, "B G P"]:
    """Which points lie inside which box, as in ATSS. (P, 2), (B, G, 4) -> (B, G, P)"""
    x, y = xy.unbind(-1)  # (P,)
    x1, y1, x2, y2 = gt_boxes.unsqueeze(2).unbind(-1)  # (B, G, 1)
    nearest = torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))
    return nearest > INSIDE_MARGIN


def choose(
    alignment: Float[Tensor, "B G P"], overlaps: Float[Tensor, "B G P"], topk: int
) -> tuple[Int[Tensor, "B P"], Int[Tensor, "B M"], Bool[Tensor, "B M"], Float[Tensor, "B M"]]:
    """Steps 2 to 4. Log t (B, G, P), infinite where a pair must not be, and IoUs (B, G, P).

    Returns the box of each point (B, P), the slots (B, M), which of them are positive and their targets (B, M).
    """
    _, num_gt, num_points = alignment.shape
    alignment, slots = alignment.topk(min(topk, num_points), -1)  # (B, G, A)
    claims = alignment.isfinite()
    claim_iou = torch.where(claims, overlaps.gather(2, slots), -1.0)
    claimed = torch.full_like(overlaps, -1.0).scatter(2, slots, claim_iou)  # (B, G, P)
    gt_index = torch.where(claimed.amax(1) < 0, BACKGROUND, claimed.argmax(1))  # of equals the first
    gt_of_slot = torch.arange(num_gt, device=slots.device).repeat_interleave(slots.shape[-1])  # (M,)
    positive = claims.flatten(1) & (gt_index.gather(1, slots.flatten(1)) == gt_of_slot)
    targets = normalize(alignment, claim_iou, positive.view_as(slots))
    return gt_index, slots.flatten(1), positive, targets.flatten(1)


def normalize(
    alignment: Float[Tensor, "B G A"], overlaps: Float[Tensor, "B G A"], positive: Bool[Tensor, "B G A"]
) -> Float[Tensor, "B G A"]:
    """Step 4: log t and IoU of the slots of each box, and which are positive -> targets, 0 elsewhere."""
    alignment = torch.where(positive, alignment, -torch.inf)
    best_iou = torch.where(positive, overlaps, 0.0).amax(-1, keepdim=True)
    share = (alignment - alignment.amax(-1, keepdim=True)).exp()  # NaN where a box has no positives
    return torch.where(positive, share * best_iou, 0.0)

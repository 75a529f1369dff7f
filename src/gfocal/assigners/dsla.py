"""Dynamic Soft Label Assignment of NanoDet-Plus (RangiLyu 2021; after OTA, Ge et al. 2021, as simplified in YOLOX).

Unlike the other assigners it looks at what a detector predicts now, so an assignment changes during training.

1. Points strictly inside any ground-truth box are candidates, each of them for every box of the image.
2. The cost of a candidate for a box, whose IoU with the candidate's predicted box is y:
   sum over classes c of (y_c - s_c)^2 BCE(y_c, s_c)  -  iou_weight log(y + 1e-7),
   where s are the scores, and y_c is y for the box's class and 0 for every other.
3. A box takes its k candidates of least cost, where k is the sum of its ``topk`` largest IoUs, truncated, at least 1.
4. A candidate that several boxes take goes to the box of least cost, even to one that did not take it.

So a box may get points outside itself, and one that costs more than another everywhere gets none: of two identical
boxes of one class the first gets all points. Where no point lies inside any box all are background.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gfocal.ops.boxes import iou
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# Pairs of a point and a box that are compared at once: images beyond follow one another, to bound memory.
PAIRS_AT_ONCE = 1 << 22


def assign_dsla(
    points: Points,
    targets: Targets,
    taking_part: Tensor,
    cls_logits: Tensor,
    boxes: Tensor,
    topk: int = 13,
    iou_weight: float = 3.0,
) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned.
        taking_part: (B, P) bool, False for points beyond an image's own padding; they are no candidates.
        cls_logits: (B, P, C) predicted, any float dtype; no gradient flows.
        boxes: (B, P, 4) predicted, in pixels of the network's input, not clipped.
        topk: IoUs whose sum is the number of points of a box, and so the most points that a box may choose.
        iou_weight: how much the IoU counts beside the class.

    Returns:
        An ``Assignment`` with M = G * topk slots, of fewer where there are fewer than ``topk`` points.
    """
    batch = (targets.boxes.float(), targets.labels, targets.valid, taking_part, cls_logits.detach(), boxes.detach())
    found = []
    for gt_boxes, labels, valid, part, logits, predicted in zip(
        *(x.split(images_at_once(points, targets)) for x in batch), strict=True
    ):
        candidate = inside_any(points.xy, gt_boxes, valid) & part  # (b, P)
        overlaps = predicted_overlaps(predicted, gt_boxes)
        cost = class_cost(logits, labels, overlaps) - iou_weight * (overlaps + 1e-7).log()
        pair = candidate.unsqueeze(1) & valid.unsqueeze(2)  # (b, G, P)
        number = number_of_points(torch.where(pair, overlaps, 0.0), topk)
        found.append(choose(torch.where(pair, cost, torch.inf), number, topk))
    gt_index, slots, slot_positive = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Assignment(torch.where(taking_part, gt_index, PADDING), slots, slot_positive)


def images_at_once(points: Points, targets: Targets) -> int:
    """Images whose pairs of a point and a box are compared at once."""
    return max(1, PAIRS_AT_ONCE // max(1, targets.boxes.shape[1] * len(points.xy)))


def predicted_overlaps(predicted: Float[Tensor, "B P 4"], gt_boxes: Float[Tensor, "B G 4"]) -> Float[Tensor, "B G P"]:
    """IoU of each predicted box with each of the ground truth. (B, P, 4), (B, G, 4) -> (B, G, P)"""
    # With the same edge of all points together in memory, the arithmetic runs along points: several times faster.
    predicted = predicted.movedim(-1, 0).contiguous().movedim(0, -1)
    return iou(predicted.unsqueeze(1), gt_boxes.unsqueeze(2))


def inside_any(
    xy: Float[Tensor, "P 2"], gt_boxes: Float[Tensor, "B G 4"], valid: Bool[Tensor, "B G"]
) -> Bool[Tensor, "B P"]:
    """Step 1: which points lie strictly inside a box that is valid. (P, 2), (B, G, 4), (B, G) -> (B, P)"""
    x, y = xy.unbind(-1)  # (P,)
    x1, y1, x2, y2 = gt_boxes.unsqueeze(2).unbind(-1)  # (B, G, 1)
    return ((x1 < x) & (x < x2) & (y1 < y) & (y < y2) & valid.unsqueeze(2)).any(1)


def class_cost(
    cls_logits: Float[Tensor, "B P C"], labels: Int[Tensor, "B G"], overlaps: Float[Tensor, "B G P"]
) -> Float[Tensor, "B G P"]:
    """Step 2: the sum over all classes, (B, P, C), (B, G), (B, G, P) -> (B, G, P), with no tensor of B, G, P and C.

    That of a point with target 0 for every class is the same for all boxes; each box replaces one summand.
    """
    x = cls_logits.to(torch.promote_types(cls_logits.dtype, torch.float32))
    x = x.transpose(1, 2).contiguous()  # (B, C, P): the points of a class lie together, as those of a box below
    softplus, score = F.softplus(x), x.sigmoid()
    as_background = softplus * score.square()
    index = labels + torch.arange(len(x), device=x.device).unsqueeze(1) * x.shape[1]  # (B, G) into (B C) rows

    def of_own_class(values: Tensor) -> Tensor:  # (B, C, P) -> (B, G, P)
        return values.flatten(0, 1).index_select(0, index.flatten()).view_as(overlaps)

    others = (as_background.sum(1, keepdim=True) - of_own_class(as_background)).clamp(min=0)
    cross_entropy = of_own_class(softplus) - of_own_class(x) * overlaps
    return others + (overlaps - of_own_class(score)).square() * cross_entropy


def number_of_points(overlaps: Float[Tensor, "B G P"], topk: int = 13) -> Int[Tensor, "B G"]:
    """Step 3: how many points each box may choose. IoUs with candidates, else 0: (B, G, P) -> (B, G)"""
    largest = overlaps.topk(min(topk, overlaps.shape[-1]), -1).values
    return largest.sum(-1).to(torch.int64).clamp(min=1)


def choose(
    cost: Float[Tensor, "B G P"], number: Int[Tensor, "B G"], topk: int
) -> tuple[Int[Tensor, "B P"], Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
    """Steps 3 and 4. Costs (B, G, P), infinite where a pair must not be, and numbers (B, G) of points to choose.

    Returns the box of each point (B, P), the slots (B, M) and which of them are positive, as in ``Assignment``.
    """
    num_images, _, num_points = cost.shape
    least, slots = cost.topk(min(topk, num_points), -1, largest=False)  # (B, G, A)
    num_slots_of_box = slots.shape[-1]
    rank = torch.arange(num_slots_of_box, device=cost.device)
    claims = ((rank < number.unsqueeze(-1)) & least.isfinite()).flatten(1)  # (B, M)
    slots = slots.flatten(1)
    num_slots = slots.shape[1]

    order = torch.arange(num_slots, device=cost.device).expand_as(slots)
    num_claims = slots.new_zeros(num_images, num_points).scatter_add(1, slots, claims.to(slots.dtype))  # (B, P)
    first = slots.new_full((num_images, num_points), num_slots)
    first = first.scatter_reduce(1, slots, torch.where(claims, order, num_slots), "amin")  # (B, P)
    gt_index = torch.div(first, num_slots_of_box, rounding_mode="floor")
    gt_index = torch.where(num_claims > 1, cost.argmin(1), gt_index)
    gt_index = torch.where(num_claims > 0, gt_index, BACKGROUND)
    return gt_index, slots, claims & (first.gather(1, slots) == order)

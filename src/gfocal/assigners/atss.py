"""Adaptive Training Sample Selection (Zhang et al. 2020): which points are to predict which ground-truth box.

1. Of each box, the ``topk`` points of every level whose centers are nearest to its own are candidates.
2. Its threshold is the mean plus the standard deviation of its candidates' IoUs, where a point stands for a
   square anchor of side ``anchor_scale`` x stride.
3. Candidates at or above the threshold whose center lies inside the box become positive.
4. A point that several boxes claim goes to the one it overlaps most, then to the first.

All shapes are known in advance: a batch of B images padded to G boxes has at most topk * L candidates each.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# A center must lie this far inside a box, in pixels.
INSIDE_MARGIN = 0.01


def assign_atss(
    points: Points, targets: Targets, taking_part: Tensor, topk: int = 9, anchor_scale: float = 8.0
) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned: one of zero area,
            or so small that no center lies inside.
        taking_part: (B, P) bool, False for points beyond an image's own padding; they are no candidates.
        topk: candidates per level.
        anchor_scale: side of the anchor in strides.

    Returns:
        An ``Assignment`` with M = G * (candidates of one box) slots.
    """
    gt_boxes = targets.boxes.float()
    candidates, is_candidate = nearest_points(points, gt_boxes, taking_part, topk)  # (B, G, A)
    candidate_xy = points.xy[candidates]  # (B, G, A, 2)
    half_side = (points.strides[candidates] * (anchor_scale / 2)).unsqueeze(-1)
    anchors = torch.cat((candidate_xy - half_side, candidate_xy + half_side), -1)  # (B, G, A, 4)
    overlaps = iou(anchors, gt_boxes.unsqueeze(2))  # (B, G, A)

    threshold = mean_plus_std(overlaps, is_candidate)  # (B, G)
    inside = distances_to_edges(candidate_xy, gt_boxes.unsqueeze(2)).amin(-1) > INSIDE_MARGIN
    positive = is_candidate & inside & (overlaps >= threshold.unsqueeze(-1)) & targets.valid.unsqueeze(-1)

    num_images, num_gt, num_candidates = candidates.shape
    slots = candidates.reshape(num_images, -1)  # (B, M)
    claims = positive.reshape(num_images, -1)
    claim_iou = torch.where(claims, overlaps.reshape(num_images, -1), -1.0)
    gt_of_slot = torch.arange(num_gt, device=slots.device).repeat_interleave(num_candidates)
    gt_of_slot = gt_of_slot.expand(num_images, -1)

    num_points = len(points.xy)
    best_iou = claim_iou.new_full((num_images, num_points), -1.0).scatter_reduce(1, slots, claim_iou, "amax")
    claims = claims & (claim_iou == best_iou.gather(1, slots))
    unclaimed = num_gt
    winner = slots.new_full((num_images, num_points), unclaimed)
    winner = winner.scatter_reduce(1, slots, torch.where(claims, gt_of_slot, unclaimed), "amin")  # (B, P)

    gt_index = torch.where(winner == unclaimed, BACKGROUND, winner)
    gt_index = torch.where(taking_part, gt_index, PADDING)
    return Assignment(gt_index, slots, claims & (winner.gather(1, slots) == gt_of_slot))


def nearest_points(
    points: Points, gt_boxes: Float[Tensor, "B G 4"], taking_part: Bool[Tensor, "B P"], topk: int
) -> tuple[Int[Tensor, "B G A"], Bool[Tensor, "B G A"]]:
    """Per level the ``topk`` points nearest to each box center, by Euclidean distance.

    gt_boxes (B, G, 4), taking_part (B, P) -> indices of points (B, G, A) and which of them count (B, G, A):
    a level with fewer than ``topk`` points that take part has fewer candidates.
    """
    gt_centers = (gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2  # (B, G, 2)
    indices, counted = [], []
    start = 0
    for count in points.counts:
        xy = points.xy[start : start + count]
        offset = xy[None, :, None] - gt_centers[:, None]  # (B, h*w, G, 2)
        distance = (offset * offset).sum(-1).sqrt()
        distance = distance.masked_fill(~taking_part[:, start : start + count, None], torch.inf)
        # Ties are common, as centers lie on a grid. topk over dimension 1 breaks them as in the reference
        # implementation.
        nearest, index = distance.topk(min(topk, count), dim=1, largest=False)  # (B, k, G)
        indices.append(index.transpose(1, 2) + start)
        counted.append(nearest.transpose(1, 2).isfinite())
        start += count
    return torch.cat(indices, 2), torch.cat(counted, 2)


def mean_plus_std(values: Float[Tensor, "*shape A"], counted: Bool[Tensor, "*shape A"]) -> Float[Tensor, "*shape"]:
    """Mean plus unbiased standard deviation over the last dimension, of the counted values only."""
    weight = counted.to(values.dtype)
    count = weight.sum(-1)
    mean = (values * weight).sum(-1) / count.clamp(min=1)
    squares = ((values - mean.unsqueeze(-1)) ** 2 * weight).sum(-1)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()

"""Soft Anchor-Point Detector (Zhu et al. 2020): points in the middle of a box predict it on every level, softly.

1. A point is a candidate of every box whose effective box it lies strictly inside of: the central part that has
   ``effective`` of each side. Every level takes part that the box is assigned to, whatever the box's size.
2. Of several boxes it takes the one of the smallest area, then the first.
3. Its weight for that box is its generalized centerness, with distances l, t, r, b to the edges of the whole box:
   f = ((min(l, r) min(t, b)) / (max(l, r) max(t, b))) ^ eta: soft-weighted anchor points.
4. That is multiplied by the weight of its level for that box: soft-selected pyramid levels. In the paper a network
   predicts these weights; a box is assigned to the levels whose weight is greater than zero.

The losses apply ``Assignment.weights`` w so: with the focal loss FL and the box loss LB of a point,

    (sum over all points of w FL + sum over positive points of w LB) / sum over positive points of w,

where w is f x level weight at positive points and 1 at background. So a positive point far off its box's center
contributes little to either loss, but is no background.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.assigners.fcos import smallest_box
from gfocal.ops.boxes import area, distances_to_edges
from gfocal.structures import PADDING, Assignment, Points, Targets


def assign_sapd(
    points: Points,
    targets: Targets,
    taking_part: Tensor,
    level_weights: Tensor | None = None,
    effective: float = 0.2,
    eta: float = 1.0,
) -> Assignment:
    """Assign the points of a batch, and weight them.

    Args:
        points: P points of all L levels; the paper's lie in the centers of cells.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned: a box smaller
            than stride / ``effective`` has no point on that level unless one happens to lie in its middle.
        taking_part: (B, P) bool, False for points beyond an image's own padding.
        level_weights: (B, G, L), 0 or more: how much each box counts on each level; None: 1 everywhere. Where it
            is 0 the box is not assigned to the level: its points are free for others, or background. The weights
            of the result are differentiable in it.
        effective: the part of each side that the effective box has (the paper's epsilon), 0..1.
        eta: how steeply weights fall towards the edges.

    Returns:
        An ``Assignment`` whose slots are all points, in order, with ``weights`` (B, P): of positive points as
        above, 1 of background, 0 of points that take no part.
    """
    num_levels = len(points.level_strides)
    if level_weights is None:
        level_weights = torch.ones(*targets.valid.shape, num_levels, device=targets.boxes.device)
    level = torch.cat([torch.full((n,), i, device=points.xy.device) for i, n in enumerate(points.counts)])  # (P,)
    indices, weights = [], []
    # One image after the other: distances of all points to all boxes of a whole batch are too much memory.
    images = zip(targets.boxes.float().unbind(), targets.valid.unbind(), level_weights.float().unbind(), strict=True)
    for boxes, valid, box_weights in images:
        assigned = (box_weights > 0).T[level] & valid  # (P, G)
        index = smallest_box(is_in_the_middle(points.xy, boxes, effective) & assigned, area(boxes))  # (P,)
        centerness = generalized_centerness(points.xy, boxes, index) ** eta
        of_level = box_weights.reshape(-1).gather(0, index.clamp(min=0) * num_levels + level)
        indices.append(index)
        weights.append(torch.where(index >= 0, centerness * of_level, 1.0))

    gt_index = torch.where(taking_part, torch.stack(indices), PADDING)
    slots = torch.arange(gt_index.shape[1], device=gt_index.device).expand_as(gt_index)
    return Assignment(gt_index, slots, gt_index >= 0, torch.where(taking_part, torch.stack(weights), 0.0))


def is_in_the_middle(xy: Float[Tensor, "P 2"], boxes: Float[Tensor, "G 4"], effective: float) -> Bool[Tensor, "P G"]:
    """Step 1: which effective boxes each point lies strictly inside of. xy (P, 2), boxes (G, 4) -> (P, G)"""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # (G, 2)
    half_sides = (boxes[:, 2:] - boxes[:, :2]) * (effective / 2)
    middles = torch.cat((centers - half_sides, centers + half_sides), -1)
    return distances_to_edges(xy.unsqueeze(1), middles).amin(-1) > 0


def generalized_centerness(
    xy: Float[Tensor, "P 2"], boxes: Float[Tensor, "G 4"], gt_index: Int[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """Step 3 with eta = 1: of each point for the box that it is assigned to, in 0..1.

    xy (P, 2), boxes (G, 4), gt_index (P,), negative where there is no box -> (P,), 1 there: never NaN, of which
    even the part that ``torch.where`` drops would reach a gradient.
    """
    left, top, right, bottom = distances_to_edges(xy, boxes[gt_index.clamp(min=0)]).unbind(-1)
    nearer = torch.minimum(left, right) * torch.minimum(top, bottom)
    farther = torch.maximum(left, right) * torch.maximum(top, bottom)
    return torch.where(gt_index >= 0, nearer, 1.0) / torch.where(gt_index >= 0, farther, 1.0)

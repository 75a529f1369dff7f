"""FCOS (Tian et al. 2019): a point predicts the smallest box around it that fits its pyramid level.

1. A point is a candidate of every box that it lies strictly inside of. With center sampling it must lie strictly
   inside of the square that extends ``center_radius`` strides from the box's center, clipped to the box.
2. Its candidates are reduced to those whose farthest edge lies within the regression range of its level. A range
   ends at ``RANGE_IN_STRIDES`` strides and begins where the next finer level's ends, both ends included: 0..64,
   64..128, 128..256, 256..512, 512..inf pixels at strides 8 to 128.
3. Of several remaining boxes, the point takes the one of the smallest area, then the first.

A departure from MMDetection 3: points beyond an image's own padding take no part; there they are background.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.ops.boxes import area, distances_to_edges
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# The distance of the farthest edge that a level regresses, in its strides. The coarsest level has no limit.
RANGE_IN_STRIDES = 8


def assign_fcos(
    points: Points, targets: Targets, taking_part: Tensor, center_radius: float | None = None
) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels, finest level first.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned.
        taking_part: (B, P) bool, False for points beyond an image's own padding.
        center_radius: in strides, 1.5 where center sampling is published; None: no center sampling.

    Returns:
        An ``Assignment`` whose slots are all points, in order.
    """
    xy = points.xy.unsqueeze(1)  # (P, 1, 2)
    shortest, longest = regression_ranges(points)
    indices = []
    # One image after the other: distances of all points to all boxes of a whole batch are too much memory.
    for boxes, valid in zip(targets.boxes.float().unbind(), targets.valid.unbind(), strict=True):
        ltrb = distances_to_edges(xy, boxes)  # (P, G, 4)
        farthest = ltrb.amax(-1)
        claims = (ltrb.amin(-1) > 0) & (farthest >= shortest) & (farthest <= longest) & valid  # (P, G)
        if center_radius is not None:
            claims = claims & is_near_center(points, boxes, center_radius)
        indices.append(smallest_box(claims, area(boxes)))

    gt_index = torch.stack(indices)
    gt_index = torch.where(taking_part, gt_index, PADDING)
    slots = torch.arange(gt_index.shape[1], device=gt_index.device).expand_as(gt_index)
    return Assignment(gt_index, slots, gt_index >= 0)


def regression_ranges(points: Points) -> tuple[Float[Tensor, "P 1"], Float[Tensor, "P 1"]]:
    """Shortest and longest distance in pixels that the farthest edge of each point's box may have. (P, 1), (P, 1)"""
    ends = [float(RANGE_IN_STRIDES * stride) for stride in points.level_strides]
    shortest, longest = [0.0, *ends[:-1]], [*ends[:-1], math.inf]

    def per_point(values: list[float]) -> Tensor:
        levels = zip(points.counts, values, strict=True)
        return torch.cat([points.xy.new_full((count, 1), value) for count, value in levels])

    return per_point(shortest), per_point(longest)


def is_near_center(points: Points, boxes: Float[Tensor, "G 4"], radius: float) -> Bool[Tensor, "P G"]:
    """Center sampling: whose center lies less than ``radius`` strides away in x and in y. boxes (G, 4) -> (P, G)"""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # (G, 2)
    half_sides = (points.strides * radius).view(-1, 1, 1)
    squares = torch.cat((centers - half_sides, centers + half_sides), -1)  # (P, G, 4)
    return distances_to_edges(points.xy.unsqueeze(1), squares).amin(-1) > 0


def smallest_box(claims: Bool[Tensor, "*B P G"], sizes: Float[Tensor, "*B G"]) -> Int[Tensor, "*B P"]:
    """Step 3: of the boxes that claim a point, the smallest, then the first; BACKGROUND where none does.

    claims (..., P, G), sizes (..., G) in any unit -> (..., P) int64
    """
    claiming = torch.where(claims, sizes.unsqueeze(-2), torch.inf)
    size, index = claiming.min(-1)
    return torch.where(size < torch.inf, index, BACKGROUND)

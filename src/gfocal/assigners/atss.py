"""Adaptive Training Sample Selection (Zhang et al. 2020): which points are to predict which ground-truth box.

1. Of each box, the ``topk`` points of every level whose centers are nearest to its own are candidates.
2. Its threshold is the mean plus the standard deviation of its candidates' IoUs, where a point stands for a
   square anchor of side ``anchor_scale`` x stride.
3. Candidates at or above the threshold whose center lies inside the box become positive.
4. A point that several boxes claim goes to the one it overlaps most, then to the first.

Candidates are found by arithmetic on the grid: no box is compared with all points. All shapes are known in advance.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.points import at, levels_of
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# A center must lie this far inside a box, in pixels.
INSIDE_MARGIN = 0.01
PLACE_BITS = 16  # of a point's number in a window
INFINITE = 0x7F800000  # the bits of an infinite float32


def assign_atss(
    points: Points, targets: Targets, taking_part: Tensor, topk: int = 9, anchor_scale: float = 8.0
) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned: one of zero area,
            or so small that no center lies inside.
        taking_part: (B, P) bool, False for points beyond an image's own padding, as ``inside_own_padding`` gives it:
            on each level a rectangle takes part. The others are no candidates.
        topk: candidates per level.
        anchor_scale: side of the anchor in strides.

    Returns:
        An ``Assignment`` with M slots: G times half of the candidates of one box.
    """
    gt_boxes = targets.boxes.float()
    candidates, is_candidate = nearest_points(points, gt_boxes, taking_part, topk)  # (B, G, A)
    candidate_xy, strides = at(points.xy, candidates), at(points.strides, candidates)  # (B, G, A, 2), (B, G, A)
    half_side = (strides * (anchor_scale / 2)).unsqueeze(-1)
    anchors = torch.cat((candidate_xy - half_side, candidate_xy + half_side), -1)  # (B, G, A, 4)
    overlaps = iou(anchors, gt_boxes.unsqueeze(2))  # (B, G, A)

    threshold = mean_plus_std(overlaps, is_candidate)  # (B, G)
    inside = distances_to_edges(candidate_xy, gt_boxes.unsqueeze(2)).amin(-1) > INSIDE_MARGIN
    positive = is_candidate & inside & (overlaps >= threshold.unsqueeze(-1)) & targets.valid.unsqueeze(-1)

    # Fewer than half of some values lie a standard deviation above their mean (Cantelli): these have room for all.
    num_images, num_gt, num_candidates = candidates.shape
    num_slots = min(max(num_candidates // 2, topk), num_candidates)  # of one box
    claim_iou, chosen = torch.where(positive, overlaps, -1.0).topk(num_slots, sorted=False)
    slots = candidates.gather(2, chosen).flatten(1)  # (B, M)
    claim_iou = claim_iou.flatten(1)
    claims = claim_iou >= 0
    gt_of_slot = torch.arange(num_gt, device=slots.device).repeat_interleave(num_slots)
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

    Only points in a window around the center are compared. Where points at the last rank are equally near, those
    count that torch.topk over all points of the level takes, as in the reference implementation.

    gt_boxes (B, G, 4), taking_part (B, P) -> indices of points (B, G, A) and which of them count (B, G, A):
    a level with fewer than ``topk`` points that take part has fewer candidates.
    """
    gt_centers = (gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2  # (B, G, 2)
    indices, counted = [], []
    start = 0
    for (height, width), stride, per_cell in levels_of(points):
        count = height * width * per_cell
        xy = points.xy[start : start + count : per_cell].view(height, width, 2)
        part = taking_part[:, start : start + count : per_cell].view(-1, height, width)
        columns, dx2 = window(gt_centers[..., 0], xy[0, :, 0], part[:, 0], stride, topk)  # (B, G, k)
        rows, dy2 = window(gt_centers[..., 1], xy[:, 0, 1], part[:, :, 0], stride, topk)
        distance = (dx2.unsqueeze(2) + dy2.unsqueeze(3)).sqrt().unsqueeze(-1).expand(-1, -1, -1, -1, per_cell)
        # The bits of a distance in front of the place: no two are equal, and any order of equal ones is ours.
        place = torch.arange(distance[0, 0].numel(), device=xy.device)
        key = (distance.flatten(2).contiguous().view(torch.int32).to(torch.int64) << PLACE_BITS) | place
        key = key.topk(min(topk + 1, count), largest=False).values  # (B, G, k + 1)
        bits = key >> PLACE_BITS
        is_tied = (bits[..., topk - 1 : topk] == bits[..., topk:]).any(-1)  # (B, G); none where all points are taken
        counted.append(bits[..., :topk] < INFINITE)
        place = key[..., :topk] & ((1 << PLACE_BITS) - 1)
        cell = torch.div(place, per_cell, rounding_mode="floor")
        row = rows.gather(2, torch.div(cell, columns.shape[2], rounding_mode="floor"))
        column = columns.gather(2, cell % columns.shape[2])
        index = (row * width + column) * per_cell + place % per_cell
        level = slice(start, start + count)
        is_tied = is_tied & counted[-1].all(-1)
        indices.append(settle_ties(index, is_tied, points.xy[level], taking_part[:, level], gt_centers) + start)
        start += count
    return torch.cat(indices, 2), torch.cat(counted, 2)


@torch.library.custom_op("gfocal::settle_ties", mutates_args=())
def settle_ties(index: Tensor, is_tied: Tensor, xy: Tensor, part: Tensor, centers: Tensor) -> Tensor:
    """On a CPU, compare boxes whose last candidate has equals with all points of the level.

    There torch.topk takes of equals what its partial sort leaves, which depends on every point before them; they are
    rare: a center in the middle between points. Elsewhere the first ones count. An operation of its own, as it looks
    at numbers, which on a CPU costs no waiting.

    Candidates (B, G, k) of a level of P points, is_tied (B, G), xy (P, 2), part (B, P), centers (B, G, 2)
    -> candidates (B, G, k)
    """
    settled = index.clone()
    if index.device.type == "cpu":
        for image, box in zip(*is_tied.numpy().nonzero(), strict=True):
            offset = xy - centers[image, box]
            distance = (offset * offset).sum(-1).sqrt().masked_fill(~part[image], torch.inf)
            settled[image, box] = distance.topk(index.shape[-1], largest=False).indices
    return settled


@settle_ties.register_fake
def _(index: Tensor, is_tied: Tensor, xy: Tensor, part: Tensor, centers: Tensor) -> Tensor:
    return torch.empty_like(index)


def window(
    center: Float[Tensor, "B G"], places: Float[Tensor, " n"], part: Bool[Tensor, "B n"], stride: int, topk: int
) -> tuple[Int[Tensor, "B G k"], Float[Tensor, "B G k"]]:
    """The columns (or rows) of a level in which the ``topk`` points nearest to a center lie.

    A point outside lies in a row with ``topk`` nearer ones. One more is taken on each side, for those equally near.

    Args:
        center: (B, G) coordinate of each box, in pixels.
        places: (n,) coordinate of each column.
        part: (B, n) the columns that take part: the first ones of each image.
        stride: between columns, in pixels.
        topk: points.

    Returns:
        Columns (B, G, k), and the square of their distance, infinite where one takes no part.
    """
    size = min(topk + 2, len(places))
    last = (part.sum(1, keepdim=True) - size).clamp(min=0)  # (B, 1)
    first = ((center - places[0]) / stride).round().to(torch.int64) - size // 2
    first = first.clamp(min=0).minimum(last)  # (B, G)
    columns = first.unsqueeze(-1) + torch.arange(size, device=first.device)
    offset = at(places, columns) - center.unsqueeze(-1)
    taken = part.gather(1, columns.flatten(1)).view_as(columns)
    return columns, torch.where(taken, offset * offset, torch.inf)


def mean_plus_std(values: Float[Tensor, "*shape A"], counted: Bool[Tensor, "*shape A"]) -> Float[Tensor, "*shape"]:
    """Mean plus unbiased standard deviation over the last dimension, of the counted values only."""
    weight = counted.to(values.dtype)
    count = weight.sum(-1)
    mean = (values * weight).sum(-1) / count.clamp(min=1)
    squares = ((values - mean.unsqueeze(-1)) ** 2 * weight).sum(-1)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()

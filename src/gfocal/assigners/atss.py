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
PLACE_BITS = 31  # of a point's number in its level
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

    A point in the i-th nearest column and the j-th nearest row of a level has i j - 1 others no farther than itself.
    So only those with i j up to ``topk`` can be among the nearest; with one more rank it shows whether the last ones
    are equally near.

    gt_boxes (B, G, 4), taking_part (B, P) -> indices of points (B, G, A) and which of them count (B, G, A):
    a level with fewer than ``topk`` points that take part has fewer candidates.
    """
    gt_centers = (gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2  # (B, G, 2)
    columns, rows, dx2, dy2 = nearest_lines(points, gt_centers, taking_part, topk + 1)  # (B, G, L, k + 1) each
    pairs = [(i, (topk + 1) // (i + 1)) for i in range(topk + 1)]
    distance = torch.cat([dx2[..., i : i + 1] + dy2[..., :j] for i, j in pairs], -1).sqrt()  # (B, G, L, N)
    widths = torch.cat([columns.new_full((1, 1), width) for _, width in points.shapes])  # (L, 1)
    starts = rows * widths
    place = torch.cat([columns[..., i : i + 1] + starts[..., :j] for i, j in pairs], -1)
    per_cell = [n for _, _, n in levels_of(points)]
    if max(per_cell) > 1:
        distance, place = spread_over_cells(distance, place, per_cell)

    # The bits of a distance before the place: no two are equal, and of equal distances the first point comes first.
    key = distance.to(torch.float32).view(torch.int32).to(torch.int64) * (1 << PLACE_BITS) + place
    key = key.topk(topk + 1, largest=False).values  # (B, G, L, k + 1)
    bits, place = key >> PLACE_BITS, key & ((1 << PLACE_BITS) - 1)
    is_counted = bits[..., :topk] < INFINITE
    is_tied = (bits[..., topk - 1] == bits[..., topk]) & is_counted[..., -1]
    place = settle_ties(place[..., :topk], is_tied, points.xy, taking_part, gt_centers, points.counts)
    index, counted, start = [], [], 0
    for level, count in enumerate(points.counts):
        index.append(place[:, :, level, :count].clamp(max=count - 1) + start)
        counted.append(is_counted[:, :, level, :count])
        start += count
    return torch.cat(index, 2), torch.cat(counted, 2)


def nearest_lines(
    points: Points, centers: Float[Tensor, "B G 2"], taking_part: Bool[Tensor, "B P"], number: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each level the nearest columns and rows to each center, nearest first, of equal ones the first.

    They lie side by side: a window around the center, one larger than needed on each side for those equally near.

    Returns:
        Columns, rows, and the squares of their distances, (B, G, L, number) each; the latter are infinite where a
        line takes no part, or is none of the level.
    """
    levels = list(levels_of(points))
    maps = [
        part.view(-1, *shape, n)[..., 0]  # (B, h, w)
        for part, (shape, _, n) in zip(taking_part.split(points.counts, 1), levels, strict=True)
    ]
    ends = torch.stack([torch.stack((m[:, 0].sum(1), m[:, :, 0].sum(1)), 1) for m in maps], 1)  # (B, L, 2): x, y
    origin = torch.stack([xy[0] for xy in points.xy.split(points.counts)])  # (L, 2)
    stride = torch.cat([origin.new_full((1, 1), stride) for _, stride, _ in levels])  # (L, 1)
    size = number + 1
    first = ((centers.unsqueeze(2) - origin) / stride).round().to(torch.int64) - size // 2  # (B, G, L, 2)
    first = first.clamp(min=0).minimum((ends - size).clamp(min=0).unsqueeze(1)).unsqueeze(-1)
    lines = first + torch.arange(size, device=first.device)  # (B, G, L, 2, size)
    offset = lines * stride.unsqueeze(-1) + origin.unsqueeze(-1) - centers[:, :, None, :, None]
    square = torch.where(lines < ends[:, None, :, :, None], offset * offset, torch.inf)
    square, order = square.sort(dim=-1, stable=True)
    columns, rows = (first + order)[..., :number].unbind(3)
    dx2, dy2 = square[..., :number].unbind(3)
    return columns, rows, dx2, dy2


def spread_over_cells(distance: Tensor, cell: Tensor, per_cell: list[int]) -> tuple[Tensor, Tensor]:
    """Distances and cells (B, G, L, N) of levels with n points in a cell as those of points. (B, G, L, N * n)"""
    n = torch.cat([cell.new_full((1, 1, 1), n) for n in per_cell])  # (L, 1, 1)
    one = torch.arange(max(per_cell), device=cell.device)
    distance = torch.where(one < n, distance.unsqueeze(-1), torch.inf)
    return distance.flatten(3), (cell.unsqueeze(-1) * n + one).flatten(3)


def settle_ties(
    place: Tensor, is_tied: Tensor, xy: Tensor, part: Tensor, centers: Tensor, counts: list[int]
) -> Tensor:
    """On a CPU, compare boxes whose last candidate has equals with all points of the level.

    There torch.topk, which the reference implementation calls, takes of equals what its partial sort leaves, and that
    depends on every point before them. Such boxes are rare: their centers lie in the middle between points. Elsewhere
    the first points count.

    Candidates (B, G, L, k) within their level, is_tied (B, G, L), xy (P, 2), part (B, P), centers (B, G, 2), numbers
    of points of the levels -> candidates (B, G, L, k)
    """
    if torch.compiler.is_compiling():  # as one operation, since it looks at numbers
        return _settle_ties(place, is_tied, xy, part, centers, counts)
    return compare_with_all(place, is_tied, xy, part, centers, counts)


def compare_with_all(
    place: Tensor, is_tied: Tensor, xy: Tensor, part: Tensor, centers: Tensor, counts: list[int]
) -> Tensor:
    """``settle_ties``; looking at numbers costs no waiting on a CPU."""
    settled = place.clone()
    if place.device.type == "cpu":
        for image, box, level in zip(*is_tied.numpy().nonzero(), strict=True):
            of_level = slice(start := sum(counts[:level]), start + counts[level])
            offset = xy[of_level] - centers[image, box]
            distance = (offset * offset).sum(-1).sqrt().masked_fill(~part[image, of_level], torch.inf)
            settled[image, box, level] = distance.topk(place.shape[-1], largest=False).indices
    return settled


_settle_ties = torch.library.custom_op(
    "gfocal::settle_ties",
    compare_with_all,
    mutates_args=(),
    schema="(Tensor place, Tensor is_tied, Tensor xy, Tensor part, Tensor centers, SymInt[] counts) -> Tensor",
)


@_settle_ties.register_fake
def _(place: Tensor, is_tied: Tensor, xy: Tensor, part: Tensor, centers: Tensor, counts: list[int]) -> Tensor:
    return torch.empty_like(place, memory_format=torch.contiguous_format)


def mean_plus_std(values: Float[Tensor, "*shape A"], counted: Bool[Tensor, "*shape A"]) -> Float[Tensor, "*shape"]:
    """Mean plus unbiased standard deviation over the last dimension, of the counted values only."""
    weight = counted.to(values.dtype)
    count = weight.sum(-1)
    mean = (values * weight).sum(-1) / count.clamp(min=1)
    squares = ((values - mean.unsqueeze(-1)) ** 2 * weight).sum(-1)
    return mean + (squares / (count - 1).clamp(min=1)).sqrt()

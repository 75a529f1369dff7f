"""FoveaBox (Kong et al. 2020): the cells in the middle of a box predict it, on the levels that fit its size.

1. A level takes the boxes whose scale, the root of their area, lies in its range, both ends included: from 2 to 8
   of its strides. The finest level starts at 1 pixel, the coarsest ends at 16 strides: 1..64, 32..128, 64..256,
   128..512, 256..2048 pixels at strides 8 to 128. Ranges overlap, so a box may be on two levels.
2. Of each side of a box only the central ``sigma`` part counts, its fovea. In units of the stride, with half the
   box's width w/2, it covers columns ceil(x1 + (1 - sigma) w/2 - 1/2) to floor(x1 + (1 + sigma) w/2 - 1/2),
   and rows in the same way: the cells whose centers lie inside. Both ends are clamped to the level's map.
3. A cell in the foveae of several boxes goes to the box of the smallest scale, then to the last, as in MMDetection 3,
   which assigns boxes from large to small.

A departure from it: cells beyond an image's own padding take no part; there they are background.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gfocal.assigners.fcos import smallest_box
from gfocal.ops.boxes import area
from gfocal.structures import PADDING, Assignment, Points, Targets

# Scales of a level in its strides, and where the scales of the two outer levels end.
SCALE_IN_STRIDES = (2, 8)
SMALLEST_SCALE = 1  # pixels
LARGEST_SCALE_IN_STRIDES = 16


def assign_fovea(points: Points, targets: Targets, taking_part: Tensor, sigma: float = 0.4) -> Assignment:
    """Assign the points of a batch.

    Args:
        points: P points of all levels, finest level first, one for each cell. Only their cells are used: a fovea is
            defined for points in the centers of cells.
        targets: ground truth, boxes in pixels of the network's input. A box may remain unassigned.
        taking_part: (B, P) bool, False for points beyond an image's own padding.
        sigma: the part of each side that its fovea covers, 0..1.

    Returns:
        An ``Assignment`` whose slots are all points, in order.
    """
    gt_boxes = targets.boxes.float()
    scales = area(gt_boxes).sqrt()  # (B, G)
    num_gt = scales.shape[1]
    levels = zip(
        points.cells.float().split(points.counts),
        points.shapes,
        points.level_strides,
        scale_ranges(points.level_strides),
        strict=True,
    )
    gt_index = []
    for cells, (height, width), stride, (smallest, largest) in levels:
        column, row = cells.unsqueeze(-1).unbind(1)  # (h*w, 1)
        x1, y1, x2, y2 = (gt_boxes / stride).unsqueeze(1).unbind(-1)  # (B, 1, G)
        left, right = fovea(x1, x2, sigma, width)
        top, bottom = fovea(y1, y2, sigma, height)
        inside = (column >= left) & (column <= right) & (row >= top) & (row <= bottom)  # (B, h*w, G)
        fits = (scales >= smallest) & (scales <= largest) & targets.valid  # (B, G)
        # Flipped, because among boxes of equal scale the last is to win.
        index = smallest_box((inside & fits.unsqueeze(1)).flip(-1), scales.flip(-1))  # (B, h*w)
        gt_index.append(torch.where(index >= 0, num_gt - 1 - index, index))

    assigned = torch.where(taking_part, torch.cat(gt_index, 1), PADDING)
    slots = torch.arange(assigned.shape[1], device=assigned.device).expand_as(assigned)
    return Assignment(assigned, slots, assigned >= 0)


def scale_ranges(level_strides: tuple[int, ...]) -> list[tuple[float, float]]:
    """Smallest and largest scale in pixels of the boxes of each level."""
    low, high = SCALE_IN_STRIDES
    smallest = [float(SMALLEST_SCALE), *(float(low * stride) for stride in level_strides[1:])]
    largest = [*(float(high * s) for s in level_strides[:-1]), float(LARGEST_SCALE_IN_STRIDES * level_strides[-1])]
    return list(zip(smallest, largest, strict=True))


def fovea(
    start: Float[Tensor, "*shape"], end: Float[Tensor, "*shape"], sigma: float, num_cells: int
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Step 2: first and last cell of the central part of a side, in whole numbers; none where last < first.

    start and end (...) of the side in strides, on an axis with ``num_cells`` cells -> (...), (...)
    """
    half = (end - start) / 2
    first = (start + (1 - sigma) * half - 0.5).ceil()
    last = (start + (1 + sigma) * half - 0.5).floor()
    return first.clamp(0, num_cells - 1), last.clamp(0, num_cells - 1)

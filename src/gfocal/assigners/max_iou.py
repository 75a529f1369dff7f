"""Max-IoU (Lin et al. 2017, RetinaNet; Liu et al. 2016, SSD): anchors predict the boxes of sufficient IoU.

1. An anchor whose best IoU with any box is at least ``positive`` predicts that box; the first of equally good ones.
2. An anchor whose best IoU is below ``negative`` is background.
3. Anchors in between are ignored: PADDING, no part in any loss.
4. So that boxes are not left unassigned, the anchors that attain a box's own highest IoU predict it, whatever that
   IoU and whatever they were before: all of them (RetinaNet) or the first alone (SSD). Of several boxes that claim
   an anchor in this way, the last one gets it.

Published numbers: RetinaNet ``positive=0.5, negative=0.4``; SSD ``positive=0.5, negative=0.5, all_best=False``.

A departure from MMDetection 3: in step 4 a box's highest IoU must be greater than zero. There, with the published
``min_pos_iou=0``, a box that overlaps no anchor (one of zero area) claims the anchors of IoU 0, which are all.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.ops.boxes import iou
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# Boxes compared with all anchors at once: the corners of 8 x 200 000 intersections are 13 MB each.
BOXES_AT_ONCE = 8


def assign_max_iou(
    points: Points,
    targets: Targets,
    taking_part: Tensor,
    positive: float = 0.5,
    negative: float = 0.4,
    all_best: bool = True,
) -> Assignment:
    """Assign the anchors of a batch.

    Args:
        points: P points of all levels, with anchors.
        targets: ground truth, boxes in pixels of the network's input.
        taking_part: (B, P) bool, False for anchors beyond an image's own padding; they are no box's best.
        positive: lowest IoU of a positive anchor (but for step 4).
        negative: IoU below which an anchor is background, at most ``positive``.
        all_best: whether all anchors that attain a box's highest IoU become positive for it, or the first alone.

    Returns:
        An ``Assignment`` whose slots are all points, in order.
    """
    anchors = points.anchors
    assert anchors is not None, "max-IoU assignment needs points with anchors"
    assert negative <= positive, f"negative {negative} is above positive {positive}"
    # One image after the other: the IoUs of all anchors with all boxes of a whole batch are too much memory.
    images = zip(targets.boxes.float().unbind(), targets.valid.unbind(), taking_part.unbind(), strict=True)
    gt_index = torch.stack(
        [
            best_matches(overlaps(boxes, anchors, valid, part), positive, negative, all_best)
            for boxes, valid, part in images
        ]
    )
    gt_index = torch.where(taking_part, gt_index, PADDING)
    slots = torch.arange(gt_index.shape[1], device=gt_index.device).expand_as(gt_index)
    return Assignment(gt_index, slots, gt_index >= 0)


def overlaps(
    boxes: Float[Tensor, "G 4"], anchors: Float[Tensor, "P 4"], valid: Bool[Tensor, " G"], part: Bool[Tensor, " P"]
) -> Float[Tensor, "G P"]:
    """IoU of every box with every anchor; -1 where either takes no part.

    boxes (G, 4), anchors (P, 4), valid (G,) and part (P,) bool -> (G, P)
    """
    values = torch.cat([iou(some.unsqueeze(1), anchors) for some in boxes.split(BOXES_AT_ONCE)])
    return values.masked_fill_(~(valid.unsqueeze(1) & part), -1.0)


def best_matches(
    overlaps: Float[Tensor, "G P"], positive: float, negative: float, all_best: bool
) -> Int[Tensor, " P"]:
    """Steps 1 to 4 for one image: overlaps (G, P) -> box of each anchor, BACKGROUND or PADDING. (P,) int64"""
    best, gt_index = overlaps.max(0)  # (P,)
    gt_index = torch.where(best >= positive, gt_index, PADDING)
    gt_index = torch.where(best < negative, BACKGROUND, gt_index)

    highest, where_highest = overlaps.max(1, keepdim=True)  # (G, 1)
    anchor = torch.arange(overlaps.shape[1], device=overlaps.device)
    is_best = overlaps == highest if all_best else anchor == where_highest  # (G, P)
    is_best = is_best & (highest > 0)
    box = torch.arange(overlaps.shape[0], dtype=torch.int32, device=overlaps.device)  # half the memory of int64
    last = torch.where(is_best, box.unsqueeze(1), -1).amax(0)  # (P,)
    return torch.where(last >= 0, last, gt_index)

"""Geometry of boxes: area, IoU, GIoU, DIoU, and the four distances from a point to the edges.

Boxes are xyxy. Everything is element-wise over leading dimensions and differentiable; the IoUs take boxes in any
unit, as long as both share it.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Floor of union and hull, as in the reference implementation: a zero-area pair scores 0, not NaN.
AREA_FLOOR = 1e-6


def area(boxes: Tensor) -> Tensor:
    """Area of xyxy boxes. (..., 4) -> (...); inverted boxes have area 0."""
    return _product((boxes[..., 2:] - boxes[..., :2]).clamp(min=0))


def _product(sizes: Tensor) -> Tensor:
    """Width times height. (..., 2) -> (...). The gradient of ``prod`` would synchronize with the device."""
    return sizes[..., 0] * sizes[..., 1]


def _overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.maximum(a[..., :2], b[..., :2])
    bottom_right = torch.minimum(a[..., 2:], b[..., 2:])
    overlap = _product((bottom_right - top_left).clamp(min=0))
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    union = _product(size_a) + _product(size_b) - overlap
    return overlap, union.clamp(min=AREA_FLOOR)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of paired boxes. (..., 4), (..., 4) -> (...) in 0..1."""
    overlap, union = _overlap_and_union(a, b)
    return overlap / union


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU of paired boxes (Rezatofighi et al. 2019). (..., 4), (..., 4) -> (...) in -1..1."""
    overlap, union = _overlap_and_union(a, b)
    hull_size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = _product(hull_size).clamp(min=AREA_FLOOR)
    return overlap / union - (hull - union) / hull


def diou(a: Tensor, b: Tensor) -> Tensor:
    """Distance IoU of paired boxes (Zheng et al. 2020): IoU - d^2 / c^2. (..., 4), (..., 4) -> (...) in -1..1.

    d is the distance of the centers, c the diagonal of the smallest box around both.
    """
    offset = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diagonal = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    return iou(a, b) - (offset**2).sum(-1) / (diagonal**2).sum(-1).clamp(min=AREA_FLOOR)


def boxes_from_distances(xy: Tensor, ltrb: Tensor) -> Tensor:
    """Box whose edges lie at four distances from a point. xy (..., 2), ltrb (..., 4) -> (..., 4) xyxy."""
    return torch.cat((xy - ltrb[..., :2], xy + ltrb[..., 2:]), -1)


def distances_to_edges(xy: Tensor, boxes: Tensor) -> Tensor:
    """Distances from a point to left, top, right and bottom edge; negative where it lies outside.

    xy (..., 2), boxes (..., 4) -> (..., 4)
    """
    return torch.cat((xy - boxes[..., :2], boxes[..., 2:] - xy), -1)


def clip_boxes(boxes: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """Clip boxes (..., 4) to an image: x to [0, width], y to [0, height]."""
    zero = torch.zeros((), dtype=boxes.dtype, device=boxes.device)
    limit_x = torch.as_tensor(width, dtype=boxes.dtype, device=boxes.device)
    limit_y = torch.as_tensor(height, dtype=boxes.dtype, device=boxes.device)
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        (
            x1.clamp(zero, limit_x),
            y1.clamp(zero, limit_y),
            x2.clamp(zero, limit_x),
            y2.clamp(zero, limit_y),
        ),
        -1,
    )

"""An image with its boxes while it is being changed, and the laws by which boxes are cut, covered and resized."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from gfocal.data.preprocess import resize, scale_xyxy

# Boxes narrower or lower than this many pixels are no ground truth for training, as in the published configs.
LEAST_SIDE = 1.0
# Of an object that shows less than this share of its box, what is left is ignored. Synthetic images have the same limit.
LEAST_VISIBLE = 0.3


class Labelled(NamedTuple):
    """One image with its boxes: ground truth, and regions to be ignored."""

    image: Tensor  # (3, H, W) uint8
    boxes: Tensor  # (G, 4) float32, xyxy in pixels of ``image``
    labels: Tensor  # (G,) int64
    crowd: Tensor  # (G,) bool: neither ground truth nor background

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


def resized(labelled: Labelled, shape: tuple[int, int], antialias: bool = True) -> Labelled:
    """The image at another height and width."""
    boxes = labelled.boxes * scale_xyxy(labelled.size, shape)
    return labelled._replace(image=resize(labelled.image, shape, antialias), boxes=boxes)


def window(labelled: Labelled, x: int, y: int, width: int, height: int) -> Labelled:
    """A part of an image; objects at its border are cut by the law of ``cut``."""
    moved = labelled._replace(
        image=TF.crop(labelled.image, y, x, height, width),
        boxes=labelled.boxes - torch.tensor([x, y, x, y]),
    )
    return cut(moved)


def cut(labelled: Labelled) -> Labelled:
    """Clip boxes that reach beyond their image.

    An object stays ground truth if its center is inside. Of one whose center is cut off, the part that is still to be seen
    is ignored: it is too little to be told, and too much to be called background.
    """
    height, width = labelled.size
    centers = (labelled.boxes[:, :2] + labelled.boxes[:, 2:]) / 2  # (G, 2)
    inside = ((centers >= 0) & (centers <= torch.tensor([width, height]))).all(-1)
    boxes = labelled.boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=torch.float32))
    kept = thick(boxes) | (inside & ~labelled.crowd)
    return Labelled(labelled.image, boxes[kept], labelled.labels[kept], (labelled.crowd | ~inside)[kept])


def thick(boxes: Tensor) -> Tensor:
    """Which boxes (G, 4) are at least LEAST_SIDE wide and high. (G,) bool"""
    return ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_SIDE).all(-1)


def select(labelled: Labelled, keep: Tensor) -> Labelled:
    """The image with some of its boxes, as a mask (G,) names them."""
    return Labelled(labelled.image, labelled.boxes[keep], labelled.labels[keep], labelled.crowd[keep])


def covered(labelled: Labelled, cover: Tensor) -> Labelled:
    """Ground truth after something was laid over the pixels where ``cover`` (H, W) is True.

    A box shrinks to what is still to be seen of it; a side moves only when its outermost pixels are all covered.
    Under LEAST_VISIBLE of its area an object is ignored, and one wholly hidden is no object any more.
    """
    height, width = labelled.size
    boxes, crowd = labelled.boxes.clone(), labelled.crowd.clone()
    keep = torch.ones(len(boxes), dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if crowd[i]:
            continue
        left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
        right, bottom = min(max(-int(-x2 // 1), left + 1), width), min(max(-int(-y2 // 1), top + 1), height)
        seen = ~cover[top:bottom, left:right]
        if bool(seen.all()):
            continue
        if not bool(seen.any()):
            keep[i] = False
            continue
        crowd[i] = float(seen.float().mean()) < LEAST_VISIBLE
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        boxes[i] = torch.tensor(
            [
                max(x1, left + int(columns[0])),
                max(y1, top + int(rows[0])),
                min(x2, left + int(columns[-1]) + 1),
                min(y2, top + int(rows[-1]) + 1),
            ]
        )
    return select(labelled._replace(boxes=boxes, crowd=crowd), keep)

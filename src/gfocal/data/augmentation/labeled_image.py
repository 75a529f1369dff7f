"""An image with its boxes during augmentation, and how boxes are clipped, occluded and resized."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from gfocal.data.preprocess import resize, scale_xyxy

# Boxes narrower or lower than this many pixels are not used for training, as in the published configs.
MIN_SIDE = 1.0
# An object of which less than this fraction of its box is visible is ignored. Synthetic images have the same limit.
MIN_VISIBLE = 0.3


class LabeledImage(NamedTuple):
    """One image with its boxes: ground truth, and ignored regions."""

    image: Tensor  # (3, H, W) uint8
    boxes: Tensor  # (G, 4) float32, xyxy in pixels of ``image``
    labels: Tensor  # (G,) int64
    crowd: Tensor  # (G,) bool: ignored regions, neither ground truth nor background

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


def resize_with_boxes(
    item: LabeledImage, shape: tuple[int, int], antialias: bool = True, stretch: bool = False
) -> LabeledImage:
    """Resize the image and its boxes to another height and width, by ``preprocess.resize``."""
    boxes = item.boxes * scale_xyxy(item.size, shape)
    return item._replace(image=resize(item.image, shape, antialias, stretch), boxes=boxes)


def crop_window(item: LabeledImage, x: int, y: int, width: int, height: int) -> LabeledImage:
    """Crop an image; the boxes of objects at the border are clipped by ``clip_boxes``."""
    moved = item._replace(
        image=TF.crop(item.image, y, x, height, width),
        boxes=item.boxes - torch.tensor([x, y, x, y]),
    )
    return clip_boxes(moved)


def clip_boxes(item: LabeledImage) -> LabeledImage:
    """Clip boxes to the image.

    An object stays ground truth if its center is inside. If its center is outside, the visible part becomes an
    ignored region: too little of the object to recognize it, and too much to be background.
    """
    height, width = item.size
    centers = (item.boxes[:, :2] + item.boxes[:, 2:]) / 2  # (G, 2)
    inside = ((centers >= 0) & (centers <= torch.tensor([width, height]))).all(-1)
    boxes = item.boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=torch.float32))
    keep = has_min_side(boxes) | (inside & ~item.crowd)
    return LabeledImage(item.image, boxes[keep], item.labels[keep], (item.crowd | ~inside)[keep])


def has_min_side(boxes: Tensor) -> Tensor:
    """Whether boxes (G, 4) are at least MIN_SIDE wide and high. (G,) bool"""
    return ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(-1)


def select_boxes(item: LabeledImage, keep: Tensor) -> LabeledImage:
    """The image with only the boxes of a mask (G,)."""
    return LabeledImage(item.image, item.boxes[keep], item.labels[keep], item.crowd[keep])


def occlude(item: LabeledImage, cover: Tensor) -> LabeledImage:
    """Update the boxes after the pixels where ``cover`` (H, W) is True were covered by something else.

    A box shrinks to its visible part; a side moves only if all of its outermost pixels are covered. An object of
    which less than MIN_VISIBLE of the box is visible is ignored, and one that is fully covered is removed.
    """
    height, width = item.size
    boxes, crowd = item.boxes.clone(), item.crowd.clone()
    keep = torch.ones(len(boxes), dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if crowd[i]:
            continue
        left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
        right, bottom = min(max(-int(-x2 // 1), left + 1), width), min(max(-int(-y2 // 1), top + 1), height)
        visible = ~cover[top:bottom, left:right]
        if bool(visible.all()):
            continue
        if not bool(visible.any()):
            keep[i] = False
            continue
        crowd[i] = float(visible.float().mean()) < MIN_VISIBLE
        rows, columns = visible.any(1).nonzero().flatten(), visible.any(0).nonzero().flatten()
        boxes[i] = torch.tensor(
            [
                max(x1, left + int(columns[0])),
                max(y1, top + int(rows[0])),
                min(x2, left + int(columns[-1]) + 1),
                min(y2, top + int(rows[-1]) + 1),
            ]
        )
    return select_boxes(item._replace(boxes=boxes, crowd=crowd), keep)

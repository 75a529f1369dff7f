"""Augmentation of training pictures with torchvision transforms v2: the boxes go where the pixels go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from gfocal.data.preparation import resize, resized_shape

# Boxes narrower or lower than this many pixels are no truth for training, as in the published recipes.
LEAST_SIDE = 1.0


@dataclass(frozen=True)
class AugmentSettings:
    """What happens to a training picture. All randomness comes from torch's global generator."""

    flip: float = 0.5  # probability of a horizontal flip
    vertical_flip: float = 0.0  # probability of a vertical flip, for pictures without an up and down
    colour: float = 0.0  # strength of brightness, contrast, saturation and hue jitter, 0..1
    crop: float = 0.0  # probability of a random crop that keeps at least one object
    zoom_out: float = 0.0  # probability of a place on a larger canvas of the mean colour
    quarter_turns: float = 0.0  # probability of a turn by 90, 180 or 270 degrees
    short_sides: tuple[int, int] | None = None  # short side drawn uniformly from this range; None: fixed

    def __post_init__(self) -> None:
        for name in ("flip", "vertical_flip", "colour", "crop", "zoom_out", "quarter_turns"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies in 0..1, not {getattr(self, name)}")
        if self.short_sides is not None and not 1 <= self.short_sides[0] <= self.short_sides[1]:
            raise ValueError(f"short_sides are two numbers, least and most, not {list(self.short_sides)}")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a picture and its boxes, then a resize to a random or fixed size."""

    settings: AugmentSettings
    short_side: int
    long_side: int
    antialias: bool = True
    fill: tuple[float, float, float] = (124.0, 116.0, 104.0)  # what lies beyond a picture that zooms out

    def __call__(self, image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (3, H, W), xyxy (G, 4), (G,) -> the same, changed and resized; boxes may be fewer."""
        s = self.settings
        height, width = image.shape[-2:]
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            "labels": labels,
        }
        if s.colour:
            sample = v2.RandomApply(
                [v2.ColorJitter(0.4 * s.colour, 0.4 * s.colour, 0.4 * s.colour, 0.06 * s.colour)], p=0.8
            )(sample)
        if s.zoom_out:
            sample = v2.RandomZoomOut(fill=list(self.fill), side_range=(1.0, 2.0), p=s.zoom_out)(sample)
        if s.crop and len(boxes) and torch.rand(()) < s.crop:
            sample = cropped(sample)
        if s.quarter_turns and torch.rand(()) < s.quarter_turns:
            angle = 90 * int(torch.randint(1, 4, ()))
            sample = v2.RandomRotation((angle, angle), expand=True)(sample)
        if s.flip:
            sample = v2.RandomHorizontalFlip(s.flip)(sample)
        if s.vertical_flip:
            sample = v2.RandomVerticalFlip(s.vertical_flip)(sample)
        image, boxes = sample["image"].as_subclass(Tensor), sample["boxes"].as_subclass(Tensor)
        large_enough = ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_SIDE).all(-1)
        return self._resized(image, boxes[large_enough], sample["labels"][large_enough])

    def _resized(self, image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        low, high = self.settings.short_sides or (self.short_side, self.short_side)
        short_side = int(torch.randint(low, high + 1, ()))
        shape = resized_shape(height, width, short_side, self.long_side)
        return resize(image, shape, self.antialias), boxes * scale_xyxy((height, width), shape), labels


def cropped(sample: dict[str, Any]) -> dict[str, Any]:
    """A random part of a picture, 0.4 to 1 of its width and height, that holds the centre of some object.

    It has the picture's own ratio, so that upright pictures stay upright, and batches of them need no padding.
    Objects whose centre is cut off are no truth any more. (torchvision's RandomIoUCrop is not used: it
    searches without end in long narrow pictures, and where all objects are small.)
    """
    boxes = sample["boxes"].as_subclass(Tensor)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2  # (G, 2)
    chosen = centres[int(torch.randint(len(centres), ()))].tolist()
    starts, lengths = [], []
    share = 0.4 + 0.6 * float(torch.rand(()))
    for centre, whole in zip(chosen, sample["image"].shape[:0:-1], strict=True):  # x, then y
        length = max(int(whole * share), 1)
        centre = min(max(centre, 0.0), float(whole))
        least, most = max(math.ceil(centre - length), 0), min(math.floor(centre), whole - length)
        starts.append(int(torch.randint(least, most + 1, ())))
        lengths.append(length)
    start, length_xy = torch.tensor(starts), torch.tensor(lengths)
    inside = ((centres >= start) & (centres <= start + length_xy)).all(-1)
    where = (starts[1], starts[0], lengths[1], lengths[0])
    kept = TF.crop(sample["boxes"], *where)
    return {
        "image": TF.crop(sample["image"], *where),
        "boxes": tv_tensors.wrap(kept[inside], like=kept),
        "labels": sample["labels"][inside],
    }


def scale_xyxy(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Factors (4,) that bring xyxy boxes from a picture of one height and width to another."""
    return torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)

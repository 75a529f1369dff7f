"""Augmentation of training pictures with torchvision transforms v2: the boxes go where the pixels go."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from gfocal.data.preparation import resize, resized_shape


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
            # An IoU above 0 may never be met, where all objects are small, and the search would not end.
            sample = v2.RandomIoUCrop(min_scale=0.4, sampler_options=[0.0])(sample)
        if s.quarter_turns and torch.rand(()) < s.quarter_turns:
            angle = 90 * int(torch.randint(1, 4, ()))
            sample = v2.RandomRotation((angle, angle), expand=True)(sample)
        sample = v2.RandomHorizontalFlip(s.flip)(sample)
        sample = v2.RandomVerticalFlip(s.vertical_flip)(sample)
        sample = v2.SanitizeBoundingBoxes(min_size=1)(sample)
        return self._resized(
            sample["image"].as_subclass(Tensor), sample["boxes"].as_subclass(Tensor), sample["labels"]
        )

    def _resized(self, image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        low, high = self.settings.short_sides or (self.short_side, self.short_side)
        short_side = int(torch.randint(low, high + 1, ()))
        shape = resized_shape(height, width, short_side, self.long_side)
        return resize(image, shape), boxes * scale_xyxy((height, width), shape), labels


def scale_xyxy(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Factors (4,) that bring xyxy boxes from a picture of one height and width to another."""
    return torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)

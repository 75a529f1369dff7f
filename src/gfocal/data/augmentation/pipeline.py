"""Augmentation of training images with torchvision transforms v2: the boxes go where the pixels go."""

# FOLDED data.augment_configs: The configs of augmentation by name, complete: what ``augment.preset`` and ``gfocal train --augment`` take.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from gfocal.data.augmentation.labelled import Labelled, resized, select, thick
from gfocal.data.augmentation.mixing import copy_paste, mixup, mosaic
from gfocal.data.augmentation.single import blurred, compressed, cropped, distorted, erased, gray, noisy, turned
from gfocal.data.preprocess import resized_shape

PROBABLE_TURN = 0.5  # of ``rotate`` and ``shear``: every other image stays sharp
OUTSIDE_SHARES = ("short_sides", "rotate", "shear", "close_epochs")  # keys that are no shares of 1


@dataclass(frozen=True)
class AugmentSettings:
    """What happens to a training image. All randomness comes from torch's global generator."""

    flip: float = 0.5  # probability of a horizontal flip
    vertical_flip: float = 0.0  # probability of a vertical flip, for images without an up and down
    color: float = 0.0  # strength of brightness, contrast, saturation and hue jitter, 0..1
    crop: float = 0.0  # probability of a random crop that keeps at least one object
    zoom_out: float = 0.0  # probability of a place on a larger canvas of the mean color
    quarter_turns: float = 0.0  # probability of a turn by 90, 180 or 270 degrees
    short_sides: tuple[int, int] | None = None  # short side drawn uniformly from this range; None: fixed
    scale: float = 0.0  # then the size is multiplied by a factor drawn uniformly from 1 - scale .. 1 + scale
    rotate: float = 0.0  # degrees, 0..45: half of the images turn by up to this, either way
    shear: float = 0.0  # degrees, 0..45: and are sheared by up to this along x and y
    distort: float = 0.0  # probability of SSD's photometric distortion, which permutes channels too
    gray: float = 0.0  # probability of no color
    blur: float = 0.0  # probability of a Gaussian blur
    noise: float = 0.0  # probability of Gaussian noise
    jpeg: float = 0.0  # probability of a pass through JPEG
    erase: float = 0.0  # probability of filled rectangles over parts of the image
    mosaic: float = 0.0  # probability of four images in one
    mixup: float = 0.0  # probability of another image shining through
    copy_paste: float = 0.0  # probability of objects of another image pasted in
    close_epochs: int = 0  # the last epochs, so many, see no mosaic, mixup and copy_paste

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in OUTSIDE_SHARES and not 0 <= value <= 1:
                raise ValueError(f"{entry.name} lies in 0..1, not {value}")
        if self.short_sides is not None and not 1 <= self.short_sides[0] <= self.short_sides[1]:
            raise ValueError(f"short_sides are two numbers, least and most, not {list(self.short_sides)}")
        if self.scale >= 1:
            raise ValueError(f"scale is less than 1, not {self.scale}")
        for name in ("rotate", "shear"):
            if not 0 <= getattr(self, name) <= 45:
                raise ValueError(f"{name} lies in 0..45 degrees, not {getattr(self, name)}")
        if self.close_epochs < 0:
            raise ValueError(f"close_epochs must be at least 0, not {self.close_epochs}")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of an image and its boxes, then a resize to a random or fixed size."""

    settings: AugmentSettings
    short_side: int
    long_side: int
    antialias: bool = True
    fill: tuple[float, float, float] = (124.0, 116.0, 104.0)  # what lies beyond an image that zooms out

    def __call__(
        self,
        image: Tensor,
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        others: Callable[[], Labelled] | None = None,
    ) -> Labelled:
        """uint8 (3, H, W), xyxy (G, 4), (G,), (G,) bool -> the same, changed and resized; boxes may be fewer or more.

        ``crowd`` flags regions to be ignored: they move with the image and stay flagged. What a crop leaves of an
        object whose center it cuts off is flagged too. ``others`` draws another image of the data each time it is
        called; without it nothing is mixed.
        """
        labelled = Labelled(image, boxes, labels, crowd)
        if others is not None:
            labelled = self._mixed(labelled, others)
        labelled = self._moved(labelled)
        labelled = self._resized(select(labelled, thick(labelled.boxes)))
        return self._finished(labelled)

    def _mixed(self, labelled: Labelled, others: Callable[[], Labelled]) -> Labelled:
        """Made of several images."""
        s, sides = self.settings, (self.short_side, self.long_side)
        if _happens(s.mosaic):
            labelled = mosaic([labelled, others(), others(), others()], sides, self.fill, self.antialias)
        if _happens(s.copy_paste):
            labelled = copy_paste(self._at_input_size(labelled), self._at_input_size(others()), self.antialias)
        if _happens(s.mixup):
            labelled = mixup(self._at_input_size(labelled), self._at_input_size(others()), self.antialias)
        return labelled

    def _moved(self, labelled: Labelled) -> Labelled:
        """Changed at the size of the file, so that crops keep its detail. The order is that of earlier versions."""
        s = self.settings
        if s.color:
            jitter = v2.ColorJitter(0.4 * s.color, 0.4 * s.color, 0.4 * s.color, 0.06 * s.color)
            labelled = by_torchvision(v2.RandomApply([jitter], p=0.8), labelled)
        if s.zoom_out:
            labelled = by_torchvision(
                v2.RandomZoomOut(fill=list(self.fill), side_range=(1.0, 2.0), p=s.zoom_out), labelled
            )
        if s.crop and (~labelled.crowd).any() and _happens(s.crop):
            labelled = cropped(labelled)
        if _happens(s.quarter_turns):
            angle = 90 * int(torch.randint(1, 4, ()))
            labelled = by_torchvision(v2.RandomRotation((angle, angle), expand=True), labelled)
        if s.flip:
            labelled = by_torchvision(v2.RandomHorizontalFlip(s.flip), labelled)
        if s.vertical_flip:
            labelled = by_torchvision(v2.RandomVerticalFlip(s.vertical_flip), labelled)
        return labelled

    def _resized(self, labelled: Labelled) -> Labelled:
        low, high = self.settings.short_sides or (self.short_side, self.short_side)
        short_side, long_side = int(torch.randint(low, high + 1, ())), self.long_side
        if self.settings.scale:
            factor = 1 + self.settings.scale * (2 * float(torch.rand(())) - 1)
            short_side, long_side = (max(int(side * factor + 0.5), 1) for side in (short_side, long_side))
        return resized(labelled, resized_shape(*labelled.size, short_side, long_side), self.antialias)

    def _finished(self, labelled: Labelled) -> Labelled:
        """Changed at the size of the input, at which it is cheaper and the same for files of every size."""
        s = self.settings
        if (s.rotate or s.shear) and _happens(PROBABLE_TURN):
            labelled = turned(labelled, s.rotate, s.shear, self.fill)
            labelled = select(labelled, thick(labelled.boxes))
        for probability, change in (
            (s.distort, distorted),
            (s.gray, gray),
            (s.blur, blurred),
            (s.noise, noisy),
            (s.jpeg, compressed),
        ):
            if _happens(probability):
                labelled = labelled._replace(image=change(labelled.image))
        if _happens(s.erase):
            labelled = erased(labelled, self.fill)
            labelled = select(labelled, thick(labelled.boxes))
        return labelled

    def _at_input_size(self, labelled: Labelled) -> Labelled:
        return resized(labelled, resized_shape(*labelled.size, self.short_side, self.long_side), self.antialias)


def by_torchvision(change: v2.Transform, labelled: Labelled) -> Labelled:
    """A transform of torchvision that keeps the number of boxes."""
    boxes = tv_tensors.BoundingBoxes(labelled.boxes, format="XYXY", canvas_size=labelled.size)
    changed = change({"image": tv_tensors.Image(labelled.image), "boxes": boxes})
    return labelled._replace(image=changed["image"].as_subclass(Tensor), boxes=changed["boxes"].as_subclass(Tensor))


def _happens(probability: float) -> bool:
    """Whether something of a probability happens; nothing is drawn for what never does."""
    return probability > 0 and bool(torch.rand(()) < probability)


AUGMENT_PRESETS: dict[str, AugmentSettings] = {
    # What the config ``light`` has: fine-tuning in few epochs.
    "light": AugmentSettings(flip=0.5, color=0.5, crop=0.3),
    # Objects of other sizes than those of the images at hand.
    "medium": AugmentSettings(
        flip=0.5,
        color=0.5,
        crop=0.5,
        zoom_out=0.3,
        scale=0.2,
        blur=0.05,
        jpeg=0.05,
    ),
    # Few images, long runs: other surroundings, other neighbors, other cameras.
    "strong": AugmentSettings(
        flip=0.5,
        color=0.5,
        crop=0.3,
        zoom_out=0.1,
        scale=0.1,
        rotate=3.0,
        shear=2.0,
        distort=0.1,
        gray=0.02,
        blur=0.1,
        noise=0.1,
        jpeg=0.1,
        erase=0.05,
        mosaic=0.4,
        mixup=0.1,
        copy_paste=0.2,
        close_epochs=4,
    ),
}

"""The augmentation of training images: its settings, the order of its operations, and its presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from gfocal.data.augmentation.labeled_image import LabeledImage, has_min_side, resize_with_boxes, select_boxes
from gfocal.data.augmentation.mixing import copy_paste, mixup, mosaic
from gfocal.data.augmentation.single import (
    add_noise,
    compress_jpeg,
    distort_colors,
    random_affine,
    random_blur,
    random_crop,
    random_erase,
    to_grayscale,
)
from gfocal.data.preprocess import MAX_SIDE, InputSettings, resized_shape, scaled_long_side

AFFINE_PROBABILITY = 0.5  # of ``rotate`` and ``shear``: interpolation blurs images, so half of them stay as they are
NOT_FRACTIONS = ("short_sides", "rotate", "shear", "close_epochs")  # settings whose range is not 0..1


@dataclass(frozen=True)
class AugmentSettings:
    """Probabilities and strengths of the operations. All random numbers come from torch's global generator."""

    flip: float = 0.5  # probability of a horizontal flip
    vertical_flip: float = 0.0  # probability of a vertical flip, for images without an up direction
    color: float = 0.0  # strength of brightness, contrast, saturation and hue jitter, 0..1
    crop: float = 0.0  # probability of a random crop that contains the center of at least one object
    zoom_out: float = 0.0  # probability of being placed on a larger canvas of the mean color
    quarter_turns: float = 0.0  # probability of a rotation by 90, 180 or 270 degrees
    short_sides: tuple[int, int] | None = None  # range of a random short side; None: fixed
    scale: float = 0.0  # then the size is multiplied by a random factor in 1 - scale .. 1 + scale
    size_per_batch: bool = False  # whether these two are drawn once for all images of a batch: little is padded
    rotate: float = 0.0  # degrees, 0..45: half of the images are rotated by up to this, in either direction
    shear: float = 0.0  # degrees, 0..45: and sheared by up to this along x and y
    distort: float = 0.0  # probability of SSD's photometric distortion, which also permutes the channels
    gray: float = 0.0  # probability of conversion to grayscale
    blur: float = 0.0  # probability of a Gaussian blur
    noise: float = 0.0  # probability of Gaussian noise
    jpeg: float = 0.0  # probability of JPEG compression
    erase: float = 0.0  # probability of filled rectangles over parts of the image
    mosaic: float = 0.0  # probability of a mosaic of four images
    mixup: float = 0.0  # probability of blending with another image
    copy_paste: float = 0.0  # probability of pasting objects of another image
    close_epochs: int = 0  # number of last epochs without mosaic, mixup and copy_paste

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in NOT_FRACTIONS and not 0 <= value <= 1:
                raise ValueError(f"{entry.name} must be in 0..1, not {value}")
        if self.short_sides is not None and not 1 <= self.short_sides[0] <= self.short_sides[1]:
            raise ValueError(f"short_sides must be two numbers, minimum and maximum, not {list(self.short_sides)}")
        if self.short_sides is not None and self.short_sides[1] > MAX_SIDE:
            raise ValueError(f"short_sides must be at most {MAX_SIDE:,} pixels, not {self.short_sides[1]:,}")
        if self.scale >= 1:
            raise ValueError(f"scale must be less than 1, not {self.scale}")
        for name in ("rotate", "shear"):
            if not 0 <= getattr(self, name) <= 45:
                raise ValueError(f"{name} must be in 0..45 degrees, not {getattr(self, name)}")
        if self.size_per_batch and self.short_sides is None and not self.scale:
            raise ValueError("size_per_batch is about random sizes: set scale or short_sides too, or leave it out")
        if self.close_epochs < 0:
            raise ValueError(f"close_epochs must be at least 0, not {self.close_epochs}")


def augmentation_for(settings: AugmentSettings, input_settings: InputSettings) -> Augmentation:
    """The augmentation after which images have the size of a network's input."""
    size = input_settings
    return Augmentation(settings, size.short_side, size.long_side, size.antialias, stretch=size.stretch)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of an image and its boxes, then a resize to a random or fixed size."""

    settings: AugmentSettings
    short_side: int
    long_side: int
    antialias: bool = True
    fill: tuple[float, float, float] = (124.0, 116.0, 104.0)  # color of pixels outside the image
    stretch: bool = False  # to short_side (height) x long_side (width), or a random multiple of this, see ``resize``

    def __call__(
        self,
        image: Tensor,
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        others: Callable[[], LabeledImage] | None = None,
        sides: tuple[int, int] | None = None,
    ) -> LabeledImage:
        """Augment and resize an image; the number of boxes may change.

        Args:
            image: uint8 (3, H, W).
            boxes: (G, 4) xyxy.
            labels: (G,).
            crowd: (G,) bool, flags ignored regions, which are transformed with the image. The visible part of an
                object whose center is cropped is flagged too.
            others: returns another random image of the data at each call; None: images are not mixed.
            sides: short and long side that the image is resized to; None: drawn.
        """
        item = LabeledImage(image, boxes, labels, crowd)
        if others is not None:
            item = self._mix(item, others)
        item = self._transform_at_file_size(item)
        item = self._resize_to(select_boxes(item, has_min_side(item.boxes)), *(sides or self.draw_sides()))
        return self._transform_at_input_size(item)

    def _mix(self, item: LabeledImage, others: Callable[[], LabeledImage]) -> LabeledImage:
        """Mosaic, copy-paste and mixup."""
        s, sides = self.settings, (self.short_side, self.long_side)
        if _happens(s.mosaic):
            item = mosaic([item, others(), others(), others()], sides, self.fill, self.antialias, self.stretch)
        if _happens(s.copy_paste):
            item = copy_paste(self._to_input_size(item), self._to_input_size(others()), self.antialias)
        if _happens(s.mixup):
            item = mixup(self._to_input_size(item), self._to_input_size(others()), self.antialias)
        return item

    def _transform_at_file_size(self, item: LabeledImage) -> LabeledImage:
        """Operations before the resize, so that crops keep the detail of the file."""
        s = self.settings
        if s.zoom_out:
            item = apply_torchvision(
                v2.RandomZoomOut(fill=list(self.fill), side_range=(1.0, 2.0), p=s.zoom_out), item
            )
        if s.crop and (~item.crowd).any() and _happens(s.crop):
            item = random_crop(item)
        if _happens(s.quarter_turns):
            angle = 90 * int(torch.randint(1, 4, ()))
            item = apply_torchvision(v2.RandomRotation((angle, angle), expand=True), item)
        if s.flip:
            item = apply_torchvision(v2.RandomHorizontalFlip(s.flip), item)
        if s.vertical_flip:
            item = apply_torchvision(v2.RandomVerticalFlip(s.vertical_flip), item)
        return item

    def draw_sides(self) -> tuple[int, int]:
        """Random short and long side to resize an image to, by ``short_sides`` and ``scale``."""
        low, high = self.settings.short_sides or (self.short_side, self.short_side)
        short_side, long_side = int(torch.randint(low, high + 1, ())), self.long_side
        if self.stretch:  # the shape of the input is kept
            long_side = scaled_long_side(long_side, self.short_side, short_side)
        if self.settings.scale:
            factor = 1 + self.settings.scale * (2 * float(torch.rand(())) - 1)
            short_side, long_side = (max(int(side * factor + 0.5), 1) for side in (short_side, long_side))
        return short_side, long_side

    def _resize_to(self, item: LabeledImage, short_side: int, long_side: int) -> LabeledImage:
        shape = resized_shape(*item.size, short_side, long_side, self.stretch)
        return resize_with_boxes(item, shape, self.antialias, self.stretch)

    def _transform_at_input_size(self, item: LabeledImage) -> LabeledImage:
        """Operations after the resize, where they are cheaper and independent of the size of the file."""
        s = self.settings
        if s.color:
            jitter = v2.ColorJitter(0.4 * s.color, 0.4 * s.color, 0.4 * s.color, 0.06 * s.color)
            item = apply_torchvision(v2.RandomApply([jitter], p=0.8), item)
        if (s.rotate or s.shear) and _happens(AFFINE_PROBABILITY):
            item = random_affine(item, s.rotate, s.shear, self.fill)
            item = select_boxes(item, has_min_side(item.boxes))
        for probability, operation in (
            (s.distort, distort_colors),
            (s.gray, to_grayscale),
            (s.blur, random_blur),
            (s.noise, add_noise),
            (s.jpeg, compress_jpeg),
        ):
            if _happens(probability):
                item = item._replace(image=operation(item.image))
        if _happens(s.erase):
            item = random_erase(item, self.fill)
            item = select_boxes(item, has_min_side(item.boxes))
        return item

    def _to_input_size(self, item: LabeledImage) -> LabeledImage:
        return self._resize_to(item, self.short_side, self.long_side)


def apply_torchvision(transform: v2.Transform, item: LabeledImage) -> LabeledImage:
    """Apply a torchvision transform that keeps the number of boxes."""
    boxes = tv_tensors.BoundingBoxes(item.boxes, format="XYXY", canvas_size=item.size)
    result = transform({"image": tv_tensors.Image(item.image), "boxes": boxes})
    return item._replace(image=result["image"].as_subclass(Tensor), boxes=result["boxes"].as_subclass(Tensor))


def _happens(probability: float) -> bool:
    """True with a probability; for probability 0 no random number is drawn."""
    return probability > 0 and bool(torch.rand(()) < probability)


AUGMENT_PRESETS: dict[str, AugmentSettings] = {
    # That of the config ``light``: fine-tuning in few epochs.
    "light": AugmentSettings(flip=0.5, color=0.5, crop=0.3),
    # Objects of other sizes than in the training images.
    "medium": AugmentSettings(
        flip=0.5,
        color=0.5,
        crop=0.5,
        zoom_out=0.3,
        scale=0.2,
        blur=0.05,
        jpeg=0.05,
    ),
    # Few images, long runs: other surroundings, other neighboring objects, other cameras.
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

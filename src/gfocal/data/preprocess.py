"""From an image to the network's input: resize with the aspect ratio kept or stretch, normalize, pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from gfocal.data.value_range import Range, check_range
from gfocal.data.warp import warp

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
MAX_SIDE = 32768  # pixels of the network's input


@dataclass(frozen=True)
class InputSettings:
    """Size and normalization of the network's input. Pixel values are 0..255; and which values of deeper images."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int = 800  # the shorter side is resized to this,
    long_side: int = 1333  # unless the longer side would exceed this
    multiple: int = 32  # height and width of a batch are padded to a multiple of this
    # Whether downscaling is antialiased. MMDetection, and so the published models, do not.
    antialias: bool = True
    value_range: Range | None = None  # of images of more than 8 bits: what becomes 0 and 255; None: 0..65535
    is_value_range_stated: bool = False  # by the user: then it holds for all data
    # Every image is stretched to exactly short_side (height) x long_side (width), whatever its aspect ratio, by
    # ``data.warp``; ``antialias`` is then not used. NanoDet's published models were trained so, at 416 x 416.
    stretch: bool = False

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.long_side < self.short_side:
            raise ValueError(f"sizes are 1 <= short_side <= long_side, not {self.short_side} and {self.long_side}")
        if self.long_side > MAX_SIDE:
            raise ValueError(f"sizes are at most {MAX_SIDE:,} pixels, not {self.long_side:,}")
        if self.multiple < 1 or self.multiple % 32:
            raise ValueError(f"the padding multiple must be a multiple of 32, not {self.multiple}")
        if self.value_range is not None:
            check_range(self.value_range)

    def with_short_side(self, short_side: int) -> InputSettings:
        """The same at another short side, and the long side in proportion."""
        return replace(
            self, short_side=short_side, long_side=scaled_long_side(self.long_side, self.short_side, short_side)
        )


def scaled_long_side(long_side: int, old_short_side: int, new_short_side: int) -> int:
    """The long side that grows with the short one, rounded half up."""
    return max(int(long_side * new_short_side / old_short_side + 0.5), new_short_side)


def resized_shape(height: int, width: int, short_side: int, long_side: int, stretch: bool = False) -> tuple[int, int]:
    """Height and width after resizing with the aspect ratio kept, rounded half up, at least one pixel.

    With ``stretch`` it is short_side (height) x long_side (width) for every image.
    """
    if stretch:
        return short_side, long_side
    factor = min(long_side / max(height, width), short_side / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize(image: Tensor, shape: tuple[int, int], antialias: bool = True, stretch: bool = False) -> Tensor:
    """Bilinear resize of uint8 (3, H, W) to (height, width).

    Without ``antialias`` it equals OpenCV's ``resize``; with ``stretch`` its ``warpPerspective``, see ``data.warp``.
    """
    if tuple(image.shape[-2:]) == shape:
        return image
    if stretch:
        return warp(image, shape)
    if shape == (1, 1):  # torch's antialiasing kernel for uint8 fails at this size
        return TF.resize(image.float(), [1, 1], antialias=antialias).round().to(torch.uint8)
    return TF.resize(image, list(shape), antialias=antialias)


def input_shape(size: tuple[int, int], settings: InputSettings) -> tuple[int, int]:
    """Height and width at which an image of a height and width goes into the network, without padding."""
    return resized_shape(*size, settings.short_side, settings.long_side, settings.stretch)


def resize_to_input(image: Tensor, settings: InputSettings) -> Tensor:
    """Resize uint8 (3, H, W) to its ``input_shape``."""
    shape = input_shape((int(image.shape[-2]), int(image.shape[-1])), settings)
    return resize(image, shape, settings.antialias, settings.stretch)


def scale_xyxy(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Factors (4,) that scale xyxy boxes from an image of ``old`` height and width to ``new``."""
    return torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)


def normalize(image: Tensor, settings: InputSettings) -> Tensor:
    """uint8 (3, H, W) -> float32, mean subtracted, divided by the standard deviation."""
    mean = torch.tensor(settings.mean, device=image.device).view(3, 1, 1)
    std = torch.tensor(settings.std, device=image.device).view(3, 1, 1)
    return (image.to(torch.float32) - mean) / std


def denormalize(image: Tensor, settings: InputSettings) -> Tensor:
    """Inverse of ``normalize``: float32 (3, H, W) -> uint8."""
    mean = torch.tensor(settings.mean, device=image.device).view(3, 1, 1)
    std = torch.tensor(settings.std, device=image.device).view(3, 1, 1)
    return (image * std + mean).round().clamp(0, 255).to(torch.uint8)


def stack_padded(images: Sequence[Tensor], multiple: int = 32) -> Tensor:
    """Normalized images of several sizes -> one batch (B, 3, H, W), padded with zeros (the mean color).

    The memory format is channels_last, in which convolutions run faster.
    """
    height = -(-max(image.shape[1] for image in images) // multiple) * multiple
    width = -(-max(image.shape[2] for image in images) // multiple) * multiple
    batch = torch.zeros(len(images), 3, height, width).contiguous(memory_format=torch.channels_last)
    for i, image in enumerate(images):
        batch[i, :, : image.shape[1], : image.shape[2]] = image
    return batch

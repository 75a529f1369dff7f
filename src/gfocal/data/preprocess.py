"""From an image to the network's input: resize with the aspect ratio kept or stretch, normalize, pad."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

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
    if image.device.type == "cpu" and _interpolates_bytes() and shape != (1, 1):  # at 1 x 1 the kernel fails
        return _interpolate(image, shape, antialias)
    return _interpolate(image.float(), shape, antialias).round().to(torch.uint8)


def _interpolates_bytes() -> bool:
    """Whether torch has a fast kernel for bytes on this CPU; the choice of torchvision's ``resize``."""
    is_arm = platform.machine() in ("aarch64", "arm64")
    return is_arm or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _interpolate(image: Tensor, shape: tuple[int, int], antialias: bool) -> Tensor:
    """Bilinear interpolation of (3, H, W); the layout in memory, by planes or by pixels, is kept."""
    # A batch of one whose strides say by which layout it is stored: torch would take pixels for planes, and copy.
    batch = image.permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2) if image.stride(0) == 1 else image.unsqueeze(0)
    return F.interpolate(batch, shape, mode="bilinear", antialias=antialias).squeeze(0)


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


def padded_shape(shapes: Iterable[tuple[int, int]], multiple: int = 32) -> tuple[int, int]:
    """The smallest height and width, multiples of a number, that hold images of these heights and widths."""
    heights, widths = zip(*shapes, strict=True)
    return -(-max(heights) // multiple) * multiple, -(-max(widths) // multiple) * multiple


def normalize_batch(images: Sequence[Tensor], settings: InputSettings) -> Tensor:
    """uint8 images (3, h, w) of several sizes -> one batch (B, 3, H, W) float32, padded with zeros (the mean color).

    The mean is subtracted, and the result divided by the standard deviation. The memory format is channels_last, in
    which convolutions run faster; images that are stored so, as ``read_pixels`` gives them, are not rearranged.
    """
    height, width = padded_shape([(int(one.shape[1]), int(one.shape[2])) for one in images], settings.multiple)
    mean, std = (torch.tensor(values, device=images[0].device) for values in (settings.mean, settings.std))
    batch = torch.empty(len(images), height, width, 3, device=images[0].device)
    for target, image in zip(batch, images, strict=True):
        h, w = int(image.shape[1]), int(image.shape[2])
        if image.stride(0) == 1:
            # Rows of pixels as one long row: over three channels alone, arithmetic is several times as slow.
            inside = target[:h, :w].flatten(1)
            torch.sub(image.permute(1, 2, 0).reshape(h, 3 * w), mean.repeat(w), out=inside)
            inside.div_(std.repeat(w))
        else:
            planes = (image.to(torch.float32) - mean.view(3, 1, 1)).div_(std.view(3, 1, 1))
            target[:h, :w].copy_(planes.permute(1, 2, 0))
        target[:h, w:] = 0
        target[h:] = 0
    return batch.permute(0, 3, 1, 2)

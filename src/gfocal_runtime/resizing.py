"""gfocal's resizing of images, in numpy and Pillow.

Three ways, of which the file says one: antialiased bilinear (Pillow's own), bilinear without antialiasing as OpenCV's
``resize``, and the stretch of OpenCV's ``warpPerspective`` with which NanoDet is trained (``gfocal.data.warp``
explains it).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
BITS = 5  # of the fraction of an index of the stretch
BLOCK_AREA, BLOCK_ROWS = 1024, 16  # pixels of OpenCV's blocks, and their rows if the output has as many


def resized_shape(height: int, width: int, short_side: int, long_side: int, stretch: bool) -> tuple[int, int]:
    """Height and width after resizing with the aspect ratio kept, rounded half up, at least one pixel.

    With ``stretch`` it is short_side (height) x long_side (width) for every image.
    """
    if stretch:
        return short_side, long_side
    factor = min(long_side / max(height, width), short_side / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize(image: Pixels, shape: tuple[int, int], antialias: bool, stretch: bool) -> Pixels:
    """uint8 (H, W, 3) -> (height, width, 3)."""
    if image.shape[:2] == shape:
        return image
    if stretch:
        return warp(image, shape)
    if antialias:
        return np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))
    return bilinear(image, shape)


def bilinear(image: Pixels, shape: tuple[int, int]) -> Pixels:
    """Bilinear without antialiasing: centers of pixels aligned, borders repeated; as torch computes it on bytes.

    First along rows, then along columns, each in integers and rounded to bytes.
    """
    for axis in (1, 0):
        if image.shape[axis] == shape[axis]:
            continue
        first, share = _places(image.shape[axis], shape[axis])
        weights = np.stack((1 - share, share))
        bits = 0  # of the weights' fraction: as many as 16 bits with a sign hold
        while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
            bits += 1
        rounded = (weights * 2**bits + 0.5).astype(np.int32)
        low, high = rounded[:, :, None, None] if axis == 0 else rounded[:, None, :, None]
        values = image.take(first, axis) * low
        values += image.take(np.minimum(first + 1, image.shape[axis] - 1), axis) * high
        image = ((values + (1 << (bits - 1))) >> bits).clip(0, 255).astype(np.uint8)
    return image


def _places(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each of ``new`` rows the first of two ``old`` ones, and the share of the second."""
    place = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    first = np.minimum(place.astype(np.int64), old - 1)
    return first, np.minimum(place - first, 1)


def warp(image: Pixels, shape: tuple[int, int]) -> Pixels:
    """Stretch uint8 (H, W, 3) to exactly ``shape`` (height, width), to the last bit as OpenCV 4.5 to 4.10."""
    (old_height, old_width), (height, width) = image.shape[:2], shape
    block = min(BLOCK_AREA // min(BLOCK_ROWS, height), width)
    first, second, first_weight, second_weight = _sample(old_height, height, old_width, width, 1)
    blended = image[first].astype(np.int32) * first_weight[:, None, None]
    blended += image[second] * second_weight[:, None, None]
    first, second, first_weight, second_weight = _sample(old_width, width, old_height, height, block)
    result = blended[:, first] * first_weight[None, :, None]
    result += blended[:, second] * second_weight[None, :, None]
    return ((result + (1 << (2 * BITS - 1))) >> (2 * BITS)).astype(np.uint8)  # rounded half up


Ints = npt.NDArray[np.int32]


def _sample(old: int, new: int, other_old: int, other_new: int, block: int) -> tuple[Ints, Ints, Ints, Ints]:
    """How ``new`` rows or columns are weighted means of ``old`` ones: indices and weights of two.

    ``other_old`` and ``other_new`` are lengths of the other axis, which enter the inverse matrix and cancel but for
    rounding; indices are computed from the start of each ``block``.
    """
    scale, other_scale = new / old, other_new / other_old
    determinant = scale * other_scale
    step, divisor = other_scale * (1 / determinant), determinant * (1 / determinant)  # elements of the inverse
    position = np.arange(new, dtype=np.float64)
    start = position // block * block
    index = np.rint((step * start + step * (position - start)) * ((1 << BITS) / divisor)).astype(np.int32)
    first, fraction = index >> BITS, index & ((1 << BITS) - 1)
    first_weight = np.where(first < old, (1 << BITS) - fraction, 0).astype(np.int32)
    second_weight = np.where(first + 1 < old, fraction, 0).astype(np.int32)
    return first.clip(max=old - 1), (first + 1).clip(max=old - 1), first_weight, second_weight

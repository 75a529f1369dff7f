"""The stretch of an image to a fixed size as NanoDet's published models were trained and evaluated with.

OpenCV 4's ``warpPerspective`` with diag(W / w, H / h, 1), bilinear, black border: output pixel (x, y) samples the
image at the index (x * w / W, y * h / H). Corners are aligned and not the centers of pixels, and nothing is smoothed.
The index is rounded to 1/32 pixel, four neighbors are blended in integers, and what is outside of the image is black:
where an image is enlarged, the last columns and rows blend with black. The order of the floating-point operations
decides ties of the rounding, and is that of OpenCV, which works in blocks of up to 64 columns.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

BITS = 5  # of the fraction of an index
BLOCK_AREA, BLOCK_ROWS = 1024, 16  # pixels of OpenCV's blocks, and their rows if the output has as many


class Samples(NamedTuple):
    """What each of S output rows or columns is a weighted mean of."""

    first: Tensor  # (S,) int64, index of a row or column of the image
    second: Tensor  # (S,) int64, the next one, or the last
    first_weight: Tensor  # (S,) int16, 0..32
    second_weight: Tensor  # (S,) int16, 0..32; both add up to 32 inside the image, to less at a black border


def warp(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Stretch uint8 (3, H, W) to exactly ``shape`` (height, width), to the last bit as OpenCV 4.5 to 4.10."""
    (channels, old_height, old_width), (height, width) = image.shape, shape
    if (old_height, old_width) == (height, width):
        return image
    image = image.contiguous()  # by planes, in which the rows and columns of one are copied in long pieces
    block = min(BLOCK_AREA // min(BLOCK_ROWS, height), width)
    rows = _on(sample(old_height, height, old_width, width, 1), image)
    columns = _on(sample(old_width, width, old_height, height, block), image)
    first, second = (w.view(1, -1, 1) for w in (rows.first_weight, rows.second_weight))
    blended = image.index_select(1, rows.first).to(torch.int16).mul_(first)  # (3, height, W), at most 255 * 32
    blended.add_(image.index_select(1, rows.second).to(torch.int16).mul_(second))
    first, second = (w.to(torch.int32) for w in (columns.first_weight, columns.second_weight))
    # Several times as fast as ``index_select`` along the last axis.
    result = blended.gather(2, columns.first.expand(channels, height, -1)).to(torch.int32).mul_(first)
    result.add_(blended.gather(2, columns.second.expand(channels, height, -1)).to(torch.int32).mul_(second))
    return result.add_(1 << (2 * BITS - 1)).bitwise_right_shift_(2 * BITS).to(torch.uint8)  # rounded half up


@lru_cache(maxsize=256)  # a quarter of the time for a photograph; datasets have few sizes
def sample(old: int, new: int, other_old: int, other_new: int, block: int) -> Samples:
    """How ``new`` rows or columns are sampled from ``old`` ones.

    ``other_old`` and ``other_new`` are lengths of the other axis, which enter the inverse matrix and cancel but for
    rounding; indices are computed from the start of each ``block``.
    """
    scale, other_scale = new / old, other_new / other_old
    determinant = scale * other_scale
    step, divisor = other_scale * (1 / determinant), determinant * (1 / determinant)  # elements of the inverse
    position = torch.arange(new, dtype=torch.float64, device="cpu")
    start = position // block * block
    index = ((step * start + step * (position - start)) * ((1 << BITS) / divisor)).round().to(torch.int64)
    first, fraction = index >> BITS, index & ((1 << BITS) - 1)
    first_weight = torch.where(first < old, (1 << BITS) - fraction, 0)
    second_weight = torch.where(first + 1 < old, fraction, 0)
    return Samples(
        first.clamp(max=old - 1),
        (first + 1).clamp(max=old - 1),
        first_weight.to(torch.int16),
        second_weight.to(torch.int16),
    )


def _on(samples: Samples, image: Tensor) -> Samples:
    return samples if image.device.type == "cpu" else Samples(*(part.to(image.device) for part in samples))

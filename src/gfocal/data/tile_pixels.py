"""The pixels of the tiles of an image, level by level, in memory that its width decides and not its height."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from gfocal.data.image_rows import Rows
from gfocal.ops.tiles import Tile, Tiling, level_sizes, tiles_of_level

CHUNK = 16_000_000  # pixels of the image that are made smaller at once

Pixels = npt.NDArray[np.uint8]


def read_tiles(rows: Rows, tiling: Tiling, fill: Sequence[float] | None = None) -> Iterator[tuple[Tile, Tensor]]:
    """All tiles of an image with their pixels, uint8 (3, h, w), stored with the channels of a pixel side by side.

    Each level is one pass through the image, from the top. A tile that reaches beyond the image ends with it; with a
    color ``fill``, 0..255, it has that color there and its full size.
    """
    color = None if fill is None else [round(value) for value in fill]
    for level, size in enumerate(level_sizes(rows.size, tiling)):
        yield from _read_level(rows, level, size, tiling, color)


def _read_level(
    rows: Rows, level: int, size: tuple[int, int], tiling: Tiling, fill: Sequence[int] | None
) -> Iterator[tuple[Tile, Tensor]]:
    height, width = size
    length = tiling.size
    tiles = list(tiles_of_level(level, size, tiling))
    reach = max(tile.left for tile in tiles) + length if fill else width
    band = np.empty((length, reach, 3), np.uint8)  # the pixels of a row of tiles
    first = last = 0  # rows of the level that it holds
    for top, row_of_tiles in groupby(tiles, lambda tile: tile.top):
        kept = max(last - top, 0)
        if kept:
            band[:kept] = band[top - first : last - first].copy()
        if fill:
            band[kept:] = fill
            band[:kept, width:] = fill
        first, last = top, min(top + length, height)
        for row, part in _read_smaller(rows, 1 << level, top + kept, last):
            band[row - top : row - top + len(part), :width] = part
        end = length if fill else last - top
        for tile in row_of_tiles:
            pixels = torch.from_numpy(band[:end, tile.left : tile.left + length].copy())
            yield tile, pixels.permute(2, 0, 1)


def _read_smaller(rows: Rows, scale: int, top: int, bottom: int) -> Iterator[tuple[int, Pixels]]:
    """Rows of the image at 1 / scale of its size, in parts, each with its first row; a pixel is a mean of pixels."""
    height, width = rows.size
    step = max(CHUNK // (scale * width), 1)
    for start in range(top, bottom, step):
        end = min(start + step, bottom)
        pixels = rows.read(start * scale, min(end * scale, height))
        yield start, pixels if scale == 1 else np.asarray(Image.fromarray(pixels).reduce(scale))


def read_overview(rows: Rows, max_side: int) -> Tensor:
    """The whole image so much smaller that no side is longer, by a power of two. uint8 (3, H, W)"""
    height, width = rows.size
    scale = 1
    while max(height, width) > max_side * scale:
        scale *= 2
    parts = [part for _, part in _read_smaller(rows, scale, 0, -(-height // scale))]
    return torch.from_numpy(np.concatenate(parts)).permute(2, 0, 1)

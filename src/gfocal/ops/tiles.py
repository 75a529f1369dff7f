"""The tiles of a large image: where they lie, at which scale, and which detections of a tile are of whole objects.

Level 0 has the image as it is, level k the image at 1 / 2^k of its size; the last level is one tile. Tiles of a level
overlap, so that an object that is no larger than the overlap is whole in one of them; larger objects are whole in a
tile of a coarser level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gfocal.structures import Detections

MIN_TILE, MAX_TILE = 32, 16_384  # pixels
MAX_OVERLAP = 0.75
# An edge that is so near to an inner border of its tile is taken for one that the border cut. Share of the tile.
MARGIN = 0.01
# A detection counts if its center lies in its tile's part of the image, or so little beside it. Share of the tile.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles."""

    size: int  # pixels of the image, width and height of a tile
    overlap: float = 0.2  # of neighboring tiles at least, as a share of their size
    levels: int | None = None  # 1: tiles of the image alone; None: coarser ones too, up to one tile for all
    # Tiles begin at multiples of so many pixels, where the overlap allows: those of a cell of the network's coarse
    # maps, so that an object lies in the cells as it would in the whole image.
    grid: float = 1.0

    def __post_init__(self) -> None:
        if not MIN_TILE <= self.size <= MAX_TILE:
            raise ValueError(f"tiles have {MIN_TILE} to {MAX_TILE:,} pixels, not {self.size:,}")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise ValueError(f"tiles overlap by 0 to {MAX_OVERLAP:g} of their size, not {self.overlap:g}")
        if self.levels is not None and self.levels < 1:
            raise ValueError(f"there is at least 1 level, not {self.levels}")
        if not self.grid > 0:
            raise ValueError(f"the grid has more than 0 pixels, not {self.grid:g}")

    @property
    def overlap_pixels(self) -> int:
        """The least overlap of neighboring tiles, in pixels of their level."""
        return math.ceil(self.overlap * self.size - 1e-9)

    @property
    def margin(self) -> float:
        """How near to an inner border an edge is taken for cut, in pixels of its level."""
        return MARGIN * self.size

    @property
    def tolerance(self) -> float:
        """How far beside its tile's own part the center of a detection may lie, in pixels of its level."""
        return TOLERANCE * self.size

    @property
    def largest_side(self) -> float:
        """Objects with no longer side are whole in the tile to whose middle they are nearest; pixels of the level."""
        return max(self.overlap_pixels - 2 * self.margin, 0.0)

    def least_side(self, level: int) -> float:
        """Objects with no longer side, in pixels of the image, are left to finer levels."""
        return self.largest_side * 2 ** (level - 1) if level else 0.0


@dataclass(frozen=True)
class Tile:
    """A square of an image at one of its scales; it may reach beyond the right and the bottom border of the image."""

    level: int
    left: int  # pixels of the level
    top: int
    size: int  # pixels of the level
    level_size: tuple[int, int]  # height and width of the level
    # xyxy of the part of the level that is nearer to the middle of this tile than to that of another, pixels of the
    # level; infinite at the border of the image.
    own: tuple[float, float, float, float] = (-math.inf, -math.inf, math.inf, math.inf)

    @property
    def scale(self) -> int:
        """Pixels of the image per pixel of the level."""
        return 1 << self.level

    @property
    def is_inner(self) -> tuple[bool, bool, bool, bool]:
        """Whether the image goes on beyond the left, top, right and bottom border."""
        height, width = self.level_size
        return self.left > 0, self.top > 0, self.left + self.size < width, self.top + self.size < height

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tile as xyxy, in pixels of the image."""
        sides = (self.left, self.top, self.left + self.size, self.top + self.size)
        x1, y1, x2, y2 = (side * self.scale for side in sides)
        return x1, y1, x2, y2


def level_sizes(size: tuple[int, int], tiling: Tiling) -> list[tuple[int, int]]:
    """Height and width of the image at each level."""
    found = [size]
    while max(found[-1]) > tiling.size and (tiling.levels is None or len(found) < tiling.levels):
        scale = 1 << len(found)
        found.append((-(-size[0] // scale), -(-size[1] // scale)))
    return found


def tile_starts(length: int, tiling: Tiling) -> list[int]:
    """Where the tiles of a row or column begin. The last one ends with the image, or behind it, by the grid."""
    last = length - tiling.size
    if last <= 0:
        return [0]
    largest = max(tiling.size - tiling.overlap_pixels, 1)
    grid = tiling.grid if tiling.grid <= largest else 1.0
    step = math.floor(largest / grid + 1e-9) * grid
    last = math.floor(math.ceil(last / grid - 1e-9) * grid + 1e-9)
    count = math.ceil(last / step - 1e-9)
    starts = [math.floor(i * step + 1e-9) for i in range(count)]
    return [*(start for start in starts if start < last), last]


def tiles_of_level(level: int, level_size: tuple[int, int], tiling: Tiling) -> Iterator[Tile]:
    """The tiles of one level, row by row."""
    rows, columns = (_spans(length, tiling) for length in level_size)
    for top, y1, y2 in rows:
        for left, x1, x2 in columns:
            yield Tile(level, left, top, tiling.size, level_size, (x1, y1, x2, y2))


def _spans(length: int, tiling: Tiling) -> list[tuple[int, float, float]]:
    """Each tile of a row or column: its start, and from where to where it is the nearest."""
    starts = tile_starts(length, tiling)
    middles = [(start + tiling.size + following) / 2 for start, following in pairwise(starts)]
    return list(zip(starts, [-math.inf, *middles], [*middles, math.inf], strict=True))


def count_tiles(size: tuple[int, int], tiling: Tiling) -> int:
    """The number of tiles of an image of a height and width, on all levels."""
    levels = level_sizes(size, tiling)
    return sum(len(tile_starts(h, tiling)) * len(tile_starts(w, tiling)) for h, w in levels)


def move_to_image(found: Detections, tile: Tile, size: tuple[int, int]) -> Detections:
    """Detections in pixels of a tile as those in pixels of the image, whose height and width are ``size``.

    Those that lie beyond the image are left out.
    """
    scale = float(tile.scale)
    shift = found.boxes.new_tensor([tile.left, tile.top])
    limit = found.boxes.new_tensor([size[1], size[0]])
    corners = ((found.boxes.view(-1, 2, 2) + shift) * scale).clamp(min=0).minimum(limit)
    inside = (corners[:, 0] < corners[:, 1]).all(1)
    moved = replace(
        found,
        boxes=corners.view(-1, 4),
        points=(found.points + shift) * scale,
        bin_sizes=found.bin_sizes * scale,
        size=size,
    )
    return moved.select(inside)


def resize_detections(found: Detections, size: tuple[int, int]) -> Detections:
    """The detections of an image as those of the same one at another height and width."""
    scale = found.boxes.new_tensor([size[1] / found.size[1], size[0] / found.size[0]])
    return replace(
        found,
        boxes=found.boxes * scale.repeat(2),
        points=found.points * scale,
        bin_sizes=found.bin_sizes * scale.repeat(2),
        size=size,
    )


def find_own(found: Detections, tile: Tile, tiling: Tiling) -> Tensor:
    """Which detections, in pixels of a tile, the tile shows whole, and is asked for. (N,) bool

    Left out are those with an edge at an inner border of the tile; those whose center is nearer to the middle of
    another tile, unless they are so large that this one may show them cut; and on coarser levels objects of a size
    that finer ones show whole.
    """
    boxes = found.boxes
    inner = torch.tensor(tile.is_inner, device=boxes.device)
    distances = torch.cat([boxes[:, :2], tile.size - boxes[:, 2:]], 1)  # of each edge to its border
    is_whole = (torch.where(inner, distances, math.inf) > tiling.margin).all(1)
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + boxes.new_tensor([tile.left, tile.top])
    own = boxes.new_tensor(tile.own)
    is_near = ((center >= own[:2] - tiling.tolerance) & (center <= own[2:] + tiling.tolerance)).all(1)
    is_asked = longer * tile.scale > tiling.least_side(tile.level)
    return is_whole & is_asked & (is_near | (longer > tiling.largest_side))

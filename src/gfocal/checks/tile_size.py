"""Whether images are so large that their objects become small at the network's input: then tiles show them better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gfocal.checks.findings import Finding
from gfocal.data.dataset import ImageData
from gfocal.data.preprocess import InputSettings, input_shape
from gfocal.ops.tiles import MIN_TILE, Tiling

SMALL_SIDE = 12.0  # pixels of the network's input: 1.5 cells of the finest maps
MAX_SCALE = 0.5  # of an image at the input: above it, tiles would gain less than a factor of two
TOLERATED = 0.25  # share of small boxes above which there is a finding
GOOD_SIDE = 48.0  # pixels of the network's input that the median object has in a tile, if the image has them
LARGEST = 0.9  # share of the objects that are no larger than the overlap
MAX_IMAGES = 2000  # that are measured, evenly spaced


@dataclass(frozen=True)
class SmallObjects:
    """Objects that are small at the input, and the tiles that show them better."""

    share: float  # of all boxes: small at the input of a large image
    image_side: float  # median of the square root of a box's area, pixels of the image
    input_side: float  # the same at the input, as a whole image
    tiling: Tiling
    tile_side: float  # the same at the input, in a tile


def measure_small_objects(data: ImageData, settings: InputSettings) -> SmallObjects | None:
    """Objects of a dataset that are small at the input because the images are large; None where they are few."""
    sides, scales, longer = [torch.zeros(0)], [torch.zeros(0)], [torch.zeros(0)]
    count = min(len(data), MAX_IMAGES)
    for index in (i * len(data) // count for i in range(count)):
        sample = data.sample(index)
        boxes = sample.boxes[~sample.crowd]
        if sample.size is None or not len(boxes):
            continue
        shape = input_shape(sample.size, settings)
        scale = math.sqrt(shape[0] * shape[1] / (sample.size[0] * sample.size[1]))
        lengths = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
        sides.append(lengths.prod(1).sqrt())
        longer.append(lengths.amax(1))
        scales.append(torch.full((len(boxes),), scale))
    side, at_input = torch.cat(sides), torch.cat(sides) * torch.cat(scales)
    is_small = (at_input < SMALL_SIDE) & (torch.cat(scales) <= MAX_SCALE)
    if not len(side) or float(is_small.float().mean()) <= TOLERATED:
        return None
    tiling, in_tile = choose_tiles(float(side.median()), float(torch.cat(longer).quantile(LARGEST)), settings)
    return SmallObjects(
        float(is_small.float().mean()), float(side.median()), float(at_input.median()), tiling, in_tile
    )


def choose_tiles(side: float, longer: float, settings: InputSettings) -> tuple[Tiling, float]:
    """Tiles for objects of a median side, of which most are no longer than ``longer``, and that side in a tile.

    Pixels of the image are not enlarged more than twice. The side in a tile is in pixels of the network's input.
    """
    scale = min(GOOD_SIDE / max(side, 1.0), 2.0)
    size = max(math.floor(settings.short_side / scale / 32 + 0.5) * 32, MIN_TILE)
    overlap = min(max(math.ceil((longer / size + 0.04) * 20) / 20, 0.1), 0.5)  # the margin of cut edges, twice, more
    return Tiling(size, overlap), side * settings.short_side / size


def check_tiles(data: ImageData, settings: InputSettings, split: str, where: str) -> list[Finding]:
    """A finding where tiles would show the objects of a dataset better."""
    small = measure_small_objects(data, settings)
    if small is None:
        return []
    tiles = small.tiling
    text = (
        f"{small.share:.0%} of the objects have a side under {SMALL_SIDE:g} pixels at the input, as images are "
        f"reduced to it: the median side of {small.image_side:.0f} pixels becomes {small.input_side:.1f}, and "
        f"{small.tile_side:.0f} in tiles of --tile {tiles.size} --overlap {tiles.overlap:g}"
    )
    return [Finding("objects-small-at-input", where, split, text, split)]

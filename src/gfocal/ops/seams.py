"""Detections of the tiles of an image merged into those of the image.

A detection whose edge lies at an inner border of its tile is left out before (``tiles.find_own``), as another tile,
or a coarser level, shows the object whole. What remains is found twice where tiles overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gfocal.ops.boxes import area
from gfocal.ops.decoding import DecodeSettings, suppress
from gfocal.ops.tiles import Tile
from gfocal.structures import Detections

# A detection is part of an object that crosses the border of its tile, if it lies by this share in the object,
PART = 0.7
NEAR = 0.25  # and is no farther from that border than this share of its own side.


def merge_tiles(found: Sequence[tuple[Tile, Detections]], settings: DecodeSettings) -> Detections:
    """The detections of all tiles, in pixels of the image, as those of the image, best first.

    Of detections that overlap by more than the IoU of non-maximum suppression one is kept: of the finest level, whose
    edges are the most exact, the one with the best score. A part of an object that crosses the border of the
    part's tile goes, whatever its score.

    Raises:
        ValueError: there is no tile.
    """
    if not found:
        raise ValueError("an image has at least one tile")
    merged = _concatenate([one for _, one in found])
    counts = torch.tensor([len(one) for _, one in found])
    number = torch.arange(len(found)).repeat_interleave(counts).to(merged.labels.device)
    tiles = [tile for tile, _ in found]
    level = torch.tensor([tile.level for tile in tiles], device=number.device)[number]
    whole = ~find_parts(merged, number, tiles, settings.class_agnostic_nms)
    kept = whole.nonzero().squeeze(1)
    rank = merged.scores[kept] - 2.0 * level[kept]  # scores are in 0..1
    kept = kept[suppress(merged.boxes[kept], rank, merged.labels[kept], settings)]
    return merged.select(kept[merged.scores[kept].argsort(descending=True, stable=True)])


def find_parts(found: Detections, number: Tensor, tiles: Sequence[Tile], class_agnostic: bool) -> Tensor:
    """Which detections are parts of objects that another tile shows whole, as they cross the border of this one.

    Args:
        found: detections of all tiles, in pixels of the image.
        number: (N,) int64, the tile of each.
        tiles: of the image.
        class_agnostic: whether a part may have another class than its object.

    Returns:
        (N,) bool
    """
    is_part = torch.zeros_like(number, dtype=torch.bool)
    for i, tile in enumerate(tiles):
        own = (number == i).nonzero().squeeze(1)
        crossed = _crossed_sides(found.boxes, tile) & (number != i).unsqueeze(1)  # (N, 4)
        others = crossed.any(1).nonzero().squeeze(1)
        if not len(own) or not len(others):
            continue
        boxes = found.boxes[own].unsqueeze(1), found.boxes[others].unsqueeze(0)
        is_inside = _shared_areas(*boxes) >= PART * area(found.boxes[own]).unsqueeze(1)
        if not class_agnostic:
            is_inside &= found.labels[own].unsqueeze(1) == found.labels[others].unsqueeze(0)
        reaches = (_is_near(found.boxes[own], tile).unsqueeze(1) & crossed[others].unsqueeze(0)).any(2)
        is_part[own] = (is_inside & reaches).any(1)
    return is_part


def _crossed_sides(boxes: Tensor, tile: Tile) -> Tensor:
    """Across which inner borders of a tile, left, top, right and bottom, boxes lie. (N, 4) -> (N, 4) bool"""
    border = boxes.new_tensor(tile.box)
    touches = ((boxes[:, :2] < border[2:]) & (boxes[:, 2:] > border[:2])).all(1, keepdim=True)
    beyond = torch.cat([boxes[:, :2] < border[:2], boxes[:, 2:] > border[2:]], 1)
    return touches & beyond & torch.tensor(tile.is_inner, device=boxes.device)


def _is_near(boxes: Tensor, tile: Tile) -> Tensor:
    """Which edges of boxes in a tile are near to its border, left, top, right and bottom. (N, 4) -> (N, 4) bool"""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (boxes - boxes.new_tensor(tile.box)).abs() <= NEAR * sides


def _shared_areas(a: Tensor, b: Tensor) -> Tensor:
    """Areas that pairs of boxes share. (..., 4), (..., 4) -> (...)"""
    return area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1))


def _concatenate(found: Sequence[Detections]) -> Detections:
    names = ("boxes", "scores", "labels", "edges", "points", "bin_sizes")
    return replace(found[0], **{name: torch.cat([getattr(one, name) for one in found]) for name in names})

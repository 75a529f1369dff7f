"""Detections of the tiles of an image merged into those of the image.

A detection whose edge lies at an inner border of its tile is left out before (``tiles.find_own``), as another tile,
or a coarser level, shows the object whole. What remains is found twice where tiles overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

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
    merged = concatenate([one for _, one in found])
    tiles = [tile for tile, _ in found]
    counts = [len(one) for _, one in found]
    level = torch.tensor([tile.level for tile in tiles]).repeat_interleave(torch.tensor(counts))
    is_part, is_shared = compare_tiles(merged, counts, tiles, settings)
    # Suppression is quadratic in the number of boxes, and within a tile it is done.
    contested = (is_shared & ~is_part).nonzero().squeeze(1)
    rank = merged.scores[contested] - 2.0 * level.to(contested.device)[contested]  # scores are in 0..1
    won = contested[suppress(merged.boxes[contested], rank, merged.labels[contested], settings)]
    kept = torch.cat([(~is_shared & ~is_part).nonzero().squeeze(1), won])
    return merged.select(kept[merged.scores[kept].argsort(descending=True, stable=True)])


def compare_tiles(
    found: Detections, counts: Sequence[int], tiles: Sequence[Tile], settings: DecodeSettings
) -> tuple[Tensor, Tensor]:
    """What detections are to those of other tiles.

    Args:
        found: detections of all tiles, in their order, in pixels of the image.
        counts: how many each tile has.
        tiles: of the image.
        settings: of non-maximum suppression.

    Returns:
        Which are parts of objects that another tile shows whole, as they cross the border of this one; and which
        overlap by more than the IoU of suppression. (N,) bool each
    """
    is_part = torch.zeros(len(found), dtype=torch.bool, device=found.boxes.device)
    is_shared = torch.zeros_like(is_part)
    ends = list(accumulate(counts))
    squares = torch.tensor([tile.box for tile in tiles])
    areas = area(found.boxes)
    for i, tile in enumerate(tiles):
        if not counts[i]:
            continue
        own = slice(ends[i] - counts[i], ends[i])
        near = [j for j in _meet(squares, squares[i]).nonzero().squeeze(1).tolist() if j != i]
        rows = [torch.arange(ends[j] - counts[j], ends[j], device=areas.device) for j in near]
        others = torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)
        others = others[_meet(found.boxes[others], found.boxes.new_tensor(tile.box))]
        a, b = found.boxes[own].unsqueeze(1), found.boxes[others].unsqueeze(0)
        shared = _shared_areas(a, b)
        if not settings.class_agnostic_nms:
            shared = shared * (found.labels[own].unsqueeze(1) == found.labels[others].unsqueeze(0))
        union = areas[own].unsqueeze(1) + areas[others].unsqueeze(0) - shared
        crosses = _is_near(a[:, 0], tile).unsqueeze(1) & _crossed_sides(b[0], tile).unsqueeze(0)  # (n, m, 4)
        is_part[own] = (crosses.any(2) & (shared >= PART * areas[own].unsqueeze(1)) & (shared > 0)).any(1)
        is_shared[own] = (shared > settings.nms_threshold * union).any(1)
    return is_part, is_shared


def _meet(boxes: Tensor, box: Tensor) -> Tensor:
    """Which boxes have pixels in common with one. (N, 4), (4,) -> (N,) bool"""
    return ((boxes[:, :2] < box[2:]) & (boxes[:, 2:] > box[:2])).all(1)


def _crossed_sides(boxes: Tensor, tile: Tile) -> Tensor:
    """Across which inner borders of a tile, left, top, right and bottom, boxes lie. (N, 4) -> (N, 4) bool"""
    border = boxes.new_tensor(tile.box)
    beyond = torch.cat([boxes[:, :2] < border[:2], boxes[:, 2:] > border[2:]], 1)
    return _meet(boxes, border).unsqueeze(1) & beyond & torch.tensor(tile.is_inner, device=boxes.device)


def _is_near(boxes: Tensor, tile: Tile) -> Tensor:
    """Which edges of boxes in a tile are near to its border, left, top, right and bottom. (N, 4) -> (N, 4) bool"""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (boxes - boxes.new_tensor(tile.box)).abs() <= NEAR * sides


def _shared_areas(a: Tensor, b: Tensor) -> Tensor:
    """Areas that pairs of boxes share. (..., 4), (..., 4) -> (...)"""
    return area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1))


def concatenate(found: Sequence[Detections]) -> Detections:
    """Detections of several tiles in the pixels of one image, in their order."""
    return replace(
        found[0],
        boxes=torch.cat([one.boxes for one in found]),
        scores=torch.cat([one.scores for one in found]),
        labels=torch.cat([one.labels for one in found]),
        edges=torch.cat([one.edges for one in found]),
        points=torch.cat([one.points for one in found]),
        bin_sizes=torch.cat([one.bin_sizes for one in found]),
    )

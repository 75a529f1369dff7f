"""The locations at which a dense detector predicts: one point per cell of every pyramid level, or one per anchor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# Where a cell's point lies, in pixels from the cell's top-left corner:
#   corner  0               MMDetection 2.x and 3.x, and therefore the published GFL models
#   legacy  (stride - 1)/2  the original GFocal repository (MMDetection 1.x)
#   center  stride / 2      FCOS
Origin = Literal["corner", "legacy", "center"]

SLOTS_STEP = 64  # numbers of slots are multiples of it


def origin_offset(origin: Origin, stride: int) -> float:
    """Distance in pixels from a cell's top-left corner to its point."""
    if origin == "corner":
        return 0.0
    if origin == "legacy":
        return (stride - 1) / 2
    if origin == "center":
        return stride / 2
    raise ValueError(f"origin is corner, legacy or center, not {origin!r}")


def make_points(
    shapes: Sequence[tuple[int, int]],
    level_strides: Sequence[int],
    origin: Origin = "corner",
    device: torch.device | str | None = None,
) -> Points:
    """Points of a pyramid whose level l is a map of ``shapes[l]`` (height, width) cells."""
    xy, strides, cells = [], [], []
    for (height, width), stride in zip(shapes, level_strides, strict=True):
        rows = torch.arange(height, device=device)
        columns = torch.arange(width, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        cell = torch.stack((x, y), -1).reshape(-1, 2)  # (h*w, 2)
        cells.append(cell)
        xy.append(cell.to(torch.float32) * stride + origin_offset(origin, stride))
        strides.append(torch.full((height * width,), float(stride), device=device))
    return Points(torch.cat(xy), torch.cat(strides), torch.cat(cells), tuple(shapes), tuple(level_strides))


def inside_own_padding(points: Points, sizes: Tensor, multiple: int = 32) -> Tensor:
    """Which points take part in the training of each image of a padded batch.

    An image takes part with the cells that cover its own size (B, 2: height, width), rounded up to
    ``multiple``, whatever the size of the batch around it: on each level, a rectangle from its first cell on.
    -> (B, P) bool
    """
    padded = torch.div(sizes + multiple - 1, multiple, rounding_mode="floor") * multiple  # (B, 2)
    parts = []
    for (height, width), stride, per_cell in levels_of(points):
        limits = torch.div(padded + stride - 1, stride, rounding_mode="floor")
        rows = torch.arange(height, device=sizes.device) < limits[:, :1]  # (B, h)
        columns = torch.arange(width, device=sizes.device) < limits[:, 1:]  # (B, w)
        parts.append(per_point(rows.unsqueeze(2) & columns.unsqueeze(1), per_cell))
    return torch.cat(parts, 1)


def exclude_ignored(assignment: Assignment, points: Points, targets: Targets) -> Assignment:
    """The same, but background points inside an ignored region take no part: there may be objects there.

    Positives stay: their ground truth is known. A point on the region's edge counts as inside.
    """
    if can_look_at(targets.ignored) and not targets.ignored.numpy().any():
        return assignment
    x1, y1, x2, y2 = targets.boxes.unsqueeze(2).unbind(-1)  # (B, G, 1)
    inside, start = [], 0
    for (height, width), _, per_cell in levels_of(points):
        cells = points.xy[start : start + height * width * per_cell : per_cell].view(height, width, 2)
        x, y = cells[0, :, 0], cells[:, 0, 1]
        columns = (x1 <= x) & (x <= x2)  # (B, G, w)
        rows = (y1 <= y) & (y <= y2) & targets.ignored.unsqueeze(2)  # (B, G, h)
        number = rows.float().transpose(1, 2) @ columns.float()  # (B, h, w) of regions around each cell
        inside.append(per_point(number > 0, per_cell))
        start += height * width * per_cell
    excluded = torch.cat(inside, 1) & (assignment.gt_index == BACKGROUND)
    gt_index = torch.where(excluded, PADDING, assignment.gt_index)
    return Assignment(gt_index, assignment.slots, assignment.slot_positive, assignment.weights)


def drop_empty_slots(assignment: Assignment) -> Assignment:
    """The same with fewer slots without ground truth, on a CPU, where looking at numbers costs no waiting.

    An assigner has room for as many positives as a box can get, two to three times what boxes have together. Slots
    with ground truth stay in order; their largest number in an image, rounded up, is that of all. While a step is
    compiled, and on other devices, nothing changes: shapes that depend on data would be compiled again and again.
    """
    positive = assignment.slot_positive
    if not can_look_at(positive):
        return assignment
    most = int(positive.numpy().sum(1).max(initial=0))
    number = min(-(-max(most, 1) // SLOTS_STEP) * SLOTS_STEP, positive.shape[1])
    if number == positive.shape[1]:
        return assignment
    chosen = positive.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :number]
    weights = None if assignment.weights is None else assignment.weights.gather(1, chosen)
    return Assignment(assignment.gt_index, assignment.slots.gather(1, chosen), positive.gather(1, chosen), weights)


def can_look_at(values: Tensor) -> bool:
    """Whether Python may read a tensor's numbers: on a CPU that waits for nothing, but it cannot be compiled."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def levels_of(points: Points) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Of each level: height and width of its map, its stride, and the number of points in a cell."""
    for (height, width), stride, count in zip(points.shapes, points.level_strides, points.counts, strict=True):
        yield (height, width), stride, count // (height * width)


def at(values: Tensor, index: Tensor) -> Tensor:
    """Rows of values (N, ...) at an index of any shape: values[index], several times as fast. -> (index's, ...)"""
    return values.index_select(0, index.flatten()).view(index.shape + values.shape[1:])


def per_point(cells: Tensor, per_cell: int) -> Tensor:
    """Values of a level's cells as values of its points. (B, h, w) -> (B, h * w * per_cell)"""
    return cells.unsqueeze(-1).expand(-1, -1, -1, per_cell).flatten(1)


@dataclass(frozen=True)
class AnchorShapes:
    """The anchors of one cell, in strides, and so the same on every level; all are centered on the cell's corner.

    A square of ``side`` strides, in ``per_octave`` sizes that grow by equal factors and stay below twice the side,
    and each of those once for every ratio, of equal area. Anchors of one ratio follow one another.
    """

    side: float
    per_octave: int = 1
    ratios: tuple[float, ...] = (1.0,)  # height over width

    @property
    def per_cell(self) -> int:
        """Number of anchors of a cell."""
        return self.per_octave * len(self.ratios)

    def sizes(self, device: torch.device | str | None = None) -> Tensor:
        """Width and height of each anchor. (A, 2), strides."""
        # Filled on the device: a tensor made from a list would have to be copied there in every step.
        steps = torch.arange(self.per_octave, dtype=torch.float32, device=device) / self.per_octave
        sides = self.side * torch.pow(2.0, steps)  # (S,)
        widths = torch.cat([sides / math.sqrt(ratio) for ratio in self.ratios])
        heights = torch.cat([sides * math.sqrt(ratio) for ratio in self.ratios])
        return torch.stack((widths, heights), -1)


PointLayout = Origin | AnchorShapes  # bare points at an origin, or a point for each anchor of each cell
# Lin et al. 2017 (RetinaNet), placed as in MMDetection, and the one square of Zhang et al. 2020 (ATSS).
RETINANET_ANCHORS = AnchorShapes(side=4.0, per_octave=3, ratios=(0.5, 1.0, 2.0))
ATSS_ANCHORS = AnchorShapes(side=8.0)


def make_anchor_points(
    shapes: Sequence[tuple[int, int]],
    level_strides: Sequence[int],
    anchors: AnchorShapes,
    device: torch.device | str | None = None,
) -> Points:
    """One point per anchor at its center: level after level, row-major, the anchors of a cell one after another."""
    cells = make_points(shapes, level_strides, "corner", device)
    per_cell = anchors.per_cell
    xy = cells.xy.repeat_interleave(per_cell, 0)  # (P, 2)
    halves = (cells.strides.view(-1, 1, 1) * (anchors.sizes(device) / 2)).flatten(0, 1)  # (P, 2)
    return Points(
        xy=xy,
        strides=cells.strides.repeat_interleave(per_cell),
        cells=cells.cells.repeat_interleave(per_cell, 0),
        shapes=cells.shapes,
        level_strides=cells.level_strides,
        anchors=torch.cat((xy - halves, xy + halves), -1),
        per_cell=per_cell,
    )


def make_pyramid_points(
    shapes: Sequence[tuple[int, int]],
    level_strides: Sequence[int],
    point_layout: PointLayout,
    device: torch.device | str | None = None,
) -> Points:
    """The points of a pyramid by their layout: those of anchors, or bare points."""
    if isinstance(point_layout, AnchorShapes):
        return make_anchor_points(shapes, level_strides, point_layout, device)
    return make_points(shapes, level_strides, point_layout, device)

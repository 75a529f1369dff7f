"""The locations at which a dense detector predicts: one point per cell of every pyramid level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets

# Where a cell's point lies, in pixels from the cell's top-left corner:
#   corner  0               MMDetection 2.x and 3.x, and therefore the published GFL models
#   legacy  (stride - 1)/2  the original GFocal repository (MMDetection 1.x)
#   centre  stride / 2      FCOS
Origin = Literal["corner", "legacy", "centre"]


def origin_offset(origin: Origin, stride: int) -> float:
    """Distance in pixels from a cell's top-left corner to its point."""
    if origin == "corner":
        return 0.0
    if origin == "legacy":
        return (stride - 1) / 2
    if origin == "centre":
        return stride / 2
    raise ValueError(f"origin is corner, legacy or centre, not {origin!r}")


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
    ``multiple``, whatever the size of the batch around it. -> (B, P) bool
    """
    padded = torch.div(sizes + multiple - 1, multiple, rounding_mode="floor") * multiple  # (B, 2)
    strides = points.strides.to(torch.int64)  # (P,)
    limits = torch.div(padded[:, None] + strides[:, None] - 1, strides[:, None], rounding_mode="floor")
    columns, rows = points.cells[:, 0], points.cells[:, 1]
    return (rows < limits[..., 0]) & (columns < limits[..., 1])


def spare_ignored(assignment: Assignment, points: Points, targets: Targets) -> Assignment:
    """The same, but background points inside a region to be ignored take no part: there may be objects there.

    Positives stay: what they are to find is known. A point on the region's edge counts as inside.
    """
    x, y = points.xy[:, :1], points.xy[:, 1:]  # (P, 1)
    x1, y1, x2, y2 = targets.boxes.unsqueeze(1).unbind(-1)  # (B, 1, G)
    inside = (x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2) & targets.ignored.unsqueeze(1)  # (B, P, G)
    spared = inside.any(-1) & (assignment.gt_index == BACKGROUND)
    gt_index = torch.where(spared, PADDING, assignment.gt_index)
    return Assignment(gt_index, assignment.slots, assignment.slot_positive, assignment.weights)

"""The points of detectors that code boxes from anchors: one point for each anchor of each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.points import Origin, make_points
from gfocal.structures import Points


@dataclass(frozen=True)
class AnchorShapes:
    """The anchors of one cell, in strides, and so alike on every level; all are centred on the cell's corner.

    A square of ``side`` strides, grown ``per_octave`` times by equal factors before it would have doubled, and
    each of those once for every ratio with its area kept. Anchors of one ratio follow one another.
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


# Lin et al. 2017 (RetinaNet), as MMDetection lays them, and the one square of Zhang et al. 2020 (ATSS).
RETINANET_ANCHORS = AnchorShapes(side=4.0, per_octave=3, ratios=(0.5, 1.0, 2.0))
ATSS_ANCHORS = AnchorShapes(side=8.0)


def make_anchor_points(
    shapes: Sequence[tuple[int, int]],
    level_strides: Sequence[int],
    anchors: AnchorShapes,
    device: torch.device | str | None = None,
) -> Points:
    """One point per anchor at its centre: level after level, row-major, the anchors of a cell one after another."""
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


def lay_points(
    shapes: Sequence[tuple[int, int]],
    level_strides: Sequence[int],
    laying: Origin | AnchorShapes,
    device: torch.device | str | None = None,
) -> Points:
    """The points of a pyramid: anchors, or bare points where ``laying`` only says where in a cell they lie."""
    if isinstance(laying, AnchorShapes):
        return make_anchor_points(shapes, level_strides, laying, device)
    return make_points(shapes, level_strides, laying, device)

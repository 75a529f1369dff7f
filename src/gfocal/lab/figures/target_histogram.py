"""Figure 5c: how far from its point an edge lies, in strides: how large n must be.

The regression targets of a data set, as training sees them: pictures at the training resolution, the positives that
ATSS picks, the distance from each to the four edges of its box in units of its level's stride. What lies beyond
n * Delta cannot be expressed. No network is needed, and no picture is painted or decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.assigners.atss import assign_atss
from gfocal.boxes import distances_to_edges
from gfocal.data.preparation import resized_shape, scale_xyxy
from gfocal.data.samples import DataError, ImageData
from gfocal.lab.figures.canvas import label, save, sheet
from gfocal.lab.figures.tables import Table
from gfocal.plots.charts import COLOURS, GREY
from gfocal.points import inside_own_padding, make_points
from gfocal.structures import pad_targets

STRIDES = (8, 16, 32, 64, 128)
REACHES = (14, 16)  # the values of n that the paper recommends
BIN = 0.5  # width of a bin of the histogram, in strides


@dataclass(frozen=True)
class RegressionTargets:
    """The distances of all positives of a data set."""

    distances: Tensor  # (N, 4) float64, strides; sides left, top, right, bottom
    num_images: int
    short_side: int  # pixels that the shorter side of a picture was resized to,
    long_side: int  # unless the longer one would pass this

    def share_beyond(self, n: float) -> float:
        """Share of edges that lie farther than n strides from their point."""
        return float((self.distances > n).double().mean())

    def boxes_beyond(self, n: float) -> float:
        """Share of positives of which an edge lies farther than n strides away."""
        return float((self.distances > n).any(-1).double().mean())

    def histogram(self) -> tuple[Tensor, Tensor]:
        """Lower ends of the bins, and share of edges in each. (H,), (H,) float64"""
        num_bins = int(self.distances.max() / BIN) + 1
        index = (self.distances.flatten() / BIN).long()
        counts = torch.bincount(index, minlength=num_bins).double()
        return torch.arange(num_bins, dtype=torch.float64) * BIN, counts / counts.sum()


def regression_targets(data: ImageData, short_side: int, long_side: int, at_most: int = 2000) -> RegressionTargets:
    """Assign the points of every picture, or of ``at_most`` pictures at even distances.

    Raises:
        DataError: there is no positive in any of them.
    """
    chosen = range(0, len(data), max(1, -(-len(data) // at_most)))
    found = [distances_of(data, index, short_side, long_side) for index in chosen]
    distances = torch.cat(found) if found else torch.zeros(0, 4)
    if not len(distances):
        raise DataError("no point is positive in any of these pictures: figure 5c needs boxes of some size")
    return RegressionTargets(distances.double(), len(found), short_side, long_side)


def distances_of(data: ImageData, index: int, short_side: int, long_side: int) -> Tensor:
    """The distances of the positives of one picture, in strides. (N, 4)"""
    sample = data.sample(index)
    size = sample.size
    if size is None:
        picture = data.read(index)[0]
        size = (int(picture.shape[1]), int(picture.shape[2]))
    resized = resized_shape(*size, short_side, long_side)
    boxes = (sample.boxes * scale_xyxy(size, resized))[~sample.crowd]
    # The maps of the network: halved with rounding up from one level to the next.
    shapes = [(-(-resized[0] // stride), -(-resized[1] // stride)) for stride in STRIDES]
    points = make_points(shapes, STRIDES)
    targets = pad_targets([boxes], [torch.zeros(len(boxes), dtype=torch.int64)])
    gt_index = assign_atss(points, targets, inside_own_padding(points, torch.tensor([resized]))).gt_index[0]
    positive = torch.nonzero(gt_index >= 0).flatten()
    distances = distances_to_edges(points.xy[positive], targets.boxes[0, gt_index[positive]])
    return distances / points.strides[positive].unsqueeze(-1)


def draw_targets(targets: RegressionTargets, path: Path) -> None:
    """Draw as PNG."""
    figure, (axes,) = sheet(height=4.0)
    starts, shares = targets.histogram()
    axes.bar(starts, 100 * shares, width=0.92 * BIN, align="edge", color=COLOURS[0])
    top = 100 * float(shares.max())
    for n, side in zip(REACHES, ("right", "left"), strict=True):
        axes.axvline(n, color=COLOURS[1], linewidth=1.2)
        axes.text(
            n + (-0.15 if side == "right" else 0.15),
            top,
            f"n = {n}\n{100 * targets.share_beyond(n):.2f} % beyond",
            ha=side,
            va="top",
            fontsize=8.5,
            color=COLOURS[1],
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    end = max(REACHES[-1] + 4.0, float(starts[-1]) + 2 * BIN)
    axes.set(xlim=(0, end), xticks=range(0, int(end) + 1, 2 if end < 40 else 10))
    label(
        axes,
        f"Regression targets: {len(targets.distances):,} positives of ATSS in {targets.num_images:,} pictures, "
        f"short side {targets.short_side} px",
        "distance from the point to an edge, strides",
        "share of edges, %",
    )
    save(figure, path)


def targets_table(targets: RegressionTargets) -> Table:
    """One row per bin: its lower end, its share of the edges, and the share beyond its lower end."""
    starts, shares = targets.histogram()
    beyond = shares.flip(0).cumsum(0).flip(0)
    return {"from_strides": starts, "share": shares, "share_from_here_on": beyond}

"""Figures 11 and 12: centerness and IoU as labels of localization quality.

Figure 11: why centerness is small. The centerness of a location depends only on its position in the box; over the
area of any box its mean is (pi/2 - 1)^2 = 0.33. The IoU depends on the predicted box. To show its map without a
trained detector, each of the four distances of a location gets a random relative error (normal, std 0.1). That is an
assumption and gives a mean near 0.86. For small boxes no point of the grid need lie near the center: the last panel
places boxes of every size at random on a grid of points and takes the highest centerness of any point inside.

Figure 12: both labels of the positives of a trained detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.criteria.dense import centerness
from gfocal.data.dataset import ImageData
from gfocal.lab.figures.canvas import INK, Table, heading, label, legend, save, sheet
from gfocal.lab.figures.trained import read_points
from gfocal.models.detector import Detector
from gfocal.ops.boxes import boxes_from_distances, distances_to_edges, iou
from gfocal.visualize.charts import COLORS

SIDES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # of square boxes, strides


@dataclass(frozen=True)
class CenternessMap:
    """Labels over a box of width 1 and height 1 (the same for a box of any shape)."""

    xy: Tensor  # (N, 2) float64, location within the box, 0..1, row-major
    centerness: Tensor  # (N,)
    iou: Tensor  # (N,), of one prediction at each location
    mean_iou: Tensor  # (N,), mean over many predictions there
    error: float  # std of the relative error of the distances
    sides: tuple[float, ...]  # of square boxes, strides
    best_centerness: Tensor  # (len(sides), R) of randomly placed boxes; 0: no point inside

    def fraction_below(self, threshold: float) -> tuple[float, float]:
        """Fraction of locations with centerness, and with IoU, below a threshold."""
        below = [float((values < threshold).double().mean()) for values in (self.centerness, self.iou)]
        return below[0], below[1]


def centerness_map(
    side: int = 100, predictions: int = 200, error: float = 0.1, boxes: int = 2000, seed: int = 0
) -> CenternessMap:
    """Both labels at side x side locations, and the best centerness of boxes on a grid."""
    generator = torch.Generator().manual_seed(seed)
    place = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    xy = torch.cartesian_prod(place, place).flip(-1)  # (N, 2), x runs fastest
    box = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    ltrb = distances_to_edges(xy, box.expand(len(xy), 4))  # (N, 4)
    total = torch.zeros(len(xy), dtype=torch.float64)
    for _ in range(predictions):
        off = (1 + error * torch.randn(ltrb.shape, generator=generator, dtype=torch.float64)).clamp(min=0)
        one = iou(boxes_from_distances(xy, ltrb * off), box)
        total += one
    corner = torch.rand(boxes, 2, generator=generator, dtype=torch.float64)
    best = torch.stack([best_centerness_on_grid(corner, length) for length in SIDES])
    return CenternessMap(xy, centerness(ltrb), one, total / predictions, error, SIDES, best)


def best_centerness_on_grid(corner: Tensor, side: float) -> Tensor:
    """Highest centerness of any point of the whole-number grid in square boxes.

    corner (R, 2) in 0..1, top left; ``side`` in strides -> (R,)
    """
    steps = torch.arange(int(side) + 2, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)  # (S, 2)
    boxes = torch.cat((corner, corner + side), -1).unsqueeze(1)  # (R, 1, 4)
    return centerness(distances_to_edges(grid, boxes)).amax(1)


def draw_centerness(data: CenternessMap, path: Path) -> None:
    """Draw as PNG: both maps, the fraction of locations below each value, the best centerness by box size."""
    figure, axes = sheet(2, 2, height=6.4)
    side = round(len(data.xy) ** 0.5)
    for one, values, title in zip(
        axes[:2],
        (data.centerness, data.mean_iou),
        (
            f"Centerness: mean {data.centerness.mean():.2f}",
            f"IoU (distances ±{100 * data.error:.0f} %): mean {data.mean_iou.mean():.2f}",
        ),
        strict=True,
    ):
        shown = one.imshow(values.reshape(side, side), vmin=0, vmax=1, extent=(0, 1, 1, 0), cmap="viridis")
        x, y = data.xy.reshape(side, side, 2).unbind(-1)
        levels = [0.2, 0.4, 0.6, 0.8]
        lines = one.contour(x, y, values.reshape(side, side), levels, colors="white", linewidths=0.8)
        one.clabel(lines, fontsize=7.5)
        label(one, title, "x / width of the box", "y / height of the box", grid=False)
    bar = figure.colorbar(shown, ax=axes[1], shrink=0.9)
    bar.ax.tick_params(labelsize=8.5)
    order = torch.linspace(0, 1, len(data.xy))
    for values, name, color in ((data.centerness, "centerness", COLORS[1]), (data.iou, "IoU", COLORS[0])):
        axes[2].plot(values.sort().values, 100 * order, color=color, linewidth=2, label=name)
    axes[2].set(xlim=(0, 1), ylim=(0, 100))
    low = data.fraction_below(0.2)[0]
    axes[2].plot([0.2], [100 * low], "o", color=COLORS[1])
    axes[2].annotate(
        f"{100 * low:.0f} % below 0.2",
        (0.2, 100 * low),
        (8, -12),
        textcoords="offset points",
        fontsize=8.5,
        color=INK,
    )
    label(axes[2], "Locations of a box with a smaller label", "label", "fraction of locations, %")
    legend(axes[2])
    quantiles = data.best_centerness.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), 1)
    axes[3].fill_between(data.sides, quantiles[0], quantiles[2], color=COLORS[1], alpha=0.25, linewidth=0)
    axes[3].plot(data.sides, quantiles[1], color=COLORS[1], linewidth=2, marker="o", markersize=3.5)
    axes[3].set(ylim=(0, 1), xlim=(data.sides[0], data.sides[-1]))
    label(axes[3], "Highest centerness in a box (median, 10-90 %)", "side of the box, strides", "centerness")
    heading(figure, "Labels of localization quality over the area of a box")
    save(figure, path)


def centerness_table(data: CenternessMap) -> Table:
    """One row per location: x and y within the box (0..1), centerness, IoU of one prediction, its mean over many."""
    return {
        "x": data.xy[:, 0],
        "y": data.xy[:, 1],
        "centerness": data.centerness,
        "iou": data.iou,
        "mean_iou": data.mean_iou,
    }


PAPER_LABELS = {"IoU": (0.84, 0.14), "centerness": (0.64, 0.18)}  # mean, standard deviation
NUM_BINS = 40


@dataclass(frozen=True)
class QualityLabels:
    """Both labels of every positive of ATSS."""

    iou: Tensor  # (N,) of the predicted box with its ground truth
    centerness: Tensor  # (N,)
    num_images: int

    def named(self) -> dict[str, Tensor]:
        """Labels by name."""
        return {"IoU": self.iou, "centerness": self.centerness}


def quality_labels(model: Detector, data: ImageData, at_most: int = 500) -> QualityLabels:
    """Labels of the positives of up to ``at_most`` images. DataError where there are none."""
    points = read_points(model, data, at_most, background=0)
    return QualityLabels(points.iou, points.centerness, len(points.image.unique()))


def draw_quality_labels(data: QualityLabels, path: Path) -> None:
    """Draw as PNG: both histograms with a shared axis."""
    figure, axes = sheet(2, 1, height=4.6, share_x=True)
    below = f"label ({len(data.iou):,} positives of ATSS in {data.num_images:,} images)"
    for one, (name, values), color in zip(axes, data.named().items(), (COLORS[0], COLORS[1]), strict=True):
        counts = values.histc(NUM_BINS, 0, 1) / len(values)
        starts = torch.arange(NUM_BINS) / NUM_BINS
        one.bar(starts, 100 * counts, width=0.92 / NUM_BINS, align="edge", color=color)
        one.set_xlim(0, 1)
        mean, std = PAPER_LABELS[name]
        title = (
            f"{name}: mean {values.mean():.2f}, standard deviation {values.std():.2f} "
            f"(the paper, on COCO: {mean:.2f}, {std:.2f})"
        )
        label(one, title, below if one is axes[-1] else "", "fraction of positives, %")
    save(figure, path)


def quality_labels_table(data: QualityLabels) -> Table:
    """One row per positive."""
    return {"iou": data.iou, "centerness": data.centerness}

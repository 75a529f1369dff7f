"""Figure 12: the labels that a quality branch would learn from: IoU and centerness of the positives of a detector.

On COCO the paper has a mean of 0.84 and a standard deviation of 0.14 for IoU, 0.64 and 0.18 for centerness. Its code
added a whole cell to width and height of a box when it measured IoU, which makes small boxes look better; here IoU is
plain, and on COCO to be expected lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.data.samples import ImageData
from gfocal.lab.figures.canvas import label, save, sheet
from gfocal.lab.figures.runs import read_points
from gfocal.lab.figures.tables import Table
from gfocal.models.detector import Detector
from gfocal.plots.charts import COLOURS

PAPER = {"IoU": (0.84, 0.14), "centerness": (0.64, 0.18)}  # mean, standard deviation
NUM_BINS = 40


@dataclass(frozen=True)
class QualityLabels:
    """Both labels of every positive that ATSS picks."""

    iou: Tensor  # (N,) of the predicted box with its truth
    centerness: Tensor  # (N,)
    num_pictures: int

    def named(self) -> dict[str, Tensor]:
        """Name -> labels."""
        return {"IoU": self.iou, "centerness": self.centerness}


def quality_labels(model: Detector, data: ImageData, at_most: int = 500) -> QualityLabels:
    """Labels of the positives of up to ``at_most`` pictures. DataError where there are none."""
    readings = read_points(model, data, at_most, background=0)
    return QualityLabels(readings.iou, readings.centerness, len(readings.picture.unique()))


def draw_quality_labels(data: QualityLabels, path: Path) -> None:
    """Draw as PNG: both histograms over one axis."""
    figure, axes = sheet(2, 1, height=4.6, share_x=True)
    below = f"label ({len(data.iou):,} positives of ATSS in {data.num_pictures:,} pictures)"
    for one, (name, values), colour in zip(axes, data.named().items(), (COLOURS[0], COLOURS[1]), strict=True):
        counts = values.histc(NUM_BINS, 0, 1) / len(values)
        starts = torch.arange(NUM_BINS) / NUM_BINS
        one.bar(starts, 100 * counts, width=0.92 / NUM_BINS, align="edge", color=colour)
        one.set_xlim(0, 1)
        mean, std = PAPER[name]
        title = (
            f"{name}: mean {values.mean():.2f}, standard deviation {values.std():.2f} "
            f"(the paper, on COCO: {mean:.2f}, {std:.2f})"
        )
        label(one, title, below if one is axes[-1] else "", "share of positives, %")
    save(figure, path)


def quality_labels_table(data: QualityLabels) -> Table:
    """One row per positive."""
    return {"iou": data.iou, "centerness": data.centerness}

"""Figure 2 (right): is the score of a point the quality of its box? A separate branch beside the joint score.

Of a detector with a quality branch: class score against the quality that the branch says, and what ranks detections
(their product) against the true IoU. Of a detector with the joint representation: its one score against the true IoU.
Points are all positives of ATSS and some background, drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.data.samples import DataError, ImageData
from gfocal.lab.figures.canvas import heading, label, save, sheet
from gfocal.lab.figures.runs import PointReadings, correlation, read_points
from gfocal.lab.figures.tables import Table
from gfocal.models.detector import Detector
from gfocal.plots.charts import COLOURS, GREY

TICKS = (0, 0.25, 0.5, 0.75, 1)
MOST_SHOWN = 1200  # points of each kind in one panel; more hide one another


@dataclass(frozen=True)
class ScoreAndQuality:
    """Readings of one detector of either kind, or of both."""

    separate: PointReadings | None
    joint: PointReadings | None


def score_and_quality(
    data: ImageData, separate: Detector | None = None, joint: Detector | None = None, at_most: int = 200
) -> ScoreAndQuality:
    """Read both detectors at the points of up to ``at_most`` pictures.

    Raises:
        DataError: neither is given, the first has no quality branch or the second has one, or no point is positive.
    """
    if separate is None and joint is None:
        raise DataError("figure 2 needs a detector with a quality branch, or one with a joint score, or both")
    result = ScoreAndQuality(
        None if separate is None else read_points(separate, data, at_most),
        None if joint is None else read_points(joint, data, at_most),
    )
    if result.separate is not None and bool(result.separate.quality.isnan().any()):
        raise DataError("figure 2: the detector given as separate has no quality branch")
    if result.joint is not None and not bool(result.joint.quality.isnan().all()):
        raise DataError("figure 2: the detector given as joint has a quality branch beside its score")
    return result


def panels(data: ScoreAndQuality) -> list[tuple[str, str, str, PointReadings, Tensor, Tensor]]:
    """Title, axis labels, readings, and x and y of each panel."""
    found = []
    if (one := data.separate) is not None:
        found.append(("separate", "class score", "predicted quality", one, one.class_score, one.quality))
        found.append(("separate", "class score × quality", "true IoU", one, one.class_score * one.quality, one.iou))
    if (one := data.joint) is not None:
        found.append(("joint", "score", "true IoU", one, one.class_score, one.iou))
    return found


def draw_score_and_quality(data: ScoreAndQuality, path: Path) -> None:
    """Draw as PNG: a scatter for each panel, with the correlation of its positives."""
    shown = panels(data)
    figure, axes = sheet(1, len(shown), height=(4.6, 4.2, 3.3)[len(shown) - 1])
    for one, (kind, x_label, y_label, readings, x, y) in zip(axes, shown, strict=True):
        for is_positive, name, colour in ((False, "background", COLOURS[1]), (True, "positive", COLOURS[0])):
            rows = torch.nonzero(readings.positive == is_positive).flatten()
            rows = rows[:: max(1, -(-len(rows) // MOST_SHOWN))]
            one.scatter(x[rows], y[rows], s=7, color=colour, alpha=0.45, linewidths=0, label=name)
        one.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (2, 3)))
        one.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=TICKS, yticks=TICKS)
        of_positives = correlation(x[readings.positive], y[readings.positive])
        title = f"{kind}: r = {of_positives:.2f}\nwith background {correlation(x, y):.2f}"
        label(one, title, x_label, y_label)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper right", ncols=2, frameon=False, fontsize=8.5, markerscale=2)
    heading(figure, "Score and quality at single points; r: correlation over positives")
    save(figure, path)


def score_and_quality_table(data: ScoreAndQuality) -> Table:
    """One row per point: detector, kind, picture, point, class score, predicted quality (nan without), true IoU."""
    kinds = [(name, one) for name, one in (("separate", data.separate), ("joint", data.joint)) if one is not None]
    return {
        "detector": [name for name, one in kinds for _ in one.iou],
        "kind": ["positive" if p else "background" for _, one in kinds for p in one.positive.tolist()],
        "picture": torch.cat([one.picture for _, one in kinds]),
        "point": torch.cat([one.point for _, one in kinds]),
        "class_score": torch.cat([one.class_score for _, one in kinds]),
        "predicted_quality": torch.cat([one.quality for _, one in kinds]),
        "true_iou": torch.cat([one.iou for _, one in kinds]),
    }

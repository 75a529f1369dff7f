"""Figure 5a: QFL over the score, for one quality label and several beta (Li et al. 2020, eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.lab.figures.canvas import label, legend, save, sheet
from gfocal.lab.figures.tables import Table
from gfocal.losses import quality_focal_loss
from gfocal.plots.charts import COLOURS, GREY

BETAS = (0.0, 1.0, 2.0, 2.5, 4.0)  # those of table 1c


@dataclass(frozen=True)
class QFLCurves:
    """One curve per beta over the same scores."""

    quality: float  # y
    scores: Tensor  # (N,) float64, sigma in 0..1
    losses: dict[float, Tensor]  # beta -> (N,) float64


def qfl_curves(quality: float = 0.5, betas: Sequence[float] = BETAS, num_scores: int = 999) -> QFLCurves:
    """QFL at scores from 0.001 to 0.999, by the loss that training uses."""
    scores = torch.linspace(0.001, 0.999, num_scores, dtype=torch.float64)
    target = torch.full_like(scores, quality)
    return QFLCurves(quality, scores, {beta: quality_focal_loss(scores.logit(), target, beta) for beta in betas})


def draw_qfl_curves(curves: QFLCurves, path: Path) -> None:
    """Draw as PNG."""
    figure, (axes,) = sheet(height=4.0)
    for (beta, loss), colour in zip(curves.losses.items(), COLOURS, strict=False):
        axes.plot(curves.scores, loss, color=colour, linewidth=1.8, label=f"{beta:g}")
    axes.axvline(curves.quality, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    axes.text(curves.quality, 2.02, f"σ = y = {curves.quality:g}", ha="center", va="bottom", fontsize=8.5)
    axes.set(xlim=(0, 1), ylim=(0, 2))
    label(axes, f"Quality Focal Loss of one class score, quality label y = {curves.quality:g}\n", "score σ", "QFL(σ)")
    legend(axes, "β", outside=True)
    save(figure, path)


def qfl_table(curves: QFLCurves) -> Table:
    """Columns: score, and the loss of every beta."""
    return {"score": curves.scores} | {f"qfl_beta_{beta:g}": loss for beta, loss in curves.losses.items()}

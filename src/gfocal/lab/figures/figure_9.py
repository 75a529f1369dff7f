"""Figure 9: one edge as a Dirac delta, a Gaussian and a General distribution, from rigid to flexible.

The General distribution is the minimum of DFL for an edge with two likely positions (a strap that may or may not
belong to the bag). The Gaussian has its mean and variance, the Dirac delta its mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.lab.figures.canvas import Table, heading, label, save, sheet
from gfocal.ops.distributions import GeneralDistribution
from gfocal.visualize.charts import COLORS, GRAY


@dataclass(frozen=True)
class ThreeRepresentations:
    """Curves over one axis, in strides."""

    x: Tensor  # (N,) float64
    ground_truth: Tensor  # (N,) density of the position of the edge
    gaussian: Tensor  # (N,) density
    general: Tensor  # (n + 1,) probabilities of the bins 0..n
    mean: float  # of all
    std: float  # of the Gaussian and the General distribution


def three_representations(
    middles: tuple[float, float] = (4.3, 8.6),
    stds: tuple[float, float] = (0.45, 0.8),
    shares: tuple[float, float] = (0.65, 0.35),
    n: int = 14,
    num_points: int = 1401,
) -> ThreeRepresentations:
    """A mixture of two Gaussians, and its three representations."""
    x = torch.linspace(0, n, num_points, dtype=torch.float64)
    ground_truth = sum(
        (s * normal(x, m, d) for s, m, d in zip(shares, middles, stds, strict=True)), torch.zeros_like(x)
    )
    grid = GeneralDistribution(n)
    # The minimum of DFL over many labels is the mean of their two-hot vectors.
    general = (grid.two_hot(x) * ground_truth.unsqueeze(-1)).sum(0)
    general = general / general.sum()
    mean, std = float(grid.expectation(general)), float(grid.std(general))
    return ThreeRepresentations(x, ground_truth, normal(x, mean, std), general, mean, std)


def normal(x: Tensor, mean: float, std: float) -> Tensor:
    """Density of a Gaussian."""
    return torch.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


def draw_representations(data: ThreeRepresentations, path: Path) -> None:
    """Draw as PNG: three panels with shared axes, the ground truth behind each."""
    figure, axes = sheet(1, 3, height=3.3, share_x=True, share_y=True)
    top = 1.15 * float(torch.cat((data.ground_truth, data.gaussian, data.general)).max())
    for one, title, y_label in zip(
        axes,
        (
            "Dirac delta\none number",
            "Gaussian\nmean and variance",
            f"General\n{len(data.general)} probabilities",
        ),
        ("density, 1/stride; probability of a bin", "", ""),
        strict=True,
    ):
        one.fill_between(data.x, data.ground_truth, color=GRAY, alpha=0.25, linewidth=0)
        label(one, title, "distance to the edge, strides", y_label, grid=False)
        one.set(xlim=(0, len(data.general) - 1), ylim=(0, top), xticks=range(0, len(data.general), 2))
    arrow = {"arrowstyle": "-|>", "color": COLORS[1], "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    axes[0].annotate("", (data.mean, 0.93 * top), (data.mean, 0), arrowprops=arrow)
    axes[1].plot(data.x, data.gaussian, color=COLORS[2], linewidth=2)
    axes[2].bar(range(len(data.general)), data.general, width=0.8, color=COLORS[0], alpha=0.85)
    axes[2].plot(range(len(data.general)), data.general, color=COLORS[0], linewidth=1.2, marker="o", markersize=3)
    heading(figure, "Three representations of one edge with two likely positions (gray)")
    save(figure, path)


def representations_table(data: ThreeRepresentations) -> Table:
    """Columns: representation, x in strides, value (density, or probability of the bin for general)."""
    curves = (
        ("ground truth", data.x, data.ground_truth),
        ("dirac", torch.tensor([data.mean], dtype=torch.float64), torch.tensor([torch.inf], dtype=torch.float64)),
        ("gaussian", data.x, data.gaussian),
        ("general", torch.arange(len(data.general), dtype=torch.float64), data.general),
    )
    return {
        "representation": [name for name, x, _ in curves for _ in x],
        "x_strides": torch.cat([x for _, x, _ in curves]),
        "value": torch.cat([value for _, _, value in curves]),
    }

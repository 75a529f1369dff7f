"""Figure 5b: many distributions have one and the same expectation; only DFL tells them apart.

A box loss sees the expectation alone (eq. 5) and is 0 for each of these. All but the first are found by tilting:
P(y_i) ~ w_i exp(t y_i) for some weights w, with t such that the expectation is y. Even weights give the flattest
distribution there is (that of greatest entropy), bell-shaped weights a bell, weights with two bells one with
two peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.distributions import GeneralDistribution
from gfocal.lab.figures.canvas import heading, label, save, sheet
from gfocal.lab.figures.tables import Table
from gfocal.losses import distribution_focal_loss
from gfocal.plots.charts import COLOURS, GREY


@dataclass(frozen=True)
class OneExpectation:
    """Distributions over the bins 0..n, all with the expectation y; everything in strides."""

    y: float
    names: tuple[str, ...]
    probabilities: Tensor  # (D, n + 1) float64
    expectations: Tensor  # (D,)
    entropies: Tensor  # (D,) nats
    stds: Tensor  # (D,)
    dfl: Tensor  # (D,), of the label y


def one_expectation(y: float = 5.7, n: int = 16) -> OneExpectation:
    """From flat to sharp: even, two peaks, wide bell, narrow bell, and the minimum of DFL."""
    grid = GeneralDistribution(n)
    bins = torch.arange(n + 1, dtype=torch.float64)

    def bell(middle: float, std: float) -> Tensor:
        return -((bins - middle) ** 2) / (2 * std**2)  # logarithm of the weights

    found = {
        "flattest": tilted(torch.zeros_like(bins), y),
        "two peaks": tilted(torch.logaddexp(bell(2, 0.8), bell(11, 1.2)), y),
        "wide bell": tilted(bell(y, 2.5), y),
        "narrow bell": tilted(bell(y, 0.9), y),
        "minimum of DFL": grid.two_hot(torch.tensor(y, dtype=torch.float64)),
    }
    p = torch.stack(list(found.values()))
    return OneExpectation(
        y=y,
        names=tuple(found),
        probabilities=p,
        expectations=grid.expectation(p),
        entropies=grid.entropy(p),
        stds=grid.std(p),
        dfl=distribution_focal_loss(p.log(), torch.full((len(p),), y, dtype=torch.float64)),
    )


def tilted(log_weights: Tensor, expectation: float) -> Tensor:
    """The distribution w_i exp(t i) / sum with a given expectation, t found by bisection. (n + 1,) -> (n + 1,)"""
    bins = torch.arange(len(log_weights), dtype=torch.float64)
    assert 0 < expectation < len(log_weights) - 1, "an expectation within the bins"
    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        p = (log_weights + middle * bins).softmax(0)
        low, high = (middle, high) if float(p @ bins) < expectation else (low, middle)
    return p


def draw_one_expectation(data: OneExpectation, path: Path) -> None:
    """Draw as PNG: one panel per distribution, and their DFL."""
    figure, axes = sheet(2, 3, height=5.2)
    bins = range(data.probabilities.shape[1])
    for i, name in enumerate(data.names):
        axes[i].bar(bins, data.probabilities[i], width=0.8, color=COLOURS[i])
        axes[i].axvline(data.y, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
        label(
            axes[i],
            f"{name}\nentropy {data.entropies[i]:.2f} nats, ±{data.stds[i]:.2f}",
            "bin y$_i$, strides" if i >= 3 else "",
            "P(y$_i$)" if i % 3 == 0 else "",
            grid=False,
        )
        axes[i].set_ylim(0, max(0.2, 1.1 * float(data.probabilities[i].max())))
        axes[i].set_xlim(-0.7, len(bins) - 0.3)
    last = axes[len(data.names)]
    rows = range(len(data.names))
    last.barh(rows, data.dfl, color=COLOURS[: len(data.names)])
    last.set_yticks(rows, [name.replace(" ", "\n", 1) for name in data.names])
    last.invert_yaxis()
    for row, value in zip(rows, data.dfl.tolist(), strict=True):
        last.text(value + 0.05, row, f"{value:.2f}", va="center", fontsize=8)
    last.set_xlim(0, 1.2 * float(data.dfl.max()))
    label(last, f"DFL of the label y = {data.y:g}\n", "nats", grid=False)
    heading(figure, f"Distributions of an edge with one expectation, {data.y:g} strides (dotted)")
    save(figure, path)


def one_expectation_table(data: OneExpectation) -> Table:
    """One row per distribution: expectation, entropy, standard deviation, DFL, and the n + 1 probabilities."""
    bins = {f"p{i}": column for i, column in enumerate(data.probabilities.unbind(1))}
    return {
        "distribution": data.names,
        "expectation_strides": data.expectations,
        "entropy_nats": data.entropies,
        "std_strides": data.stds,
        "dfl_nats": data.dfl,
        **bins,
    }

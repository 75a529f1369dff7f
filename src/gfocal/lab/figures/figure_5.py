"""Figure 5: QFL, DFL and the regression targets (Li et al. 2020, eq. 2 and 6).

* 5a: QFL over the score, for one quality label and several beta.
* 5b: many distributions have the same expectation; only DFL distinguishes them.
* 5c: how far edges lie from their points, in strides, which decides how large n (reg_max) must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.assigners.atss import assign_atss
from gfocal.data.dataset import ImageData
from gfocal.data.preprocess import resized_shape, scale_xyxy
from gfocal.errors import DataError
from gfocal.lab.figures.canvas import Table, heading, label, legend, save, sheet
from gfocal.losses import distribution_focal_loss, quality_focal_loss
from gfocal.ops.boxes import distances_to_edges
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding, make_points
from gfocal.structures import pad_targets
from gfocal.visualize.charts import COLORS, GRAY

BETAS = (0.0, 1.0, 2.0, 2.5, 4.0)  # those of table 1c


@dataclass(frozen=True)
class QFLCurves:
    """One curve per beta over the same scores."""

    quality: float  # y
    scores: Tensor  # (N,) float64, sigma in 0..1
    losses: dict[float, Tensor]  # beta -> (N,) float64


def qfl_curves(quality: float = 0.5, betas: Sequence[float] = BETAS, num_scores: int = 999) -> QFLCurves:
    """QFL at scores from 0.001 to 0.999, computed by the training loss."""
    scores = torch.linspace(0.001, 0.999, num_scores, dtype=torch.float64)
    target = torch.full_like(scores, quality)
    return QFLCurves(quality, scores, {beta: quality_focal_loss(scores.logit(), target, beta) for beta in betas})


def draw_qfl_curves(curves: QFLCurves, path: Path) -> None:
    """Draw as PNG."""
    figure, (axes,) = sheet(height=4.0)
    for (beta, loss), color in zip(curves.losses.items(), COLORS, strict=False):
        axes.plot(curves.scores, loss, color=color, linewidth=1.8, label=f"{beta:g}")
    axes.axvline(curves.quality, color=GRAY, linewidth=1, linestyle=(0, (2, 3)))
    axes.text(curves.quality, 2.02, f"σ = y = {curves.quality:g}", ha="center", va="bottom", fontsize=8.5)
    axes.set(xlim=(0, 1), ylim=(0, 2))
    label(axes, f"Quality Focal Loss of one class score, quality label y = {curves.quality:g}\n", "score σ", "QFL(σ)")
    legend(axes, "β", outside=True)
    save(figure, path)


def qfl_table(curves: QFLCurves) -> Table:
    """Columns: score, and the loss of every beta."""
    return {"score": curves.scores} | {f"qfl_beta_{beta:g}": loss for beta, loss in curves.losses.items()}


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
    """From flat to sharp: flattest, two peaks, wide bell, narrow bell, and the minimum of DFL."""
    grid = GeneralDistribution(n)
    bins = torch.arange(n + 1, dtype=torch.float64)

    def bell(middle: float, std: float) -> Tensor:
        return -((bins - middle) ** 2) / (2 * std**2)  # logarithm of the weights

    found = {
        "flattest": tilt(torch.zeros_like(bins), y),
        "two peaks": tilt(torch.logaddexp(bell(2, 0.8), bell(11, 1.2)), y),
        "wide bell": tilt(bell(y, 2.5), y),
        "narrow bell": tilt(bell(y, 0.9), y),
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


def tilt(log_weights: Tensor, expectation: float) -> Tensor:
    """The distribution w_i exp(t i) / sum with a given expectation, t by bisection. (n + 1,) -> (n + 1,)"""
    bins = torch.arange(len(log_weights), dtype=torch.float64)
    assert 0 < expectation < len(log_weights) - 1, "the expectation must lie within the bins"
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
        axes[i].bar(bins, data.probabilities[i], width=0.8, color=COLORS[i])
        axes[i].axvline(data.y, color=GRAY, linewidth=1, linestyle=(0, (2, 3)))
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
    last.barh(rows, data.dfl, color=COLORS[: len(data.names)])
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


STRIDES = (8, 16, 32, 64, 128)
VALUES_OF_N = (14, 16)  # recommended in the paper
BIN = 0.5  # width of a bin of the histogram, in strides


@dataclass(frozen=True)
class RegressionTargets:
    """The distances of all positives of a dataset."""

    distances: Tensor  # (N, 4) float64, strides; sides left, top, right, bottom
    num_images: int
    short_side: int  # pixels that the shorter side of an image was resized to,
    long_side: int  # unless the longer one would pass this

    def clamped_fraction(self, n: float) -> float:
        """Fraction of edges farther than n strides from their point."""
        return float((self.distances > n).double().mean())

    def clamped_points_fraction(self, n: float) -> float:
        """Fraction of positives with an edge farther than n strides."""
        return float((self.distances > n).any(-1).double().mean())

    def histogram(self) -> tuple[Tensor, Tensor]:
        """Lower ends of the bins, and fraction of edges in each. (H,), (H,) float64"""
        num_bins = int(self.distances.max() / BIN) + 1
        index = (self.distances.flatten() / BIN).long()
        counts = torch.bincount(index, minlength=num_bins).double()
        return torch.arange(num_bins, dtype=torch.float64) * BIN, counts / counts.sum()


def regression_targets(data: ImageData, short_side: int, long_side: int, at_most: int = 2000) -> RegressionTargets:
    """Assign the points of all images, or of at most ``at_most`` evenly spaced ones.

    Raises:
        DataError: there is no positive in any image.
    """
    chosen = range(0, len(data), max(1, -(-len(data) // at_most)))
    found = [_positive_distances(data, index, short_side, long_side) for index in chosen]
    distances = torch.cat(found) if found else torch.zeros(0, 4)
    if not len(distances):
        raise DataError("no point is positive in any of these images: figure 5c needs boxes of some size")
    return RegressionTargets(distances.double(), len(found), short_side, long_side)


def _positive_distances(data: ImageData, index: int, short_side: int, long_side: int) -> Tensor:
    """The distances of the positives of one image to their edges, in strides. (N, 4)"""
    sample = data.sample(index)
    size = sample.size
    if size is None:
        image = data.read(index)[0]
        size = (int(image.shape[1]), int(image.shape[2]))
    resized = resized_shape(*size, short_side, long_side)
    boxes = (sample.boxes * scale_xyxy(size, resized))[~sample.crowd]
    # The shapes of the feature maps: each level is half the one before, rounded up.
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
    starts, fractions = targets.histogram()
    axes.bar(starts, 100 * fractions, width=0.92 * BIN, align="edge", color=COLORS[0])
    top = 100 * float(fractions.max())
    for n, side in zip(VALUES_OF_N, ("right", "left"), strict=True):
        axes.axvline(n, color=COLORS[1], linewidth=1.2)
        axes.text(
            n + (-0.15 if side == "right" else 0.15),
            top,
            f"n = {n}\n{100 * targets.clamped_fraction(n):.2f} % outside",
            ha=side,
            va="top",
            fontsize=8.5,
            color=COLORS[1],
        )
    axes.axhline(0, color=GRAY, linewidth=0.8)
    end = max(VALUES_OF_N[-1] + 4.0, float(starts[-1]) + 2 * BIN)
    axes.set(xlim=(0, end), xticks=range(0, int(end) + 1, 2 if end < 40 else 10))
    label(
        axes,
        f"Regression targets: {len(targets.distances):,} positives of ATSS in {targets.num_images:,} images, "
        f"short side {targets.short_side} px",
        "distance from the point to an edge, strides",
        "fraction of edges, %",
    )
    save(figure, path)


def targets_table(targets: RegressionTargets) -> Table:
    """One row per bin: its lower end, the fraction of edges in it, and the fraction from its lower end on."""
    starts, fractions = targets.histogram()
    cumulative = fractions.flip(0).cumsum(0).flip(0)
    return {"from_strides": starts, "fraction": fractions, "cumulative_fraction_from": cumulative}

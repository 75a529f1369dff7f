"""Figure 10: stability of an edge under a small perturbation of the features (Li et al. 2020, appendix A).

The paper gives the perturbation (a random vector of norm 0.1) and the targets (1.5, 2.5, 3.5); the rest of the setup
is ours:

* A feature vector has ``dim`` = 256 numbers, those of a random direction with the negative ones set to 0 (as after a
  ReLU), and norm 1. A linear layer without bias maps it to the parameters of an edge. Weights are initialized as
  those of the head, normal with a standard deviation of 0.01, and fitted by full-batch gradient descent in float64.
* Dirac: one number, squared error. Dirac, exp: one number whose exp is the edge, as in FCOS, squared error of the
  logarithm. Gaussian: mean and log variance, the likelihood of table 5, variance at least exp(-4) (it would converge
  to 0). General: n + 1 = 17 logits, DFL alone. All but the last converge to the target; the logits of DFL grow
  without limit, so a General layer takes 2000 steps of 1.0, after which its edge is within 0.01.
* The error is |edge after - edge before|, over 400 random directions of each of 12 feature vectors.

``own``: each target has its own feature vector and layer. This is the simulation as we read it. The weights of a
Dirac edge must grow with the target, and so does its error; the two logits of a General edge between two bins get
nearly the same weights, and its edge hardly moves.

``shared``: one layer must give all three targets for three different feature vectors, as the head of a detector must.
This is not in the paper. Now every Dirac edge has the same weights and so the same error, which grows with the
target only with exp; a General edge depends on differences of weights too, and most of its advantage is gone. More
training makes it smaller still: after 10,000 steps the error of the middle target is that of a Dirac delta.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.lab.figures.canvas import INK, Table, heading, label, legend, save, sheet
from gfocal.losses import distribution_focal_loss
from gfocal.ops.distributions import GeneralDistribution
from gfocal.visualize.charts import COLORS

KINDS = ("Dirac", "Dirac, exp", "Gaussian", "General")
SETUPS = ("own", "shared")
N = 16
LEAST_LOG_VARIANCE = -4.0
INIT_STD = 0.01  # of the weights, as in the detection head
NUMBERS = {"Dirac": 1, "Dirac, exp": 1, "Gaussian": 2, "General": N + 1}
STEPS = {"Dirac": 400, "Dirac, exp": 400, "Gaussian": 1500, "General": 2000}
RATES = {"Dirac": 0.2, "Dirac, exp": 0.2, "Gaussian": 0.01, "General": 1.0}


@dataclass(frozen=True)
class Perturbation:
    """Errors of every setup, representation and target."""

    targets: tuple[float, ...]  # strides
    norm: float  # of the perturbation; features have norm 1
    before: dict[tuple[str, str], Tensor]  # (setup, kind) -> (R, T) edges of the unperturbed features, strides
    errors: dict[tuple[str, str], Tensor]  # (setup, kind) -> (R, T, S) absolute errors, strides

    def mean_error(self, setup: str, kind: str) -> Tensor:
        """Mean absolute error of each target. (T,), strides"""
        return self.errors[setup, kind].mean((0, 2))

    def std_of_error(self, setup: str, kind: str) -> Tensor:
        """Standard deviation of the absolute error over features and directions. (T,), strides"""
        return self.errors[setup, kind].transpose(0, 1).flatten(1).std(1)


def perturbation(
    targets: tuple[float, ...] = (1.5, 2.5, 3.5),
    norm: float = 0.1,
    dim: int = 256,
    features: int = 12,
    directions: int = 400,
    seed: int = 0,
) -> Perturbation:
    """Fit and perturb all representations in both setups, as described at the top of this file."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = torch.nn.functional.normalize(randn(features, len(targets), dim).relu(), dim=-1)  # (R, T, D)
    shift = norm * torch.nn.functional.normalize(randn(features, directions, dim), dim=-1)  # (R, S, D)
    y = torch.tensor(targets, dtype=torch.float64).expand(features, -1)  # (R, T)
    before, errors = {}, {}
    for kind in KINDS:
        for setup in SETUPS:
            # One layer for each feature vector, or one that all T of them share.
            layers = INIT_STD * randn(features, len(targets) if setup == "own" else 1, NUMBERS[kind], dim)
            weights = fit(layers, x, y, kind)
            out = outputs(weights, x)  # (R, T, K)
            moved = out.unsqueeze(2) + torch.einsum("rlkd,rsd->rlsk", weights, shift)  # (R, T, S, K)
            before[setup, kind] = edge(out, kind)
            errors[setup, kind] = (edge(moved, kind) - edge(out, kind).unsqueeze(-1)).abs()
    return Perturbation(targets, norm, before, errors)


def outputs(layers: Tensor, x: Tensor) -> Tensor:
    """The outputs of the layers. layers (R, T or 1, K, D), x (R, T, D) -> (R, T, K)"""
    return (layers @ x.unsqueeze(-1)).squeeze(-1)


def edge(numbers: Tensor, kind: str) -> Tensor:
    """The edge that the outputs of a layer represent. (..., K) -> (...), strides"""
    if kind == "General":
        grid = GeneralDistribution(N)
        return grid.expectation(grid.probabilities(numbers))
    return numbers[..., 0].exp() if kind == "Dirac, exp" else numbers[..., 0]


def loss(numbers: Tensor, y: Tensor, kind: str) -> Tensor:
    """The loss of each edge (table 5, eq. 6). (..., K), (...) -> (...)"""
    if kind == "General":
        return distribution_focal_loss(numbers, y)
    square = (numbers[..., 0] - (y.log() if kind == "Dirac, exp" else y)) ** 2 / 2
    if kind != "Gaussian":
        return square
    log_variance = numbers[..., 1].clamp(min=LEAST_LOG_VARIANCE)
    return square * (-log_variance).exp() + log_variance / 2


def fit(layers: Tensor, x: Tensor, y: Tensor, kind: str) -> Tensor:
    """Weights after gradient descent from ``layers``. (R, T or 1, K, D) -> the same shape

    A step changes weights only along the feature vectors, by dL/dz of each. So descent runs on the T coefficients of
    each output, which is equivalent to its D weights, and much cheaper.
    """
    own = layers.shape[1] == x.shape[1]
    start = outputs(layers, x)  # (R, T, K)
    gram = x @ x.mT  # (R, T, T): how far a step for one target changes the outputs of another
    if own:
        gram = gram * torch.eye(x.shape[1], dtype=x.dtype)
    moved = torch.zeros_like(start)
    for _ in range(STEPS[kind]):
        numbers = (start + gram @ moved).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(numbers, y, kind).sum(), numbers)
        moved -= RATES[kind] * gradient
    change = moved.unsqueeze(-1) * x.unsqueeze(2)  # (R, T, K, D)
    return layers + (change if own else change.sum(1, keepdim=True))


def draw_perturbation(data: Perturbation, path: Path) -> None:
    """Draw as PNG: bars of the mean absolute error, one panel per setup."""
    figure, axes = sheet(1, 2, height=3.9, share_y=True)
    titles = ("A layer for each target", "One layer for all three targets")
    for one, setup, title in zip(axes, SETUPS, titles, strict=True):
        for k, kind in enumerate(KINDS):
            mean, std = data.mean_error(setup, kind), data.std_of_error(setup, kind)
            places = [i + 0.21 * (k - 1.5) for i in range(len(data.targets))]
            color = COLORS[(1, 4, 2, 0)[k]]
            one.bar(places, mean, width=0.19, color=color, label=kind)
            one.errorbar(places, mean, std, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
        one.set_xticks(range(len(data.targets)), [f"{target:g}" for target in data.targets])
        label(one, title, "target, strides", "mean |error|, strides" if one is axes[0] else "")
        one.grid(False, axis="x")
    axes[0].set_ylim(bottom=0)
    legend(axes[0])
    heading(figure, f"Error of an edge when its feature vector (norm 1) is perturbed by {data.norm:g}; lines: ±1 std")
    save(figure, path)


def perturbation_table(data: Perturbation) -> Table:
    """One row per setup, representation and target: edge before, mean and standard deviation of the error."""
    rows = [(setup, kind, t) for setup in SETUPS for kind in KINDS for t in range(len(data.targets))]
    return {
        "layer": [setup for setup, _, _ in rows],
        "representation": [kind for _, kind, _ in rows],
        "target_strides": [data.targets[t] for _, _, t in rows],
        "unperturbed_edge_strides": [float(data.before[s, k][:, t].mean()) for s, k, t in rows],
        "mean_absolute_error_strides": [float(data.mean_error(s, k)[t]) for s, k, t in rows],
        "std_of_absolute_error_strides": [float(data.std_of_error(s, k)[t]) for s, k, t in rows],
    }

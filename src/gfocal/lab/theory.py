"""The paper's proofs, checked numerically: appendix B (the minimum of GFL) and appendix C (its special cases).

Every check evaluates the training losses, in float64, on random cases drawn with a seed. ::

    for check in check_theory():
        print(check)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses import distribution_focal_loss, focal_loss, generalized_focal_loss, quality_focal_loss

BETAS = (0.5, 1.0, 1.5, 2.0, 2.5, 4.0)
MIN_P = 1e-12  # smallest distance of p from 0 and 1, where a logarithm is infinite
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Check:
    """One statement of the paper, and how far the losses deviate from it."""

    name: str
    cases: int
    deviation: float  # the largest of all cases
    tolerance: float  # for rounding errors

    @property
    def holds(self) -> bool:
        """Whether no case deviates more than rounding allows."""
        return self.deviation <= self.tolerance

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        return f"{verdict}  {self.deviation:9.2e}  {self.cases:7,}  {self.name}"


def check_theory(cases: int = 4000, seed: int = 0) -> list[Check]:
    """All checks, with ``cases`` random cases each."""
    generator = torch.Generator().manual_seed(seed)
    return [*check_minimum(cases, generator), *check_special_cases(cases, generator)]


def check_minimum(cases: int, generator: torch.Generator) -> list[Check]:
    """Appendix B: the only minimum of GFL is where y_l p_l + y_r p_r = y, and its value is 0.

    Random y_l in -5..5, y_r up to 8 above it, y between them (in a tenth of the cases equal to one of the two, where
    the paper's R is 0 and not above it), and one of six beta. The minimum over p_r is searched for without using its
    position. For beta = 0 (DFL) the position is the same, and the value is the cross-entropy there.
    """
    y_left = uniform(generator, cases, -5, 5)
    y_right = y_left + uniform(generator, cases, 0.1, 8)
    share = uniform(generator, cases, 0, 1)
    share[: cases // 20], share[cases // 20 : cases // 10] = 0.0, 1.0
    y = y_left + share * (y_right - y_left)
    expected = (y - y_left) / (y_right - y_left)  # p_r* of the paper
    index = torch.randint(len(BETAS), (cases,), generator=generator)

    found, minimum = torch.zeros_like(y), torch.zeros_like(y)
    lower = torch.full_like(y, -torch.inf)
    elsewhere = uniform(generator, cases * 50, MIN_P, 1 - MIN_P).view(50, cases)
    for number, beta in enumerate(BETAS):
        rows = index == number
        part = _GFL(y[rows], y_left[rows], y_right[rows], beta)
        found[rows] = minimize(part, int(rows.sum()))
        minimum[rows] = part(found[rows])
        lower[rows] = (minimum[rows] - part(elsewhere[:, rows])).amax(0)
    at_zero_beta = minimize(_GFL(y, y_left, y_right, 0.0), cases)
    return [
        Check(
            "B: the minimum of GFL is at p* = ((y_r - y), (y - y_l)) / (y_r - y_l)",
            cases,
            _largest(found - expected),
            1e-9,
        ),
        Check("B: its value is 0", cases, _largest(minimum), 1e-4),
        Check("B: no lower value at 50 other p each", cases * 50, float(lower.clamp(min=0).max()), 0.0),
        # A cross-entropy is flat at its minimum: half of the digits are lost.
        Check("B: for beta = 0 (DFL) the minimum is at the same p*", cases, _largest(at_zero_beta - expected), 1e-6),
    ]


def check_special_cases(cases: int, generator: torch.Generator) -> list[Check]:
    """Appendix C: FL, QFL and DFL are GFL with certain y_l, y_r and beta.

    Random logits (normal, std 4) and labels, and each of six exponents. Deviations from losses above 1 are relative.
    """
    x = 4 * torch.randn(cases, generator=generator, dtype=torch.float64)
    hard = (uniform(generator, cases, 0, 1) < 0.5).double()
    soft = uniform(generator, cases, 0, 1)
    bins = 4 * torch.randn(cases, 17, generator=generator, dtype=torch.float64)
    y = uniform(generator, cases, 0, 16)
    y[: cases // 10] = y[: cases // 10].round()  # labels that lie on a bin

    log_left, log_right = F.logsigmoid(-x), F.logsigmoid(x)
    fl, qfl = [], []
    for exponent in BETAS:
        general = generalized_focal_loss(log_left, log_right, hard, beta=exponent)
        fl.append(_difference(focal_loss(x, hard, gamma=exponent), general))
        general = generalized_focal_loss(log_left, log_right, soft, beta=exponent)
        qfl.append(_difference(quality_focal_loss(x, soft, beta=exponent), general))
    low = y.floor().clamp(max=15)
    log_p = bins.log_softmax(-1)
    index = low.long().unsqueeze(1)
    log_left, log_right = log_p.gather(1, index).squeeze(1), log_p.gather(1, index + 1).squeeze(1)
    general = generalized_focal_loss(log_left, log_right, y, low, low + 1, beta=0.0)
    dfl = _difference(distribution_focal_loss(bins, y), general)
    return [
        Check("C: FL is GFL with y_l = 0, y_r = 1, y in {0, 1}, beta = gamma", cases * len(BETAS), max(fl), 1e-12),
        Check("C: QFL is GFL with y_l = 0, y_r = 1", cases * len(BETAS), max(qfl), 1e-12),
        Check("C: DFL is GFL with y_l = y_i, y_r = y_i+1, beta = 0", cases, dfl, 1e-12),
    ]


@dataclass(frozen=True)
class _GFL:
    """GFL as a function of p_r, with p_l = 1 - p_r, at fixed labels."""

    y: Tensor
    y_left: Tensor
    y_right: Tensor
    beta: float

    def __call__(self, p_right: Tensor) -> Tensor:
        return generalized_focal_loss(
            torch.log1p(-p_right), p_right.log(), self.y, self.y_left, self.y_right, self.beta
        )


def minimize(function: Callable[[Tensor], Tensor], cases: int, steps: int = 90) -> Tensor:
    """The minima of unimodal functions of p on 0..1, by golden-section search. -> (cases,) float64

    ``function`` takes and returns (cases,); each step shrinks every interval to 0.62 of its length.
    """
    low = torch.full((cases,), MIN_P, dtype=torch.float64)
    high = 1 - low
    for _ in range(steps):
        first, second = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = function(first) < function(second)  # the minimum lies left of ``second``
        low, high = torch.where(left, low, first), torch.where(left, second, high)
    return (low + high) / 2


def uniform(generator: torch.Generator, cases: int, low: float, high: float) -> Tensor:
    """(cases,) float64, uniform between two numbers."""
    return low + (high - low) * torch.rand(cases, generator=generator, dtype=torch.float64)


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def _difference(one: Tensor, two: Tensor) -> float:
    return float(((one - two).abs() / one.abs().clamp(min=1)).max())

"""Laws of the Generalized Focal Loss and its special cases (Li et al. 2020, appendices B and C)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses import focal_loss, generalized_focal_loss, quality_focal_loss

BETAS = (0.0, 0.5, 1.0, 2.0, 2.5, 4.0)
betas = st.sampled_from(BETAS)
logits = st.floats(-20, 20)
unit = st.floats(0, 1)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def central_difference(function: object, x: Tensor, step: float = 1e-6) -> Tensor:
    assert callable(function)
    return (function(x + step) - function(x - step)) / (2 * step)


# Special cases, appendix C


@given(logits, st.sampled_from([0.0, 1.0]), betas)
def test_fl_is_gfl_with_a_hard_target(x: float, y: float, gamma: float) -> None:
    gfl = generalized_focal_loss(F.logsigmoid(-f64(x)), F.logsigmoid(f64(x)), f64(y), beta=gamma)
    torch.testing.assert_close(focal_loss(f64(x), f64(y), gamma), gfl, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(quality_focal_loss(f64(x), f64(y), gamma), gfl, rtol=1e-6, atol=1e-9)


@given(logits, unit, betas)
def test_qfl_is_gfl_between_0_and_1(x: float, y: float, beta: float) -> None:
    gfl = generalized_focal_loss(F.logsigmoid(-f64(x)), F.logsigmoid(f64(x)), f64(y), beta=beta)
    torch.testing.assert_close(quality_focal_loss(f64(x), f64(y), beta), gfl, rtol=1e-6, atol=1e-7)


@given(logits, unit, betas)
def test_qfl_equals_eq_2(x: float, y: float, beta: float) -> None:
    s = 1 / (1 + math.exp(-x))
    assume(0 < s < 1)
    want = -(abs(y - s) ** beta) * ((1 - y) * math.log1p(-s) + y * math.log(s))
    assert quality_focal_loss(f64(x), f64(y), beta).item() == pytest.approx(want, rel=1e-5, abs=1e-7)


# The global minimum, appendix B


@given(unit, st.floats(-5, 5), st.floats(0.1, 10), betas)
def test_the_minimum_of_gfl_lies_where_the_prediction_is_y(
    share: float, y_left: float, width: float, beta: float
) -> None:
    """At p_r* = (y - y_l) / (y_r - y_l); zero there for beta > 0 and the two-hot entropy for beta = 0."""
    y_right = y_left + width
    y = y_left + share * width

    def gfl(p_right: Tensor) -> Tensor:
        return generalized_focal_loss(
            torch.log1p(-p_right), p_right.log(), torch.full_like(p_right, y), y_left, y_right, beta
        )

    grid = torch.linspace(1e-6, 1 - 1e-6, 4001, dtype=torch.float64)
    values = gfl(grid)
    assert (values >= -1e-12).all()
    best = grid[values.argmin()].item()
    # Towards the ends of a target on y_l or y_r the cross-entropy R is 0 too, so the valley may be flat.
    assert best == pytest.approx(share, abs=1e-3 if 1e-3 < share < 1 - 1e-3 else 2e-2)
    if 1e-3 < share < 1 - 1e-3:
        at_best = gfl(f64(share))
        assert (values >= at_best - 1e-9).all()
        entropy = -width * (share * math.log(share) + (1 - share) * math.log(1 - share))
        assert at_best.item() == pytest.approx(entropy if beta == 0 else 0, abs=1e-7 if beta >= 1 else 1e-5)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("quality", [0.1, 0.5, 0.84])
def test_descending_qfl_finds_the_quality(beta: float, quality: float) -> None:
    x = torch.linspace(-6, 6, 24_001, dtype=torch.float64)
    loss = quality_focal_loss(x, torch.full_like(x, quality), beta)
    assert x[loss.argmin()].sigmoid().item() == pytest.approx(quality, abs=1e-3)
    # The loss falls on one side and rises on the other: there is no other minimum to be caught in.
    middle = int(loss.argmin())
    assert (loss[:middle].diff() <= 1e-12).all()
    assert (loss[middle:].diff() >= -1e-12).all()


# Gradients


@given(st.floats(-8, 8), unit, betas)
def test_gradient_of_qfl_equals_finite_differences(x: float, y: float, beta: float) -> None:
    assume(beta >= 1 or abs(1 / (1 + math.exp(-x)) - y) > 1e-3)  # below 1 the minimum is a cusp
    assume(beta != 1 or abs(1 / (1 + math.exp(-x)) - y) > 1e-5)  # at 1 a kink
    point, target = f64(x).requires_grad_(), f64(y)
    quality_focal_loss(point, target, beta).sum().backward()
    want = central_difference(lambda v: quality_focal_loss(v, target, beta), f64(x))
    torch.testing.assert_close(point.grad, want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("beta", BETAS)
def test_gradcheck(beta: float) -> None:
    x = torch.linspace(-6, 6, 9, dtype=torch.float64, requires_grad=True)
    y = torch.linspace(0.05, 0.9, 9, dtype=torch.float64).flip(0)
    assert torch.autograd.gradcheck(lambda v: quality_focal_loss(v, y, beta), (x,))
    assert torch.autograd.gradcheck(
        lambda v: generalized_focal_loss(F.logsigmoid(-v), F.logsigmoid(v), 2 + 3 * y, 2.0, 5.0, beta), (x,)
    )


def test_the_modulating_factor_is_not_detached() -> None:
    x, y = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), f64(0.9)[0]
    quality_focal_loss(x, y).backward()
    s = x.detach().sigmoid()
    only_cross_entropy = (y - s) ** 2 * (s - y)
    assert x.grad is not None
    assert abs(x.grad - only_cross_entropy) > 0.01


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_of_100_give_finite_loss_and_gradients_that_pull_the_right_way(
    beta: float, dtype: torch.dtype
) -> None:
    x = torch.tensor([-100, 100, 100, -100, -100, 100], dtype=dtype, requires_grad=True)
    y = torch.tensor([1, 0, 0.5, 0.5, 0, 1])
    loss = quality_focal_loss(x, y, beta)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    half = 0.5**beta
    torch.testing.assert_close(loss, torch.tensor([100, 100, 50 * half, 50 * half, 0, 0]))
    assert x.grad is not None
    want = torch.tensor([-1, 1, half / 2, -half / 2, 0, 0])
    torch.testing.assert_close(x.grad.float(), want, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_is_finite_at_the_minimum_itself(beta: float) -> None:
    x = torch.zeros(1, requires_grad=True)
    quality_focal_loss(x, torch.tensor([0.5]), beta).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 0


@pytest.mark.parametrize("x", [5.0, 10.0, 15.0, 20.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_what_is_surely_right_keeps_its_digits(x: float, y: float) -> None:
    """There QFL is p^2 log(1 + exp(-x)) with p = sigmoid(-x), down to 1e-26 where 1 - p rounds to 1."""
    p = 1 / (1 + math.exp(x))
    logit = torch.tensor(x if y else -x, requires_grad=True)
    loss = quality_focal_loss(logit, torch.tensor(y))
    assert loss.item() == pytest.approx(p**2 * math.log1p(math.exp(-x)), rel=1e-5, abs=0)
    loss.backward()
    assert logit.grad is not None
    slope = p**3 + 2 * p * p * (1 - p) * math.log1p(math.exp(-x))
    assert logit.grad.item() == pytest.approx(-slope if y else slope, rel=1e-5, abs=0)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_gfl_computes_in_float32_at_least(dtype: torch.dtype) -> None:
    log_p = torch.tensor([-100.0, -0.5], dtype=dtype, requires_grad=True)
    loss = generalized_focal_loss(log_p, log_p, torch.tensor([0.25, 0.75]), beta=2.0)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    loss.sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.isfinite().all()


def test_a_negative_beta_is_refused() -> None:
    one = torch.zeros(1)
    with pytest.raises(ValueError, match=r"beta must be >= 0, not -0\.5"):
        quality_focal_loss(one, one, -0.5)
    with pytest.raises(ValueError, match="beta must be >= 0, not -2"):
        generalized_focal_loss(one, one, one, beta=-2)

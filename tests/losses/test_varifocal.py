"""The Varifocal Loss against its formula in float64, its gradient, and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from gfocal.losses import focal_loss, varifocal_loss

GAMMAS = (0.0, 1.0, 2.0, 2.5)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(st.floats(-20, 20), st.floats(0, 1), st.sampled_from(GAMMAS), st.floats(0, 1))
def test_it_equals_eq_2(x: float, q: float, gamma: float, alpha: float) -> None:
    p = 1 / (1 + math.exp(-x))
    assume(0 < p < 1)
    background = -alpha * p**gamma * math.log1p(-p)
    want = -q * (q * math.log(p) + (1 - q) * math.log1p(-p)) if q > 0 else background
    assert varifocal_loss(f64(x), f64(q), gamma, alpha).item() == pytest.approx(want, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_gradient_is_that_of_differences(gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(20, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    quality = torch.rand(20, generator=generator, dtype=torch.float64)
    quality[::2] = 0
    assert torch.autograd.gradcheck(lambda x: varifocal_loss(x, quality, gamma), logits)


@given(st.floats(0.01, 0.99))
def test_a_positive_is_least_where_its_score_is_its_target_and_counts_by_it(q: float) -> None:
    p = torch.linspace(1e-4, 1 - 1e-4, 2001, dtype=torch.float64)
    loss = varifocal_loss(p.logit(), torch.full_like(p, q))
    assert p[loss.argmin()].item() == pytest.approx(q, abs=1e-3)
    entropy = -(q * math.log(q) + (1 - q) * math.log1p(-q))
    assert loss.min().item() == pytest.approx(q * entropy, rel=1e-3)


@given(st.floats(-20, 20), st.sampled_from(GAMMAS))
def test_its_background_is_that_of_the_focal_loss_and_a_perfect_positive_its_cross_entropy(
    x: float, gamma: float
) -> None:
    background = varifocal_loss(f64(x), f64(0.0), gamma, 0.75)
    torch.testing.assert_close(background, 0.75 * focal_loss(f64(x), f64(0.0), gamma))
    torch.testing.assert_close(varifocal_loss(f64(x), f64(1.0), gamma), focal_loss(f64(x), f64(1.0), 0.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_is_computed_in_float32_and_far_logits_are_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([-90.0, -20, -1, 0, 3, 20, 90], dtype=dtype).requires_grad_()
    for q in (0.0, 0.3, 1.0):
        loss = varifocal_loss(logits, torch.full_like(logits, q))
        assert loss.dtype == torch.float32
        assert loss.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.isfinite().all()
        full = varifocal_loss(logits.detach().double(), torch.full_like(logits, q).double())
        torch.testing.assert_close(loss, full.float(), rtol=1e-5, atol=1e-30)


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        varifocal_loss(torch.zeros(1), torch.zeros(1), -1.0)

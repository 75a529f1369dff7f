"""Expectation and DFL in one pass against the two functions, with their gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.losses import distribution_focal_loss
from gfocal.losses.gfl import expectation_and_dfl
from gfocal.ops.distributions import GeneralDistribution


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 4, 16]), st.sampled_from([0.3, 3.0, 12.0]))
def test_values_and_gradients_are_those_of_both(seed: int, n: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, n + 1, generator=generator, dtype=torch.float64) * spread
    logits.requires_grad_()
    target = torch.rand(5, 4, generator=generator, dtype=torch.float64) * n
    target[0], target[1], target[2] = 0, n, target[2].round()
    law = GeneralDistribution(n)
    want = law.expectation(law.probabilities(logits)), distribution_focal_loss(logits, target)
    got = expectation_and_dfl(logits, target)
    factors = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    (mine,), (theirs,) = (
        torch.autograd.grad((factors[0] * mean + factors[1] * dfl).sum(), logits) for mean, dfl in (got, want)
    )
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_either_may_be_used_alone() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    mean, dfl = expectation_and_dfl(logits, torch.tensor([0.0, 2.5, 4.0]))
    for part in (mean, dfl):
        assert torch.autograd.grad(part.sum(), logits, retain_graph=True)[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 5).to(dtype).requires_grad_()
    mean, dfl = expectation_and_dfl(logits, torch.tensor([0.5, 2.5, 4.0]))
    assert mean.dtype == dfl.dtype == torch.float32
    assert torch.autograd.grad((mean + dfl).sum(), logits)[0].dtype == dtype


def test_a_probability_of_zero_costs_a_finite_loss() -> None:
    logits = torch.tensor([[0.0, 300.0, 0.0]], requires_grad=True)
    _, dfl = expectation_and_dfl(logits, torch.tensor([2.0]))
    (gradient,) = torch.autograd.grad(dfl.sum(), logits)
    assert dfl.isfinite().all()
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.0, -1.0]]))

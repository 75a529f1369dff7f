"""Focal Loss: its definition, its relatives, and its behavior far from the middle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from gfocal.losses import focal_loss

HALVES = (torch.float16, torch.bfloat16)
gammas = st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 4.0])


@given(st.floats(-15, 15), st.sampled_from([0.0, 1.0]), gammas)
def test_value_equals_eq_1(x: float, y: float, gamma: float) -> None:
    p = 1 / (1 + math.exp(-x))
    p_t = p if y == 1 else 1 - p
    want = -((1 - p_t) ** gamma) * math.log(p_t)
    got = focal_loss(torch.tensor(x, dtype=torch.float64), torch.tensor(y), gamma)
    assert got.item() == pytest.approx(want, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.5, 0.0, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 2.5])
def test_equals_torchvision(alpha: float | None, gamma: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, dtype=torch.float64, generator=generator) * 4
    y = (torch.rand(200, generator=generator) > 0.5).double()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    value = focal_loss(ours, y, gamma, alpha)
    reference = sigmoid_focal_loss(theirs, y, alpha=-1 if alpha is None else alpha, gamma=gamma)
    torch.testing.assert_close(value, reference)
    value.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=8), gammas)
def test_gradient_equals_finite_differences(logits: list[float], gamma: float) -> None:
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    y = torch.arange(len(logits)) % 2
    assert torch.autograd.gradcheck(lambda v: focal_loss(v, y, gamma, 0.25), (x,))


def test_gamma_zero_is_cross_entropy() -> None:
    x, y = torch.linspace(-5, 5, 11), torch.tensor([0.0, 1] * 5 + [0])
    torch.testing.assert_close(focal_loss(x, y, 0), F.binary_cross_entropy_with_logits(x, y, reduction="none"))


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 2.5, 4])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_at_the_ends_it_is_finite_and_a_sure_mistake_keeps_its_gradient(gamma: float, dtype: torch.dtype) -> None:
    x = torch.tensor([-100, 100, -100, 100], dtype=dtype, requires_grad=True)
    loss = focal_loss(x, torch.tensor([1, 0, 0, 1]), gamma)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    torch.testing.assert_close(loss, torch.tensor([100.0, 100, 0, 0]))
    torch.testing.assert_close(x.grad.float(), torch.tensor([-1.0, 1, 0, 0]))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_the_loss_of_an_easy_negative_keeps_its_digits(dtype: torch.dtype) -> None:
    """At x = -10 the loss is 9e-14: float16 arithmetic would give 0."""
    p = 1 / (1 + math.exp(10))
    want = p**2 * -math.log1p(-p)
    assert focal_loss(torch.tensor(-10, dtype=dtype), torch.tensor(0)).item() == pytest.approx(want, rel=1e-5, abs=0)


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma must be >= 0, not -1"):
        focal_loss(torch.zeros(1), torch.zeros(1), -1)

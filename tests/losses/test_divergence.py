"""The divergence of edge distributions is T^2 times the KL divergence at temperature T."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gfocal.losses.divergence import edge_divergence


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3


@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(1, 20))
def test_it_is_torchs_kl_divergence_times_the_square_of_the_temperature(seed: int, t: float, n: int) -> None:
    student, teacher = logits(seed, 3, 4, n + 1), logits(seed + 1, 3, 4, n + 1)
    q = (teacher / t).softmax(-1)
    wanted = t * t * F.kl_div((student / t).log_softmax(-1), q, reduction="none").sum(-1)
    found = edge_divergence(student, teacher, t)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)
    assert (found > -1e-9).all()


@given(st.integers(0, 10_000), st.floats(0.5, 20), st.floats(-5, 5))
def test_it_is_zero_for_the_same_distribution(seed: int, t: float, shift: float) -> None:
    student = logits(seed, 5, 9)
    assert torch.equal(edge_divergence(student, student, t), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(
        edge_divergence(student, student + shift, t), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10
    )


def test_its_gradient_is_t_times_the_difference_of_the_probabilities() -> None:
    student, teacher = logits(0, 2, 5).requires_grad_(), logits(1, 2, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: edge_divergence(x, teacher, 10.0), student)
    edge_divergence(student, teacher, 10.0).sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, 10 * ((student / 10).softmax(-1) - (teacher / 10).softmax(-1)).detach())
    assert teacher.grad is None


def test_at_a_high_temperature_it_is_the_squared_difference_of_centered_logits() -> None:
    student, teacher = logits(0, 4, 17), logits(1, 4, 17)
    difference = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    wanted = (difference**2).sum(-1) / 2 / 17
    torch.testing.assert_close(edge_divergence(student, teacher, 1e4), wanted, rtol=1e-3, atol=1e-4)


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = logits(0, 4, 17), logits(1, 4, 17)
    assert edge_divergence(student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be more than 0"):
        edge_divergence(torch.zeros(3), torch.zeros(3), temperature)

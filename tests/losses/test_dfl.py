"""Properties of the Distribution Focal Loss: its value, its gradient, and its minimum over a population."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gfocal.losses import distribution_focal_loss, generalized_focal_loss
from gfocal.ops.distributions import GeneralDistribution

sizes = st.integers(1, 20)
unit = st.floats(0, 1)


def random_logits(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale


@given(sizes, unit, st.integers(0, 99))
def test_dfl_is_gfl_with_beta_0_on_two_neighbors(n: int, share: float, seed: int) -> None:
    x = random_logits(n + 1, seed=seed)
    y = torch.tensor(share * n, dtype=torch.float64)
    left = min(int(share * n), n - 1)
    log_p = x.log_softmax(-1)
    gfl = generalized_focal_loss(log_p[left], log_p[left + 1], y, left, left + 1, beta=0)
    torch.testing.assert_close(distribution_focal_loss(x, y), gfl)


@given(sizes, unit, st.integers(0, 99))
def test_gradient_is_softmax_minus_two_hot(n: int, share: float, seed: int) -> None:
    x = random_logits(n + 1, seed=seed).requires_grad_()
    y = torch.tensor(share * n, dtype=torch.float64)
    distribution_focal_loss(x, y).backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, x.detach().softmax(-1) - GeneralDistribution(n).two_hot(y))


@given(sizes, unit, st.integers(0, 99))
def test_gradient_equals_finite_differences(n: int, share: float, seed: int) -> None:
    x = random_logits(2, n + 1, seed=seed).requires_grad_()
    y = torch.tensor([share * n, (1 - share) * n], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: distribution_focal_loss(v, y), (x,))


@pytest.mark.parametrize("n", [1, 4, 16])
def test_on_a_bin_it_is_the_cross_entropy_of_that_bin_also_at_both_ends(n: int) -> None:
    x = random_logits(n + 1, n + 1)
    bins = torch.arange(n + 1)
    want = torch.nn.functional.cross_entropy(x, bins, reduction="none")
    torch.testing.assert_close(distribution_focal_loss(x, bins), want)


@given(sizes, unit)
def test_the_floor_is_the_entropy_of_the_two_weights_and_is_attained_at_the_two_hot(n: int, share: float) -> None:
    y = torch.tensor(share * n, dtype=torch.float64)
    f = (share * n) % 1
    entropy = -sum(w * math.log(w) for w in (f, 1 - f) if w > 0)
    best = GeneralDistribution(n).two_hot(y).clamp(min=1e-30).log()
    assert distribution_focal_loss(best, y).item() == pytest.approx(entropy, abs=1e-9)
    assert distribution_focal_loss(random_logits(n + 1), y).item() >= entropy - 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("y", [0.0, 0.5, 2.0, 3.999, 4.0])
def test_logits_of_100_give_finite_loss_and_the_gradient_of_the_law(dtype: torch.dtype, y: float) -> None:
    x = torch.tensor([[100, -100, -100, -100, -100], [-100, -100, -100, -100, 100]], dtype=dtype)
    x.requires_grad_()
    target = torch.full((2,), y)
    loss = distribution_focal_loss(x, target)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert loss.isfinite().all()
    assert loss.sum().item() >= 200 * min(1, y) - 1  # at least one of the two is surely wrong
    assert x.grad is not None
    want = x.detach().float().softmax(-1) - GeneralDistribution(4).two_hot(target)
    torch.testing.assert_close(x.grad.float(), want, rtol=0.01, atol=1e-3)


def test_shapes_of_any_depth() -> None:
    x, y = random_logits(2, 3, 4, 17), torch.rand(2, 3, 4) * 16
    loss = distribution_focal_loss(x, y)
    assert loss.shape == (2, 3, 4)
    assert loss[1, 2, 3].item() == pytest.approx(distribution_focal_loss(x[1, 2, 3], y[1, 2, 3]).item())


# A population of edges: the minimum of the mean DFL is the projection S_i = E[h_i(y)] on hat functions


def mixture(count: int = 4000) -> Tensor:
    """An edge that is at 5.3 six times of ten, and at 9.7 else."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(count, dtype=torch.float64, generator=generator)
    first = torch.rand(count, generator=generator) < 0.6
    return torch.where(first, 5.3 + 0.2 * noise, 9.7 + 0.4 * noise)


def test_the_population_minimum_is_the_projection_found_by_descent() -> None:
    y = mixture()
    projection = GeneralDistribution(16).two_hot(y).mean(0)
    x = torch.zeros(17, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = distribution_focal_loss(x.expand(len(y), -1), y).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(x.detach().softmax(-1), projection, rtol=0, atol=1e-5)


@given(st.lists(st.floats(0, 8), min_size=1, max_size=40))
def test_at_the_projection_the_gradient_of_the_mean_loss_is_zero(edges: list[float]) -> None:
    y = torch.tensor(edges, dtype=torch.float64)
    projection = GeneralDistribution(8).two_hot(y).mean(0)
    x = projection.clamp(min=1e-30).log().requires_grad_()
    distribution_focal_loss(x.expand(len(y), -1), y).mean().backward()
    assert x.grad is not None
    assert x.grad.abs().max().item() < 1e-9


@given(st.lists(st.floats(0, 8), min_size=1, max_size=40), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_projection_keeps_the_mean_and_widens_the_variance_by_a_known_amount(
    edges: list[float], delta: float
) -> None:
    law = GeneralDistribution(8, delta)
    y = torch.tensor(edges, dtype=torch.float64) * delta
    projection = law.two_hot(y).mean(0)
    assert law.expectation(projection).item() == pytest.approx(y.mean().item(), abs=1e-9)
    f = (y / delta) % 1
    widened = y.var(correction=0) + (f * (1 - f)).mean() * delta**2
    assert law.variance(projection).item() == pytest.approx(widened.item(), abs=1e-9)


def test_two_peaks_stay_two_peaks() -> None:
    y = mixture()
    projection = GeneralDistribution(16).two_hot(y).mean(0)
    low, high = projection[:8].sum().item(), projection[8:].sum().item()
    assert low == pytest.approx((y < 7.5).double().mean().item(), abs=1e-9)
    assert low + high == pytest.approx(1)
    assert projection[7].item() < 0.01

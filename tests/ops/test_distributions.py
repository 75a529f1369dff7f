"""The General distribution of an edge: its moments, entropy and quantiles against plain numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.ops.distributions import GeneralDistribution

deltas = st.sampled_from([0.25, 0.5, 1.0, 2.0])
weights = st.lists(st.integers(0, 100), min_size=2, max_size=20).filter(lambda w: sum(w) > 0)


def edge(masses: list[int], delta: float) -> tuple[GeneralDistribution, torch.Tensor]:
    p = torch.tensor(masses, dtype=torch.float64)
    return GeneralDistribution(len(masses) - 1, delta), p / p.sum()


@given(weights, deltas)
def test_moments_and_entropy_equal_the_sums_of_their_definition(masses: list[int], delta: float) -> None:
    law, p = edge(masses, delta)
    share = [m / sum(masses) for m in masses]
    values = [i * delta for i in range(len(masses))]
    mean = sum(s * v for s, v in zip(share, values, strict=True))
    variance = sum(s * (v - mean) ** 2 for s, v in zip(share, values, strict=True))
    assert law.values(p).tolist() == values
    assert law.regression_range == values[-1]
    assert law.expectation(p).item() == pytest.approx(mean, abs=1e-9)
    assert law.variance(p).item() == pytest.approx(variance, abs=1e-9)
    assert law.std(p).item() == pytest.approx(math.sqrt(variance), abs=1e-7)
    entropy = -sum(s * math.log(s) for s in share if s > 0)
    assert law.entropy(p).item() == pytest.approx(entropy, abs=1e-9)
    assert -1e-12 <= law.entropy(p).item() <= math.log(law.num_bins) + 1e-12


@given(weights, deltas, st.floats(0, 1))
def test_quantile_inverts_the_distribution_function(masses: list[int], delta: float, q: float) -> None:
    """Against numeric integration of the density: mass of each value spread over half a bin to both sides."""
    law, p = edge(masses, delta)
    x = law.quantile(p, q).item()
    assert 0 <= x <= law.regression_range
    grid = np.linspace(0, law.regression_range, 20_001)
    nearest = np.minimum((grid / delta + 0.5).astype(int), law.n)
    width = np.where((nearest == 0) | (nearest == law.n), delta / 2, delta)
    density = p.numpy()[nearest] / width
    step = grid[1] - grid[0]
    below = ((density[1:] + density[:-1]) / 2 * step)[grid[1:] <= x].sum()
    assert below == pytest.approx(q, abs=4 * step * density.max() + 1e-6)


@given(weights, deltas, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_q(masses: list[int], delta: float, q: float, r: float) -> None:
    law, p = edge(masses, delta)
    low, high = sorted((q, r))
    assert law.quantile(p, low).item() <= law.quantile(p, high).item() + 1e-12


def test_quantiles_by_hand() -> None:
    law = GeneralDistribution(4, delta=2.0)
    certain = torch.tensor([0.0, 0, 1, 0, 0])  # spread over 3..5
    assert law.quantile(certain, 0.5).item() == pytest.approx(4.0)
    assert law.quantile(certain, 0.25).item() == pytest.approx(3.5)
    torn = torch.tensor([0.5, 0, 0, 0, 0.5])  # over 0..1 and 7..8
    assert law.quantile(torn, 0.25).item() == pytest.approx(0.5)
    assert law.quantile(torn, 0.75).item() == pytest.approx(7.5)
    assert law.quantile(torn, 0.5).item() == pytest.approx(1.0)  # the lowest with half of the mass below
    both = law.quantile(torch.stack((certain, torn)), torch.tensor([0.5, 1.0]))
    assert both.tolist() == pytest.approx([4.0, 8.0])


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_a_quantile_beyond_0_and_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        GeneralDistribution(2).quantile(torch.full((3,), 1 / 3), q)


@given(st.integers(1, 20), deltas, st.floats(0, 1))
def test_two_hot_is_the_narrowest_law_of_expectation_y(n: int, delta: float, share: float) -> None:
    law = GeneralDistribution(n, delta)
    y = torch.tensor(share * law.regression_range, dtype=torch.float64)
    p = law.two_hot(y)
    assert p.sum().item() == pytest.approx(1.0)
    assert p.min().item() >= 0
    assert law.expectation(p).item() == pytest.approx(y.item(), abs=1e-9)
    held = (p > 0).nonzero().flatten().tolist()
    assert len(held) <= 2
    assert held[-1] - held[0] <= 1
    f = (y.item() / delta) % 1
    assert law.variance(p).item() == pytest.approx(f * (1 - f) * delta**2, abs=1e-9)


def test_two_hot_on_a_bin_and_at_both_ends() -> None:
    law = GeneralDistribution(3)
    assert law.two_hot(torch.tensor([0.0, 2.0, 3.0])).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert law.two_hot(torch.tensor(2.25)).tolist() == [0, 0, 0.75, 0.25]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_are_float32_at_least(dtype: torch.dtype) -> None:
    law = GeneralDistribution(16)
    p = law.probabilities(torch.linspace(-100, 100, 34).view(2, 17).to(dtype))
    assert p.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(p.sum(-1), torch.ones(2, dtype=p.dtype))
    assert law.expectation(p).shape == law.std(p).shape == law.entropy(p).shape == (2,)


def test_the_gradient_of_the_expectation_is_the_values() -> None:
    law = GeneralDistribution(4, 0.5)
    p = torch.full((5,), 0.2, requires_grad=True)
    law.expectation(p).backward()
    assert p.grad is not None
    assert p.grad.tolist() == [0, 0.5, 1, 1.5, 2]


def test_a_constant_edge_has_finite_std() -> None:
    law = GeneralDistribution(16)
    p = torch.zeros(17)
    p[7] = 1
    assert law.std(p).item() == 0


def test_impossible_laws_and_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 1, not 0"):
        GeneralDistribution(0)
    for delta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="delta must be positive"):
            GeneralDistribution(16, delta)
    law = GeneralDistribution(16)
    for method in (law.probabilities, law.expectation, law.entropy, law.std):
        with pytest.raises(ValueError, match=r"n = 16 has 17 values, but the tensor ends in 16: shape \(2, 16\)"):
            method(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="17 values"):
        law.quantile(torch.zeros(16), 0.5)

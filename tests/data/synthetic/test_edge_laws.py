"""The laws of edges against sampling, and against the identities of the two-hot projection."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.synthetic.edge_laws import is_ambiguous, law_mean, law_probabilities, law_std, sample_edges

NAN = float("nan")
N = 16


def two_hot(distance: torch.Tensor, n: int) -> torch.Tensor:
    """Written apart from the code under test: weights of the two bins next to a distance."""
    distance = distance.clamp(0, n)
    lower = distance.floor().clamp(max=n - 1)
    out = torch.zeros(*distance.shape, n + 1, dtype=torch.float64)
    out.scatter_(-1, lower.long()[..., None], (lower + 1 - distance)[..., None])
    out.scatter_(-1, lower.long()[..., None] + 1, (distance - lower)[..., None])
    return out


def spread_of(law: torch.Tensor, count: int = 20_001) -> torch.Tensor:
    """Evenly spaced quantiles of a law: a deterministic stand-in for many draws."""
    return sample_edges(law.expand(count, 3), (torch.arange(count, dtype=torch.float64) + 0.5) / count)


LAWS = [(40.0, 40.0, 1.0), (40.0, 57.0, 0.3), (40.0, 57.5, 0.7), (40.0, 51.3, NAN), (40.0, 40.6, NAN)]


@pytest.mark.parametrize("law", LAWS)
def test_mean_and_std_are_those_of_samples(law):
    law = torch.tensor(law, dtype=torch.float64)
    draws = spread_of(law)
    assert law_mean(law).item() == pytest.approx(draws.mean().item(), abs=2e-3)
    assert law_std(law).item() == pytest.approx(draws.std(correction=0).item(), abs=2e-3)


def test_samples_have_the_probabilities_of_the_law():
    laws = torch.tensor([(10.0, 20.0, 0.3), (20.0, 10.0, 0.7), (20.0, 10.0, NAN)])
    uniforms = torch.from_numpy(np.random.default_rng(0).random((20_000, 3), dtype=np.float32))
    draws = sample_edges(laws.expand(20_000, 3, 3), uniforms)
    assert set(draws[:, 0].tolist()) == {10.0, 20.0}
    assert (draws[:, 0] == 20).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert (draws[:, 1] == 10).double().mean().item() == pytest.approx(0.7, abs=0.015)
    assert draws[:, 2].min() >= 10
    assert draws[:, 2].max() <= 20
    quartiles = draws[:, 2].quantile(torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([12.5, 15.0, 17.5]), atol=0.15, rtol=0)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize(("reach", "bin_size"), [(6.0, 4.0), (20.0, 8.0), (-5.0, 3.0), (30.0, 1.0)])
def test_probabilities_are_the_mean_two_hot_vector_of_samples(law, side, reach, bin_size):
    """Also where some draws are nearer than bin 0 (reach < 0) or farther than bin n (bins of one pixel)."""
    outwards = -1 if side < 2 else 1
    law = torch.tensor(law, dtype=torch.float64) * torch.tensor([outwards, outwards, 1])
    point = law[0].item() - outwards * reach
    wanted = two_hot(outwards * (spread_of(law) - point) / bin_size, N).mean(0)
    got = law_probabilities(law, point, bin_size, N, side)
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=0)


def test_a_sharp_edge_is_the_two_hot_vector():
    law = torch.tensor([30.0, 30.0, 1.0])
    got = law_probabilities(law, 10.0, 8.0, 4, side=2)  # 2.5 bins
    torch.testing.assert_close(got, torch.tensor([0, 0, 0.5, 0.5, 0]))


def test_distant_strips_give_two_peaks_with_their_weights():
    law = torch.tensor([34.0, 58.0, 0.7])
    got = law_probabilities(law, 10.0, 8.0, 8, side=2)  # bins 3 and 6
    torch.testing.assert_close(got, torch.tensor([0, 0, 0, 0.3, 0, 0, 0.7, 0, 0]))


positions = st.floats(0, N, width=32)
shares = st.one_of(st.just(NAN), st.floats(0, 1, width=32))


@settings(max_examples=200, deadline=None)
@given(positions, positions, shares, st.sampled_from([1.0, 4.0, 8.0, 12.5]), st.integers(0, 3))
def test_projection_keeps_the_mean_and_adds_a_known_variance(near, far, share, bin_size, side):
    outwards = -1 if side < 2 else 1
    law = torch.tensor([outwards * near * bin_size, outwards * far * bin_size, share], dtype=torch.float64)
    got = law_probabilities(law, 0.0, bin_size, N, side)
    bins = torch.arange(N + 1, dtype=torch.float64)
    mean = (got * bins).sum()
    variance = (got * (bins - mean) ** 2).sum()
    distance = outwards * spread_of(law) / bin_size
    fraction = distance - distance.floor()
    assert got.min() >= 0
    assert got.sum().item() == pytest.approx(1, abs=1e-9)
    assert mean.item() == pytest.approx(outwards * law_mean(law).item() / bin_size, abs=1e-6)
    added = (fraction * (1 - fraction)).mean().item()
    assert variance.item() == pytest.approx((law_std(law) / bin_size).item() ** 2 + added, abs=5e-3)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32), shares, st.integers(1, 40))
def test_probabilities_sum_to_one_for_any_position(inner, outer, share, n):
    got = law_probabilities(torch.tensor([inner, outer, share]), 3.0, 8.0, n, side=2)
    assert got.dtype == torch.float32
    assert got.shape == (n + 1,)
    assert got.min() >= 0
    assert got.sum().item() == pytest.approx(1, abs=1e-5)


def test_laws_and_points_broadcast():
    laws = torch.tensor([(40.0, 50.0, 0.3), (60.0, 75.0, NAN), (30.0, 30.0, 1.0)])
    points = torch.tensor([[4.0, 4.0, 4.0], [12.0, 20.0, 28.0]])
    sizes = torch.tensor([[8.0], [16.0]])
    got = law_probabilities(laws, points, sizes, N, side=2)
    assert got.shape == (2, 3, N + 1)
    alone = law_probabilities(laws[1], 20.0, 16.0, N, side=2)
    torch.testing.assert_close(got[1, 1], alone)


def test_only_edges_with_several_positions_are_ambiguous():
    laws = torch.tensor([(4.0, 4.0, 1.0), (4.0, 9.0, 0.3), (9.0, 4.0, NAN), (4.0, 9.0, 1.0)])
    assert is_ambiguous(laws).tolist() == [False, True, True, False]
    assert law_std(laws)[2].item() == pytest.approx(5 / math.sqrt(12))


@pytest.mark.parametrize(("n", "side", "word"), [(0, 2, "n = 0"), (16, 4, "side = 4")])
def test_errors_name_invalid_arguments(n, side, word):
    with pytest.raises(ValueError, match=word):
        law_probabilities(torch.tensor([1.0, 1.0, 1.0]), 0.0, 8.0, n, side)

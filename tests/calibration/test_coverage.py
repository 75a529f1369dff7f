"""Coverage, interval score, CRPS and ENCE against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.calibration.coverage import crps, ence, interval_score, measure_coverage

NUMBERS = st.floats(0.01, 100)


@given(NUMBERS, NUMBERS, st.floats(0.05, 0.99))
def test_interval_score_is_width_and_a_penalty_for_what_lies_beyond(error: float, half: float, coverage: float):
    score = float(interval_score(torch.tensor(error).double(), torch.tensor(half).double(), coverage))
    wanted = 2 * half + (2 / (1 - coverage) * (error - half) if error > half else 0)
    assert score == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_interval_score_is_least_at_the_quantile(coverage: float):
    errors = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    halves = torch.linspace(0, 1, 201, dtype=torch.float64)
    means = torch.stack([interval_score(errors, half.expand(1000), coverage).mean() for half in halves])
    assert float(halves[means.argmin()]) == pytest.approx(coverage, abs=0.01)


def test_measured_coverage():
    low = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]]).double()
    ground_truth = torch.tensor([[0.0, 1.0, 12.0, 11.0], [3.0, 1.0, 12.0, 9.0]]).double()
    measured = measure_coverage(ground_truth, low, low + 2, 0.75)
    assert (measured.nominal, measured.count) == (0.75, 2)
    assert (measured.boxes, measured.edges) == (0.5, 0.75)  # a place on the border is covered
    assert (measured.width, measured.median_width) == (2.0, 2.0)
    assert measured.interval_score == pytest.approx(2 + 8 * (1 + 1) / 8)


def test_more_coverage_is_asked_more_is_covered():
    errors = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)).double()
    zero = torch.zeros(500, 4).double()
    shares = [measure_coverage(errors, zero - half, zero + half, 0.9).boxes for half in (0.5, 1.0, 2.0, 3.0)]
    assert shares == sorted(shares)


@given(st.integers(2, 12), st.floats(-3, 15), st.floats(0.5, 20), st.integers(0, 1000))
def test_crps_is_the_integral_of_its_definition(num_bins: int, distance: float, bin_size: float, seed: int):
    edges = torch.randn(num_bins, generator=torch.Generator().manual_seed(seed)).double().softmax(-1)
    y = torch.tensor(distance * bin_size).double()
    score = float(crps(edges, torch.tensor(bin_size).double(), y))
    step = 1e-3
    x = torch.arange(-5, 20, step, dtype=torch.float64) + step / 2  # in bins
    reached = edges.cumsum(0)[x.floor().long().clamp(0, num_bins - 1)] * (x >= 0)
    integral = float(((reached - (x >= distance).double()) ** 2).sum()) * step * bin_size
    assert score == pytest.approx(integral, abs=2 * step * bin_size)


def test_crps_of_a_sharp_edge_is_its_error():
    edges = torch.nn.functional.one_hot(torch.tensor([3, 3]), 8).double()
    scores = crps(edges, torch.tensor([2.0, 2.0]).double(), torch.tensor([6.0, 11.0]).double())
    assert scores.tolist() == pytest.approx([0.0, 5.0])


def test_ence_of_perfect_deviations_is_zero():
    std = torch.arange(1, 401).double().reshape(100, 4)
    signs = torch.where(torch.arange(400).reshape(100, 4) % 2 == 0, 1.0, -1.0)
    assert ence(std * signs, std) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("factor", "wanted"), [(2.0, 1.0), (0.5, 0.5)])
def test_ence_is_the_relative_error(factor: float, wanted: float):
    std = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)).double() + 0.1
    assert ence(std * factor, std) == pytest.approx(wanted)


def test_ence_of_few_edges_and_of_deviations_of_zero_is_a_number():
    assert ence(torch.ones(1, 4).double(), torch.ones(1, 4).double()) == 0
    assert ence(torch.zeros(3, 4).double(), torch.zeros(3, 4).double()) == ence(torch.zeros(3, 4), torch.zeros(3, 4))

"""Score curves against brute force, and errors of scores on cases made by hand."""

from __future__ import annotations

import time
from itertools import chain, combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.calibration.matched import Scored
from gfocal.calibration.scores import MAX_POINTS, d_ece, fit_score_curves, isotonic_curve, la_ece

SHARES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=8)


def least_error(scores: list[float], values: list[float]) -> float:
    """The least squared error of any function that never falls, by trying every division into blocks."""
    places = sorted(set(scores))
    groups = [[v for s, v in zip(scores, values, strict=True) if s == place] for place in places]
    best = float("inf")
    for count in range(len(groups)):
        for cuts in combinations(range(1, len(groups)), count):
            blocks = [list(chain(*groups[a:b])) for a, b in pairwise([0, *cuts, len(groups)])]
            means = [sum(block) / len(block) for block in blocks]
            if means == sorted(means):
                best = min(best, sum((v - m) ** 2 for block, m in zip(blocks, means, strict=True) for v in block))
    return best


@given(SHARES)
def test_isotonic_curves_have_the_least_squared_error(pairs: list[tuple[int, int]]):
    scores, values = [s / 20 for s, _ in pairs], [v / 10 for _, v in pairs]
    curve = isotonic_curve(torch.tensor(scores, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    assert list(curve.values) == sorted(curve.values)
    assert list(curve.scores) == sorted(set(curve.scores))
    # The value of each block: a score belongs to the block by how many lie at or below it.
    order = sorted(zip(scores, values, strict=True))
    total, block, error = 0.0, 0, 0.0
    counts = block_counts([s for s, _ in order], curve.scores)
    for value, count in zip(curve.values, counts, strict=True):
        error += sum((v - value) ** 2 for _, v in order[block : block + count])
        block += count
        total += count * value
    assert error == pytest.approx(least_error(scores, values), abs=1e-5)
    assert total == pytest.approx(sum(values), abs=1e-5)


def block_counts(ordered: list[float], means: tuple[float, ...]) -> list[int]:
    """How many of the ascending scores each block has, of which the means are known."""
    counts, start = [], 0
    for mean in means:
        fits = [
            stop
            for stop in range(start + 1, len(ordered) + 1)
            if abs(sum(ordered[start:stop]) / (stop - start) - mean) < 1e-5
            and (stop == len(ordered) or ordered[stop] != ordered[stop - 1])
        ]
        counts.append(fits[0] - start)
        start = fits[0]
    return counts


def test_the_same_as_that_of_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic")
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(2000, generator=generator).mul(500).round().div(500).double()
    values = (torch.rand(2000, generator=generator) < scores).double()
    wanted = isotonic.IsotonicRegression().fit_transform(scores.numpy(), values.numpy())
    curve = isotonic_curve(scores, values)
    assert sorted({round(v, 6) for v in wanted.tolist()}) == list(curve.values)


def test_curves_stay_flat_beyond_their_ends_and_rise_between():
    curve = isotonic_curve(torch.tensor([0.2, 0.4, 0.8]), torch.tensor([0.0, 0.5, 1.0]))
    found = curve(torch.tensor([0.0, 0.2, 0.3, 0.6, 0.9])).tolist()
    assert found == pytest.approx([0.0, 0.0, 0.25, 0.75, 1.0], abs=1e-5)
    assert curve(torch.zeros(0)).shape == (0,)
    single = isotonic_curve(torch.tensor([0.5]), torch.tensor([0.3]))
    assert single(torch.tensor([0.1, 0.9])).tolist() == pytest.approx([0.3, 0.3], abs=1e-5)


@pytest.mark.parametrize("kind", ["noise", "rising", "one falls", "falling"])
def test_curves_of_a_million_detections_are_small_and_quick(kind: str):
    scores = torch.linspace(0, 1, 1_000_000, dtype=torch.float64)
    values = {
        "noise": (torch.rand(1_000_000, generator=torch.Generator().manual_seed(0)) < scores**2).double(),
        "rising": scores.clone(),
        "one falls": torch.cat([scores[:-1], torch.zeros(1)]),
        "falling": 1 - scores,
    }[kind]
    start = time.process_time()
    curve = isotonic_curve(scores, values)
    assert time.process_time() - start < 3
    assert len(curve.scores) <= MAX_POINTS
    assert list(curve.values) == sorted(curve.values)
    if kind == "noise":
        assert (curve(scores) - scores**2).abs().max() < 0.03


def scored(scores: list[float], labels: list[int], iou: list[float]) -> Scored:
    return Scored(
        image=torch.arange(len(scores)),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float64),
        iou=torch.tensor(iou, dtype=torch.float64),
        is_right=torch.tensor(iou, dtype=torch.float64) > 0,
    )


def test_classes_with_few_detections_have_the_curve_of_all():
    few = scored([0.5] * 60 + [0.6] * 5, [0] * 60 + [1] * 5, [0.7] * 65)
    curves = fit_score_curves(few, "iou")
    assert curves.keys() == {-1, 0}
    assert fit_score_curves(scored([0.5] * 60, [0] * 60, [0.0] * 60), "precision").keys() == {-1}  # none is right


def test_la_ece_by_hand():
    # Class 0: one bin, mean score 0.5 and mean IoU 0.4. Class 1: a false positive of 0.1, and 0.9 against 0.8.
    one = scored([0.5, 0.5, 0.1, 0.9], [0, 0, 1, 1], [0.8, 0.0, 0.0, 0.8])
    assert la_ece(one.scores, one.labels, one.iou) == pytest.approx((0.1 + (0.1 + 0.1) / 2) / 2)


def test_d_ece_by_hand():
    one = scored([0.5, 0.5, 0.99, 0.99], [0, 1, 0, 1], [0.8, 0.0, 0.6, 0.6])
    assert d_ece(one.scores, one.is_right) == pytest.approx(0.5 * 0.01)


def test_errors_of_no_scores_are_no_numbers():
    none = scored([], [], [])
    assert la_ece(none.scores, none.labels, none.iou) != la_ece(none.scores, none.labels, none.iou)
    assert d_ece(none.scores, none.is_right) != d_ece(none.scores, none.is_right)


def test_scores_of_zero_and_one_lie_in_bins():
    one = scored([0.0, 1.0], [0, 0], [0.0, 1.0])
    assert la_ece(one.scores, one.labels, one.iou) == 0

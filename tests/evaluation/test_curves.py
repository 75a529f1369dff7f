"""Counts over the score, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gfocal.evaluation.curves import (
    ScoreCurve,
    f1_over_scores,
    log_average_miss_rate,
    make_score_curve,
    precision_at_recall,
)


def curve(scores: list[float], hits: list[bool], num_ground_truth: int) -> ScoreCurve:
    return make_score_curve(np.array(scores), np.array(hits), num_ground_truth)


def test_equal_scores_enter_together() -> None:
    one = curve([0.9, 0.5, 0.5, 0.2], [True, False, True, False], 4)
    assert one.score.tolist() == [0.9, 0.5, 0.2]
    assert one.true_positives.tolist() == [1, 2, 2]
    assert one.false_positives.tolist() == [0, 1, 2]
    assert one.precision.tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert one.recall.tolist() == pytest.approx([1 / 4, 1 / 2, 1 / 2])
    assert one.f1.tolist() == pytest.approx([2 / 5, 4 / 7, 4 / 8])


def test_a_threshold_keeps_higher_scores() -> None:
    one = curve([0.9, 0.5, 0.5, 0.2], [True, False, True, False], 4)
    assert [one.count_above(t) for t in (0.95, 0.9, 0.89, 0.5, 0.49, 0.2, 0.0)] == [
        (0, 0), (0, 0), (1, 0), (1, 0), (2, 1), (2, 1), (2, 2)
    ]  # fmt: skip
    values = f1_over_scores(one)
    assert len(values) == 101
    assert values[[0, 49, 50, 89, 90]].tolist() == pytest.approx([4 / 8, 4 / 7, 2 / 5, 2 / 5, 0])


def test_precision_at_a_recall_is_the_best_from_there_on() -> None:
    values = precision_at_recall(np.array([True, False, True, True, False]), 4)
    assert values[:26].tolist() == [1.0] * 26
    assert values[26:76].tolist() == pytest.approx([3 / 4] * 50)
    assert values[76:].tolist() == [0.0] * 25


def test_log_average_miss_rate_by_hand() -> None:
    # 100 images: the first false positive is 0.01 per image, at the tenth 0.1, at the hundredth 1.
    hits = [True] * 3 + [False] * 10 + [True] * 4 + [False] * 90
    scores = np.linspace(0.9, 0.1, len(hits)).tolist()
    rate = log_average_miss_rate(curve(scores, hits, 10), 100)
    # Up to 10 ** -1.25 = 0.056 (4 points) 3 of 10 are found; at 0.1 with the tenth false one the 4 others as well.
    assert rate == pytest.approx(np.exp((4 * np.log(0.7) + 5 * np.log(0.3)) / 9))


def test_before_the_curve_begins_all_is_missed_and_its_end_goes_on() -> None:
    first_is_false = curve([0.9, 0.8], [False, True], 2)
    assert log_average_miss_rate(first_is_false, 2) == pytest.approx(np.exp((7 * np.log(1) + 2 * np.log(0.5)) / 9))
    assert log_average_miss_rate(curve([0.9], [True], 2), 5) == pytest.approx(0.5)
    assert log_average_miss_rate(curve([0.9], [True], 1), 5) == pytest.approx(1e-10)
    assert log_average_miss_rate(curve([], [], 3), 5) == pytest.approx(1)
    assert log_average_miss_rate(curve([0.9], [False], 0), 5) is None

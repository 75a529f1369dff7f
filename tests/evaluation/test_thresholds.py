"""Thresholds follow the rule that they were chosen by."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.evaluation.curves import ScoreCurve, make_score_curve
from gfocal.evaluation.thresholds import choose_thresholds, parse_rule


def curve(scores: list[float], hits: list[bool], num_ground_truth: int) -> ScoreCurve:
    order = np.argsort(-np.array(scores), kind="stable")
    return make_score_curve(
        np.float32(scores)[order].astype(np.float64), np.array(hits, bool)[order], num_ground_truth
    )


MANY = curve([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [True, True, False, True, False, False], 10)


def test_the_highest_f1() -> None:
    chosen = choose_thresholds(MANY, [MANY]).overall
    assert chosen.threshold == 0.55  # 3 of 4 right, 3 of 10 found
    assert (chosen.precision, chosen.recall, chosen.f1) == pytest.approx((3 / 4, 3 / 10, 6 / 14))


@pytest.mark.parametrize(("precision", "threshold"), [(0.9, 0.75), (0.75, 0.55), (0.6, 0.45), (0.5, 0.05)])
def test_the_lowest_score_that_reaches_a_precision(precision: float, threshold: float) -> None:
    chosen = choose_thresholds(MANY, [MANY], precision, min_score=0.05).overall
    assert chosen.threshold == threshold
    assert chosen.precision is not None
    assert chosen.precision >= precision
    assert chosen.note == ""


def test_a_precision_that_is_never_reached_is_noted() -> None:
    poor = curve([0.9, 0.8, 0.7], [False, True, True], 20)
    chosen = choose_thresholds(MANY, [poor], 0.9).classes[0]
    assert chosen.threshold == 0.0
    assert chosen.precision == pytest.approx(2 / 3)
    assert chosen.note == "reaches 0.667 at most"


def test_few_objects_or_no_true_positives_get_the_threshold_of_all() -> None:
    few = curve([0.3], [True], 9)
    nothing = curve([], [], 50)
    wrong = curve([0.99], [False], 50)
    enough = curve([0.3], [True], 10)
    chosen = choose_thresholds(MANY, [few, nothing, wrong, enough])
    assert [one.threshold for one in chosen.classes] == [0.55, 0.55, 0.55, 0.0]
    assert chosen.classes[0].note.startswith("fewer than 10 objects")
    assert chosen.classes[1].note.startswith("no true positives")
    assert chosen.classes[3].note == ""
    assert chosen.classes[0].recall == 0  # what that threshold comes to for this class, not for all
    assert chosen.scores == (0.55, 0.55, 0.55, 0.0)
    assert json.loads(json.dumps(chosen.to_json(["a", "b", "c", "d"])))["per_class"]["a"]["threshold"] == 0.55


def test_all_detections_are_kept_if_a_score_is_below_the_models_own_threshold() -> None:
    low = curve([0.9, 0.04], [True, True], 10)
    assert choose_thresholds(low, [], min_score=0.05).overall.threshold == 0.0
    assert choose_thresholds(low, [], min_score=0.01).overall.threshold == 0.01


@given(
    scores=st.lists(st.floats(0.0625, 1, width=32), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
    precision=st.sampled_from([None, 0.3, 0.9]),
)
def test_the_threshold_separates_the_scores_as_float32(scores, seed, precision):
    hits = np.random.default_rng(seed).random(len(scores)) < 0.5
    one = curve(scores, hits.tolist(), 40)
    chosen = choose_thresholds(one, [], precision, min_score=0.05).overall
    selected = np.float32(scores) > np.float32(chosen.threshold)  # as torch compares them
    assert chosen.precision is None or chosen.precision == pytest.approx(hits[selected].mean())
    cuts = [np.float32(scores) >= np.float32(s) for s in set(scores)]
    if precision is None:
        f1 = [2 * hits[cut].sum() / (cut.sum() + 40) for cut in cuts]
        assert chosen.f1 == pytest.approx(max(f1))
    elif reached := [int(cut.sum()) for cut in cuts if hits[cut].mean() >= precision]:
        assert selected.sum() == max(reached)
    else:
        assert chosen.precision == pytest.approx(max(hits[cut].mean() for cut in cuts))


def test_neighboring_scores_are_separated() -> None:
    high = np.float32(0.7)
    low = np.nextafter(high, np.float32(0))
    close = curve([float(high), float(low)], [True, False], 1)
    chosen = choose_thresholds(close, []).overall
    assert chosen.f1 == 1
    assert float(low) <= chosen.threshold
    assert np.float32(chosen.threshold) < high


def test_rules_are_parsed() -> None:
    assert parse_rule("f1") is None
    assert parse_rule("precision=0.9") == 0.9
    for wrong in ("", "f2", "precision", "precision=", "precision=0", "precision=1.1", "precision=nan", "recall=0.5"):
        with pytest.raises(ValueError, match="takes f1, or precision=P"):
            parse_rule(wrong)

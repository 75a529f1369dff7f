"""A score threshold for each class, chosen on annotated images.

A score of these detectors is the expected IoU, not the probability of being right, so 0.5 is no natural threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gfocal.evaluation.curves import ScoreCurve

MIN_GROUND_TRUTH = 10  # a class with fewer objects gets the threshold of all classes together


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and precision, recall and F1 of the detections above it at IoU 0.5; None if they are undefined."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    num_ground_truth: int
    note: str = ""  # why the rule could not be followed


@dataclass(frozen=True)
class Thresholds:
    """One threshold for all classes together, and one for each class."""

    rule: str  # f1, or precision=0.9
    overall: ThresholdChoice
    classes: tuple[ThresholdChoice, ...]  # by label

    @property
    def description(self) -> str:
        """The rule, as reports show it."""
        return "the thresholds of highest F1" if self.rule == "f1" else f"the thresholds of {self.rule}"

    @property
    def scores(self) -> tuple[float, ...]:
        """The threshold of each class, by label, as a model file stores them."""
        return tuple(choice.threshold for choice in self.classes)

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain numbers by class name."""
        classes = {name: asdict(choice) for name, choice in zip(names, self.classes, strict=True)}
        return {"rule": self.rule, "overall": asdict(self.overall), "per_class": classes}


def parse_rule(rule: str) -> float | None:
    """``precision=0.9`` -> 0.9, ``f1`` -> None; ValueError for anything else."""
    if rule == "f1":
        return None
    name, _, number = rule.partition("=")
    try:
        precision = float(number) if name == "precision" else 0.0
    except ValueError:
        precision = 0.0
    if not 0 < precision <= 1:
        raise ValueError(f"takes f1, or precision=P with P in 0..1 as precision=0.9, not {rule!r}")
    return precision


def choose_thresholds(
    overall: ScoreCurve, classes: Sequence[ScoreCurve], precision: float | None = None, min_score: float = 0.0
) -> Thresholds:
    """The thresholds of highest F1, or the lowest ones that reach a precision.

    A class with fewer than 10 objects, or without true positives, gets the threshold of all classes together; one
    that never reaches the precision gets the score of its highest precision. The note tells which.

    Args:
        overall: the curve of all classes together.
        classes: the curve of each class.
        precision: fraction of the detections that must be right; None for the highest F1.
        min_score: a score that every detection is above: the model's score threshold.
    """
    for_all = _choose(overall, precision, min_score)
    chosen = []
    for curve in classes:
        one = _choose(curve, precision, min_score)
        why = f"fewer than {MIN_GROUND_TRUTH} objects" if curve.num_ground_truth < MIN_GROUND_TRUTH else ""
        if why or not one.recall:
            why = f"{why or 'no true positives'}: as all classes together"
            one = evaluate_threshold(curve, for_all.threshold, why)
        chosen.append(one)
    return Thresholds("f1" if precision is None else f"precision={precision:g}", for_all, tuple(chosen))


def evaluate_threshold(curve: ScoreCurve, threshold: float, note: str = "") -> ThresholdChoice:
    """Precision, recall and F1 at a given threshold."""
    true_positives, false_positives = curve.count_above(threshold)
    count = true_positives + false_positives
    return ThresholdChoice(
        threshold=threshold,
        precision=true_positives / count if count else None,
        recall=true_positives / curve.num_ground_truth if curve.num_ground_truth else None,
        f1=2 * true_positives / (count + curve.num_ground_truth) if curve.num_ground_truth else None,
        num_ground_truth=curve.num_ground_truth,
        note=note,
    )


def _choose(curve: ScoreCurve, precision: float | None, min_score: float) -> ThresholdChoice:
    if not len(curve.score):
        return evaluate_threshold(curve, min_score, "no detections")
    note = ""
    if precision is None:
        place = int(np.argmax(curve.f1))
    elif (reached := np.flatnonzero(curve.precision >= precision)).size:
        place = int(reached[-1])
    else:
        best = curve.precision.max()
        place = int(np.flatnonzero(curve.precision == best)[-1])
        note = f"reaches {best:.3f} at most"
    if place + 1 == len(curve.score):  # a separate quality branch may have lowered scores below the threshold
        all_are_above = np.float32(min_score) < np.float32(curve.score[-1])
        return evaluate_threshold(curve, min_score if all_are_above else 0.0, note)
    return evaluate_threshold(curve, _between(float(curve.score[place + 1]), float(curve.score[place])), note)


def _between(below: float, score: float) -> float:
    """A threshold between two scores: near their mean, with as few decimals as possible.

    Scores are compared as float32, so the threshold must lie between them as float32 too.
    """
    middle = (below + score) / 2
    tried = [round(middle, digits) for digits in (2, 3, 4, 5, 6)]
    return next((t for t in tried if below <= t and np.float32(below) <= np.float32(t) < np.float32(score)), below)

"""From which score on a detection is worth showing: a threshold for each class, chosen on annotated images.

A score of these detectors is the IoU to expect, not the probability to be right, so 0.5 is no natural place to cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gfocal.evaluation.curves import ScoreCurve

LEAST_TRUTH = 10  # a class with fewer objects takes the threshold of all classes together


@dataclass(frozen=True)
class Choice:
    """A threshold, and what detections that score more come to at IoU 0.5; None where nothing can be said."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    num_ground_truth: int
    note: str = ""  # why it is not what was asked for


@dataclass(frozen=True)
class Thresholds:
    """One for all classes together and one for each class."""

    rule: str  # f1, or precision=0.9
    overall: Choice
    classes: tuple[Choice, ...]  # by label

    @property
    def words(self) -> str:
        """The rule for people."""
        return "the thresholds of largest F1" if self.rule == "f1" else f"the thresholds of {self.rule}"

    @property
    def scores(self) -> tuple[float, ...]:
        """The threshold of each class, by label, as a model stores them."""
        return tuple(choice.threshold for choice in self.classes)

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain numbers by class name."""
        classes = {name: asdict(choice) for name, choice in zip(names, self.classes, strict=True)}
        return {"rule": self.rule, "overall": asdict(self.overall), "per_class": classes}


def read_rule(rule: str) -> float | None:
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
    overall: ScoreCurve, classes: Sequence[ScoreCurve], precision: float | None = None, lowest: float = 0.0
) -> Thresholds:
    """The thresholds of largest F1, or the lowest ones that reach a precision.

    Args:
        overall: the curve of all classes together.
        classes: that of each class.
        precision: the share of detections that must be right; None for the largest F1.
        lowest: the score that every detection is above in any case: the model's own threshold.

    A class with fewer than 10 objects, or with nothing to choose from, takes the threshold of all classes together;
    one that never reaches the precision takes the score at which it is most precise. The note says so.
    """
    together = _choice(overall, precision, lowest)
    chosen = []
    for curve in classes:
        one = _choice(curve, precision, lowest)
        why = f"fewer than {LEAST_TRUTH} objects" if curve.num_ground_truth < LEAST_TRUTH else ""
        if why or not one.recall:
            why = f"{why or 'nothing is found'}: as all classes together"
            one = described(curve, together.threshold, why)
        chosen.append(one)
    return Thresholds("f1" if precision is None else f"precision={precision:g}", together, tuple(chosen))


def described(curve: ScoreCurve, threshold: float, note: str = "") -> Choice:
    """What a given threshold comes to."""
    hits, false = curve.at(threshold)
    kept = hits + false
    return Choice(
        threshold=threshold,
        precision=hits / kept if kept else None,
        recall=hits / curve.num_ground_truth if curve.num_ground_truth else None,
        f1=2 * hits / (kept + curve.num_ground_truth) if curve.num_ground_truth else None,
        num_ground_truth=curve.num_ground_truth,
        note=note,
    )


def _choice(curve: ScoreCurve, precision: float | None, lowest: float) -> Choice:
    if not len(curve.score):
        return described(curve, lowest, "nothing is found")
    note = ""
    if precision is None:
        place = int(np.argmax(curve.f1))
    elif (reached := np.flatnonzero(curve.precision >= precision)).size:
        place = int(reached[-1])
    else:
        best = curve.precision.max()
        place = int(np.flatnonzero(curve.precision == best)[-1])
        note = f"reaches {best:.3f} at most"
    if place + 1 == len(curve.score):  # a separate branch of quality may have pressed scores below the threshold
        return described(curve, lowest if np.float32(lowest) < np.float32(curve.score[-1]) else 0.0, note)
    return described(curve, _between(float(curve.score[place + 1]), float(curve.score[place])), note)


def _between(below: float, score: float) -> float:
    """A threshold that keeps ``score`` and drops ``below``: in their middle, with as few decimals as that allows.

    Scores are float32 and are compared as such, so the threshold must lie between them as float32 too.
    """
    middle = (below + score) / 2
    tried = [round(middle, digits) for digits in (2, 3, 4, 5, 6)]
    return next((t for t in tried if below <= t and np.float32(below) <= np.float32(t) < np.float32(score)), below)

"""Curves over the score (precision, recall, F1, miss rate), the confusion matrix, and the reliability of scores.

All of them follow from one matching (``matching.py``). A curve counts at each score the detections of at least that
score; equal scores are counted together, since no threshold can separate them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.matching import (
    NONE,
    Bools,
    Boxes,
    Floats,
    Ints,
    Matching,
    Pairs,
    find_best_overlap,
    group_by_class,
    match,
)

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
SCORE_POINTS = np.linspace(0.0, 1.0, 101)
REFERENCE_FPPI = np.logspace(-2.0, 0.0, 9)  # Dollar et al. 2012


@dataclass(frozen=True)
class ScoreCurve:
    """True and false positives of at least each score; letter S: distinct score."""

    score: Floats  # (S,), descending
    true_positives: Ints  # (S,)
    false_positives: Ints  # (S,)
    num_ground_truth: int

    @property
    def precision(self) -> Floats:
        """(S,)"""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> Floats:
        """(S,), 0 without ground truth."""
        return self.true_positives / max(self.num_ground_truth, 1)

    @property
    def f1(self) -> Floats:
        """The harmonic mean of precision and recall. (S,)"""
        return 2 * self.true_positives / (self.true_positives + self.false_positives + self.num_ground_truth)

    def count_above(self, threshold: float) -> tuple[int, int]:
        """True and false positives whose score is greater than a threshold."""
        count = int(np.searchsorted(-self.score, -threshold, side="left"))  # scores above
        if not count:
            return 0, 0
        return int(self.true_positives[count - 1]), int(self.false_positives[count - 1])


def make_score_curves(boxes: Boxes, matching: Matching) -> tuple[ScoreCurve, list[ScoreCurve]]:
    """The curve of all classes together, and that of each class."""
    counted = ~matching.ignored
    score, true_positive, num_ground_truth = (
        boxes.score[counted],
        matching.true_positive[counted],
        boxes.num_ground_truth(),
    )
    rows = group_by_class(boxes.label[counted], len(boxes.names))
    amounts = zip(rows, num_ground_truth, strict=True)
    each = [make_score_curve(score[r], true_positive[r], int(n)) for r, n in amounts]
    return make_score_curve(score, true_positive, int(num_ground_truth.sum())), each


def make_score_curve(score: Floats, true_positive: Bools, num_ground_truth: int) -> ScoreCurve:
    """The curve of detections with descending scores."""
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.zeros(0, dtype=np.int64)
    true_positives = np.cumsum(true_positive.astype(np.int64))[last]
    return ScoreCurve(score[last], true_positives, last + 1 - true_positives, num_ground_truth)


def precision_at_recall(true_positive: Bools, num_ground_truth: int) -> Floats:
    """Precision at recall 0.00, 0.01 ... 1.00, interpolated as in COCO: the best at that recall or above. (101,)

    ``true_positive`` are the detections of a class with descending scores, without the ignored ones; equal scores are
    counted one by one, as in COCO. 0 above the highest recall.
    """
    true_positives = np.cumsum(true_positive)
    precision = true_positives / np.arange(1, len(true_positive) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(true_positives / num_ground_truth, RECALL_POINTS, side="left")
    return np.r_[best, 0.0][np.minimum(place, len(best))]


def precision_recall(boxes: Boxes, matching: Matching) -> list[Floats | None]:
    """For each class the curve (101,) whose mean is COCO's AP at that IoU; None for a class without ground truth."""
    true_positive = matching.true_positive[~matching.ignored]
    rows = group_by_class(boxes.label[~matching.ignored], len(boxes.names))
    amounts = zip(rows, boxes.num_ground_truth(), strict=True)
    return [precision_at_recall(true_positive[r], int(n)) if n else None for r, n in amounts]


def f1_over_scores(curve: ScoreCurve) -> Floats:
    """F1 of the detections whose score is greater than 0.00, 0.01 ... 1.00. (101,)"""
    count = np.searchsorted(-curve.score, -SCORE_POINTS, side="left")
    return np.r_[0.0, curve.f1][count]


def miss_rate_curve(curve: ScoreCurve, num_images: int) -> tuple[Floats, Floats]:
    """False positives per image, ascending, and the fraction of the ground truth missed there. (S,), (S,)"""
    return curve.false_positives / num_images, 1 - curve.recall


def log_average_miss_rate(curve: ScoreCurve, num_images: int) -> float | None:
    """The geometric mean of the miss rate at nine points between 0.01 and 1 false positives per image.

    Dollar et al. 2012, "Pedestrian Detection", section 3.1: the points are evenly spaced in the logarithm. The miss
    rate is 1 before the curve begins, and its last value after the curve ends. None without ground truth.
    """
    if not curve.num_ground_truth:
        return None
    fppi, missed = miss_rate_curve(curve, num_images)
    count = np.searchsorted(fppi, REFERENCE_FPPI, side="right")
    rates = np.r_[1.0, missed][count]
    return float(np.exp(np.log(np.maximum(rates, 1e-10)).mean()))


def select_above(boxes: Boxes, thresholds: Sequence[float]) -> Bools:
    """Detections whose score is greater than the threshold of their class. (D,)

    Compared as float32 where the scores are, as those of models.
    """
    is_single = bool((boxes.score.astype(np.float32) == boxes.score).all())
    return boxes.score > np.asarray(thresholds, dtype=np.float32 if is_single else np.float64)[boxes.label]


def confusion_matrix(boxes: Boxes, pairs: Pairs, selected: Bools, iou_threshold: float = 0.5) -> Ints:
    """How often a ground-truth box of each class (row) is detected as each class (column). (C + 1, C + 1)

    The last row counts detections without a ground-truth box, the last column ground-truth boxes without a detection;
    their corner is 0. Here classes may differ in a match.
    """
    matching = match(boxes, pairs, iou_threshold, selected=selected, any_class=True)
    num_classes = len(boxes.names)
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    matched = matching.true_positive  # of whatever class
    np.add.at(matrix, (boxes.gt_label[matching.gt_index[matched]], boxes.label[matched]), 1)
    np.add.at(matrix[-1], boxes.label[selected & ~matched & ~matching.ignored], 1)
    np.add.at(matrix[:, -1], boxes.gt_label[~boxes.crowd & (matching.detection_index == NONE)], 1)
    return matrix


def most_confused(matrix: Ints, names: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """The most frequent confusions: true class, detected class, how often."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:most]
    cells = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, between.shape), strict=True)]
    return [(names[i], names[j], int(between[i, j])) for i, j in cells if between[i, j]]


NUM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Mean score and mean IoU in ten bins of the score: 0.0 to 0.1, and so on."""

    count: Ints  # (10,)
    score: Floats  # (10,), mean; NaN in an empty bin
    iou: Floats  # (10,), mean of the highest IoU with ground truth of the same class
    error: float | None  # mean difference of the two, weighted by count; None without detections


def reliability(boxes: Boxes, pairs: Pairs, matching: Matching) -> Reliability:
    """Whether a score is the IoU to expect, over all detections that are not ignored."""
    same = (boxes.label[pairs.detection] == boxes.gt_label[pairs.ground_truth]) & ~boxes.crowd[pairs.ground_truth]
    iou = find_best_overlap(pairs, same, len(boxes.score))[0][~matching.ignored]
    score = boxes.score[~matching.ignored]
    place = np.clip((score * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    count = np.bincount(place, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(place, score, NUM_BINS) / count
        mean_iou = np.bincount(place, iou, NUM_BINS) / count
    gap = np.abs(mean_score - mean_iou)[count > 0]
    error = float((gap * count[count > 0]).sum() / count.sum()) if len(score) else None
    return Reliability(count, mean_score, mean_iou, error)

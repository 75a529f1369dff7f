"""Curves over the score: precision and recall, F1, false positives per image, miss rate.

Every curve comes from one matching (``matching.py``). A count at a score holds the detections of at least that
score; equal scores enter together, since no threshold can part them.
"""

# FOLDED evaluation.confusion: Which class is taken for which.
# FOLDED evaluation.reliability: Whether a score says what it promises: the IoU of the box with an object of its class.
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
    best_overlap,
    by_class,
    match,
)

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
SCORE_POINTS = np.linspace(0.0, 1.0, 101)
REFERENCE_FPPI = np.logspace(-2.0, 0.0, 9)  # Dollar et al. 2012


@dataclass(frozen=True)
class ScoreCurve:
    """How many are right and how many wrong from each score upwards; letter S: distinct score."""

    score: Floats  # (S,), falling
    hits: Ints  # (S,)
    false: Ints  # (S,)
    num_ground_truth: int

    @property
    def precision(self) -> Floats:
        """Share of the detections that is right. (S,)"""
        return self.hits / (self.hits + self.false)

    @property
    def recall(self) -> Floats:
        """Share of the ground truth that is found, 0 where there is none. (S,)"""
        return self.hits / max(self.num_ground_truth, 1)

    @property
    def f1(self) -> Floats:
        """The harmonic mean of precision and recall. (S,)"""
        return 2 * self.hits / (self.hits + self.false + self.num_ground_truth)

    def at(self, threshold: float) -> tuple[int, int]:
        """Right and wrong detections whose score is greater than a threshold."""
        count = int(np.searchsorted(-self.score, -threshold, side="left"))  # scores above
        return (int(self.hits[count - 1]), int(self.false[count - 1])) if count else (0, 0)


def score_curves(boxes: Boxes, matching: Matching) -> tuple[ScoreCurve, list[ScoreCurve]]:
    """The curve of all classes together, and that of each class."""
    score, hit, num_ground_truth = (
        boxes.score[~matching.ignored],
        matching.hit[~matching.ignored],
        boxes.num_ground_truth(),
    )
    rows = by_class(boxes.label[~matching.ignored], len(boxes.names))
    each = [_score_curve(score[r], hit[r], int(n)) for r, n in zip(rows, num_ground_truth, strict=True)]
    return _score_curve(score, hit, int(num_ground_truth.sum())), each


def _score_curve(score: Floats, hit: Bools, num_ground_truth: int) -> ScoreCurve:
    """Of detections that stand best first."""
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.zeros(0, dtype=np.int64)
    hits = np.cumsum(hit.astype(np.int64))[last]
    return ScoreCurve(score[last], hits, last + 1 - hits, num_ground_truth)


def precision_at_recall(hit: Bools, num_ground_truth: int) -> Floats:
    """Precision at recall 0.00, 0.01 ... 1.00, as COCO reads it off: the best at that recall or above. (101,)

    ``hit`` are the detections of a class, best first, those that are ignored left out; equal scores enter one by
    one, as with COCO. 0 beyond the highest recall.
    """
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / num_ground_truth, RECALL_POINTS, side="left")
    return np.r_[best, 0.0][np.minimum(place, len(best))]


def precision_recall(boxes: Boxes, matching: Matching) -> list[Floats | None]:
    """Of each class the curve (101,) whose mean is COCO's AP at the IoU of the matching; None without ground truth."""
    hit = matching.hit[~matching.ignored]
    rows = by_class(boxes.label[~matching.ignored], len(boxes.names))
    amounts = zip(rows, boxes.num_ground_truth(), strict=True)
    return [precision_at_recall(hit[r], int(n)) if n else None for r, n in amounts]


def f1_over_scores(curve: ScoreCurve) -> Floats:
    """F1 of the detections that score more than 0.00, 0.01 ... 1.00. (101,)"""
    count = np.searchsorted(-curve.score, -SCORE_POINTS, side="left")
    return np.r_[0.0, curve.f1][count]


def miss_rate_curve(curve: ScoreCurve, num_images: int) -> tuple[Floats, Floats]:
    """False positives per image, rising, and the share of the ground truth that is missed there. Two of (S,)"""
    return curve.false / num_images, 1 - curve.recall


def log_average_miss_rate(curve: ScoreCurve, num_images: int) -> float | None:
    """Miss rate between 0.01 and 1 false positives per image: its geometric mean at nine points; None without ground truth.

    Dollar et al. 2012, "Pedestrian Detection", section 3.1: the points are even in the logarithm. Before the curve
    begins everything is missed; where it ends early its last miss rate stands for what would follow.
    """
    if not curve.num_ground_truth:
        return None
    fppi, missed = miss_rate_curve(curve, num_images)
    count = np.searchsorted(fppi, REFERENCE_FPPI, side="right")
    rates = np.r_[1.0, missed][count]
    return float(np.exp(np.log(np.maximum(rates, 1e-10)).mean()))


def above(boxes: Boxes, thresholds: Sequence[float]) -> Bools:
    """The detections that score more than the threshold of their class, both as float32 as in use. (D,)"""
    return boxes.score > np.asarray(thresholds, dtype=np.float32)[boxes.label]


def confusion_matrix(boxes: Boxes, pairs: Pairs, kept: Bools, iou_threshold: float = 0.5) -> Ints:
    """How often an object of each class (row) is found as each class (column).

    The last row counts detections where no object is, the last column objects that nothing found; their corner is 0.
    Here a detection takes the free ground-truth box that it overlaps most, of whatever class. (C + 1, C + 1)
    """
    matching = match(boxes, pairs, iou_threshold, kept=kept, any_class=True)
    num_classes = len(boxes.names)
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    hit = matching.hit
    np.add.at(matrix, (boxes.gt_label[matching.taken[hit]], boxes.label[hit]), 1)
    np.add.at(matrix[-1], boxes.label[kept & ~hit & ~matching.ignored], 1)
    np.add.at(matrix[:, -1], boxes.gt_label[~boxes.crowd & (matching.taker == NONE)], 1)
    return matrix


def most_confused(matrix: Ints, names: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """The pairs of classes taken for one another most often: true name, found name, how often."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:most]
    cells = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, between.shape), strict=True)]
    return [(names[i], names[j], int(between[i, j])) for i, j in cells if between[i, j]]


NUM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Scores against overlaps in ten stretches of the score, 0.0 to 0.1 and so on."""

    count: Ints  # (10,)
    score: Floats  # (10,), mean; NaN in an empty stretch
    iou: Floats  # (10,), mean of the largest IoU with ground truth of the same class
    error: float | None  # mean difference of the two, each stretch by its count; None without detections


def reliability(boxes: Boxes, pairs: Pairs, matching: Matching) -> Reliability:
    """Of all detections but those on crowd regions."""
    same = (boxes.label[pairs.found] == boxes.gt_label[pairs.ground_truth]) & ~boxes.crowd[pairs.ground_truth]
    iou = best_overlap(pairs, same, len(boxes.score))[0][~matching.ignored]
    score = boxes.score[~matching.ignored]
    place = np.clip((score * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    count = np.bincount(place, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        mean_score = np.bincount(place, score, NUM_BINS) / count
        mean_iou = np.bincount(place, iou, NUM_BINS) / count
    gap = np.abs(mean_score - mean_iou)[count > 0]
    error = float((gap * count[count > 0]).sum() / count.sum()) if len(score) else None
    return Reliability(count, mean_score, mean_iou, error)

"""Scores that mean something: curves by isotonic regression, and how far scores are off, D-ECE and LaECE.

D detection; an IoU of 0 stands for a false positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.calibration.matched import Scored
from gfocal.structures.calibration import ScoreCurve, ScoreKind

MIN_DETECTIONS = 50  # of a class, for a curve of its own
MIN_RIGHT = 10  # true positives among them
NUM_BINS = 25  # of LaECE, as Oksuz et al. 2023
MAX_SCORES = 100_000  # different ones that a curve is fitted to
MAX_POINTS = 256  # of a curve


def isotonic_curve(scores: Tensor, values: Tensor) -> ScoreCurve:
    """The curve that never falls with the least squared error: pool adjacent violators (Ayer et al. 1955).

    Equal scores have one value, and of more than ``MAX_SCORES`` neighbors have one. Each pooled block is one point,
    at its mean score, so that the curve rises between them; of more than ``MAX_POINTS`` neighbors become one.
    scores (D,), values (D,) in 0..1, D at least 1.
    """
    x, place, count = scores.double().unique(return_inverse=True, return_counts=True)
    # Rows: sum of values, sum of scores, count.
    blocks = torch.stack([torch.zeros_like(x).index_add(0, place, values.double()), x * count, count.double()])
    blocks = _reduce(_pool_violators(_reduce(blocks, MAX_SCORES)), MAX_POINTS)
    value, score = (blocks[:2] / blocks[2]).clamp(0, 1).round(decimals=6).cummax(1).values.tolist()  # short in a file
    return ScoreCurve(tuple(score), tuple(value))


def _pool_violators(blocks: Tensor) -> Tensor:
    """Blocks (3, D) in the order of their scores, pooled until their means rise. (3, at most D)"""
    while True:  # whole runs at once, while there are many
        mean = blocks[0] / blocks[2]
        rises = mean[1:] > mean[:-1]
        num_falls = int((~rises).sum())
        if not num_falls:
            return blocks
        if num_falls < 0.1 * len(mean):
            break
        blocks = _merge(blocks, torch.cat([rises.new_zeros(1), rises]).cumsum(0))
    pooled: list[tuple[float, float, float]] = []
    for value, score, count in blocks.T.tolist():
        while pooled and pooled[-1][0] * count >= value * pooled[-1][2]:
            before = pooled.pop()
            value, score, count = value + before[0], score + before[1], count + before[2]
        pooled.append((value, score, count))
    return torch.tensor(pooled, dtype=torch.float64).T


def _reduce(blocks: Tensor, most: int) -> Tensor:
    """At most so many blocks, of about equal counts where they are merged. (3, D) -> (3, at most ``most``)"""
    if blocks.shape[1] <= most:
        return blocks
    middle = blocks[2].cumsum(0) - blocks[2] / 2
    return _merge(blocks, (middle / blocks[2].sum() * most).long())


def _merge(blocks: Tensor, group: Tensor) -> Tensor:
    """The sums of blocks (3, D) of one group; groups (D,) ascend."""
    _, place = group.unique_consecutive(return_inverse=True)
    return blocks.new_zeros(3, int(place[-1]) + 1).index_add(1, place, blocks)


def fit_score_curves(found: Scored, kind: ScoreKind) -> dict[int, ScoreCurve]:
    """A curve for each class with enough detections, by label, and one of all, -1."""
    values = value_of(found, kind)
    curves = {-1: isotonic_curve(found.scores, values)}
    for label in found.labels.unique().tolist():
        rows = found.labels == label
        if int(rows.sum()) >= MIN_DETECTIONS and int(found.is_right[rows].sum()) >= MIN_RIGHT:
            curves[label] = isotonic_curve(found.scores[rows], values[rows])
    return curves


def value_of(found: Scored, kind: ScoreKind) -> Tensor:
    """What a score of this kind should have been: the IoU of each detection, or 1 for a true positive. (D,)"""
    return found.iou if kind == "iou" else found.is_right.to(found.iou.dtype)


def la_ece(scores: Tensor, labels: Tensor, iou: Tensor, bins: int = NUM_BINS) -> float:
    """Localisation-aware expected calibration error (Oksuz et al. 2023): mean over classes, 0..1.

    Per class and bin of scores: the gap between the mean score and precision times mean IoU of the true positives,
    weighted by the share of detections. Here that product is the mean IoU where a false positive has 0. Classes
    without detections are left out; NaN where there are none at all.
    """
    errors = [binned_gap(scores[rows], iou[rows], bins) for rows in _of_each_class(labels)]
    return sum(errors) / len(errors) if errors else float("nan")


def d_ece(scores: Tensor, is_right: Tensor, bins: int = NUM_BINS) -> float:
    """Detection expected calibration error (Kueppers et al. 2020) by score alone, over all classes pooled, 0..1.

    The gap between mean score and precision in each bin, weighted by the share of detections; NaN without any.
    """
    return binned_gap(scores, is_right.to(scores.dtype), bins) if len(scores) else float("nan")


def binned_gap(scores: Tensor, values: Tensor, bins: int) -> float:
    """|mean score - mean value| in equal bins of 0..1, weighted by their counts."""
    index = (scores * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, index, scores.double() - values.double())
    return float(gap.abs().sum() / len(scores))


def _of_each_class(labels: Tensor) -> list[Tensor]:
    return [labels == label for label in labels.unique().tolist()]

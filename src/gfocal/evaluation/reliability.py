"""Whether a score says what it promises: the IoU of the box with an object of its class.

The class score is trained towards that IoU (Li et al. 2020, eq. 2), 0 on background, so the two can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.matching import Boxes, Floats, Ints, Matching, Pairs, best_overlap

NUM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Scores against overlaps in ten stretches of the score, 0.0 to 0.1 and so on."""

    count: Ints  # (10,)
    score: Floats  # (10,), mean; NaN in an empty stretch
    iou: Floats  # (10,), mean of the largest IoU with truth of the same class
    error: float | None  # mean difference of the two, each stretch by its count; None without detections


def reliability(boxes: Boxes, pairs: Pairs, matching: Matching) -> Reliability:
    """Of all detections but those on crowd regions."""
    same = (boxes.label[pairs.found] == boxes.truth_label[pairs.truth]) & ~boxes.crowd[pairs.truth]
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

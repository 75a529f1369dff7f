"""Types of errors and the AP that each costs, as in TIDE; and the images with the worst errors.

Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors" (arXiv 2008.08115), sections
2.2 and 2.3. AP here is AP at IoU 0.5, the mean over the classes that have ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.curves import precision_at_recall
from gfocal.evaluation.matching import NONE, Bools, Boxes, Ints, Matching, Pairs, find_best_overlap, group_by_class

FOREGROUND, BACKGROUND = 0.5, 0.1  # t_f and t_b of the paper

# Types of a detection; the first two are no errors.
TRUE_POSITIVE, IGNORED, CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, ON_BACKGROUND = range(7)
TYPE_NAMES = {
    CLASSIFICATION: "classification",
    LOCALIZATION: "localization",
    BOTH: "both",
    DUPLICATE: "duplicate",
    ON_BACKGROUND: "background",
}
MISSED = "missed"
MEANINGS = {
    "classification": "well localized, but of another class than the object",
    "localization": "right class, badly localized (IoU 0.1 to 0.5)",
    "both": "wrong class and badly localized",
    "duplicate": "a second detection of an object, with a lower score",
    "background": "where no object is (IoU under 0.1 with every object)",
    "missed": "objects without a detection, not even badly localized or of another class",
}


@dataclass(frozen=True)
class ErrorTypes:
    """The errors of an evaluation, and the AP that each type costs."""

    kind: Ints  # (D,), TRUE_POSITIVE ... ON_BACKGROUND
    gt_index: Ints  # (D,), the ground-truth box of a classification or localization error, else NONE
    missed: Bools  # (T,), ground truth without a match and without an error of those two types
    ap50: float | None
    counts: dict[str, int]  # of each type
    cost: dict[str, float | None]  # by how much AP50 would rise without that type alone
    false_positives: float | None  # the same without any false positive
    false_negatives: float | None  # the same without any false negative

    @property
    def largest(self) -> str | None:
        """The type that costs most; None without errors or without an AP."""
        costs = {name: cost for name, cost in self.cost.items() if cost}
        return max(costs, key=lambda name: costs[name]) if costs else None


def error_types(boxes: Boxes, pairs: Pairs, matching: Matching) -> ErrorTypes:
    """The type of every false positive and every missed ground-truth box. ``matching`` is that at IoU 0.5.

    The paper leaves open which type counts if several apply. As in its authors' program it is the first of
    localization, classification, duplicate, background, both.
    """
    kind, gt_index, missed = _sort_errors(boxes, pairs, matching)
    num_ground_truth = boxes.num_ground_truth()
    right, counted = matching.true_positive, ~matching.ignored
    ap50 = _mean_ap(boxes, boxes.label, right, counted, num_ground_truth)

    def gain(label: Ints, right: Bools, counted: Bools, num_ground_truth: Ints) -> float | None:
        if ap50 is None:
            return None
        fixed_ap = _mean_ap(boxes, label, right, counted, num_ground_truth)
        return (1.0 if fixed_ap is None else fixed_ap) - ap50  # None: no ground truth is left, so none is missed

    counts = {name: int((kind == number).sum()) for number, name in TYPE_NAMES.items()}
    counts[MISSED] = int(missed.sum())
    cost: dict[str, float | None] = {}
    for number, name in TYPE_NAMES.items():
        of_type = kind == number
        fixed = _find_fixable(gt_index, of_type, matching)
        label = boxes.label.copy()
        label[fixed] = boxes.gt_label[gt_index[fixed]]
        cost[name] = gain(label, right | fixed, counted & (~of_type | fixed), num_ground_truth)
    not_missed = num_ground_truth - np.bincount(boxes.gt_label[missed], minlength=len(num_ground_truth))
    cost[MISSED] = gain(boxes.label, right, counted, not_missed)
    num_matched = np.bincount(boxes.label[right], minlength=len(num_ground_truth))
    return ErrorTypes(
        kind=kind,
        gt_index=gt_index,
        missed=missed,
        ap50=ap50,
        counts=counts,
        cost=cost,
        false_positives=gain(boxes.label, right, right, num_ground_truth),
        false_negatives=gain(boxes.label, right, counted, num_matched),
    )


def _sort_errors(boxes: Boxes, pairs: Pairs, matching: Matching) -> tuple[Ints, Ints, Bools]:
    """``kind``, ``gt_index`` and ``missed`` of ``ErrorTypes``."""
    num_detections = len(boxes.score)
    is_object = ~boxes.crowd[pairs.ground_truth]
    same_class = boxes.label[pairs.detection] == boxes.gt_label[pairs.ground_truth]
    own_iou, own = find_best_overlap(pairs, is_object & same_class, num_detections)
    other_iou, other = find_best_overlap(pairs, is_object & ~same_class, num_detections)
    any_iou = np.maximum(own_iou, other_iou)

    wrong = ~matching.true_positive & ~matching.ignored
    localization = wrong & (own_iou >= BACKGROUND) & (own_iou < FOREGROUND)
    classification = wrong & ~localization & (other_iou >= FOREGROUND)
    rest = wrong & ~localization & ~classification
    kind = np.full(num_detections, TRUE_POSITIVE)
    kind[rest] = BOTH
    kind[rest & (any_iou <= BACKGROUND)] = ON_BACKGROUND
    kind[rest & (own_iou >= FOREGROUND)] = DUPLICATE
    kind[classification] = CLASSIFICATION
    kind[localization] = LOCALIZATION
    kind[matching.ignored] = IGNORED
    gt_index = np.where(localization, own, np.where(classification, other, NONE))
    missed = ~boxes.crowd & (matching.detection_index == NONE)
    missed[gt_index[gt_index != NONE]] = False
    return kind, gt_index, missed


def _find_fixable(gt_index: Ints, of_type: Bools, matching: Matching) -> Bools:
    """The errors that would be true positives once fixed: the best one of each unmatched ground-truth box. (D,)

    The others would then be duplicates, so the oracle of the paper removes them.
    """
    rows = np.flatnonzero(of_type & (gt_index != NONE))
    rows = rows[matching.detection_index[gt_index[rows]] == NONE]
    _, first = np.unique(gt_index[rows], return_index=True)  # scores are descending
    fixed = np.zeros(len(gt_index), dtype=np.bool_)
    fixed[rows[first]] = True
    return fixed


def _mean_ap(boxes: Boxes, label: Ints, right: Bools, counted: Bools, num_ground_truth: Ints) -> float | None:
    """AP50 over the classes of the data with the given labels, true positives and numbers of ground-truth boxes.

    A class without any ground truth left is left out, as in COCO. (The authors' program counts it as 0 while it has
    detections, so that a class without any true positive would cost nothing.)
    """
    right = right[counted]
    rows = group_by_class(label[counted], len(boxes.names))
    classes = [c for c in np.flatnonzero(boxes.num_ground_truth()) if num_ground_truth[c]]
    aps = [float(precision_at_recall(right[rows[c]], int(num_ground_truth[c])).mean()) for c in classes]
    return float(np.mean(aps)) if aps else None


MISSED_WEIGHT = 0.5  # a missed object weighs as much as a false positive of this score

Box = tuple[float, float, float, float]  # xyxy, pixels


@dataclass(frozen=True)
class FalsePositive:
    """A wrong detection."""

    box: Box
    label: int
    score: float
    kind: str  # the type of its error
    gt_label: int | None  # class of the object, for a classification error


@dataclass(frozen=True)
class ImageMistakes:
    """The detections and errors of one image at the thresholds in use."""

    image_id: int
    cost: float  # sum of the scores of the false positives, and half a point for every missed object
    true_positives: tuple[Box, ...]
    false_positives: tuple[FalsePositive, ...]  # by descending score
    missed: tuple[tuple[Box, int], ...]  # box and label
    crowd: tuple[Box, ...]


def worst_images(
    boxes: Boxes, matching: Matching, errors: ErrorTypes, selected: Bools, max_images: int
) -> list[ImageMistakes]:
    """The images of highest cost, in descending order; none without an error.

    ``selected`` (D,) are the detections above their thresholds; the matching is that of all detections at IoU 0.5.
    """
    wrong = selected & ~matching.true_positive & ~matching.ignored
    detected = matching.detection_index != NONE
    detected[detected] = selected[matching.detection_index[detected]]
    missed = ~boxes.crowd & ~detected
    num_images = len(boxes.image_ids)
    num_missed = np.bincount(boxes.gt_image[missed], minlength=num_images)
    cost = np.bincount(boxes.image[wrong], boxes.score[wrong], num_images) + MISSED_WEIGHT * num_missed
    order = [int(i) for i in np.argsort(-cost, kind="stable")[:max_images] if cost[i] > 0]
    right = selected & matching.true_positive
    return [_collect_mistakes(boxes, errors, right, wrong, missed, i, float(cost[i])) for i in order]


def _collect_mistakes(
    boxes: Boxes, errors: ErrorTypes, right: Bools, wrong: Bools, missed: Bools, image: int, cost: float
) -> ImageMistakes:
    here, gt_here = boxes.image == image, boxes.gt_image == image
    false_positives = []
    for i in np.flatnonzero(wrong & here):
        kind = TYPE_NAMES[int(errors.kind[i])]
        gt_label = int(boxes.gt_label[errors.gt_index[i]]) if kind == "classification" else None
        box, label, score = _to_tuple(boxes.box[i]), int(boxes.label[i]), float(boxes.score[i])
        false_positives.append(FalsePositive(box, label, score, kind, gt_label))
    return ImageMistakes(
        image_id=int(boxes.image_ids[image]),
        cost=cost,
        true_positives=tuple(_to_tuple(box) for box in boxes.box[here & right]),
        false_positives=tuple(false_positives),
        missed=tuple((_to_tuple(boxes.gt_box[t]), int(boxes.gt_label[t])) for t in np.flatnonzero(missed & gt_here)),
        crowd=tuple(_to_tuple(box) for box in boxes.gt_box[gt_here & boxes.crowd]),
    )


def _to_tuple(row: np.ndarray) -> Box:
    x0, y0, x1, y1 = (float(v) for v in row)
    return x0, y0, x1, y1

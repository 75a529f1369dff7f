"""What kind of error costs how much AP: the six types of TIDE, and the two that only count.

Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors" (arXiv 2008.08115), sections
2.2 and 2.3. AP here is AP at IoU 0.5, the mean over the classes that have ground truth.
"""

# FOLDED evaluation.mistakes: Which images the detector gets most wrong, and what is wrong in each.
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.curves import precision_at_recall
from gfocal.evaluation.matching import NONE, Bools, Boxes, Ints, Matching, Pairs, best_overlap, by_class

FOREGROUND, BACKGROUND = 0.5, 0.1  # t_f and t_b of the paper

# Types of a detection; HIT and IGNORED are no errors.
HIT, IGNORED, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, ON_BACKGROUND = range(7)
TYPE_NAMES = {
    CLASSIFICATION: "classification",
    LOCALISATION: "localization",
    BOTH: "both",
    DUPLICATE: "duplicate",
    ON_BACKGROUND: "background",
}
MISSED = "missed"
MEANINGS = {
    "classification": "well placed on an object of another class",
    "localization": "the right class, badly placed (IoU 0.1 to 0.5)",
    "both": "another class and badly placed",
    "duplicate": "on an object that a better detection has taken",
    "background": "on nothing (IoU under 0.1 with every object)",
    "missed": "objects that nothing found, not even badly placed or under another class",
}


@dataclass(frozen=True)
class ErrorTypes:
    """The errors of an evaluation and what each type costs."""

    kind: Ints  # (D,), HIT ... ON_BACKGROUND
    about: Ints  # (D,), the ground-truth box that a classification or localization error is about, else NONE
    missed: Bools  # (T,), ground truth that no detection took and no error is about
    ap50: float | None
    counts: dict[str, int]  # of each type
    cost: dict[str, float | None]  # how much AP50 would rise were that type gone, each alone
    false_positives: float | None  # the same with every wrong detection gone
    false_negatives: float | None  # with every ground truth that was not found gone

    @property
    def largest(self) -> str | None:
        """The type that costs most; None where nothing is wrong or no AP exists."""
        costs = {name: cost for name, cost in self.cost.items() if cost}
        return max(costs, key=lambda name: costs[name]) if costs else None


def error_types(boxes: Boxes, pairs: Pairs, matching: Matching) -> ErrorTypes:
    """Sort every wrong detection and every missed ground truth into a type. ``matching`` is that at IoU 0.5.

    The paper leaves open what an error is to which two types apply. As in its authors' own program the first of
    these counts: localization, classification, duplicate, background, both.
    """
    num_found = len(boxes.score)
    real = ~boxes.crowd[pairs.ground_truth]
    same = boxes.label[pairs.found] == boxes.gt_label[pairs.ground_truth]
    own_iou, own = best_overlap(pairs, real & same, num_found)
    other_iou, other = best_overlap(pairs, real & ~same, num_found)
    any_iou = np.maximum(own_iou, other_iou)

    wrong = ~matching.hit & ~matching.ignored
    localization = wrong & (own_iou >= BACKGROUND) & (own_iou < FOREGROUND)
    classification = wrong & ~localization & (other_iou >= FOREGROUND)
    rest = wrong & ~localization & ~classification
    kind = np.full(num_found, HIT)
    kind[rest] = BOTH
    kind[rest & (any_iou <= BACKGROUND)] = ON_BACKGROUND
    kind[rest & (own_iou >= FOREGROUND)] = DUPLICATE
    kind[classification] = CLASSIFICATION
    kind[localization] = LOCALISATION
    kind[matching.ignored] = IGNORED
    about = np.where(localization, own, np.where(classification, other, NONE))
    missed = ~boxes.crowd & (matching.taker == NONE)
    missed[about[about != NONE]] = False

    counts = {name: int((kind == number).sum()) for number, name in TYPE_NAMES.items()}
    counts[MISSED] = int(missed.sum())
    num_ground_truth = boxes.num_ground_truth()
    hit, counted = matching.hit, ~matching.ignored
    ap50 = _mean_ap(boxes, boxes.label, hit, counted, num_ground_truth)

    def gain(label: Ints, right: Bools, kept: Bools, ground_truth: Ints) -> float | None:
        if ap50 is None:
            return None
        fixed_ap = _mean_ap(boxes, label, right, kept, ground_truth)
        return (1.0 if fixed_ap is None else fixed_ap) - ap50  # where nothing is left to find, nothing is missing

    cost: dict[str, float | None] = {}
    for number, name in TYPE_NAMES.items():
        of_type = kind == number
        fixed = _fixable(about, of_type, matching)
        label = boxes.label.copy()
        label[fixed] = boxes.gt_label[about[fixed]]
        cost[name] = gain(label, hit | fixed, counted & (~of_type | fixed), num_ground_truth)
    found = num_ground_truth - np.bincount(boxes.gt_label[missed], minlength=len(num_ground_truth))
    cost[MISSED] = gain(boxes.label, hit, counted, found)
    taken = np.bincount(boxes.label[hit], minlength=len(num_ground_truth))
    return ErrorTypes(
        kind=kind,
        about=about,
        missed=missed,
        ap50=ap50,
        counts=counts,
        cost=cost,
        false_positives=gain(boxes.label, hit, hit, num_ground_truth),
        false_negatives=gain(boxes.label, hit, counted, taken),
    )


def _fixable(about: Ints, of_type: Bools, matching: Matching) -> Bools:
    """The errors that would be hits once fixed: the best one about each ground-truth box that nothing has taken. (D,)

    The others would then be duplicates, so the oracle of the paper lets them go.
    """
    rows = np.flatnonzero(of_type & (about != NONE))
    rows = rows[matching.taker[about[rows]] == NONE]
    _, first = np.unique(about[rows], return_index=True)  # detections stand best first
    fixed = np.zeros(len(about), dtype=np.bool_)
    fixed[rows[first]] = True
    return fixed


def _mean_ap(boxes: Boxes, label: Ints, hit: Bools, kept: Bools, num_ground_truth: Ints) -> float | None:
    """AP50 over the classes of the data with the given labels, hits and amount of ground truth.

    A class that has lost all its ground truth is left out, as COCO leaves out those without ground truth. (The authors' program
    counts it 0 while it has detections, so that a class of which nothing is found would cost nothing.)
    """
    right = hit[kept]
    rows = by_class(label[kept], len(boxes.names))
    classes = [c for c in np.flatnonzero(boxes.num_ground_truth()) if num_ground_truth[c]]
    aps = [float(precision_at_recall(right[rows[c]], int(num_ground_truth[c])).mean()) for c in classes]
    return float(np.mean(aps)) if aps else None


MISSED_WEIGHT = 0.5  # an object that is not found weighs as much as a wrong detection of this score

Box = tuple[float, float, float, float]  # xyxy, pixels


@dataclass(frozen=True)
class Wrong:
    """A detection that is wrong."""

    box: Box
    label: int
    score: float
    kind: str  # the type of its error
    gt_label: int | None  # class of the object it stands on, for a classification error


@dataclass(frozen=True)
class ImageMistakes:
    """All of one image at the thresholds in use."""

    image_id: int
    cost: float  # scores of the wrong detections, and half a point for every object not found
    hits: tuple[Box, ...]
    wrong: tuple[Wrong, ...]  # best score first
    missed: tuple[tuple[Box, int], ...]  # box and label
    crowd: tuple[Box, ...]


def worst_images(boxes: Boxes, matching: Matching, errors: ErrorTypes, kept: Bools, most: int) -> list[ImageMistakes]:
    """The images whose mistakes weigh most, worst first; none without a mistake.

    ``kept`` (D,) are the detections above their thresholds; the matching is that of all detections at IoU 0.5.
    """
    wrong = kept & ~matching.hit & ~matching.ignored
    found = matching.taker != NONE
    found[found] = kept[matching.taker[found]]
    missed = ~boxes.crowd & ~found
    num_images = len(boxes.image_ids)
    lost = np.bincount(boxes.gt_image[missed], minlength=num_images)
    cost = np.bincount(boxes.image[wrong], boxes.score[wrong], num_images) + MISSED_WEIGHT * lost
    order = [int(i) for i in np.argsort(-cost, kind="stable")[:most] if cost[i] > 0]
    return [_of_image(boxes, matching, errors, kept, wrong, missed, i, float(cost[i])) for i in order]


def _of_image(
    boxes: Boxes,
    matching: Matching,
    errors: ErrorTypes,
    kept: Bools,
    wrong: Bools,
    missed: Bools,
    image: int,
    cost: float,
) -> ImageMistakes:
    here, there = boxes.image == image, boxes.gt_image == image
    told = []
    for i in np.flatnonzero(wrong & here):
        kind = TYPE_NAMES[int(errors.kind[i])]
        other = int(boxes.gt_label[errors.about[i]]) if kind == "classification" else None
        told.append(Wrong(_box(boxes.box[i]), int(boxes.label[i]), float(boxes.score[i]), kind, other))
    return ImageMistakes(
        image_id=int(boxes.image_ids[image]),
        cost=cost,
        hits=tuple(_box(box) for box in boxes.box[here & kept & matching.hit]),
        wrong=tuple(told),
        missed=tuple((_box(boxes.gt_box[t]), int(boxes.gt_label[t])) for t in np.flatnonzero(missed & there)),
        crowd=tuple(_box(box) for box in boxes.gt_box[there & boxes.crowd]),
    )


def _box(row: np.ndarray) -> Box:
    x0, y0, x1, y1 = (float(v) for v in row)
    return x0, y0, x1, y1

"""What kind of error costs how much AP: the six types of TIDE, and the two that only count.

Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors" (arXiv 2008.08115), sections
2.2 and 2.3. AP here is AP at IoU 0.5, the mean over the classes that have truth.
"""

# FOLDED evaluation.mistakes: Which pictures the detector gets most wrong, and what is wrong in each.
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
    LOCALISATION: "localisation",
    BOTH: "both",
    DUPLICATE: "duplicate",
    ON_BACKGROUND: "background",
}
MISSED = "missed"
MEANINGS = {
    "classification": "well placed on an object of another class",
    "localisation": "the right class, badly placed (IoU 0.1 to 0.5)",
    "both": "another class and badly placed",
    "duplicate": "on an object that a better detection has taken",
    "background": "on nothing (IoU under 0.1 with every object)",
    "missed": "objects that nothing found, not even badly placed or under another class",
}


@dataclass(frozen=True)
class ErrorTypes:
    """The errors of an evaluation and what each type costs."""

    kind: Ints  # (D,), HIT ... ON_BACKGROUND
    about: Ints  # (D,), the truth box that a classification or localisation error is about, else NONE
    missed: Bools  # (T,), truth that no detection took and no error is about
    ap50: float | None
    counts: dict[str, int]  # of each type
    cost: dict[str, float | None]  # how much AP50 would rise were that type gone, each alone
    false_positives: float | None  # the same with every wrong detection gone
    false_negatives: float | None  # with every truth that was not found gone

    @property
    def largest(self) -> str | None:
        """The type that costs most; None where nothing is wrong or no AP exists."""
        costs = {name: cost for name, cost in self.cost.items() if cost}
        return max(costs, key=lambda name: costs[name]) if costs else None


def error_types(boxes: Boxes, pairs: Pairs, matching: Matching) -> ErrorTypes:
    """Sort every wrong detection and every missed truth into a type. ``matching`` is that at IoU 0.5.

    The paper leaves open what an error is to which two types apply. As in its authors' own program the first of
    these counts: localisation, classification, duplicate, background, both.
    """
    num_found = len(boxes.score)
    real = ~boxes.crowd[pairs.truth]
    same = boxes.label[pairs.found] == boxes.truth_label[pairs.truth]
    own_iou, own = best_overlap(pairs, real & same, num_found)
    other_iou, other = best_overlap(pairs, real & ~same, num_found)
    any_iou = np.maximum(own_iou, other_iou)

    wrong = ~matching.hit & ~matching.ignored
    localisation = wrong & (own_iou >= BACKGROUND) & (own_iou < FOREGROUND)
    classification = wrong & ~localisation & (other_iou >= FOREGROUND)
    rest = wrong & ~localisation & ~classification
    kind = np.full(num_found, HIT)
    kind[rest] = BOTH
    kind[rest & (any_iou <= BACKGROUND)] = ON_BACKGROUND
    kind[rest & (own_iou >= FOREGROUND)] = DUPLICATE
    kind[classification] = CLASSIFICATION
    kind[localisation] = LOCALISATION
    kind[matching.ignored] = IGNORED
    about = np.where(localisation, own, np.where(classification, other, NONE))
    missed = ~boxes.crowd & (matching.taker == NONE)
    missed[about[about != NONE]] = False

    counts = {name: int((kind == number).sum()) for number, name in TYPE_NAMES.items()}
    counts[MISSED] = int(missed.sum())
    num_truth = boxes.num_truth()
    hit, counted = matching.hit, ~matching.ignored
    ap50 = _mean_ap(boxes, boxes.label, hit, counted, num_truth)

    def gain(label: Ints, right: Bools, kept: Bools, truth: Ints) -> float | None:
        if ap50 is None:
            return None
        mended_ap = _mean_ap(boxes, label, right, kept, truth)
        return (1.0 if mended_ap is None else mended_ap) - ap50  # where nothing is left to find, nothing is missing

    cost: dict[str, float | None] = {}
    for number, name in TYPE_NAMES.items():
        of_type = kind == number
        mended = _mendable(about, of_type, matching)
        label = boxes.label.copy()
        label[mended] = boxes.truth_label[about[mended]]
        cost[name] = gain(label, hit | mended, counted & (~of_type | mended), num_truth)
    found = num_truth - np.bincount(boxes.truth_label[missed], minlength=len(num_truth))
    cost[MISSED] = gain(boxes.label, hit, counted, found)
    taken = np.bincount(boxes.label[hit], minlength=len(num_truth))
    return ErrorTypes(
        kind=kind,
        about=about,
        missed=missed,
        ap50=ap50,
        counts=counts,
        cost=cost,
        false_positives=gain(boxes.label, hit, hit, num_truth),
        false_negatives=gain(boxes.label, hit, counted, taken),
    )


def _mendable(about: Ints, of_type: Bools, matching: Matching) -> Bools:
    """The errors that would be hits once mended: the best one about each truth box that nothing has taken. (D,)

    The others would then be duplicates, so the oracle of the paper lets them go.
    """
    rows = np.flatnonzero(of_type & (about != NONE))
    rows = rows[matching.taker[about[rows]] == NONE]
    _, first = np.unique(about[rows], return_index=True)  # detections stand best first
    mended = np.zeros(len(about), dtype=np.bool_)
    mended[rows[first]] = True
    return mended


def _mean_ap(boxes: Boxes, label: Ints, hit: Bools, kept: Bools, num_truth: Ints) -> float | None:
    """AP50 over the classes of the data with the given labels, hits and amount of truth.

    A class that has lost all its truth is left out, as COCO leaves out those without truth. (The authors' program
    counts it 0 while it has detections, so that a class of which nothing is found would cost nothing.)
    """
    right = hit[kept]
    rows = by_class(label[kept], len(boxes.names))
    classes = [c for c in np.flatnonzero(boxes.num_truth()) if num_truth[c]]
    aps = [float(precision_at_recall(right[rows[c]], int(num_truth[c])).mean()) for c in classes]
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
    truth_label: int | None  # class of the object it stands on, for a classification error


@dataclass(frozen=True)
class PictureMistakes:
    """All of one picture at the thresholds in use."""

    image_id: int
    cost: float  # scores of the wrong detections, and half a point for every object not found
    hits: tuple[Box, ...]
    wrong: tuple[Wrong, ...]  # best score first
    missed: tuple[tuple[Box, int], ...]  # box and label
    crowd: tuple[Box, ...]


def worst_pictures(
    boxes: Boxes, matching: Matching, errors: ErrorTypes, kept: Bools, most: int
) -> list[PictureMistakes]:
    """The pictures whose mistakes weigh most, worst first; none without a mistake.

    ``kept`` (D,) are the detections above their thresholds; the matching is that of all detections at IoU 0.5.
    """
    wrong = kept & ~matching.hit & ~matching.ignored
    found = matching.taker != NONE
    found[found] = kept[matching.taker[found]]
    missed = ~boxes.crowd & ~found
    num_images = len(boxes.image_ids)
    lost = np.bincount(boxes.truth_image[missed], minlength=num_images)
    cost = np.bincount(boxes.image[wrong], boxes.score[wrong], num_images) + MISSED_WEIGHT * lost
    order = [int(i) for i in np.argsort(-cost, kind="stable")[:most] if cost[i] > 0]
    return [_of_picture(boxes, matching, errors, kept, wrong, missed, i, float(cost[i])) for i in order]


def _of_picture(
    boxes: Boxes,
    matching: Matching,
    errors: ErrorTypes,
    kept: Bools,
    wrong: Bools,
    missed: Bools,
    image: int,
    cost: float,
) -> PictureMistakes:
    here, there = boxes.image == image, boxes.truth_image == image
    told = []
    for i in np.flatnonzero(wrong & here):
        kind = TYPE_NAMES[int(errors.kind[i])]
        other = int(boxes.truth_label[errors.about[i]]) if kind == "classification" else None
        told.append(Wrong(_box(boxes.box[i]), int(boxes.label[i]), float(boxes.score[i]), kind, other))
    return PictureMistakes(
        image_id=int(boxes.image_ids[image]),
        cost=cost,
        hits=tuple(_box(box) for box in boxes.box[here & kept & matching.hit]),
        wrong=tuple(told),
        missed=tuple((_box(boxes.truth_box[t]), int(boxes.truth_label[t])) for t in np.flatnonzero(missed & there)),
        crowd=tuple(_box(box) for box in boxes.truth_box[there & boxes.crowd]),
    )


def _box(row: np.ndarray) -> Box:
    x0, y0, x1, y1 = (float(v) for v in row)
    return x0, y0, x1, y1

"""Which pictures the detector gets most wrong, and what is wrong in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.error_types import TYPE_NAMES, ErrorTypes
from gfocal.evaluation.matching import NONE, Bools, Boxes, Matching

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

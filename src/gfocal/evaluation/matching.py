"""The matching of detections to ground truth by COCO's rules, in arrays; every part of an evaluation uses it.

In the order of their scores, each detection is matched to the unmatched ground-truth box of highest IoU, if that is
high enough. A detection without a match that lies on a crowd region is ignored. Letters of shapes: I image, T
ground-truth box, D detection, P pair of a detection and a ground-truth box that overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gfocal.data.dataset import Sample
from gfocal.evaluation.coco_ap import MAX_DETECTIONS, ScoredBoxes, objects_of, xywh_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NONE = -1
PAIRS_AT_ONCE = 2_000_000  # about 300 MB while the overlaps are computed


@dataclass(frozen=True)
class Boxes:
    """Ground truth and detections of a whole dataset, concatenated; detections by falling score over all images."""

    names: tuple[str, ...]  # of the classes, indexed by label
    image_ids: Ints  # (I,), ascending
    gt_image: Ints  # (T,), index into image_ids, ascending
    gt_label: Ints  # (T,)
    gt_box: Floats  # (T, 4) xyxy, pixels
    gt_area: Floats  # (T,), width x height as stated, which the corners may miss by a rounding
    crowd: Bools  # (T,)
    image: Ints  # (D,), index into image_ids
    label: Ints  # (D,)
    box: Floats  # (D, 4) xyxy, pixels
    area: Floats  # (D,)
    score: Floats  # (D,), descending
    row: Ints  # (D,), index among the detections of its image

    def num_ground_truth(self) -> Ints:
        """Ground-truth boxes of each class, without crowd regions. (C,)"""
        return np.bincount(self.gt_label[~self.crowd], minlength=len(self.names))


@dataclass(frozen=True)
class Pairs:
    """Every detection with every ground-truth box of its image that it overlaps, of any class."""

    detection: Ints  # (P,), index of the detection, ascending
    ground_truth: Ints  # (P,), index of the ground-truth box
    iou: Floats  # (P,), with a crowd region: the fraction of the detection that lies on it


@dataclass(frozen=True)
class Matching:
    """Which detection and which ground-truth box belong together."""

    gt_index: Ints  # (D,), the ground-truth box of a detection, or NONE
    ignored: Bools  # (D,), on a crowd region: neither a true nor a false positive
    detection_index: Ints  # (T,), the detection of a ground-truth box, or NONE

    @property
    def true_positive(self) -> Bools:
        """(D,)"""
        return self.gt_index != NONE


def collect_boxes(
    samples: Sequence[Sample],
    detections: Mapping[int, ScoredBoxes],
    names: Sequence[str],
    max_detections: int = MAX_DETECTIONS,
) -> Boxes:
    """Ground truth and detections as arrays. ``coco_ap`` checks both, so call it first.

    As in COCO, the best detections of each class and image count; among equal scores that of the lower image id
    comes first, then the one given first.
    """
    ordered = sorted(samples, key=lambda sample: sample.image_id)
    objects = [objects_of(sample) for sample in ordered]
    ids = [sample.image_id for sample in ordered]
    found = [detections.get(image_id) for image_id in ids]
    present = [(i, one) for i, one in enumerate(found) if one is not None]
    num_ground_truth = [len(one.boxes) for one in objects]
    num_detections = [len(one.boxes) for _, one in present]
    image = np.repeat(np.array([i for i, _ in present], dtype=np.int64), num_detections)
    label = _concatenate([one.labels for _, one in present], np.int64)
    score = _concatenate([one.scores for _, one in present], np.float64)
    box, area = _corners_and_areas([xywh_of(one) for _, one in present])
    gt_box, gt_area = _corners_and_areas([one.boxes for one in objects])
    row = np.arange(len(image)) - np.repeat(np.cumsum([0, *num_detections])[:-1], num_detections)
    best = np.argsort(-score, kind="stable")
    group = (image * (len(names) or 1) + label)[best]
    best = best[_rank_in_group(group) < max_detections]
    return Boxes(
        names=tuple(names),
        image_ids=np.array(ids, dtype=np.int64),
        gt_image=np.repeat(np.arange(len(ids)), num_ground_truth),
        gt_label=_concatenate([one.labels for one in objects], np.int64),
        gt_box=gt_box,
        gt_area=gt_area,
        crowd=_concatenate([one.crowd for one in objects], np.bool_),
        image=image[best],
        label=label[best],
        box=box[best],
        area=area[best],
        score=score[best],
        row=row[best],
    )


def compute_overlaps(boxes: Boxes) -> Pairs:
    """The pairs of a detection and a ground-truth box of one image whose intersection is not empty."""
    first = np.searchsorted(
        boxes.gt_image, np.arange(len(boxes.image_ids) + 1)
    )  # of the ground-truth boxes of each image
    count = (first[1:] - first[:-1])[boxes.image]  # (D,), ground-truth boxes in the image of each detection
    ends = np.cumsum(count)
    parts = [_overlaps_of(boxes, first, count, 0, 0)]
    start = 0
    while start < len(count):
        done = ends[start] - count[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        parts.append(_overlaps_of(boxes, first, count, start, stop))
        start = stop
    return Pairs(*(np.concatenate([part[k] for part in parts]) for k in range(3)))


def match(
    boxes: Boxes,
    pairs: Pairs,
    iou_threshold: float = 0.5,
    *,
    selected: Bools | None = None,
    any_class: bool = False,
) -> Matching:
    """Match each detection to a ground-truth box, or to none.

    ``selected`` (D,) leaves all other detections out, as if they did not exist. ``any_class`` allows matches of
    different classes, as a confusion matrix needs.
    """
    enough = pairs.iou >= min(iou_threshold, 1 - 1e-10)  # as pycocotools, which so tolerates rounding at IoU 1
    if selected is not None:
        enough &= selected[pairs.detection]
    if not any_class:
        enough &= boxes.label[pairs.detection] == boxes.gt_label[pairs.ground_truth]
    on_crowd = boxes.crowd[pairs.ground_truth]
    gt_index, detection_index = _match_by_score(
        pairs, np.flatnonzero(enough & ~on_crowd), len(boxes.score), len(boxes.crowd)
    )
    ignored = np.zeros(len(boxes.score), dtype=np.bool_)
    ignored[pairs.detection[enough & on_crowd]] = True
    return Matching(gt_index, ignored & (gt_index == NONE), detection_index)


def find_best_overlap(pairs: Pairs, selected: Bools, num_detections: int) -> tuple[Floats, Ints]:
    """The highest IoU of each detection among the selected pairs (P,), and its ground-truth box.

    IoU (D,), 0 without a pair; ground-truth boxes (D,), NONE without a pair.
    """
    rows = np.flatnonzero(selected)
    rows = rows[np.lexsort((-pairs.ground_truth[rows], pairs.iou[rows], pairs.detection[rows]))]
    iou, ground_truth = np.zeros(num_detections), np.full(num_detections, NONE)
    iou[pairs.detection[rows]] = pairs.iou[rows]  # of a repeated index the last value stays: the highest
    ground_truth[pairs.detection[rows]] = pairs.ground_truth[rows]
    return iou, ground_truth


def group_by_class(label: Ints, num_classes: int) -> list[Ints]:
    """Indices of the detections of each class, in their order. C arrays"""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, num_classes)))


def _match_by_score(pairs: Pairs, rows: Ints, num_detections: int, num_ground_truth: int) -> tuple[Ints, Ints]:
    """The ground-truth box of each detection, and the reverse, if detections choose one after another, best first.

    All detections choose at the same time instead. Where several choose one box the best keeps it and the others
    choose their next one, until no box is chosen twice. The result is the same, in a few rounds over arrays.
    """
    # Of equal overlaps pycocotools takes the ground-truth box that comes last.
    order = rows[np.lexsort((-pairs.ground_truth[rows], -pairs.iou[rows], pairs.detection[rows]))]
    detection, ground_truth = pairs.detection[order], pairs.ground_truth[order]
    choosing, choice, count = np.unique(detection, return_index=True, return_counts=True)
    end = choice + count  # of the choices of each detection
    choice = choice.copy()
    while True:
        chosen = ground_truth[choice]
        detection_index = np.full(num_ground_truth, num_detections)
        np.minimum.at(detection_index, chosen, choosing)
        refused = detection_index[chosen] != choosing
        if not refused.any():
            break
        choice[refused] += 1
        has_choice = choice < end
        choosing, choice, end = choosing[has_choice], choice[has_choice], end[has_choice]
    gt_index = np.full(num_detections, NONE)
    gt_index[choosing] = chosen
    detection_index[detection_index == num_detections] = NONE
    return gt_index, detection_index


def _overlaps_of(boxes: Boxes, first: Ints, count: Ints, start: int, stop: int) -> tuple[Ints, Ints, Floats]:
    """The pairs of detections ``start`` to ``stop`` - 1."""
    count = count[start:stop]
    detection = np.repeat(np.arange(start, stop), count)  # each as often as its image has ground-truth boxes
    within = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    ground_truth = first[boxes.image[detection]] + within
    a, b = boxes.box[detection], boxes.gt_box[ground_truth]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    keep = (sides > 0).all(1)
    detection, ground_truth, a, b, sides = detection[keep], ground_truth[keep], a[keep], b[keep], sides[keep]
    intersection = sides[:, 0] * sides[:, 1]
    area, gt_area = boxes.area[detection], boxes.gt_area[ground_truth]
    # Added in the same order as in pycocotools, so that an IoU at a threshold falls on the same side.
    union = np.where(boxes.crowd[ground_truth], area, area + gt_area - intersection)
    return detection, ground_truth, intersection / union


def _rank_in_group(group: Ints) -> Ints:
    """How many of its group come before each. (D,)"""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(group) else np.zeros(0, dtype=np.int64)
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))
    return place


def _corners_and_areas(parts: list[torch.Tensor]) -> tuple[Floats, Floats]:
    """Boxes x, y, width, height as xyxy (N, 4), and their areas (N,), computed as in pycocotools."""
    xywh = _concatenate(parts, np.float64).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return corners, xywh[:, 2] * xywh[:, 3]


def _concatenate(parts: list[torch.Tensor], kind: type[np.generic]) -> Any:
    """Tensors as one array."""
    return torch.cat([part.detach().cpu() for part in parts]).numpy().astype(kind) if parts else np.zeros(0, kind)

"""One matching of detections to ground truth for every question that an evaluation asks, by COCO's rules, in arrays.

Detections take turns, best score first. Each takes the free ground-truth box that it overlaps most, if by enough. One
that finds none but lies on a crowd region is left out of the count. Letters of shapes: I image, T ground-truth box,
D detection, P pair of a detection and a ground-truth box that overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gfocal.data.dataset import Sample
from gfocal.evaluation.coco_ap import MAX_DETECTIONS, ScoredBoxes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NONE = -1
PAIRS_AT_ONCE = 2_000_000  # about 300 MB while the overlaps are computed


@dataclass(frozen=True)
class Boxes:
    """Ground truth and detections of a whole dataset, end to end; detections best first over all images."""

    names: tuple[str, ...]  # of the classes, indexed by label
    image_ids: Ints  # (I,), ascending
    gt_image: Ints  # (T,), index into image_ids, ascending
    gt_label: Ints  # (T,)
    gt_box: Floats  # (T, 4) xyxy, pixels
    crowd: Bools  # (T,)
    image: Ints  # (D,), index into image_ids
    label: Ints  # (D,)
    box: Floats  # (D, 4) xyxy, pixels
    score: Floats  # (D,), never rising
    row: Ints  # (D,), which of the detections of its image

    def num_ground_truth(self) -> Ints:
        """Objects to be found of each class, crowd regions aside. (C,)"""
        return np.bincount(self.gt_label[~self.crowd], minlength=len(self.names))


@dataclass(frozen=True)
class Pairs:
    """Every detection with every ground-truth box of its image, of whatever class, that it overlaps at all."""

    found: Ints  # (P,), index of the detection, ascending
    ground_truth: Ints  # (P,), index of the ground-truth box
    iou: Floats  # (P,), with a crowd region: the share of the detection that lies on it


@dataclass(frozen=True)
class Matching:
    """Who took what."""

    taken: Ints  # (D,), the ground-truth box that a detection took, or NONE
    ignored: Bools  # (D,), on a crowd region: neither right nor wrong
    taker: Ints  # (T,), the detection that took a ground-truth box, or NONE

    @property
    def hit(self) -> Bools:
        """Detections that are right. (D,)"""
        return self.taken != NONE


def lay_out(samples: Sequence[Sample], detections: Mapping[int, ScoredBoxes], names: Sequence[str]) -> Boxes:
    """Ground truth and detections as arrays; ``coco_ap`` says what is wrong with malformed ones, so run it first.

    As COCO has it, the best 100 of each class and image count, and of equal scores that of the lower image id
    comes first, then the one given first.
    """
    ordered = sorted(samples, key=lambda sample: sample.image_id)
    ids = [sample.image_id for sample in ordered]
    found = [detections.get(image_id) for image_id in ids]
    present = [(i, one) for i, one in enumerate(found) if one is not None]
    num_ground_truth = [len(sample.boxes) for sample in ordered]
    num_found = [len(one.boxes) for _, one in present]
    image = np.repeat(np.array([i for i, _ in present], dtype=np.int64), num_found)
    label = _joined([one.labels for _, one in present], np.int64)
    score = _joined([one.scores for _, one in present], np.float64)
    box = _joined([one.boxes for _, one in present], np.float64).reshape(-1, 4)
    row = np.arange(len(image)) - np.repeat(np.cumsum([0, *num_found])[:-1], num_found)
    best = np.argsort(-score, kind="stable")
    group = (image * (len(names) or 1) + label)[best]
    best = best[_place_in_group(group) < MAX_DETECTIONS[-1]]
    return Boxes(
        names=tuple(names),
        image_ids=np.array(ids, dtype=np.int64),
        gt_image=np.repeat(np.arange(len(ids)), num_ground_truth),
        gt_label=_joined([sample.labels for sample in ordered], np.int64),
        gt_box=_joined([sample.boxes for sample in ordered], np.float64).reshape(-1, 4),
        crowd=_joined([sample.crowd for sample in ordered], np.bool_),
        image=image[best],
        label=label[best],
        box=box[best],
        score=score[best],
        row=row[best],
    )


def overlaps(boxes: Boxes) -> Pairs:
    """The pairs of a detection and a ground-truth box of one image that share some area."""
    first = np.searchsorted(boxes.gt_image, np.arange(len(boxes.image_ids) + 1))  # of each image's ground truth
    count = (first[1:] - first[:-1])[boxes.image]  # (D,), ground-truth boxes in the image of each detection
    ends = np.cumsum(count)
    parts = [_some_overlaps(boxes, first, count, 0, 0)]
    start = 0
    while start < len(count):
        done = ends[start] - count[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        parts.append(_some_overlaps(boxes, first, count, start, stop))
        start = stop
    return Pairs(*(np.concatenate([part[k] for part in parts]) for k in range(3)))


def match(
    boxes: Boxes,
    pairs: Pairs,
    iou_threshold: float = 0.5,
    *,
    kept: Bools | None = None,
    any_class: bool = False,
) -> Matching:
    """Give each detection its ground-truth box, if it has one.

    ``kept`` (D,) leaves all other detections out, as if they were not there. ``any_class`` lets a detection take a
    box of another class, as a confusion matrix wants it.
    """
    enough = pairs.iou >= min(iou_threshold, 1 - 1e-10)  # as pycocotools, which so forgives rounding at IoU 1
    if kept is not None:
        enough &= kept[pairs.found]
    if not any_class:
        enough &= boxes.label[pairs.found] == boxes.gt_label[pairs.ground_truth]
    on_crowd = boxes.crowd[pairs.ground_truth]
    taken, taker = _by_turns(pairs, np.flatnonzero(enough & ~on_crowd), len(boxes.score), len(boxes.crowd))
    ignored = np.zeros(len(boxes.score), dtype=np.bool_)
    ignored[pairs.found[enough & on_crowd]] = True
    return Matching(taken, ignored & (taken == NONE), taker)


def best_overlap(pairs: Pairs, chosen: Bools, num_found: int) -> tuple[Floats, Ints]:
    """The largest overlap of each detection among the chosen pairs (P,), and the ground-truth box of it.

    Overlaps (D,), 0 without any; ground-truth boxes (D,), NONE without any.
    """
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((-pairs.ground_truth[rows], pairs.iou[rows], pairs.found[rows]))]
    iou, ground_truth = np.zeros(num_found), np.full(num_found, NONE)
    iou[pairs.found[rows]] = pairs.iou[rows]  # of a repeated index the last value stays: the largest
    ground_truth[pairs.found[rows]] = pairs.ground_truth[rows]
    return iou, ground_truth


def by_class(label: Ints, num_classes: int) -> list[Ints]:
    """Which detections are of each class, in their order. C arrays of indices"""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, num_classes)))


def _by_turns(pairs: Pairs, rows: Ints, num_found: int, num_ground_truth: int) -> tuple[Ints, Ints]:
    """What each detection gets when the better one chooses first.

    All choose at once instead; where several want one box the best keeps it and the others choose again, until no
    one is refused. That ends with the same boxes in the same hands, in a few rounds over arrays.
    """
    # Of equal overlaps pycocotools takes the ground-truth box that comes last.
    order = rows[np.lexsort((-pairs.ground_truth[rows], -pairs.iou[rows], pairs.found[rows]))]
    found, ground_truth = pairs.found[order], pairs.ground_truth[order]
    choosing, wish, wishes = np.unique(found, return_index=True, return_counts=True)
    last = wish + wishes
    wish = wish.copy()
    while True:
        wanted = ground_truth[wish]
        taker = np.full(num_ground_truth, num_found)
        np.minimum.at(taker, wanted, choosing)
        refused = taker[wanted] != choosing
        if not refused.any():
            break
        wish[refused] += 1
        going_on = wish < last
        choosing, wish, last = choosing[going_on], wish[going_on], last[going_on]
    taken = np.full(num_found, NONE)
    taken[choosing] = wanted
    taker[taker == num_found] = NONE
    return taken, taker


def _some_overlaps(boxes: Boxes, first: Ints, count: Ints, start: int, stop: int) -> tuple[Ints, Ints, Floats]:
    """Pairs of the detections from ``start`` to before ``stop``."""
    count = count[start:stop]
    found = np.repeat(np.arange(start, stop), count)  # every detection as often as its image has ground truth
    within = np.arange(len(found)) - np.repeat(np.cumsum(count) - count, count)
    ground_truth = first[boxes.image[found]] + within
    a, b = boxes.box[found], boxes.gt_box[ground_truth]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    keep = (sides > 0).all(1)
    found, ground_truth, a, b, sides = found[keep], ground_truth[keep], a[keep], b[keep], sides[keep]
    shared = sides[:, 0] * sides[:, 1]
    area, gt_area = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    # Added in the order in which pycocotools does, so that an IoU at a threshold falls on the same side.
    whole = np.where(boxes.crowd[ground_truth], area, area + gt_area - shared)
    return found, ground_truth, shared / whole


def _place_in_group(group: Ints) -> Ints:
    """How many of its group stand before each. (D,)"""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(group) else np.zeros(0, dtype=np.int64)
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))
    return place


def _joined(parts: list[torch.Tensor], kind: type[np.generic]) -> Any:
    """Tensors end to end as one array."""
    return torch.cat([part.detach().cpu() for part in parts]).numpy().astype(kind) if parts else np.zeros(0, kind)

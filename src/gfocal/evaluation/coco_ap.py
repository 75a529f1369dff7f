"""Average precision by the rules of COCO: the twelve numbers, and those of every class, equal to pycocotools.

faster-coco-eval computes them; this file converts samples and detections into its form and its arrays into a result
that has None instead of -1 where there is no ground truth. The arrays differ from those of pycocotools in the last
bit only (it adds 2e-16 to the denominator of a precision).

Boxes are x, y, width, height in float64, as the files state them: clipping, rounding to float32, or a width from two
corners can move an IoU to the other side of a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gfocal.data.dataset import Sample
from gfocal.data.stated import StatedObjects

# Areas in square pixels, both ends included, as pycocotools has them: 32 x 32 is small and medium.
SIZE_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
LIMITS = (1, 10, 100)  # detections per image and class, by descending score
MAX_DETECTIONS = LIMITS[-1]
FEW_OBJECTS = 20  # AP of fewer is mostly chance: one object found more or less moves it by 0.05 or more


class ScoredBoxes(Protocol):
    """Detections in one image; ``gfocal.structures.Detections`` is one.

    Those read from a file also have ``xywh`` (N, 4) float64, the boxes as the file states them.
    """

    @property
    def boxes(self) -> Tensor:
        """(N, 4) xyxy in pixels of the original image."""
        ...

    @property
    def scores(self) -> Tensor:
        """(N,) float, higher is better."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) integer, 0..C-1."""
        ...


class ClassAP(NamedTuple):
    """The numbers of one class; AP is None if the class has no ground truth."""

    ap: float | None
    ap50: float | None
    num_ground_truth: int
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None


@dataclass(frozen=True)
class LimitedAP:
    """AP and recall with another limit than COCO's 100 detections per image and class."""

    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, float | None]  # AP

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and dicts; None becomes null."""
        return asdict(self)


@dataclass(frozen=True)
class CocoResult:
    """The twelve numbers of COCO, each in 0..1, or None if there is no ground truth of that size.

    AP is the mean over IoU thresholds 0.50, 0.55 ... 0.95, 101 recall points and classes. Ground truth is counted
    without crowd regions, which are ignored.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None  # ground truth of at most 32 x 32 pixels
    ap_medium: float | None
    ap_large: float | None  # ground truth of at least 96 x 96 pixels
    ar1: float | None  # recall, mean over thresholds, with 1, 10, 100 detections per image and class
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, ClassAP]  # in the order of the dataset's names
    num_images: int
    num_ground_truth: int
    num_small: int
    num_medium: int
    num_large: int
    num_detections: int
    limited: LimitedAP | None = None  # the same with another limit of detections, where one was asked for
    num_beyond_limit: int = 0  # ground truth that 100 detections per image and class cannot reach

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and dicts; None becomes null."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "per_class": {name: numbers._asdict() for name, numbers in self.per_class.items()},
            "limited": None if self.limited is None else self.limited.to_json(),
        }


def coco_ap(
    samples: Sequence[Sample],
    detections: Mapping[int, ScoredBoxes],
    names: Sequence[str],
    max_detections: int = MAX_DETECTIONS,
) -> CocoResult:
    """Evaluate detections against ground truth by the rules of COCO.

    ``detections`` maps an image id to the detections of that image; an image of ``samples`` without an entry has
    none. Boxes of equal score count in the order in which they are given, and only the best 100 of each class and
    image. ``names`` are the classes, indexed by label. With another ``max_detections`` the result has AP with that
    many too, as ``limited``.

    Ground truth is ``objects_of`` each sample: not clipped. The area of an object decides whether it is small, medium
    or large. COCO uses that of its outline; where none is stated that of the box is used, which moves some objects to
    a larger size and changes nothing else.

    Raises ValueError if there are no images, ids or names repeat, detections name an image that is not in
    ``samples``, or boxes, scores or labels are malformed.
    """
    _check_inputs(samples, detections, names)
    objects = [objects_of(sample) for sample in samples]
    ground_truth: list[dict[str, Any]] = []
    for sample, one in zip(samples, objects, strict=True):
        ground_truth += _gt_records(sample.image_id, one, len(names))
    found: list[dict[str, Any]] = []
    for image_id, scored in detections.items():
        found += _detection_records(image_id, scored, len(names))
    for records in (ground_truth, found):
        for i, record in enumerate(records):
            record["id"] = i + 1  # not from 0, which faster-coco-eval treats as "not matched"
    image_ids = [sample.image_id for sample in samples]
    limits = sorted({*LIMITS, max_detections})
    precision, recall = _accumulate(image_ids, ground_truth, found, names, limits)  # (T, R, C, A, M), (T, C, A, M)
    places = [limits.index(limit) for limit in LIMITS]
    count = _count_by_size(ground_truth, len(names))
    result = _summarize(precision[..., places], recall[..., places], count, names, len(samples), len(found))
    beyond = _count_beyond_limit(objects)
    if max_detections == MAX_DETECTIONS:
        return replace(result, num_beyond_limit=beyond)
    place = limits.index(max_detections)
    limited = _summarize_limited(precision[..., place], recall[..., place], names, max_detections)
    return replace(result, num_beyond_limit=beyond, limited=limited)


def objects_of(sample: Sample) -> StatedObjects:
    """The objects of an image as evaluation counts them: as the file states them, where they come from a file."""
    if sample.stated is not None:
        return sample.stated
    boxes = sample.boxes.detach().cpu().double()
    xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    areas = torch.full_like(xywh[:, 0], torch.nan) if sample.areas is None else sample.areas.double()
    return StatedObjects(sample.image_id, xywh, sample.labels, sample.crowd, areas)


def xywh_of(detections: ScoredBoxes) -> Tensor:
    """Boxes as x, y, width, height: as the file states them, where they come from a file. (N, 4) float64"""
    stated = getattr(detections, "xywh", None)
    if isinstance(stated, Tensor):
        return stated
    boxes = detections.boxes.detach().cpu().double()
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _count_beyond_limit(objects: Sequence[StatedObjects]) -> int:
    """Ground truth that 100 detections of each image and class cannot reach."""
    counts = [one.labels[~one.crowd].long().bincount() for one in objects]
    return int((torch.cat(counts) - MAX_DETECTIONS).clamp(min=0).sum())


def _check_inputs(samples: Sequence[Sample], detections: Mapping[int, ScoredBoxes], names: Sequence[str]) -> None:
    if not samples:
        raise ValueError("no images to evaluate: the list of samples is empty")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"every class needs a unique name, got {list(names)}")
    image_ids = [sample.image_id for sample in samples]
    if len(set(image_ids)) != len(image_ids):
        repeated = next(i for i in image_ids if image_ids.count(i) > 1)
        raise ValueError(f"image id {repeated} occurs in more than one sample: give every image a unique id")
    if unknown := sorted(set(detections) - set(image_ids)):
        raise ValueError(
            f"detections for image id {unknown[0]} (and {len(unknown) - 1} more), which no sample has: "
            "evaluate on the dataset the detections were made on"
        )


def _count_by_size(ground_truth: list[dict[str, Any]], num_classes: int) -> np.ndarray:
    """Ground-truth boxes without crowd regions. (C, A) int64"""
    count = np.zeros((num_classes, len(SIZE_RANGES)), dtype=np.int64)
    for record in ground_truth:
        for a, (low, high) in enumerate(SIZE_RANGES.values()):
            count[record["category_id"] - 1, a] += not record["iscrowd"] and low <= record["area"] <= high
    return count


def _summarize(
    precision: np.ndarray,
    recall: np.ndarray,
    num_ground_truth: np.ndarray,
    names: Sequence[str],
    num_images: int,
    num_detections: int,
) -> CocoResult:
    """The result from precision (T, R, C, A, M), recall (T, C, A, M) and the numbers of ground-truth boxes (C, A)."""
    of_size: list[int] = num_ground_truth.sum(0).tolist()
    return CocoResult(
        ap=_mean(precision[..., 0, 2]),
        ap50=_mean(precision[0, ..., 0, 2]),
        ap75=_mean(precision[5, ..., 0, 2]),
        ap_small=_mean(precision[..., 1, 2]),
        ap_medium=_mean(precision[..., 2, 2]),
        ap_large=_mean(precision[..., 3, 2]),
        ar1=_mean(recall[..., 0, 0]),
        ar10=_mean(recall[..., 0, 1]),
        ar100=_mean(recall[..., 0, 2]),
        ar_small=_mean(recall[..., 1, 2]),
        ar_medium=_mean(recall[..., 2, 2]),
        ar_large=_mean(recall[..., 3, 2]),
        per_class={
            name: _class_ap(precision[:, :, c, :, 2], int(num_ground_truth[c, 0])) for c, name in enumerate(names)
        },
        num_images=num_images,
        num_ground_truth=of_size[0],
        num_small=of_size[1],
        num_medium=of_size[2],
        num_large=of_size[3],
        num_detections=num_detections,
    )


def _summarize_limited(
    precision: np.ndarray, recall: np.ndarray, names: Sequence[str], max_detections: int
) -> LimitedAP:
    """The numbers from precision (T, R, C, A) and recall (T, C, A) with one limit of detections."""
    return LimitedAP(
        max_detections=max_detections,
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[0, ..., 0]),
        ap75=_mean(precision[5, ..., 0]),
        ap_small=_mean(precision[..., 1]),
        ap_medium=_mean(precision[..., 2]),
        ap_large=_mean(precision[..., 3]),
        ar=_mean(recall[..., 0]),
        ar_small=_mean(recall[..., 1]),
        ar_medium=_mean(recall[..., 2]),
        ar_large=_mean(recall[..., 3]),
        per_class={name: _mean(precision[:, :, c, 0]) for c, name in enumerate(names)},
    )


def _accumulate(
    image_ids: list[int],
    ground_truth: list[dict[str, Any]],
    detections: list[dict[str, Any]],
    names: Sequence[str],
    limits: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, C, A, M) and recall (T, C, A, M); -1 where there is no ground truth.

    T thresholds of IoU, R points of recall, A size ranges, M numbers of detections.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    def silent(*_: object) -> None:
        """Both classes print their progress by default."""

    def index(records: list[dict[str, Any]]) -> COCO:
        images = [{"id": image_id} for image_id in image_ids]
        categories = [{"id": c + 1, "name": name} for c, name in enumerate(names)]
        return COCO({"images": images, "categories": categories, "annotations": records}, print_function=silent)

    # Not by loadRes, which refuses or rewrites an empty list in some versions and adds a polygon to every box.
    evaluation = COCOeval_faster(index(ground_truth), index(detections), iouType="bbox", print_function=silent)
    evaluation.params.areaRng = [list(limits) for limits in SIZE_RANGES.values()]
    evaluation.params.areaRngLbl = list(SIZE_RANGES)
    evaluation.params.maxDets = list(limits)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _class_ap(precision: np.ndarray, num_ground_truth: int) -> ClassAP:
    """The numbers of one class from its precision (T, R, A)."""
    ap, small, medium, large = (_mean(precision[..., a]) for a in range(len(SIZE_RANGES)))
    ap50, ap75 = _mean(precision[0, :, 0]), _mean(precision[5, :, 0])
    return ClassAP(ap, ap50, num_ground_truth, ap75, small, medium, large)


def _mean(values: np.ndarray) -> float | None:
    """The mean over the entries with ground truth; None if there are none."""
    present = values[values > -1]
    return float(present.mean()) if present.size else None


def _records(image_id: int, xywh: Tensor, labels: Tensor, num_classes: int, where: str) -> list[dict[str, Any]]:
    """Boxes in COCO's form."""
    wrong = ~torch.isfinite(xywh).all(1)  # (N,)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{where}: box {row} is {xywh[row].tolist()}; boxes are finite numbers")
    records = []
    for label, (x, y, w, h) in zip(labels.tolist(), xywh.tolist(), strict=True):
        if not 0 <= label < num_classes:
            raise ValueError(f"{where}: label {label}, but the {num_classes} classes are 0..{num_classes - 1}")
        records.append(
            {
                "image_id": image_id,
                "category_id": int(label) + 1,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
            }
        )
    return records


def _gt_records(image_id: int, objects: StatedObjects, num_classes: int) -> list[dict[str, Any]]:
    where = f"ground truth of image id {image_id}"
    records = _records(image_id, objects.boxes, objects.labels, num_classes, where)
    for record, crowd, area in zip(records, objects.crowd.tolist(), objects.areas.tolist(), strict=True):
        record["iscrowd"] = int(crowd)
        if not math.isnan(area):
            record["area"] = area
    return records


def _detection_records(image_id: int, detections: ScoredBoxes, num_classes: int) -> list[dict[str, Any]]:
    where = f"detections in image id {image_id}"
    boxes, labels = detections.boxes, detections.labels
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise ValueError(
            f"{where}: expected boxes (N, 4) and labels (N,), got {tuple(boxes.shape)} and {tuple(labels.shape)}"
        )
    if (inverted := (boxes[:, 2:] < boxes[:, :2]).any(1)).any():
        row = int(inverted.nonzero()[0])
        raise ValueError(
            f"{where}: box {row} is {boxes[row].tolist()}; boxes are finite x1, y1, x2, y2 with x1 <= x2 "
            "and y1 <= y2 (not x, y, width, height)"
        )
    records = _records(image_id, xywh_of(detections), labels, num_classes, where)
    if detections.scores.shape != (len(records),) or not torch.isfinite(detections.scores).all():
        raise ValueError(f"{where}: expected {len(records)} finite scores, one for each box, got {detections.scores}")
    for record, score in zip(records, detections.scores.tolist(), strict=True):
        record["score"] = score
    return records

"""Confidence intervals of AP: the images of an evaluation are drawn again, with replacement, many times.

The bootstrap (Efron 1979) over images, which are independent where their objects are not. Detections are matched to
ground truth once, as an image's matches do not depend on other images; of each resample only the precision and recall
curves are computed again, with a weight for each image: how often it was drawn. Letters of shapes: I image, T
ground-truth box, D detection, B resample, C class.

The interval says how far AP may lie off because the evaluation images are few. It says nothing of another seed of the
training, nor of images of another kind than these.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gfocal.atomic import atomic_write
from gfocal.data.dataset import Sample
from gfocal.evaluation.coco_ap import ScoredBoxes
from gfocal.evaluation.curves import RECALL_POINTS
from gfocal.evaluation.matching import (
    Boxes,
    Floats,
    Ints,
    Pairs,
    collect_boxes,
    compute_overlaps,
    group_by_class,
    match,
)

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))  # COCO's
RESAMPLES = 1000
CONFIDENCE = 0.95
VALUES_AT_ONCE = 4_000_000  # weights of detections in one block of resamples: 16 MB

Bits = NDArray[np.uint16]  # bit t: at IoU threshold t


@dataclass(frozen=True)
class MatchTable:
    """What AP at COCO's ten IoU thresholds follows from: detections by falling score over all images."""

    names: tuple[str, ...]  # of the classes, indexed by label
    image_ids: Ints  # (I,), ascending
    gt_image: Ints  # (T,), index into image_ids; without crowd regions
    gt_label: Ints  # (T,)
    image: Ints  # (D,), index into image_ids
    label: Ints  # (D,)
    matched: Bits  # (D,), true positives
    ignored: Bits  # (D,), on a crowd region: neither true nor false positives

    def has_same_ground_truth(self, other: MatchTable) -> bool:
        """Whether two evaluations are of the same images, classes and objects."""
        return self.names == other.names and all(
            np.array_equal(a, b)
            for a, b in (
                (self.image_ids, other.image_ids),
                (self.gt_image, other.gt_image),
                (self.gt_label, other.gt_label),
            )
        )


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float

    def describe(self) -> str:
        """``0.312 to 0.401``, as text."""
        return f"{self.low:.3f} to {self.high:.3f}"


@dataclass(frozen=True)
class ResampledAP:
    """AP of each resample, NaN where it has no ground truth."""

    ap: Floats  # (B,)
    ap50: Floats  # (B,)
    class_ap: Floats  # (B, C)


@dataclass(frozen=True)
class APIntervals:
    """Confidence intervals of AP; None where there are too few images or no objects."""

    ap: Interval | None
    ap50: Interval | None
    per_class: dict[str, Interval | None]  # AP
    resamples: int = RESAMPLES
    confidence: float = CONFIDENCE

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        return {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "ap": _rounded(self.ap),
            "ap50": _rounded(self.ap50),
            "per_class": {name: _rounded(one) for name, one in self.per_class.items()},
        }


@dataclass(frozen=True)
class APDifference:
    """How much higher AP of the second of two evaluations of the same images is, with its interval."""

    ap: float
    ap50: float
    ap_interval: Interval
    ap50_interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside the interval of AP: these images alone do not explain the difference."""
        return not self.ap_interval.low <= 0 <= self.ap_interval.high


def match_samples(
    samples: Sequence[Sample], detections: Mapping[int, ScoredBoxes], names: Sequence[str]
) -> MatchTable:
    """What AP follows from, for intervals. ``coco_ap`` checks the detections, so call it first."""
    boxes = collect_boxes(samples, detections, names)
    return match_at_thresholds(boxes, compute_overlaps(boxes))


def match_at_thresholds(boxes: Boxes, pairs: Pairs) -> MatchTable:
    """The matches at COCO's ten IoU thresholds."""
    matched = np.zeros(len(boxes.score), dtype=np.uint16)
    ignored = np.zeros(len(boxes.score), dtype=np.uint16)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        matching = match(boxes, pairs, threshold)
        matched |= matching.true_positive.astype(np.uint16) << t
        ignored |= matching.ignored.astype(np.uint16) << t
    counted = ~boxes.crowd
    return MatchTable(
        names=boxes.names,
        image_ids=boxes.image_ids,
        gt_image=boxes.gt_image[counted],
        gt_label=boxes.gt_label[counted],
        image=boxes.image,
        label=boxes.label,
        matched=matched,
        ignored=ignored,
    )


def write_matches(path: Path, table: MatchTable) -> None:
    """Write a table as .npz, whole or not at all."""
    arrays = {f.name: getattr(table, f.name) for f in fields(table)}
    arrays["names"] = np.frombuffer(json.dumps(table.names).encode(), dtype=np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    with atomic_write(path) as temporary:
        temporary.write_bytes(stream.getbuffer())


def read_matches(path: Path) -> MatchTable:
    """Read a table that ``write_matches`` wrote. Raises ValueError, with the file's name, if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {f.name: stored[f.name] for f in fields(MatchTable)}
        names = json.loads(arrays.pop("names").tobytes())
        table = MatchTable(names=tuple(map(str, names)), **arrays)
        _require_consistent(table)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged, or not as gfocal wrote it ({error})") from error
    return table


def _require_consistent(table: MatchTable) -> None:
    kinds = {f.name: np.uint16 if f.name in ("matched", "ignored") else np.int64 for f in fields(table)[1:]}
    for name, kind in kinds.items():
        if getattr(table, name).ndim != 1 or getattr(table, name).dtype != kind:
            raise ValueError(f"{name} is no list of whole numbers")
    for group, ends in (
        ((table.gt_image, table.gt_label), (len(table.image_ids), len(table.names))),
        ((table.image, table.label), (len(table.image_ids), len(table.names))),
    ):
        if len(group[0]) != len(group[1]):
            raise ValueError("lists of different length")
        if any(
            len(values) and not 0 <= values.min() <= values.max() < end
            for values, end in zip(group, ends, strict=True)
        ):
            raise ValueError("an index beyond its list")
    if not len(table.image) == len(table.matched) == len(table.ignored):
        raise ValueError("lists of different length")


def ap_intervals(table: MatchTable, resamples: int = RESAMPLES, seed: int = 0) -> APIntervals:
    """95 % confidence intervals of AP and AP50 over all classes, and of AP of each class.

    About a second for a thousand images, a few for COCO's 5,000.
    """
    found, whole, images = resample_ap(table, resamples, seed), ap_of(table), len(table.image_ids)
    return APIntervals(
        ap=_within(confidence_interval(float(whole.ap[0]), found.ap, images)),
        ap50=_within(confidence_interval(float(whole.ap50[0]), found.ap50, images)),
        per_class={
            name: _within(confidence_interval(float(whole.class_ap[0, c]), found.class_ap[:, c], images))
            for c, name in enumerate(table.names)
        },
        resamples=resamples,
    )


def difference_of_ap(
    first: MatchTable, second: MatchTable, resamples: int = RESAMPLES, seed: int = 0
) -> APDifference | None:
    """AP of ``second`` minus AP of ``first``: the paired bootstrap, in which both are computed on the same resamples.

    What makes an image hard for both cancels out, so that the interval is narrower than those of the two suggest.
    None with fewer than two images or without objects.

    Raises ValueError unless both are evaluations of the same images, classes and objects.
    """
    if not first.has_same_ground_truth(second):
        raise ValueError("not evaluations of the same images, classes and objects")
    before, after = (resample_ap(table, resamples, seed) for table in (first, second))
    ap, ap50 = (float(b[0] - a[0]) for a, b in zip(*map(_totals, (ap_of(first), ap_of(second))), strict=True))
    intervals = [
        confidence_interval(value, b - a, len(first.image_ids))
        for value, a, b in zip((ap, ap50), _totals(before), _totals(after), strict=True)
    ]
    ap_interval, ap50_interval = intervals
    if ap_interval is None or ap50_interval is None:
        return None
    return APDifference(ap=ap, ap50=ap50, ap_interval=ap_interval, ap50_interval=ap50_interval)


def _totals(found: ResampledAP) -> tuple[Floats, Floats]:
    return found.ap, found.ap50


def confidence_interval(
    estimate: float, resampled: Floats, num_images: int, confidence: float = CONFIDENCE
) -> Interval | None:
    """The interval of an estimate, as wide as its values on resamples of ``num_images`` images are spread.

    Estimate +- 1.96 standard deviations of the resamples; of few images more, by Student's t with I - 1 degrees of
    freedom, and times sqrt(I / (I - 1)), without which the spread of resamples is too small. Not the percentiles of
    the resamples: AP is the higher the fewer images it is of, as its precision is a maximum over recalls. This bias
    falls with the square root of their number, and the weights of a resample are worth I / 2 images: that resamples
    lie higher than the estimate by a difference says that the estimate lies too high by 1 / (sqrt(2) - 1) times as
    much. By this the interval reaches further down. None with fewer than two images or without ground truth.
    """
    present = resampled[~np.isnan(resampled)]
    if num_images < 2 or not len(present) or np.isnan(estimate):
        return None
    width = _student_t((1 + confidence) / 2, num_images - 1) * float(present.std())
    width *= (num_images / (num_images - 1)) ** 0.5
    bias = (float(present.mean()) - estimate) / (2**0.5 - 1)
    return Interval(estimate - width - max(bias, 0.0), estimate + width - min(bias, 0.0))


def _student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t, by its expansion around the normal one (Abramowitz and Stegun 1964, 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _within(interval: Interval | None) -> Interval | None:
    """What lies in the range of AP, 0..1."""
    return None if interval is None else Interval(max(interval.low, 0.0), min(interval.high, 1.0))


def resample_ap(table: MatchTable, resamples: int = RESAMPLES, seed: int = 0) -> ResampledAP:
    """AP of resampled images. Tables of the same images and one seed get the same resamples."""
    classes = _split_by_class(table)
    parts = [_weighted_ap(classes, weights) for weights in _resamples(table, resamples, seed)]
    return ResampledAP(
        ap=np.concatenate([part.ap for part in parts]),
        ap50=np.concatenate([part.ap50 for part in parts]),
        class_ap=np.concatenate([part.class_ap for part in parts]),
    )


def ap_of(table: MatchTable) -> ResampledAP:
    """AP of all images, each once: one "resample". Equal to ``coco_ap`` but for rounding."""
    return _weighted_ap(_split_by_class(table), np.ones((1, len(table.image_ids)), dtype=np.float32))


def _resamples(table: MatchTable, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each image was drawn, in blocks of resamples. (b, I) float32"""
    generator = np.random.default_rng(seed)
    images = len(table.image_ids)
    block = max(1, VALUES_AT_ONCE // max(images, len(table.image), 1))
    for first in range(0, resamples, block):
        # One after another, so that the resamples do not depend on the size of the blocks.
        rows = [generator.integers(images, size=images) for _ in range(first, min(first + block, resamples))]
        yield np.stack([np.bincount(row, minlength=images) for row in rows]).astype(np.float32)


@dataclass(frozen=True)
class _Class:
    """The detections of one class by falling score, down to the last true positive; letter K: true positive."""

    image: Ints  # (D,), index into image_ids
    true_positives: list[Ints]  # at each IoU threshold, places in image (K,)
    ignored: list[Ints]  # at each IoU threshold, places in image
    ground_truth: NDArray[np.float32]  # (I,), objects of each image


def _split_by_class(table: MatchTable) -> list[_Class]:
    classes = []
    for c, rows in enumerate(group_by_class(table.label, len(table.names))):
        matched = table.matched[rows]
        # False positives after the last true positive change nothing: precision is interpolated from the right.
        rows = rows[: int(matched.nonzero()[0][-1]) + 1 if matched.any() else 0]
        bits = [1 << t for t in range(len(IOU_THRESHOLDS))]
        counts = np.bincount(table.gt_image[table.gt_label == c], minlength=len(table.image_ids))
        classes.append(
            _Class(
                image=table.image[rows],
                true_positives=[np.flatnonzero(table.matched[rows] & bit) for bit in bits],
                ignored=[np.flatnonzero(table.ignored[rows] & bit) for bit in bits],
                ground_truth=counts.astype(np.float32),
            )
        )
    return classes


def _weighted_ap(classes: Sequence[_Class], weights: NDArray[np.float32]) -> ResampledAP:
    """AP with each image counted as often as the weights (b, I) say."""
    found = np.stack([_class_ap(one, weights) for one in classes], 1)  # (b, C, T)
    return ResampledAP(ap=_mean(found.mean(2)), ap50=_mean(found[..., 0]), class_ap=found.mean(2))


def _mean(class_ap: Floats) -> Floats:
    """The mean over the classes with ground truth, NaN without any. (b, C) -> (b,)"""
    present = ~np.isnan(class_ap)
    total = np.where(present, class_ap, 0.0).sum(1)
    return np.where(present.any(1), total / np.maximum(present.sum(1), 1), np.nan)


def _class_ap(one: _Class, weights: NDArray[np.float32]) -> Floats:
    """AP of a class at each IoU threshold; NaN without ground truth. (b, T)"""
    num_ground_truth = weights @ one.ground_truth  # (b,)
    drawn = weights[:, one.image]  # (b, D)
    counted = np.cumsum(drawn, axis=1)
    found = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    for t, (places, ignored) in enumerate(zip(one.true_positives, one.ignored, strict=True)):
        if not len(places):
            continue
        positives = np.cumsum(drawn[:, places], axis=1)  # (b, K)
        detections = counted[:, places]
        if len(ignored):
            left_out = np.pad(np.cumsum(drawn[:, ignored], axis=1), ((0, 0), (1, 0)))
            detections = detections - left_out[:, np.searchsorted(ignored, places)]
        found[:, t] = _interpolated_ap(positives, detections, num_ground_truth)
    found[num_ground_truth == 0] = np.nan
    return found


def _interpolated_ap(
    positives: NDArray[np.float32], detections: NDArray[np.float32], num_ground_truth: NDArray[np.float32]
) -> Floats:
    """COCO's AP from the true positives and all detections down to each true positive. (b, K), (b, K), (b,) -> (b,)

    The mean over recall 0.00, 0.01 ... 1.00 of the highest precision at this recall or a higher one.
    """
    precision = positives / np.maximum(detections, 1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = positives.astype(np.float64) / np.maximum(num_ground_truth, 1)[:, None]
    points = np.minimum(100 * recall + 1e-9, 100).astype(np.int64)
    points += RECALL_POINTS[points] <= recall  # how many are reached; to the last bit, as COCO compares them
    reached = np.diff(points, axis=1, prepend=0)
    return (highest * reached).sum(1, dtype=np.float64) / 101


def _rounded(interval: Interval | None) -> Sequence[float] | None:
    return None if interval is None else [round(interval.low, 6), round(interval.high, 6)]

"""A whole evaluation from one matching: AP, curves, thresholds, error types, confusion matrix, reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gfocal.data.dataset import ImageData
from gfocal.evaluation.bootstrap import APIntervals, ap_intervals, match_samples
from gfocal.evaluation.coco_ap import MAX_DETECTIONS, CocoResult, ScoredBoxes, coco_ap
from gfocal.evaluation.curves import (
    Reliability,
    ScoreCurve,
    confusion_matrix,
    f1_over_scores,
    log_average_miss_rate,
    make_score_curves,
    precision_recall,
    reliability,
    select_above,
)
from gfocal.evaluation.detections import take_best
from gfocal.evaluation.error_analysis import ErrorTypes, ImageMistakes, error_types, worst_images
from gfocal.evaluation.matching import Bools, Boxes, Floats, Ints, Matching, collect_boxes, compute_overlaps, match
from gfocal.evaluation.thresholds import ThresholdChoice, Thresholds, choose_thresholds, evaluate_threshold
from gfocal.text import pluralize


@dataclass(frozen=True)
class Evaluation:
    """All numbers of detections on annotated images; at IoU 0.5 unless noted otherwise."""

    ap: CocoResult
    intervals: APIntervals  # of AP, by resampling the images
    boxes: Boxes
    matching: Matching
    errors: ErrorTypes
    curve: ScoreCurve  # of all classes together
    class_curves: list[ScoreCurve]
    precision: list[Floats | None]  # by class, at recall 0.00 ... 1.00
    precision75: list[Floats | None]  # at IoU 0.75
    best_thresholds: Thresholds  # chosen on these images
    thresholds: tuple[float, ...]  # in use, by label: those of the model if it has some, else the best ones
    thresholds_source: str
    selected: Bools  # (D,), detections above the thresholds in use
    confusion: Ints  # (C + 1, C + 1), see ``confusion_matrix``
    reliability: Reliability

    @property
    def at_thresholds(self) -> tuple[ThresholdChoice, ...]:
        """Precision, recall and F1 of each class at the thresholds in use."""
        choices = zip(self.class_curves, self.thresholds, self.best_thresholds.classes, strict=True)
        return tuple(
            evaluate_threshold(curve, t, best.note if best.threshold == t else "") for curve, t, best in choices
        )

    @property
    def num_false_positives(self) -> int:
        """False positives above the thresholds in use."""
        return int((self.selected & ~self.matching.true_positive & ~self.matching.ignored).sum())

    @property
    def num_true_positives(self) -> int:
        """True positives above the thresholds in use."""
        return int((self.selected & self.matching.true_positive).sum())

    @property
    def fppi(self) -> float:
        """False positives per image above the thresholds in use."""
        return self.num_false_positives / self.ap.num_images

    def miss_rate(self) -> float | None:
        """Log-average miss rate of all classes together."""
        return log_average_miss_rate(self.curve, self.ap.num_images)

    def worst_images(self, max_images: int) -> list[ImageMistakes]:
        """The images with the worst errors, worst first."""
        return worst_images(self.boxes, self.matching, self.errors, self.selected, max_images)

    def to_json(self) -> dict[str, Any]:
        """All numbers: those of ``CocoResult.to_json`` at the top level, the rest below it."""
        names, num_images = self.boxes.names, self.ap.num_images
        cost = self.errors.cost
        types = {name: {"count": self.errors.counts[name], "ap50": cost[name]} for name in cost}
        return {
            **self.ap.to_json(),
            "intervals": self.intervals.to_json(),
            "errors": {
                "ap50": self.errors.ap50,
                "types": types,
                "false_positives": self.errors.false_positives,
                "false_negatives": self.errors.false_negatives,
            },
            "best_thresholds": self.best_thresholds.to_json(names),
            "at_thresholds": {
                "source": self.thresholds_source,
                "thresholds": dict(zip(names, self.thresholds, strict=True)),
                "true_positives": self.num_true_positives,
                "false_positives": self.num_false_positives,
                "false_positives_per_image": self.fppi,
                "confusion": {"names": [*names, "background"], "counts": self.confusion.tolist()},
            },
            "log_average_miss_rate": {
                "all": self.miss_rate(),
                "per_class": {n: log_average_miss_rate(c, num_images) for n, c in self._curves()},
            },
            "reliability": {
                "count": self.reliability.count.tolist(),
                "score": _round(self.reliability.score),
                "iou": _round(self.reliability.iou),
                "error": self.reliability.error,
            },
            "curves": {
                "precision_at_recall_iou50": {n: _round(p) for n, p in zip(names, self.precision, strict=True)},
                "precision_at_recall_iou75": {n: _round(p) for n, p in zip(names, self.precision75, strict=True)},
                "f1_over_score": {n: _round(f1_over_scores(c)) for n, c in self._curves()},
            },
        }

    def _curves(self) -> list[tuple[str, ScoreCurve]]:
        return list(zip(self.boxes.names, self.class_curves, strict=True))

    def summary(self) -> list[str]:
        """The most important facts, in a few lines."""
        lines = []
        if self.intervals.ap is not None and self.intervals.ap50 is not None:
            lines.append(
                f"AP {self.ap.ap or 0:.3f}, 95 % interval {self.intervals.ap.describe()}; "
                f"AP50 {self.ap.ap50 or 0:.3f}, {self.intervals.ap50.describe()} "
                f"(bootstrap over {pluralize(self.ap.num_images, 'image')})"
            )
        if (largest := self.errors.largest) is not None:
            number, cost = self.errors.counts[largest], self.errors.cost[largest]
            them = "it" if number == 1 else "them"
            errors = pluralize(number, "error")
            lines.append(f"most costly error type: {largest}, {errors}; AP50 +{cost:.3f} without {them}")
        best = self.best_thresholds.overall
        if best.f1 is not None and best.precision is not None:
            lines.append(
                f"best threshold by {self.best_thresholds.rule}, all classes together, on these images: "
                f"{best.threshold:g} (precision {best.precision:.3f}, recall {best.recall:.3f}, F1 {best.f1:.3f})"
            )
        if self.ap.num_detections:
            is_own = self.thresholds_source != self.best_thresholds.description
            chosen = "" if is_own else ", chosen on these images"
            lines.append(
                f"at {self.thresholds_source}{chosen}: {pluralize(self.num_true_positives, 'true positive')}, "
                f"{self.fppi:.2f} false positives per image"
            )
        return lines


def evaluate(
    data: ImageData,
    detections: Mapping[int, ScoredBoxes],
    *,
    model_thresholds: Sequence[float] | None = None,
    precision: float | None = None,
    min_score: float = 0.0,
    max_detections: int = MAX_DETECTIONS,
    best_per_image: int | None = None,
) -> Evaluation:
    """Evaluate detections, by image id, on annotated images.

    Args:
        data: the images; their ground truth is read, not their pixels.
        detections: by image id; an image without an entry has none.
        model_thresholds: the model's own score threshold of each class, if it has some.
        precision: the precision that the best thresholds are to reach; None for those of highest F1.
        min_score: a score that all detections are above.
        max_detections: with another number than COCO's 100 per class and image, AP with that many is in
            ``ap.limited``, and all that is not AP counts that many.
        best_per_image: the number of detections per image that COCO's AP is for, whatever their class, best first: of
            a model that gave more for ``max_detections``. None: all.

    Raises ValueError for malformed detections, as ``coco_ap``, and for those of a model whose classes are not those
    of the data.
    """
    for one in detections.values():
        names = getattr(one, "names", data.names)  # detections from a file have none
        if tuple(names) != tuple(data.names):
            raise ValueError(f"detections of the classes {list(names)} cannot be evaluated on {list(data.names)}")
    samples = [data.sample(i) for i in range(len(data))]
    ap = coco_ap(samples, detections, data.names, max_detections)
    best = detections
    if best_per_image is not None:
        best = {image_id: take_best(one, best_per_image) for image_id, one in detections.items()}
        ap = replace(coco_ap(samples, best, data.names), limited=ap.limited)
    boxes = collect_boxes(samples, detections, data.names, max_detections)
    pairs = compute_overlaps(boxes)
    matching = match(boxes, pairs)
    curve, class_curves = make_score_curves(boxes, matching)
    chosen = choose_thresholds(curve, class_curves, precision, min_score)
    thresholds = chosen.scores if model_thresholds is None else tuple(model_thresholds)
    selected = select_above(boxes, thresholds)
    return Evaluation(
        ap=ap,
        intervals=ap_intervals(match_samples(samples, best, data.names)),
        boxes=boxes,
        matching=matching,
        errors=error_types(boxes, pairs, matching),
        curve=curve,
        class_curves=class_curves,
        precision=precision_recall(boxes, matching),
        precision75=precision_recall(boxes, match(boxes, pairs, 0.75)),
        best_thresholds=chosen,
        thresholds=thresholds,
        thresholds_source=chosen.description if model_thresholds is None else "the model's own thresholds",
        selected=selected,
        confusion=confusion_matrix(boxes, pairs, selected),
        reliability=reliability(boxes, pairs, matching),
    )


def _round(values: Floats | None) -> list[float | None] | None:
    """Six decimals; None for NaN and infinity."""
    if values is None:
        return None
    return [float(np.round(v, 6)) if math.isfinite(v) else None for v in values]

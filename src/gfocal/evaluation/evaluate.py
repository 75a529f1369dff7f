"""Everything an evaluation answers, from one matching: AP, curves, thresholds, error types, confusion, scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gfocal.data.dataset import ImageData
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes, coco_ap
from gfocal.evaluation.curves import (
    Reliability,
    ScoreCurve,
    above,
    confusion_matrix,
    f1_over_scores,
    log_average_miss_rate,
    precision_recall,
    reliability,
    score_curves,
)
from gfocal.evaluation.detections import gt_areas
from gfocal.evaluation.error_analysis import ErrorTypes, ImageMistakes, error_types, worst_images
from gfocal.evaluation.matching import Bools, Boxes, Floats, Ints, Matching, lay_out, match, overlaps
from gfocal.evaluation.thresholds import Choice, Thresholds, choose_thresholds, described
from gfocal.text import counted


@dataclass(frozen=True)
class Evaluation:
    """What detections on annotated images are worth. Unless said otherwise at IoU 0.5."""

    ap: CocoResult
    boxes: Boxes
    matching: Matching
    errors: ErrorTypes
    curve: ScoreCurve  # of all classes together
    class_curves: list[ScoreCurve]
    precision: list[Floats | None]  # by class, at recall 0.00 ... 1.00
    precision75: list[Floats | None]  # at IoU 0.75
    chosen: Thresholds  # the best ones on these images
    in_use: tuple[float, ...]  # by label: of the model if it has some, else those chosen
    in_use_from: str
    kept: Bools  # (D,), detections above the thresholds in use
    confusion: Ints  # (C + 1, C + 1), see confusion.py
    reliability: Reliability

    @property
    def at_thresholds(self) -> tuple[Choice, ...]:
        """Precision, recall and F1 of each class at the thresholds in use."""
        pairs = zip(self.class_curves, self.in_use, self.chosen.classes, strict=True)
        return tuple(described(curve, t, one.note if one.threshold == t else "") for curve, t, one in pairs)

    @property
    def num_false(self) -> int:
        """Wrong detections above the thresholds in use."""
        return int((self.kept & ~self.matching.hit & ~self.matching.ignored).sum())

    @property
    def num_hits(self) -> int:
        """Right detections above the thresholds in use."""
        return int((self.kept & self.matching.hit).sum())

    @property
    def fppi(self) -> float:
        """Wrong detections per image above the thresholds in use."""
        return self.num_false / self.ap.num_images

    def miss_rate(self) -> float | None:
        """Log-average miss rate of all classes together."""
        return log_average_miss_rate(self.curve, self.ap.num_images)

    def worst(self, most: int) -> list[ImageMistakes]:
        """The images with the heaviest mistakes, worst first."""
        return worst_images(self.boxes, self.matching, self.errors, self.kept, most)

    def to_json(self) -> dict[str, Any]:
        """All numbers: those of ``CocoResult.to_json`` at the top, the rest below names of their own."""
        names, num_images = self.boxes.names, self.ap.num_images
        cost = self.errors.cost
        types = {name: {"count": self.errors.counts[name], "ap50": cost[name]} for name in cost}
        return {
            **self.ap.to_json(),
            "errors": {
                "ap50": self.errors.ap50,
                "types": types,
                "false_positives": self.errors.false_positives,
                "false_negatives": self.errors.false_negatives,
            },
            "best_thresholds": self.chosen.to_json(names),
            "at_thresholds": {
                "from": self.in_use_from,
                "thresholds": dict(zip(names, self.in_use, strict=True)),
                "right": self.num_hits,
                "false": self.num_false,
                "false_per_image": self.fppi,
                "confusion": {"names": [*names, "background"], "counts": self.confusion.tolist()},
            },
            "log_average_miss_rate": {
                "all": self.miss_rate(),
                "per_class": {n: log_average_miss_rate(c, num_images) for n, c in self._curves()},
            },
            "reliability": {
                "count": self.reliability.count.tolist(),
                "score": _plain(self.reliability.score),
                "iou": _plain(self.reliability.iou),
                "error": self.reliability.error,
            },
            "curves": {
                "precision_at_recall_iou50": {n: _plain(p) for n, p in zip(names, self.precision, strict=True)},
                "precision_at_recall_iou75": {n: _plain(p) for n, p in zip(names, self.precision75, strict=True)},
                "f1_over_score": {n: _plain(f1_over_scores(c)) for n, c in self._curves()},
            },
        }

    def _curves(self) -> list[tuple[str, ScoreCurve]]:
        return list(zip(self.boxes.names, self.class_curves, strict=True))

    def summary(self) -> list[str]:
        """What to know first, in a few lines."""
        lines = []
        if (largest := self.errors.largest) is not None:
            number, cost = self.errors.counts[largest], self.errors.cost[largest]
            them = "it" if number == 1 else "them"
            lines.append(f"costs most: {largest}, {counted(number, 'error')}; without {them} AP50 +{cost:.3f}")
        best = self.chosen.overall
        if best.f1 is not None and best.precision is not None:
            lines.append(
                f"{self.chosen.rule}, all classes together: scores above {best.threshold:g} "
                f"(precision {best.precision:.3f}, recall {best.recall:.3f}, F1 {best.f1:.3f})"
            )
        if self.ap.num_detections:
            lines.append(f"at {self.in_use_from}: {self.fppi:.2f} false positives per image")
        return lines


def evaluate(
    data: ImageData,
    found: Mapping[int, ScoredBoxes],
    *,
    stored: Sequence[float] | None = None,
    precision: float | None = None,
    lowest: float = 0.0,
) -> Evaluation:
    """Evaluate detections, by image id, on annotated images.

    Args:
        data: the images; their ground truth is read, not their pixels.
        found: detections by image id; an image without an entry is one in which nothing was found.
        stored: thresholds of each class that the model brings along.
        precision: choose thresholds that reach it, instead of those of the largest F1.
        lowest: the score that all detections are above.

    Raises ValueError for malformed detections, as ``coco_ap``, and for those of a model of other classes than the
    data's.
    """
    for one in found.values():
        names = getattr(one, "names", data.names)  # of detections from a file nothing is known
        if tuple(names) != tuple(data.names):
            raise ValueError(f"detections of the classes {list(names)} cannot be evaluated on {list(data.names)}")
    samples = [data.sample(i) for i in range(len(data))]
    ap = coco_ap(samples, found, data.names, [gt_areas(sample) for sample in samples])
    boxes = lay_out(samples, found, data.names)
    pairs = overlaps(boxes)
    matching = match(boxes, pairs)
    curve, class_curves = score_curves(boxes, matching)
    chosen = choose_thresholds(curve, class_curves, precision, lowest)
    in_use = chosen.scores if stored is None else tuple(stored)
    kept = above(boxes, in_use)
    return Evaluation(
        ap=ap,
        boxes=boxes,
        matching=matching,
        errors=error_types(boxes, pairs, matching),
        curve=curve,
        class_curves=class_curves,
        precision=precision_recall(boxes, matching),
        precision75=precision_recall(boxes, match(boxes, pairs, 0.75)),
        chosen=chosen,
        in_use=in_use,
        in_use_from=chosen.words if stored is None else "the model's own thresholds",
        kept=kept,
        confusion=confusion_matrix(boxes, pairs, kept),
        reliability=reliability(boxes, pairs, matching),
    )


def _plain(values: Floats | None) -> list[float | None] | None:
    """Six digits; None for what is not a number."""
    if values is None:
        return None
    return [float(np.round(v, 6)) if math.isfinite(v) else None for v in values]

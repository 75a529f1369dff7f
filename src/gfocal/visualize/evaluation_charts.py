"""The curves of an evaluation as SVG: precision and recall, F1, false positives, reliability."""

from __future__ import annotations

import math

import numpy as np

from gfocal.evaluation.curves import RECALL_POINTS, SCORE_POINTS, ScoreCurve, f1_over_scores, miss_rate_curve
from gfocal.evaluation.evaluate import Evaluation
from gfocal.evaluation.matching import Floats
from gfocal.visualize.charts import COLORS, Series, curve_svg

MAX_CURVES = len(COLORS) - 1  # beside that of all classes together
ALL = "all classes"


def precision_recall_charts(evaluation: Evaluation) -> list[str]:
    """One chart for each class with ground truth, the most frequent first: precision over recall at two IoU."""
    order = np.argsort(-evaluation.boxes.num_ground_truth(), kind="stable")
    charts = []
    for c in order.tolist():
        at50, at75 = evaluation.precision[c], evaluation.precision75[c]
        if at50 is None or at75 is None:
            continue
        charts.append(
            curve_svg(
                {"IoU 0.50": _up_to_highest_recall(at50), "IoU 0.75": _up_to_highest_recall(at75)},
                title=evaluation.boxes.names[c],
                x_label="recall (x), precision (y)",
                x_range=(0, 1),
                y_range=(0, 1),
                marks={},
            )
        )
    return charts


def f1_chart(evaluation: Evaluation) -> str:
    """F1 over the score threshold; dots are the best thresholds."""
    series, marks = {}, {}
    thresholds = [
        evaluation.best_thresholds.overall,
        *(evaluation.best_thresholds.classes[c] for c in most_frequent_classes(evaluation)),
    ]
    for (name, curve), best in zip(_curves(evaluation), thresholds, strict=True):
        values = f1_over_scores(curve)
        series[name] = _pairs(SCORE_POINTS, values)
        marks[name] = (best.threshold, best.f1 or 0.0)
    return curve_svg(
        series,
        title="F1 over the score threshold",
        x_label="score threshold",
        x_range=(0, 1),
        y_range=(0, 1),
        marks=marks,
    )


def miss_rate_chart(evaluation: Evaluation) -> str:
    """Miss rate over false positives per image, on a logarithmic axis.

    Dots are the thresholds in use; for all classes together, the best one.
    """
    least = 10.0 ** math.floor(math.log10(1 / evaluation.ap.num_images))
    series, marks = {}, {}
    for (name, curve), (hits, false) in zip(_curves(evaluation), _counts_at_thresholds(evaluation), strict=True):
        fppi, missed = miss_rate_curve(curve, evaluation.ap.num_images)
        last = np.append(fppi[1:] != fppi[:-1], True)[: len(fppi)]  # the lowest miss rate at each point
        series[name] = [(math.log10(max(x, least)), y) for x, y in _pairs(fppi[last], missed[last])]
        at = max(false / evaluation.ap.num_images, least)
        marks[name] = (math.log10(at), 1 - hits / max(curve.num_ground_truth, 1))
    ends = [x for points in series.values() for x, _ in points] or [0.0]
    low, high = math.log10(least), max(1.0, math.ceil(max(ends)))
    ticks = {float(k): f"{10.0**k:g}" for k in range(int(low), int(high) + 1)}
    return curve_svg(
        series,
        title="Miss rate over false positives",
        x_label="false positives per image",
        x_range=(low, high),
        y_range=(0, 1),
        x_ticks=ticks,
        marks=marks,
    )


def reliability_chart(evaluation: Evaluation) -> str:
    """Mean IoU over mean score, beside the line of perfect calibration."""
    measured = evaluation.reliability
    return curve_svg(
        {"calibrated": [(0.0, 0.0), (1.0, 1.0)], "measured": _pairs(measured.score, measured.iou)},
        title="IoU over score",
        x_label="score",
        x_range=(0, 1),
        y_range=(0, 1),
        marks={},
        dashed=("calibrated",),
    )


def most_frequent_classes(evaluation: Evaluation) -> list[int]:
    """The five classes with the most ground truth, which have curves of their own in charts of all classes."""
    amounts = evaluation.boxes.num_ground_truth()
    return [c for c in np.argsort(-amounts, kind="stable").tolist() if amounts[c]][:MAX_CURVES]


def _curves(evaluation: Evaluation) -> list[tuple[str, ScoreCurve]]:
    each = [(evaluation.boxes.names[c], evaluation.class_curves[c]) for c in most_frequent_classes(evaluation)]
    return [(ALL, evaluation.curve), *each]


def _counts_at_thresholds(evaluation: Evaluation) -> list[tuple[int, int]]:
    """True and false positives: of all classes at their best threshold, of each drawn class at that in use."""
    each = [
        evaluation.class_curves[c].count_above(evaluation.thresholds[c]) for c in most_frequent_classes(evaluation)
    ]
    return [evaluation.curve.count_above(evaluation.best_thresholds.overall.threshold), *each]


def _up_to_highest_recall(precision: Floats) -> Series:
    """The points of a precision-recall curve up to the highest recall."""
    reached = max(1, int((precision > 0).sum()))  # precision at a recall never rises from 0 again
    return _pairs(RECALL_POINTS[:reached], precision[:reached])


def _pairs(xs: Floats, ys: Floats) -> Series:
    return list(zip(xs.tolist(), ys.tolist(), strict=True))

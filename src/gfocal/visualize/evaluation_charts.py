"""The curves of an evaluation as SVG: precision and recall, F1, false positives, reliability."""

from __future__ import annotations

import math

import numpy as np

from gfocal.evaluation.curves import RECALL_POINTS, SCORE_POINTS, ScoreCurve, f1_over_scores, miss_rate_curve
from gfocal.evaluation.evaluate import Evaluation
from gfocal.evaluation.matching import Floats
from gfocal.visualize.charts import COLORS, Series, curve_svg

MOST_CURVES = len(COLORS) - 1  # beside that of all classes together
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
                {"IoU 0.50": _as_far_as_found(at50), "IoU 0.75": _as_far_as_found(at75)},
                title=evaluation.boxes.names[c],
                x_label="recall, precision upwards",
                x_range=(0, 1),
                y_range=(0, 1),
                marks={},
            )
        )
    return charts


def f1_chart(evaluation: Evaluation) -> str:
    """F1 over the score threshold, the best threshold of each curve as a dot."""
    series, marks = {}, {}
    thresholds = [evaluation.chosen.overall, *(evaluation.chosen.classes[c] for c in drawn_classes(evaluation))]
    for (name, curve), best in zip(_curves(evaluation), thresholds, strict=True):
        values = f1_over_scores(curve)
        series[name] = _pairs(SCORE_POINTS, values)
        marks[name] = (best.threshold, best.f1 or 0.0)
    return curve_svg(
        series, title="F1 over the threshold", x_label="score above", x_range=(0, 1), y_range=(0, 1), marks=marks
    )


def miss_rate_chart(evaluation: Evaluation) -> str:
    """Share of the objects that is missed over false positives per image, on a logarithmic axis.

    Dots stand at the thresholds in use, of all classes at the best one for all.
    """
    least = 10.0 ** math.floor(math.log10(1 / evaluation.ap.num_images))
    series, marks = {}, {}
    for (name, curve), (hits, false) in zip(_curves(evaluation), _kept(evaluation), strict=True):
        fppi, missed = miss_rate_curve(curve, evaluation.ap.num_images)
        last = np.append(fppi[1:] != fppi[:-1], True)[: len(fppi)]  # the least missed at each rate
        series[name] = [(math.log10(max(x, least)), y) for x, y in _pairs(fppi[last], missed[last])]
        at = max(false / evaluation.ap.num_images, least)
        marks[name] = (math.log10(at), 1 - hits / max(curve.num_ground_truth, 1))
    ends = [x for points in series.values() for x, _ in points] or [0.0]
    low, high = math.log10(least), max(1.0, math.ceil(max(ends)))
    ticks = {float(k): f"{10.0**k:g}" for k in range(int(low), int(high) + 1)}
    return curve_svg(
        series,
        title="Missed objects over false positives",
        x_label="false positives per image",
        x_range=(low, high),
        y_range=(0, 1),
        x_ticks=ticks,
        marks=marks,
    )


def reliability_chart(evaluation: Evaluation) -> str:
    """Mean IoU over mean score, beside the line on which a score keeps its promise."""
    measured = evaluation.reliability
    return curve_svg(
        {"promised": [(0.0, 0.0), (1.0, 1.0)], "measured": _pairs(measured.score, measured.iou)},
        title="IoU over score",
        x_label="score",
        x_range=(0, 1),
        y_range=(0, 1),
        marks={},
        dashed=("promised",),
    )


def drawn_classes(evaluation: Evaluation) -> list[int]:
    """The classes that get a curve of their own where all share one chart: the five with the most ground truth."""
    amounts = evaluation.boxes.num_ground_truth()
    return [c for c in np.argsort(-amounts, kind="stable").tolist() if amounts[c]][:MOST_CURVES]


def _curves(evaluation: Evaluation) -> list[tuple[str, ScoreCurve]]:
    each = [(evaluation.boxes.names[c], evaluation.class_curves[c]) for c in drawn_classes(evaluation)]
    return [(ALL, evaluation.curve), *each]


def _kept(evaluation: Evaluation) -> list[tuple[int, int]]:
    """Right and wrong detections: of all classes above their one best threshold, of those drawn above that in use."""
    each = [evaluation.class_curves[c].at(evaluation.in_use[c]) for c in drawn_classes(evaluation)]
    return [evaluation.curve.at(evaluation.chosen.overall.threshold), *each]


def _as_far_as_found(precision: Floats) -> Series:
    """The points of a curve up to the highest recall that is reached."""
    reached = max(1, int((precision > 0).sum()))  # precision at a recall never rises from 0 again
    return _pairs(RECALL_POINTS[:reached], precision[:reached])


def _pairs(xs: Floats, ys: Floats) -> Series:
    return list(zip(xs.tolist(), ys.tolist(), strict=True))

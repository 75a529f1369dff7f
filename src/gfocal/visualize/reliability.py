"""The charts of a calibration as SVG: coverage, PIT, width of intervals, reliability of scores. All are held out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfocal.visualize.charts import Series, bars_svg, curve_svg

PIT_BINS = 10
MIN_IN_BIN = 10  # detections of a point of a reliability curve
SCORE_BINS = 20
DIAGONAL = "as promised"


def coverage_chart(boxes: Series, edges: Series) -> str:
    """Measured coverage over the nominal one, of boxes and of edges: pairs of the two."""
    return curve_svg(
        {
            DIAGONAL: [(0.0, 0.0), (1.0, 1.0)],
            "boxes": boxes,
            "edges": edges,
        },
        title="Coverage",
        x_label="promised (x), measured (y)",
        x_range=(0, 1),
        y_range=(0, 1),
        marks={},
        dashed=(DIAGONAL,),
    )


def pit_chart(values: Tensor, title: str) -> str:
    """Histogram of the probability integral transform, 0..1; the pale bars are uniform."""
    counts = torch.histc(values.flatten().float(), PIT_BINS, 0.0, 1.0)
    shares = (counts / max(float(counts.sum()), 1.0)).tolist()
    labels = [f"{k / PIT_BINS:g}" for k in range(PIT_BINS)]
    uniform = [1 / PIT_BINS] * PIT_BINS
    return bars_svg(
        shares, uniform, title=title, x_label="inside ← true edge → outside", labels=labels, width=400, height=270
    )


def width_chart(width: Tensor, one_width: float) -> str:
    """Share of edges whose interval is at most so wide, beside the one width that all edges would need.

    width (...), pixels; logarithmic.
    """
    values = width.flatten().double().clamp(min=0.1).log2().sort().values
    share = torch.linspace(0, 1, len(values)).tolist()
    place = math.log2(max(one_width, 0.1))
    low, high = math.floor(min(float(values[0]), place)), math.ceil(max(float(values[-1]), place))
    ticks = {float(k): f"{2.0**k:g}" for k in range(low, high + 1, 1 + (high - low) // 8)}
    return curve_svg(
        {
            "by the edge": list(zip(values.tolist(), share, strict=True)),
            "one for all": [(place, 0.0), (place + 1e-6, 1.0)],
        },
        title="Width of intervals",
        x_label="pixels (x), share of edges that need no more (y)",
        x_range=(low, max(high, low + 1)),
        y_range=(0, 1),
        x_ticks=ticks,
        marks={},
        dashed=("one for all",),
    )


def reliability_curves(before: Tensor, after: Tensor, values: Tensor, title: str, y_name: str) -> str:
    """Mean of what scores should have been over the mean score, before and after calibration; all (D,)."""
    return curve_svg(
        {
            DIAGONAL: [(0.0, 0.0), (1.0, 1.0)],
            "before": _binned(before, values),
            "calibrated": _binned(after, values),
        },
        title=title,
        x_label=f"score (x), {y_name} (y)",
        x_range=(0, 1),
        y_range=(0, 1),
        marks={},
        dashed=(DIAGONAL,),
    )


def _binned(scores: Tensor, values: Tensor) -> list[tuple[float, float]]:
    index = (scores * SCORE_BINS).long().clamp(0, SCORE_BINS - 1)
    count = torch.zeros(SCORE_BINS).index_add(0, index, torch.ones(len(scores)))
    x, y = (torch.zeros(SCORE_BINS).index_add(0, index, v.float()) for v in (scores, values))
    return [(float(x[k] / count[k]), float(y[k] / count[k])) for k in range(SCORE_BINS) if count[k] >= MIN_IN_BIN]

"""Detections, edge distributions, errors and curves drawn as images (PIL) or as charts (inline SVG).

Nothing here needs matplotlib or a display. The names below are imported when they are first used.

    drawing.py            images, frames of boxes, colors of classes, sizes that follow the image
    lettering.py          fonts for labels, and text that they can write
    labels.py             labels placed so that they hide neither objects nor each other
    bands.py              the uncertainty of edges as translucent bands
    interval_boxes.py     the interval of each edge as an outer and an inner box
    annotate.py           detections on their image: boxes, labels, uncertainty
    axes.py               one axis beside a box with the distributions of two opposite edges
    notebook.py           detections shown in a notebook
    edges.py              the distribution of every edge, drawn in place
    mistakes.py           true positives, false positives and missed objects of an image
    outliers.py           a detection beside the ground truth, with the intervals of its edges
    predictions.py        detections and ground truth on one image
    augmented.py          sheets of training images as the network sees them
    charts.py             curves and bars as SVG
    evaluation_charts.py  precision-recall, F1, miss rate and reliability curves of an evaluation
    reliability.py        coverage, PIT, widths and reliability of a calibration
    viewer/               a page to look through detections in a browser
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfocal.visualize.annotate import draw_detections
    from gfocal.visualize.charts import bars_svg, curve_svg, edge_panel_svg
    from gfocal.visualize.edges import draw_edge_distributions
    from gfocal.visualize.mistakes import draw_mistakes
    from gfocal.visualize.notebook import detections_html, draw_on_source

_HOME = {
    "bars_svg": "charts",
    "curve_svg": "charts",
    "detections_html": "notebook",
    "draw_detections": "annotate",
    "draw_edge_distributions": "edges",
    "draw_mistakes": "mistakes",
    "draw_on_source": "notebook",
    "edge_panel_svg": "charts",
}

__all__ = [
    "bars_svg",
    "curve_svg",
    "detections_html",
    "draw_detections",
    "draw_edge_distributions",
    "draw_mistakes",
    "draw_on_source",
    "edge_panel_svg",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gfocal.visualize' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gfocal.visualize.{_HOME[name]}"), name)

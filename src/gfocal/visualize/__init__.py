"""Detections, edge distributions, errors and curves drawn as images (PIL) or as charts (inline SVG).

Nothing here needs matplotlib or a display.

    drawing.py            images, frames of boxes, colors of classes, sizes that follow the image
    lettering.py          fonts for labels, and text that they can write
    labels.py             labels placed so that they hide neither objects nor each other
    bands.py              the uncertainty of edges as translucent bands
    annotate.py           detections on their image: boxes, labels, uncertainty
    axes.py               one axis beside a box with the distributions of two opposite edges
    notebook.py           detections shown in a notebook
    edges.py              the distribution of every edge, drawn in place
    mistakes.py           true positives, false positives and missed objects of an image
    predictions.py        detections and ground truth on one image
    augmented.py          sheets of training images as the network sees them
    charts.py             curves and bars as SVG
    evaluation_charts.py  precision-recall, F1, miss rate and reliability curves of an evaluation
"""

from __future__ import annotations

from gfocal.visualize.annotate import draw_detections
from gfocal.visualize.charts import bars_svg, curve_svg, edge_panel_svg
from gfocal.visualize.edges import draw_edge_distributions
from gfocal.visualize.mistakes import draw_mistakes
from gfocal.visualize.notebook import detections_html, draw_on_source

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

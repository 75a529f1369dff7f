"""Detections, edge distributions, errors and curves drawn as images (PIL) or as charts (inline SVG).

Nothing here needs matplotlib or a display.

    drawing.py            boxes, labels and the uncertainty of edges on an image
    axes.py               one axis beside a box with the distributions of two opposite edges
    edges.py              the distribution of every edge, drawn in place
    mistakes.py           true positives, false positives and missed objects of an image
    augmented.py          sheets of training images as the network sees them
    charts.py             curves and bars as SVG
    evaluation_charts.py  precision-recall, F1, miss rate and reliability curves of an evaluation
"""

from __future__ import annotations

from gfocal.visualize.charts import bars_svg, curve_svg, edge_panel_svg
from gfocal.visualize.drawing import draw_detections
from gfocal.visualize.edges import draw_edge_distributions
from gfocal.visualize.mistakes import draw_mistakes

__all__ = ["bars_svg", "curve_svg", "draw_detections", "draw_edge_distributions", "draw_mistakes", "edge_panel_svg"]

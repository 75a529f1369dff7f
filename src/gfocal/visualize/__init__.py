"""Images of what a detector found, and how sure it is of every edge.

``images`` draws boxes (PIL), ``mistakes`` what is right and wrong (PIL), ``edges`` draws the distribution behind
each edge in place (PIL), ``charts`` draws curves and bars as inline SVG. Nothing here needs matplotlib or a display.
"""

from __future__ import annotations

from gfocal.visualize.charts import bars_svg, curve_svg, edge_panel_svg
from gfocal.visualize.drawing import draw_detections
from gfocal.visualize.edges import draw_edge_distributions
from gfocal.visualize.mistakes import draw_mistakes

__all__ = ["bars_svg", "curve_svg", "draw_detections", "draw_edge_distributions", "draw_mistakes", "edge_panel_svg"]

"""Pictures of what a detector found, and how sure it is of every edge.

``pictures`` draws boxes (PIL), ``mistakes`` what is right and wrong (PIL), ``edges`` draws the distribution behind
each edge in place (PIL), ``charts`` draws curves and bars as inline SVG. Nothing here needs matplotlib or a display.
"""

from gfocal.plots.charts import bars_svg, curve_svg, edge_panel_svg
from gfocal.plots.edges import draw_edge_distributions
from gfocal.plots.mistakes import draw_mistakes
from gfocal.plots.pictures import draw_detections

__all__ = ["bars_svg", "curve_svg", "draw_detections", "draw_edge_distributions", "draw_mistakes", "edge_panel_svg"]

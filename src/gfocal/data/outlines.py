"""Upright boxes around the outlines that labeling tools draw: polygons, ellipses, rotated boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable

Corners = tuple[float, float, float, float]  # xyxy

OUTLINE = "object drawn as an outline: the upright box around it is used"
ROTATED = "rotated box: the upright box around it is used"


def hull(points: Iterable[tuple[float, float]]) -> Corners | None:
    """The upright box around points; None if there is none, or one is not finite."""
    pairs = list(points)
    if not pairs or not all(math.isfinite(value) for pair in pairs for value in pair):
        return None
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def hull_of_ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Corners | None:
    """The upright box around an ellipse that is rotated about its center; None if a number is not finite."""
    (cx, cy), (rx, ry), angle = center, radii, math.radians(degrees)
    if not all(map(math.isfinite, (cx, cy, rx, ry, angle))):
        return None
    width, height = (
        math.hypot(rx * math.cos(angle), ry * math.sin(angle)),
        math.hypot(rx * math.sin(angle), ry * math.cos(angle)),
    )
    return cx - width, cy - height, cx + width, cy + height

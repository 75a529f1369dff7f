"""Upright boxes around the outlines that labeling tools draw: polygons, ellipses, rotated boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Corners = tuple[float, float, float, float]  # xyxy

OUTLINE = "object drawn as an outline: the upright box around it is used"
ROTATED = "rotated box: the upright box around it is used"
NO_ROTATION = "rotation that is not a number: the box is used as it was before the rotation"


def box_around_points(points: Iterable[tuple[float, float]]) -> Corners | None:
    """The upright box around points; None if there are fewer than two, or a number is not finite."""
    pairs = list(points)
    box = hull(pairs) if len(pairs) > 1 else None
    return box if box is not None and math.isfinite(box[0]) else None


def hull(points: Iterable[tuple[float, float]]) -> Corners:
    """The upright box around points; NaN if there are none, or a number is not finite."""
    pairs = list(points)
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    if not pairs or not all(map(math.isfinite, (*xs, *ys))):  # min and max would ignore NaN
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def hull_of_rotated(box: Sequence[float], degrees: float, pivot: Sequence[float] | None = None) -> Corners:
    """The upright box around a box (xyxy) that is rotated clockwise about a point; None: its center."""
    (x1, y1, x2, y2), angle = box, math.radians(degrees)
    if not math.isfinite(angle):
        return (math.nan,) * 4
    px, py = ((x1 + x2) / 2, (y1 + y2) / 2) if pivot is None else pivot
    cos, sin = math.cos(angle), math.sin(angle)
    around = [(x - px, y - py) for x in (x1, x2) for y in (y1, y2)]
    return hull((px + x * cos - y * sin, py + x * sin + y * cos) for x, y in around)


def hull_of_ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Corners:
    """The upright box around an ellipse that is rotated about its center; NaN if a number is not finite."""
    (rx, ry), angle = radii, math.radians(degrees)
    if not all(map(math.isfinite, (*center, rx, ry, angle))):
        return (math.nan,) * 4
    (cx, cy), cos, sin = center, math.cos(angle), math.sin(angle)
    width, height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return cx - width, cy - height, cx + width, cy + height

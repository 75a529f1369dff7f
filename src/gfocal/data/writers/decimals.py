"""Boxes as the shortest decimal numbers that are read back as the same float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MOST_DIGITS = 17  # of a float64
_FIRST_DIGITS = 6


def shorten(value: float) -> float:
    """The float64 with the fewest digits that rounds to the same float32: 0.1 for 0.10000000149."""
    return float(str(np.float32(value)))


def format_decimal(value: float) -> str:
    """``shorten`` as text, without a final ``.0``."""
    return repr(shorten(value)).removesuffix(".0")


def to_xywh(box: Sequence[float]) -> list[float]:
    """x, y, width, height of a float32 xyxy box, such that x + width in float64 rounds to the same right edge."""
    x1, y1, x2, y2 = box
    return [shorten(x1), shorten(y1), _length(x1, x2), _length(y1, y2)]


def _length(low: float, high: float) -> float:
    start, wanted = shorten(low), np.float32(high)
    for digits in range(2, _MOST_DIGITS):
        length = round(high - low, digits)
        if np.float32(start + length) == wanted:
            return length
    return high - start


def to_fractions(low: float, high: float, size: int) -> tuple[str, str] | None:
    """Center and length as fractions of the image's size, from which a reader gets both edges exactly.

    The reader is assumed to compute ``(center -+ length / 2) * size`` in float64, round to float32 and clip to the
    image. None if no two decimal numbers give both edges: an edge is nearer to 0 than the float64 resolution at the
    center.
    """
    center, length = (low + high) / 2 / size, (high - low) / size
    edges = (np.float32(low), np.float32(high))
    for digits in range(_FIRST_DIGITS, _MOST_DIGITS + 1):
        unit = 10.0**-digits
        # At an edge of the image the length may be a unit too long: the box is clipped.
        for c, s in ((center, length), (center, length + unit), (center, length - unit)):
            text = (f"{c:.{digits}f}", f"{s:.{digits}f}")
            if _edges(float(text[0]), float(text[1]), size) == edges:
                return _strip_zeros(text[0]), _strip_zeros(text[1])
    return None


def _edges(center: float, length: float, size: int) -> tuple[np.float32, np.float32]:
    half = length / 2
    low, high = (center - half) * size, (center + half) * size
    return np.float32(min(max(low, 0.0), size)), np.float32(min(max(high, 0.0), size))


def _strip_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text

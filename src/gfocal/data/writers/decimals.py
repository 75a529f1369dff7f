"""Boxes as the shortest decimal numbers that are read back as the same float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_MOST_DIGITS = 17  # of a float64
_FIRST_DIGITS = 6
_MOST_OUTSIDE = 1e-7  # of the image, by which rounding may move an edge out of it


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


def to_center(low: float, high: float, size: int) -> tuple[float, float]:
    """Center and length in pixels, such that ``center -+ length / 2`` clipped to the size rounds to both edges."""
    low, high = shorten(low), shorten(high)
    return _fewest_digits(
        ((low + high) / 2, high - low), lambda center, length: (center - length / 2, center + length / 2), size
    )


def to_share(low: float, high: float, size: int, whole: float = 1.0) -> tuple[float, float]:
    """Start and length as shares of the image's size, which is ``whole`` (1, or 100 for percent).

    The reader is assumed to compute ``start / whole * size`` and ``(start + length) / whole * size`` in float64.
    """
    return _fewest_digits(
        (low / size * whole, (high - low) / size * whole),
        lambda start, length: (start / whole * size, (start + length) / whole * size),
        size,
    )


def _fewest_digits(
    values: tuple[float, float], restore: Callable[[float, float], tuple[float, float]], size: int
) -> tuple[float, float]:
    """Two numbers, rounded to the fewest digits from which the same float32 edges are restored; else as they are."""
    wanted = _clip(restore(*values), size)
    for digits in range(2, _MOST_DIGITS):
        rounded = (round(values[0], digits), round(values[1], digits))
        edges = restore(*rounded)
        if _clip(edges, size) == wanted and max(-edges[0], edges[1] - size) <= _MOST_OUTSIDE * size:
            return rounded
    return values


def _clip(edges: tuple[float, float], size: int) -> tuple[np.float32, np.float32]:
    low, high = (np.float32(min(max(edge, 0.0), size)) for edge in edges)
    return low, high


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
    return _clip(((center - half) * size, (center + half) * size), size)


def _strip_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text

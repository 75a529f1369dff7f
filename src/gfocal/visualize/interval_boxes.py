"""The interval of each edge in place: an outer and an inner box around the predicted one, told apart at a glance.

Outside of the predicted box the band has the color of the detection, and the outer box has dashes of it; inside of it
the band is a light tint of that color, and the inner box has dots of the tint.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.structures import Detections
from gfocal.visualize.bands import LEAST_OPAQUE, MOST_OPAQUE, NARROW, Band, shade
from gfocal.visualize.drawing import WHITE, Color, Rect, draw_box, draw_dashed, scale_rect

TINT = 0.65  # share of white
DASH, DOT = 5, 2  # lengths of the strokes of the outer and the inner box, in widths of their lines


def tint(color: Color) -> Color:
    """A light tint of a color."""
    red, green, blue = (round(c + TINT * (white - c)) for c, white in zip(color, WHITE, strict=True))
    return red, green, blue


def interval_bands(detections: Detections, coverage: float) -> list[Band]:
    """What lies between the inner and the outer box of each detection, four bands on either side of its own box.

    The index of a band outside of the box is that of its detection i, and N + i inside of it. Wide ones are fainter.
    The best detection comes last, where it is seen.
    """
    outer, inner = (one.tolist() for one in _limits(detections, coverage))
    narrow = 4 * NARROW * (detections.size[0] * detections.size[1]) ** 0.5
    bands: list[Band] = []
    for i in reversed(range(len(detections))):
        out, within = outer[i], inner[i]
        widest = max(abs(a - b) for a, b in zip(out, within, strict=True))
        opacity = max(LEAST_OPAQUE, MOST_OPAQUE * min(1.0, (narrow / max(widest, 1e-9)) ** 0.5))
        box = _middle(out, detections.boxes[i].tolist(), within)
        bands += [(i, rect, opacity) for rect in _ring(out, box)]
        bands += [(len(detections) + i, rect, opacity) for rect in _ring(box, within)]
    return bands


def draw_intervals(
    canvas: Image.Image,
    detections: Detections,
    coverage: float,
    palette: Sequence[Color],
    line: int,
    scale: float = 1.0,
    box_line: int | None = None,
) -> Image.Image:
    """Bands, outer, inner and predicted boxes of calibrated detections on an image enlarged by ``scale``.

    Gives a new image. ``line`` is the width of lines; those of a box whose lines would touch are thinner.
    ``box_line`` is the width of the frame of the predicted box in any case.
    """
    bands = [(i, scale_rect(rect, scale), opacity) for i, rect, opacity in interval_bands(detections, coverage)]
    tints = [tint(color) for color in palette]
    canvas = shade(canvas, bands, [*palette, *tints])
    draw = ImageDraw.Draw(canvas, "RGBA")
    limits = zip(*(_rects(one, scale) for one in _limits(detections, coverage)), strict=True)
    boxes, frames = _rects(detections.boxes, scale), []
    for box, (outer, inner), color, light in reversed(list(zip(boxes, limits, palette, tints, strict=True))):
        gaps = sorted(abs(a - b) for limit in (outer, inner) for a, b in zip(limit, box, strict=True))
        width = max(1, min(line, round(gaps[3] / 3)))  # half of the gaps are wider
        for limit, ink, dash in ((outer, color, DASH * width), (inner, light, DOT * width)):
            if min(limit[2] - limit[0], limit[3] - limit[1]) > 1:
                draw_dashed(draw, limit, ink, width, dash)
        frames.append((box, color, box_line or width))
    for box, color, width in frames:
        draw_box(draw, box, color, width)
    return canvas


def _limits(detections: Detections, coverage: float) -> tuple[Tensor, Tensor]:
    return detections.outer_boxes(coverage), detections.inner_boxes(coverage)


def _rects(boxes: Tensor, scale: float) -> list[Rect]:
    return [scale_rect((b[0], b[1], b[2], b[3]), scale) for b in boxes.tolist()]


def _middle(outer: Sequence[float], box: Sequence[float], inner: Sequence[float]) -> list[float]:
    """The box, each of its edges between those of the other two."""
    return [min(max(at, min(a, b)), max(a, b)) for a, at, b in zip(outer, box, inner, strict=True)]


def _ring(out: Sequence[float], within: Sequence[float]) -> list[Rect]:
    """What lies between two boxes: above, below, left and right of the inner one."""
    return [
        (out[0], out[1], out[2], within[1]),
        (out[0], within[3], out[2], out[3]),
        (out[0], within[1], within[0], within[3]),
        (within[2], within[1], out[2], within[3]),
    ]

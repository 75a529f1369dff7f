"""One axis beside a box: the distributions of two opposite edges as bars, each bar where its bin lies."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageDraw

from gfocal.visualize.bands import MAX_TAIL_PROBABILITY, MIN_PROBABILITY
from gfocal.visualize.drawing import Color, Rect
from gfocal.visualize.lettering import Font

INK: Color = (38, 42, 48)
GROUND_TRUTH: Color = (176, 182, 190)


@dataclass(frozen=True)
class EdgeAxis:
    """Two opposite edges of one detection on one axis; lengths in pixels of the canvas."""

    positions: list[list[float]]  # (2, K), of the bins along the axis
    probabilities: list[list[float]]  # (2, K)
    ground_truth: list[list[float]] | None  # (2, K), probabilities too
    bin_sizes: list[float]  # (2,)
    box: list[float]  # (2,), positions of the edges of the box
    labels: list[str]  # (2,), written at the edges

    @property
    def extent(self) -> tuple[float, float]:
        """Both ends: the outermost bins that matter, or the edges of the box. A long thin tail is cut off."""
        rows = [self.probabilities] if self.ground_truth is None else [self.probabilities, self.ground_truth]
        ends = [
            position + sign * size / 2
            for probabilities in rows
            for positions, row, size in zip(self.positions, probabilities, self.bin_sizes, strict=True)
            for position, probability in zip(positions, row, strict=True)
            if probability > MAX_TAIL_PROBABILITY
            for sign in (-1, 1)
        ]
        return min(ends + self.box), max(ends + self.box)


@dataclass(frozen=True)
class _Frame:
    """Where an axis lies on the canvas. Bars grow across the axis, from ``base`` to ``tip``."""

    along_x: bool
    is_outward: bool  # below the box, or to its right
    shift: float  # of positions along the axis
    base: float
    tip: float

    def fill(
        self, draw: ImageDraw.ImageDraw, along: tuple[float, float], across: tuple[float, float], color: Color
    ) -> None:
        """Fill a rectangle given along and across the axis."""
        xs, ys = (along, across) if self.along_x else (across, along)
        x0, x1, y0, y1 = (round(v) for v in (min(xs), max(xs), min(ys), max(ys)))
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), fill=color)


def draw_axis(
    draw: ImageDraw.ImageDraw,
    axis: EdgeAxis,
    strip: Rect,
    shift: float,
    box: Rect,
    color: Color,
    font: Font,
    height: int,
    *,
    along_x: bool,
) -> None:
    """Draw bars, the position of each box edge across them, its standard deviation, and a line to the box.

    Bars grow upwards above and below a box, to the right on its right and to the left on its left. Labels stand on
    the far side of the strip, so that no line crosses them. ``height`` is that of a line of text.
    """
    frame = _make_frame(strip, shift, box, height, along_x)
    for edge in range(2):
        _draw_bars(draw, axis, edge, frame, color)
    ends = (strip[0], strip[2]) if along_x else (strip[1], strip[3])
    frame.fill(draw, ends, (frame.base, frame.base + max(1, height // 12)), INK)
    near, far = (box[1], box[3]) if along_x else (box[0], box[2])
    corner = far if frame.is_outward else near
    end = frame.base if along_x and frame.is_outward else frame.tip
    dash = height / 3
    for position in axis.box:
        start, stop = min(corner, end), max(corner, end)
        while start < stop:
            at = position + frame.shift
            frame.fill(draw, (at, at + 1), (start, min(start + dash, stop)), INK)
            start += 2 * dash
    _write_labels(draw, axis, frame, font, height)


def _make_frame(strip: Rect, shift: float, box: Rect, height: int, along_x: bool) -> _Frame:
    length, margin = 4.2 * height, 0.2 * height  # of the bars
    is_outward = strip[1] >= box[3] if along_x else strip[0] >= box[2]
    if along_x:
        base = strip[1] + margin + length if is_outward else strip[3] - margin
        return _Frame(along_x, is_outward, shift, base, base - length)
    base = strip[0] + margin if is_outward else strip[2] - margin
    return _Frame(along_x, is_outward, shift, base, base + length if is_outward else base - length)


def _draw_bars(draw: ImageDraw.ImageDraw, axis: EdgeAxis, edge: int, frame: _Frame, color: Color) -> None:
    """The bars of one edge, in front of those of the ground truth."""
    start, stop = axis.extent
    predicted = axis.probabilities[edge]
    ground_truth = axis.ground_truth[edge] if axis.ground_truth is not None else [0.0] * len(predicted)
    highest = max(0.25, *predicted, *ground_truth)
    layers = ((ground_truth, 0.96, GROUND_TRUTH), (predicted, 0.56 if any(ground_truth) else 0.84, color))
    for probabilities, width, fill in layers:
        half = max(1.0, axis.bin_sizes[edge] * width / 2)
        for position, probability in zip(axis.positions[edge], probabilities, strict=True):
            if probability > MIN_PROBABILITY and start < position < stop:
                at = position + frame.shift
                top = frame.base + (frame.tip - frame.base) * probability / highest
                frame.fill(draw, (at - half, at + half), (frame.base, top), fill)


def _write_labels(draw: ImageDraw.ImageDraw, axis: EdgeAxis, frame: _Frame, font: Font, height: int) -> None:
    """Write a label at each of the two edges, moved apart where they would overlap."""
    low, high = (position + frame.shift for position in axis.box)
    sizes = [draw.textlength(text, font=font) if frame.along_x else 1.2 * height for text in axis.labels]
    distance = (sizes[0] + sizes[1]) / 2 + (0.6 * height if frame.along_x else 0)
    if high - low < distance:
        center = (low + high) / 2
        low, high = center - distance / 2, center + distance / 2
    for position, text in zip((low, high), axis.labels, strict=True):
        if frame.along_x:
            place = (position, frame.base + 0.3 * height if frame.is_outward else frame.tip - 0.3 * height)
            anchor = "mt" if frame.is_outward else "mb"
        else:
            place = (frame.tip + (0.4 if frame.is_outward else -0.4) * height, position)
            anchor = "lm" if frame.is_outward else "rm"
        draw.text(place, text, font=font, fill=INK, anchor=anchor)

"""One axis beside a box: the distributions of two opposite edges as bars that lie where their bins lie."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageDraw

from gfocal.visualize.drawing import LEAST_MASS, TAIL_MASS, Color, Font, Rect

INK: Color = (38, 42, 48)
TRUTH: Color = (176, 182, 190)


@dataclass(frozen=True)
class EdgeAxis:
    """Two opposite edges of one detection on one axis; lengths in pixels of the canvas."""

    places: list[list[float]]  # two edges, K bins: position along the axis
    masses: list[list[float]]
    ground_truths: list[list[float]] | None
    widths: list[float]  # of a bin, per edge
    box: list[float]  # position of the two box edges
    texts: list[str]

    @property
    def reach(self) -> tuple[float, float]:
        """From the outermost bin that matters, or box edge, to the other: a long thin tail is cut off."""
        rows = [self.masses] if self.ground_truths is None else [self.masses, self.ground_truths]
        ends = [
            place + sign * width / 2
            for masses in rows
            for places, row, width in zip(self.places, masses, self.widths, strict=True)
            for place, mass in zip(places, row, strict=True)
            if mass > TAIL_MASS
            for sign in (-1, 1)
        ]
        return min(ends + self.box), max(ends + self.box)


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
    """Bars, the position of each box edge across them, its standard deviation, and a line to the box.

    Bars grow upwards beside a box, and away from it to the left or right. The numbers stand on the far side
    of the strip, so that no line crosses them.
    """
    full, little = 4.2 * height, 0.2 * height
    near, far = (box[1], box[3]) if along_x else (box[0], box[2])
    outward = strip[1] >= far if along_x else strip[0] >= far  # below the box, or to its right
    if along_x:
        base = strip[1] + little + full if outward else strip[3] - little
        tip = base - full
    else:
        base = strip[0] + little if outward else strip[2] - little
        tip = base + full if outward else base - full

    def block(a0: float, a1: float, c0: float, c1: float, fill: Color) -> None:
        """A rectangle given along and across the axis."""
        x0, x1, y0, y1 = (a0, a1, c0, c1) if along_x else (c0, c1, a0, a1)
        x0, x1, y0, y1 = (round(v) for v in (min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)))
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), fill=fill)

    start, stop = axis.reach
    for edge in range(2):
        learned = axis.masses[edge]
        ground_truth = axis.ground_truths[edge] if axis.ground_truths is not None else [0.0] * len(learned)
        peak = max(0.25, max(learned), max(ground_truth))
        layers = ((ground_truth, 0.96, TRUTH), (learned, 0.56 if any(ground_truth) else 0.84, color))
        for masses, share, fill in layers:
            half = max(1.0, axis.widths[edge] * share / 2)
            for place, mass in zip(axis.places[edge], masses, strict=True):
                if mass > LEAST_MASS and start < place < stop:
                    across = base + (tip - base) * mass / peak
                    block(place + shift - half, place + shift + half, base, across, fill)
    block(strip[0 if along_x else 1], strip[2 if along_x else 3], base, base + max(1, height // 12), INK)

    corner = far if outward else near
    end = base if along_x and outward else tip
    dash = height / 3
    for position in axis.box:
        at, last = min(corner, end), max(corner, end)
        while at < last:
            block(position + shift, position + shift + 1, at, min(at + dash, last), INK)
            at += 2 * dash
    write_deviations(draw, axis, shift, base, tip, font, height, along_x=along_x, outward=outward)


def write_deviations(
    draw: ImageDraw.ImageDraw,
    axis: EdgeAxis,
    shift: float,
    base: float,
    tip: float,
    font: Font,
    height: int,
    *,
    along_x: bool,
    outward: bool,
) -> None:
    """Write the standard deviation at each of two edges, moved apart where they would meet."""
    low, high = (position + shift for position in axis.box)
    sizes = [draw.textlength(text, font=font) if along_x else 1.2 * height for text in axis.texts]
    apart = (sizes[0] + sizes[1]) / 2 + (0.6 * height if along_x else 0)
    if high - low < apart:
        middle = (low + high) / 2
        low, high = middle - apart / 2, middle + apart / 2
    for position, text in zip((low, high), axis.texts, strict=True):
        if along_x:
            place, anchor = (
                (position, base + 0.3 * height if outward else tip - 0.3 * height),
                "mt" if outward else "mb",
            )
        else:
            place, anchor = (tip + (0.4 if outward else -0.4) * height, position), "lm" if outward else "rm"
        draw.text(place, text, font=font, fill=INK, anchor=anchor)

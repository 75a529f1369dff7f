"""The distribution behind each edge of a box, drawn in place (Li et al. 2020, figures 3, 13 and 14).

Left and right edges stand on one axis along x, top and bottom edges on one along y, like the dimension
lines of a technical drawing: a bar lies exactly where its bin lies in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.data.synthetic.edge_laws import law_probabilities
from gfocal.structures import Detections
from gfocal.visualize import drawing
from gfocal.visualize.axes import INK, TRUTH, EdgeAxis, draw_axis
from gfocal.visualize.drawing import Color, Font, Rect

PAPER: Color = (250, 250, 247)


def draw_edge_distributions(
    image: Any,
    detections: Detections,
    indices: Sequence[int] | None = None,
    laws: Tensor | None = None,
    *,
    crop: bool = False,
    least_side: int = 760,
    font_path: str | None = None,
) -> Image.Image:
    """Draw chosen boxes with a bar chart of each edge's distribution along its axis.

    ``image`` is the image as ``detect`` takes it; ``indices`` names the detections to draw (all by default; a few
    are readable); ``laws`` (N, 4, 3), one row per detection, are true laws of the edges as
    ``gfocal.data.synthetic.edge_laws`` defines them, NaN throughout where unknown: their projection on the bins stands
    behind the learned bars. ``crop`` shows only the surroundings of the chosen boxes. An image whose
    longer side is under ``least_side`` is enlarged; margins are added for bars that lie outside it.

    The number at each edge is its standard deviation in pixels of ``image``. Bars of one edge are as tall
    as their probability over the greatest probability of that edge, or over 0.25 if that is greater, so a
    flat distribution is also a low one. Bins with at most 0.5 % are left out, and so is a tail in which no
    bin holds more than 2 %.

    Raises ValueError for an image that is not the one of the detections, laws of another length, or detections
    without distributions.
    """
    canvas = drawing.image_of(image, detections.size)
    drawing.check_edges(detections)
    if laws is not None and laws.shape != (len(detections), 4, 3):
        raise ValueError(f"laws are ({len(detections)}, 4, 3), a row per detection, not {tuple(laws.shape)}")
    chosen = list(range(len(detections))) if indices is None else [int(i) for i in indices]
    ground_truths = None if laws is None else true_edges(detections, laws)
    found = detections.select(torch.tensor(chosen, dtype=torch.int64, device=detections.boxes.device))
    window = _surroundings(found) if crop and chosen else (0, 0, *canvas.size)
    canvas = canvas.crop(window)
    longest = float(max(canvas.size))
    if chosen:  # bins may reach far beyond a small image, and are enlarged with it
        low, high = _extent(found)
        longest = max(longest, float((high - low).max()))
    scale = max(1.0, least_side / longest)
    canvas = drawing.enlarge(canvas, scale)
    height = max(13, round((canvas.width * canvas.height) ** 0.5 / 34))
    font = drawing.font_of(height, font_path)

    rows = None if ground_truths is None else [ground_truths[i] for i in chosen]
    axes = [_axes(found, i, None if rows is None else rows[i], window, scale) for i in range(len(found))]
    boxes: list[Rect] = [(x.box[0], y.box[0], x.box[1], y.box[1]) for x, y in axes]
    whole: Rect = (0.0, 0.0, float(canvas.width), float(canvas.height))
    strips = _place_strips(axes, boxes, whole, height)

    pad = height
    bounds = [whole] + [s for pair in strips for s in pair] + [(b[0], b[1], b[2], b[3]) for b in boxes]
    left, top = (min(b[k] for b in bounds) - pad for k in (0, 1))
    right, bottom = (max(b[k] for b in bounds) + pad for k in (2, 3))
    legend = 2 * height
    canvas = Image.new("RGB", (round(right - left), round(bottom - top) + legend), PAPER)
    canvas.paste(canvas, (round(-left), round(-top)))
    colors = [drawing.PALETTE[(k + 1) % len(drawing.PALETTE)] for k in range(len(found))]
    boxes = [_moved(b, -left, -top) for b in boxes]
    strips = [(_moved(x, -left, -top), _moved(y, -left, -top)) for x, y in strips]
    panels = [(i, strip, 0.88) for i, pair in enumerate(strips) for strip in pair]
    canvas = drawing.shade(canvas, panels, [PAPER] * len(found))
    draw = ImageDraw.Draw(canvas)
    for box, (x, y), pair, color in zip(boxes, axes, strips, colors, strict=True):
        drawing.draw_box(draw, box, color, max(2, height // 7))
        draw_axis(draw, x, pair[0], -left, box, color, font, height, along_x=True)
        draw_axis(draw, y, pair[1], -top, box, color, font, height, along_x=False)
    taken = [strip for pair in strips for strip in pair]
    room = (0.0, 0.0, float(canvas.width), float(canvas.height - legend))
    for box, color, text in zip(boxes, colors, drawing.label_texts(found), strict=True):
        drawing.draw_label(draw, text, box, color, font, taken, room)
    _draw_legend(draw, canvas, colors, ground_truths is not None, font, height)
    return canvas


def true_edges(detections: Detections, laws: Tensor) -> list[list[list[float] | None]]:
    """The projection of true laws on the bins of each detection's edges; None where a law is unknown."""
    n = detections.edges.shape[-1] - 1
    rows: list[list[list[float] | None]] = [[None] * 4 for _ in range(len(detections))]
    for side, axis in enumerate(drawing.AXIS_OF_SIDE):
        points, steps = detections.points[:, axis].cpu(), detections.bin_sizes[:, side].cpu()
        masses = law_probabilities(laws[:, side].cpu(), points, steps, n, side)
        for i, (mass, law) in enumerate(zip(masses.tolist(), laws[:, side].tolist(), strict=True)):
            rows[i][side] = mass if law[0] == law[0] else None
    return rows


def _extent(found: Detections) -> tuple[Tensor, Tensor]:
    """Least and greatest corner of the boxes and of their bins without tails. (2,) and (2,), pixels."""
    bands = drawing.bin_bands(found, drawing.TAIL_MASS)
    corners = torch.tensor([band[1] for band in bands] + found.boxes.tolist())
    return corners[:, :2].amin(0), corners[:, 2:].amax(0)


def _surroundings(found: Detections) -> tuple[int, int, int, int]:
    """The boxes with their bins and some ground around them, whole pixels within the image."""
    low, high = _extent(found)
    margin = 0.15 * float((high - low).max()) + 4
    height, width = found.size
    x0, y0 = (int(v - margin) for v in low.tolist())
    x1, y1 = (int(v + margin) + 1 for v in high.tolist())
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return x0, y0, max(min(x1, width), x0 + 1), max(min(y1, height), y0 + 1)


def _axes(
    found: Detections,
    i: int,
    ground_truth: list[list[float] | None] | None,
    window: tuple[int, int, int, int],
    scale: float,
) -> tuple[EdgeAxis, EdgeAxis]:
    places = drawing.bin_positions(found)[i].tolist()
    widths, masses, std = found.bin_sizes[i].tolist(), found.edges[i].tolist(), found.edge_std[i].tolist()
    box = found.boxes[i].tolist()
    none = [0.0] * len(masses[0])
    pair = []
    for axis, sides in enumerate(((0, 2), (1, 3))):
        start = window[axis]
        pair.append(
            EdgeAxis(
                places=[[(place - start) * scale for place in places[side]] for side in sides],
                masses=[masses[side] for side in sides],
                ground_truths=None if ground_truth is None else [ground_truth[side] or none for side in sides],
                widths=[widths[side] * scale for side in sides],
                box=[(box[side] - start) * scale for side in sides],
                texts=[f"±{std[side]:.1f} px" for side in sides],
            )
        )
    return pair[0], pair[1]


def _place_strips(
    axes: list[tuple[EdgeAxis, EdgeAxis]], boxes: list[Rect], whole: Rect, height: int
) -> list[tuple[Rect, Rect]]:
    """Room for the two axes of each detection beside its box, where it hides least of the others."""
    pad, gap, deep, broad = 0.4 * height, 0.6 * height, 6.2 * height, 9.9 * height  # of a strip, with text
    taken = list(boxes)
    out = []
    for x, y in axes:
        (x0, x1), (y0, y1) = x.reach, y.reach
        top, right, bottom, left = y0 - gap, x1 + gap, y1 + gap, x0 - gap
        # Two numbers of about 5.2 heights stand side by side along x, or of one line below another along y.
        x_mid, y_mid = sum(x.box) / 2, sum(y.box) / 2
        x0 = min(x0 - pad, x.box[0] - 2.7 * height, x_mid - 5.7 * height)
        x1 = max(x1 + pad, x.box[1] + 2.7 * height, x_mid + 5.7 * height)
        y0, y1 = min(y0 - pad, y_mid - 1.4 * height), max(y1 + pad, y_mid + 1.4 * height)
        pair = []
        for along_x in (True, False):
            choices: list[tuple[float, Rect]] = []
            for steps in range(4):  # further from the box where the near place is taken
                away = steps * (deep if along_x else broad)
                if along_x:
                    strips = (
                        (x0, bottom + away, x1, bottom + away + deep),
                        (x0, top - away - deep, x1, top - away),
                    )
                else:
                    strips = (
                        (right + away, y0, right + away + broad, y1),
                        (left - away - broad, y0, left - away, y1),
                    )
                for strip in strips:
                    hidden = sum(drawing.overlap(strip, t) for t in taken)
                    # What lies in the margin hides nothing, but a canvas that grows costs a little.
                    size = (strip[2] - strip[0]) * (strip[3] - strip[1])
                    choices.append((hidden + 0.02 * _outside(strip, whole) + 0.1 * steps * size, strip))
            pair.append(min(choices, key=lambda choice: choice[0])[1])
            taken.append(pair[-1])
        out.append((pair[0], pair[1]))
    return out


def _outside(rect: Rect, whole: Rect) -> float:
    return (rect[2] - rect[0]) * (rect[3] - rect[1]) - drawing.overlap(rect, whole)


def _moved(rect: Rect, x: float, y: float) -> Rect:
    return rect[0] + x, rect[1] + y, rect[2] + x, rect[3] + y


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    canvas: Image.Image,
    colors: list[Color],
    with_ground_truth: bool,
    font: Font,
    height: int,
) -> None:
    x, y = float(height), canvas.height - 1.5 * height
    entries = [(colors[:4] or [INK], "learned"), ([TRUTH], "true law")][: 2 if with_ground_truth else 1]
    for swatches, text in entries:
        for fill in swatches:
            draw.rectangle((round(x), round(y), round(x + 0.7 * height), round(y + 0.7 * height)), fill=fill)
            x += 0.9 * height
        draw.text((x + 0.2 * height, y + 0.35 * height), text, font=font, fill=INK, anchor="lm")
        x += draw.textlength(text, font=font) + 1.4 * height

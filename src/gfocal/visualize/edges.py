"""The distribution behind each edge of a box, drawn in place (Li et al. 2020, figures 3, 13 and 14).

Left and right edges share one axis along x, top and bottom edges one along y, like the dimension lines of a technical
drawing: a bar lies exactly where its bin lies in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.data.synthetic.edge_laws import law_probabilities
from gfocal.structures import Detections
from gfocal.visualize import bands, drawing
from gfocal.visualize.annotate import label_texts
from gfocal.visualize.axes import GROUND_TRUTH, INK, EdgeAxis, draw_axis
from gfocal.visualize.drawing import Color, Rect
from gfocal.visualize.labels import Label, draw_labels
from gfocal.visualize.lettering import Font, load_font

PAPER: Color = (250, 250, 247)

Probabilities = list[list[float] | None]  # of the bins of each of four edges, where they are known


def draw_edge_distributions(
    image: Any,
    detections: Detections,
    indices: Sequence[int] | None = None,
    laws: Tensor | None = None,
    *,
    crop: bool = False,
    min_side: int = 760,
    font_path: str | None = None,
) -> Image.Image:
    """Draw chosen boxes with a bar chart of each edge's distribution along its axis.

    ``image`` is the image as ``detect`` takes it; ``indices`` are those of the detections to draw (all by default; a
    few are readable); ``laws`` (N, 4, 3), one row per detection, are the true laws of the edges as
    ``gfocal.data.synthetic.edge_laws`` defines them, NaN throughout where unknown: their projection on the bins is
    drawn behind the predicted bars. ``crop`` shows only the surroundings of the chosen boxes. An image whose
    longer side is under ``min_side`` is enlarged; margins are added for bars that lie outside it.

    The number at each edge is its standard deviation in pixels of ``image``. Bars of one edge are as high
    as their probability over the greatest probability of that edge, or over 0.25 if that is greater, so a
    flat distribution is also a low one. Bins with at most 0.5 % are left out, and so is a tail in which no
    bin has more than 2 %.

    Raises ValueError for an image that is not the one of the detections, laws of another length, or detections
    without distributions.
    """
    canvas = drawing.as_pil_image(image, detections.size)
    bands.require_distributions(detections)
    if laws is not None and laws.shape != (len(detections), 4, 3):
        raise ValueError(f"laws are ({len(detections)}, 4, 3), a row per detection, not {tuple(laws.shape)}")
    chosen = list(range(len(detections))) if indices is None else [int(i) for i in indices]
    ground_truth = None if laws is None else ground_truth_edges(detections, laws)
    found = detections.select(torch.tensor(chosen, dtype=torch.int64, device=detections.boxes.device))
    window = _surroundings(found) if crop and chosen else (0, 0, *canvas.size)
    canvas = canvas.crop(window)
    longest = float(max(canvas.size))
    if chosen:  # bins may reach far beyond a small image, and are enlarged with it
        low, high = _extent(found)
        longest = max(longest, float((high - low).max()))
    scale = max(1.0, min_side / longest)
    canvas = drawing.enlarge(canvas, scale)
    height = max(13, round((canvas.width * canvas.height) ** 0.5 / 34))
    axes = [
        _make_axes(found, k, None if ground_truth is None else ground_truth[i], window, scale)
        for k, i in enumerate(chosen)
    ]
    return _draw_boxes_and_axes(canvas, found, axes, laws is not None, font_path, height)


def ground_truth_edges(detections: Detections, laws: Tensor) -> list[Probabilities]:
    """The projection of true laws (N, 4, 3) on the bins of each detection's edges; None where a law is unknown."""
    n = detections.edges.shape[-1] - 1
    rows: list[Probabilities] = [[None] * 4 for _ in range(len(detections))]
    for side, axis in enumerate(bands.AXIS_OF_SIDE):
        points, steps = detections.points[:, axis].cpu(), detections.bin_sizes[:, side].cpu()
        probabilities = law_probabilities(laws[:, side].cpu(), points, steps, n, side)
        for i, (row, law) in enumerate(zip(probabilities.tolist(), laws[:, side].tolist(), strict=True)):
            rows[i][side] = row if law[0] == law[0] else None
    return rows


def _draw_boxes_and_axes(
    image: Image.Image,
    found: Detections,
    axes: list[tuple[EdgeAxis, EdgeAxis]],
    with_ground_truth: bool,
    font_path: str | None,
    height: int,
) -> Image.Image:
    """An image with margins for the axes, the boxes and axes on it, and a legend below."""
    boxes: list[Rect] = [(x.box[0], y.box[0], x.box[1], y.box[1]) for x, y in axes]
    whole: Rect = (0.0, 0.0, float(image.width), float(image.height))
    strips = _place_strips(axes, boxes, whole, height)
    bounds = [whole, *(strip for pair in strips for strip in pair), *boxes]
    left, top = (min(b[k] for b in bounds) - height for k in (0, 1))
    right, bottom = (max(b[k] for b in bounds) + height for k in (2, 3))
    legend = 2 * height
    canvas = Image.new("RGB", (round(right - left), round(bottom - top) + legend), PAPER)
    canvas.paste(image, (round(-left), round(-top)))
    font = load_font(height, font_path)
    colors = [drawing.PALETTE[(k + 1) % len(drawing.PALETTE)] for k in range(len(found))]
    boxes = [_move(b, -left, -top) for b in boxes]
    strips = [(_move(x, -left, -top), _move(y, -left, -top)) for x, y in strips]
    panels = [(i, strip, 0.88) for i, pair in enumerate(strips) for strip in pair]
    canvas = bands.shade(canvas, panels, [PAPER] * len(found))
    draw = ImageDraw.Draw(canvas)
    for box, (x, y), pair, color in zip(boxes, axes, strips, colors, strict=True):
        drawing.draw_box(draw, box, color, max(2, height // 7))
        draw_axis(draw, x, pair[0], -left, box, color, font, height, along_x=True)
        draw_axis(draw, y, pair[1], -top, box, color, font, height, along_x=False)
    taken = [strip for pair in strips for strip in pair]
    limits = (0.0, 0.0, float(canvas.width), float(canvas.height - legend))
    texts = label_texts(found, "name+score", font_path)
    labels = [Label(text, box, color) for box, color, text in zip(boxes, colors, texts, strict=True)]
    draw_labels(draw, labels, height, limits, taken=taken, font_path=font_path)
    _draw_legend(draw, canvas, colors, with_ground_truth, font, height)
    return canvas


def _extent(found: Detections) -> tuple[Tensor, Tensor]:
    """Least and greatest corner of the boxes and of their bins without tails. (2,) and (2,), pixels."""
    outer = bands.bin_bands(found, bands.MAX_TAIL_PROBABILITY)
    corners = torch.tensor([band[1] for band in outer] + found.boxes.tolist())
    return corners[:, :2].amin(0), corners[:, 2:].amax(0)


def _surroundings(found: Detections) -> tuple[int, int, int, int]:
    """The boxes with their bins and a margin around them, whole pixels within the image."""
    low, high = _extent(found)
    margin = 0.15 * float((high - low).max()) + 4
    height, width = found.size
    x0, y0 = (int(v - margin) for v in low.tolist())
    x1, y1 = (int(v + margin) + 1 for v in high.tolist())
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    return x0, y0, max(min(x1, width), x0 + 1), max(min(y1, height), y0 + 1)


def _make_axes(
    found: Detections, i: int, ground_truth: Probabilities | None, window: tuple[int, int, int, int], scale: float
) -> tuple[EdgeAxis, EdgeAxis]:
    """The axes along x and along y of one detection, on a canvas that shows a window of the image enlarged."""
    positions = bands.bin_positions(found)[i].tolist()
    bin_sizes, edges, std = found.bin_sizes[i].tolist(), found.edges[i].tolist(), found.edge_std[i].tolist()
    box = found.boxes[i].tolist()
    unknown = [0.0] * len(edges[0])
    x, y = (
        EdgeAxis(
            positions=[[(position - window[axis]) * scale for position in positions[side]] for side in sides],
            probabilities=[edges[side] for side in sides],
            ground_truth=None if ground_truth is None else [ground_truth[side] or unknown for side in sides],
            bin_sizes=[bin_sizes[side] * scale for side in sides],
            box=[(box[side] - window[axis]) * scale for side in sides],
            labels=[f"±{std[side]:.1f} px" for side in sides],
        )
        for axis, sides in enumerate(((0, 2), (1, 3)))
    )
    return x, y


def _place_strips(
    axes: list[tuple[EdgeAxis, EdgeAxis]], boxes: list[Rect], whole: Rect, height: int
) -> list[tuple[Rect, Rect]]:
    """A place beside its box for each of the two axes of each detection, where it hides least of the others."""
    taken = list(boxes)
    placed = []
    for x, y in axes:
        pair = []
        for along_x in (True, False):
            choices = [
                # What lies in the margin hides nothing, but a canvas that grows costs a little.
                (_hidden(strip, taken) + 0.02 * _outside(strip, whole) + 0.1 * steps * _area(strip), strip)
                for steps, strip in _strip_choices(x, y, height, along_x)
            ]
            pair.append(min(choices, key=lambda choice: choice[0])[1])
            taken.append(pair[-1])
        placed.append((pair[0], pair[1]))
    return placed


def _strip_choices(x: EdgeAxis, y: EdgeAxis, height: int, along_x: bool) -> list[tuple[int, Rect]]:
    """Where an axis may lie: on both sides of the box, the nearest place first, each with its steps from the box."""
    pad, gap, depth, breadth = 0.4 * height, 0.6 * height, 6.2 * height, 9.9 * height  # of a strip, with labels
    (x0, x1), (y0, y1) = x.extent, y.extent
    top, right, bottom, left = y0 - gap, x1 + gap, y1 + gap, x0 - gap
    # Two labels of about 5.2 heights stand side by side along x, or one line below the other along y.
    x_center, y_center = sum(x.box) / 2, sum(y.box) / 2
    x0 = min(x0 - pad, x.box[0] - 2.7 * height, x_center - 5.7 * height)
    x1 = max(x1 + pad, x.box[1] + 2.7 * height, x_center + 5.7 * height)
    y0, y1 = min(y0 - pad, y_center - 1.4 * height), max(y1 + pad, y_center + 1.4 * height)
    choices: list[tuple[int, Rect]] = []
    for steps in range(4):
        if along_x:
            away = steps * depth
            choices.append((steps, (x0, bottom + away, x1, bottom + away + depth)))
            choices.append((steps, (x0, top - away - depth, x1, top - away)))
        else:
            away = steps * breadth
            choices.append((steps, (right + away, y0, right + away + breadth, y1)))
            choices.append((steps, (left - away - breadth, y0, left - away, y1)))
    return choices


def _area(rect: Rect) -> float:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _hidden(rect: Rect, taken: list[Rect]) -> float:
    return sum(drawing.overlap(rect, other) for other in taken)


def _outside(rect: Rect, whole: Rect) -> float:
    return _area(rect) - drawing.overlap(rect, whole)


def _move(rect: Rect, x: float, y: float) -> Rect:
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
    entries = [(colors[:4] or [INK], "predicted"), ([GROUND_TRUTH], "ground truth")][: 2 if with_ground_truth else 1]
    for swatches, text in entries:
        for fill in swatches:
            draw.rectangle((round(x), round(y), round(x + 0.7 * height), round(y + 0.7 * height)), fill=fill)
            x += 0.9 * height
        draw.text((x + 0.2 * height, y + 0.35 * height), text, font=font, fill=INK, anchor="lm")
        x += draw.textlength(text, font=font) + 1.4 * height

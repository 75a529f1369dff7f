"""A detection and the box of the ground truth or of an annotation, enlarged; with the intervals of its edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from gfocal.visualize.drawing import Color, Rect, draw_box, draw_dashed, enlarge

PREDICTED: Color = (240, 110, 30)
GROUND_TRUTH: Color = (70, 150, 255)
BAND_OPACITY, OTHER_OPACITY = 110, 45  # of 255: of the edge that an image is about, and of the other three
MARGIN = 0.35  # of the longer side of what is shown, around it
SURROUNDINGS = 1.0  # the same of annotations that are looked at: whether an object is there
LONGEST = 640  # pixels of a drawing


def draw_intervals(
    image: Image.Image, box: Sequence[float], gt_box: Sequence[float], intervals: Sequence[Sequence[float]], side: int
) -> Image.Image:
    """A box with translucent intervals, the ground truth dashed, cut out of its image.

    Args:
        image: the whole image.
        box: of the detection, xyxy in pixels.
        gt_box: of the ground truth.
        intervals: lowest and highest place of x1, y1, x2, y2.
        side: 0 to 3, the edge that the drawing is about; its interval is the darkest.
    """
    canvas, place = _cut_out(image, [box, gt_box, [intervals[k][k // 2] for k in range(4)]], MARGIN)
    canvas = canvas.convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(layer)
    for k in sorted(range(4), key=lambda k: k == side):
        low, high = intervals[k]
        band = (low, box[1], high, box[3]) if k % 2 == 0 else (box[0], low, box[2], high)
        x0, y0, x1, y1 = place(band)
        fill = (*PREDICTED, BAND_OPACITY if k == side else OTHER_OPACITY)
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), fill=fill)
    canvas = Image.alpha_composite(canvas, layer).convert("RGB")
    draw = ImageDraw.Draw(canvas, "RGBA")
    line = max(2, round(max(canvas.size) / 240))
    draw_box(draw, place(box), PREDICTED, line)
    draw_dashed(draw, place(gt_box), GROUND_TRUTH, line, 5 * line)
    return canvas


def draw_compared(
    image: Image.Image,
    annotated: Sequence[float] | None,
    detected: Sequence[float] | None,
    others: Sequence[Sequence[float]],
) -> Image.Image:
    """An annotation, dashed, and a detection that contradicts it, cut out of their image with their surroundings.

    Args:
        image: the whole image.
        annotated: the box that is looked at, xyxy in pixels; None: one may be missing.
        detected: what a model finds; None: nothing.
        others: the other annotations of the image, drawn in thin lines.
    """
    canvas, place = _cut_out(image, [box for box in (annotated, detected) if box is not None], SURROUNDINGS)
    draw = ImageDraw.Draw(canvas, "RGBA")
    line = max(2, round(max(canvas.size) / 240))
    for box in others:
        x0, y0, x1, y1 = place(box)
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=GROUND_TRUTH, width=1)
    if detected is not None:
        draw_box(draw, place(detected), PREDICTED, line)
    if annotated is not None:
        draw_dashed(draw, place(annotated), GROUND_TRUTH, line, 5 * line)
    return canvas


def _cut_out(
    image: Image.Image, boxes: Sequence[Sequence[float]], margin: float
) -> tuple[Image.Image, Callable[[Sequence[float]], Rect]]:
    """The part of an image around some boxes, at the size of a drawing; and where in it a box lies."""
    window = _window(boxes, image.size, margin)
    left, top = round(window[0]), round(window[1])
    cut = image.convert("RGB").crop((left, top, round(window[2]), round(window[3])))
    scale = LONGEST / max(cut.size)
    if scale < 1:
        cut.thumbnail((LONGEST, LONGEST))

    def place(box: Sequence[float]) -> Rect:
        return (box[0] - left) * scale, (box[1] - top) * scale, (box[2] - left) * scale, (box[3] - top) * scale

    return enlarge(cut, scale), place


def _window(boxes: Sequence[Sequence[float]], size: tuple[int, int], margin: float) -> Rect:
    """The part of an image that holds some boxes, with a margin."""
    x0, y0 = min(b[0] for b in boxes), min(b[1] for b in boxes)
    x1, y1 = max(b[2] for b in boxes), max(b[3] for b in boxes)
    room = max(margin * max(x1 - x0, y1 - y0), 12.0)
    return max(x0 - room, 0.0), max(y0 - room, 0.0), min(x1 + room, float(size[0])), min(y1 + room, float(size[1]))

"""One detection with the intervals of its edges and the box of the ground truth, enlarged."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from gfocal.visualize.drawing import Color, Rect, draw_box, draw_dashed, enlarge

PREDICTED: Color = (240, 110, 30)
GROUND_TRUTH: Color = (70, 150, 255)
BAND_OPACITY, OTHER_OPACITY = 110, 45  # of 255: of the edge that an image is about, and of the other three
MARGIN = 0.35  # of the longer side of what is shown, around it
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
    window = _window([box, gt_box, [intervals[k][k // 2] for k in range(4)]], image.size)
    cut = image.convert("RGB").crop((round(window[0]), round(window[1]), round(window[2]), round(window[3])))
    scale = LONGEST / max(cut.size)
    if scale < 1:
        cut.thumbnail((LONGEST, LONGEST))
    canvas = enlarge(cut, scale).convert("RGBA")

    def place(rect: Sequence[float]) -> Rect:
        x, y = round(window[0]), round(window[1])
        return (rect[0] - x) * scale, (rect[1] - y) * scale, (rect[2] - x) * scale, (rect[3] - y) * scale

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


def _window(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Rect:
    """The part of an image that holds some boxes, with a margin."""
    x0, y0 = min(b[0] for b in boxes), min(b[1] for b in boxes)
    x1, y1 = max(b[2] for b in boxes), max(b[3] for b in boxes)
    room = max(MARGIN * max(x1 - x0, y1 - y0), 12.0)
    return max(x0 - room, 0.0), max(y0 - room, 0.0), min(x1 + room, float(size[0])), min(y1 + room, float(size[1]))

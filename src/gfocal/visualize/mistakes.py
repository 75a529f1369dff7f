"""An image with what the detector got right, got wrong and did not find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image, ImageDraw

from gfocal.evaluation.error_analysis import ImageMistakes, Wrong
from gfocal.visualize.drawing import Color, Rect, draw_box, draw_label, enlarge, font_of, image_of, scaled

# Told apart by the line too, for those who do not see the colors: hits thin, wrong ones thick, missed ones dashed.
RIGHT: Color = (0, 190, 130)
WRONG: Color = (240, 70, 40)
MISSED: Color = (70, 150, 255)
CROWD: Color = (200, 200, 200)
CASING: Color = (20, 20, 20)
SHORT_KINDS = {"localization": "badly placed", "both": "wrong class, badly placed", "background": "nothing here"}


def draw_mistakes(
    image: Any,
    mistakes: ImageMistakes,
    names: Sequence[str],
    *,
    least_side: int = 900,
    font_path: str | None = None,
) -> Image.Image:
    """Draw the mistakes of one image.

    Right detections have thin green frames without a text. Wrong ones have thick red frames with their class, score
    and what is wrong. Objects that were not found have dashed blue frames with their class; crowd regions dotted gray
    ones. An image whose longer side is under ``least_side`` is enlarged, so that the text is legible.
    """
    canvas = image_of(image)
    scale = max(1.0, least_side / max(canvas.size))
    canvas = enlarge(canvas, scale)
    width, height = canvas.size
    unit = (width * height) ** 0.5
    thin, line = max(1, round(unit / 450)), max(2, round(unit / 240))
    font = font_of(max(11, min(40, round(unit / 48), max(1, height // 3))), font_path)
    draw = ImageDraw.Draw(canvas)
    room = (0.0, 0.0, float(width), float(height))
    for box in mistakes.crowd:
        _draw_dashed(draw, scaled(box, scale), CROWD, thin, thin * 2)
    for box in mistakes.hits:
        draw_box(draw, scaled(box, scale), RIGHT, thin)
    for box, _ in mistakes.missed:
        _draw_dashed(draw, scaled(box, scale), MISSED, line, line * 5)
    for one in reversed(mistakes.wrong):
        draw_box(draw, scaled(one.box, scale), WRONG, line)
    taken: list[Rect] = []
    for one in mistakes.wrong:
        draw_label(draw, label_of(one, names), scaled(one.box, scale), WRONG, font, taken, room)
    for box, label in mistakes.missed:
        draw_label(draw, f"missed {names[label]}", scaled(box, scale), MISSED, font, taken, room)
    return canvas


def label_of(wrong: Wrong, names: Sequence[str]) -> str:
    """``cat 0.71: is dog``."""
    kind = SHORT_KINDS.get(wrong.kind, wrong.kind)
    if wrong.gt_label is not None:
        kind = f"is {names[wrong.gt_label]}"
    return f"{names[wrong.label]} {wrong.score:.2f}: {kind}"


def _draw_dashed(draw: ImageDraw.ImageDraw, box: Rect, color: Color, line: int, dash: int) -> None:
    """A dashed frame inside a thin dark casing."""
    for ink, wide in ((CASING, line + 2), (color, line)):
        for x0, y0, x1, y1 in _dashes(box, dash):
            draw.line((x0, y0, x1, y1), fill=ink, width=wide)


def _dashes(box: Rect, dash: int) -> Iterator[Rect]:
    """Strokes as long as the gaps between them, along the four sides."""
    x0, y0, x1, y1 = box
    for start, stop in _strokes(x0, x1, dash):
        yield start, y0, stop, y0
        yield start, y1, stop, y1
    for start, stop in _strokes(y0, y1, dash):
        yield x0, start, x0, stop
        yield x1, start, x1, stop


def _strokes(low: float, high: float, dash: int) -> Iterator[tuple[float, float]]:
    count = max(1, round((high - low) / (2 * dash)))
    step = (high - low) / count
    return ((low + k * step, low + (k + 0.5) * step) for k in range(count))

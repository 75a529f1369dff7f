"""An image with the true positives, false positives and missed objects of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from gfocal.evaluation.error_analysis import FalsePositive, ImageMistakes
from gfocal.visualize.drawing import Color, as_pil_image, draw_box, draw_dashed, enlarge, scale_rect
from gfocal.visualize.labels import Label, draw_labels
from gfocal.visualize.lettering import name_to_write

# The lines differ too, for those who cannot see the colors: hits are thin, wrong ones thick, missed ones dashed.
TRUE_POSITIVE: Color = (0, 190, 130)
FALSE_POSITIVE: Color = (240, 70, 40)
MISSED: Color = (70, 150, 255)
CROWD: Color = (200, 200, 200)
SHORT_KINDS = {"localization": "badly localized", "both": "wrong class, badly localized"}


def draw_mistakes(
    image: Any,
    mistakes: ImageMistakes,
    names: Sequence[str],
    *,
    min_side: int = 900,
    font_path: str | None = None,
) -> Image.Image:
    """Draw the true positives, false positives and missed objects of one image.

    True positives have thin green frames without a label. False positives have thick red frames with class, score and
    type of error. Missed objects have dashed blue frames with their class; crowd regions dotted gray ones. An image
    whose longer side is under ``min_side`` is enlarged, so that the text is legible.
    """
    canvas = as_pil_image(image)
    scale = max(1.0, min_side / max(canvas.size))
    canvas = enlarge(canvas, scale)
    width, height = canvas.size
    unit = (width * height) ** 0.5
    thin, line = max(1, round(unit / 450)), max(2, round(unit / 240))
    font_size = max(11, min(40, round(unit / 52), max(1, height // 3)))
    draw = ImageDraw.Draw(canvas, "RGBA")
    for box in mistakes.crowd:
        draw_dashed(draw, scale_rect(box, scale), CROWD, thin, thin * 2)
    # The thick frames first, the thin and the dashed ones on them: nothing is hidden where boxes coincide.
    for one in reversed(mistakes.false_positives):
        draw_box(draw, scale_rect(one.box, scale), FALSE_POSITIVE, line)
    for box in mistakes.true_positives:
        draw_box(draw, scale_rect(box, scale), TRUE_POSITIVE, thin)
    for box, _ in mistakes.missed:
        draw_dashed(draw, scale_rect(box, scale), MISSED, max(2, line - 1), line * 5)
    names = [name_to_write(names, k, font_path) for k in range(len(names))]
    labels = [
        Label(
            (describe_error(one, names), f"{names[one.label]} {one.score:.2f}"),
            scale_rect(one.box, scale),
            FALSE_POSITIVE,
        )
        for one in mistakes.false_positives
    ]
    labels += [Label((f"missed {names[k]}", names[k]), scale_rect(box, scale), MISSED) for box, k in mistakes.missed]
    objects = [label.box for label in labels] + [scale_rect(box, scale) for box in mistakes.true_positives]
    limits = (0.0, 0.0, float(width), float(height))
    draw_labels(draw, labels, font_size, limits, objects=objects, font_path=font_path)
    return canvas


def describe_error(wrong: FalsePositive, names: Sequence[str]) -> str:
    """``cat 0.71: is dog``."""
    kind = SHORT_KINDS.get(wrong.kind, wrong.kind)
    if wrong.gt_label is not None:
        kind = f"is {names[wrong.gt_label]}"
    return f"{names[wrong.label]} {wrong.score:.2f}: {kind}"

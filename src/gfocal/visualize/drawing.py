"""Boxes and labels drawn on images, optionally with the uncertainty of each edge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gfocal.models.predict import as_rgb, range_of_images
from gfocal.structures import Detections

Color = tuple[int, int, int]
Rect = tuple[float, float, float, float]  # x0, y0, x1, y1
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Neighboring labels get hues far apart; each can be told from the others on photographs.
PALETTE: tuple[Color, ...] = (
    (230, 57, 70), (29, 120, 224), (42, 157, 80), (247, 148, 29), (142, 68, 196), (0, 172, 186),
    (233, 84, 160), (163, 190, 30), (120, 82, 52), (255, 205, 40), (80, 86, 214), (0, 128, 110),
    (200, 70, 20), (120, 190, 255), (150, 20, 90), (130, 220, 140), (255, 150, 130), (90, 100, 115),
    (196, 160, 245), (180, 140, 0),
)  # fmt: skip
SCORE_RAMP: tuple[Color, ...] = ((214, 64, 40), (245, 180, 30), (18, 160, 110))

MIN_PROBABILITY = 0.005  # bins with no more are not drawn
MAX_TAIL_PROBABILITY = 0.02  # an axis ends where no bin farther out has more
AXIS_OF_SIDE = (0, 1, 0, 1)  # left and right lie along x, top and bottom along y
SIGN_OF_SIDE = (-1.0, -1.0, 1.0, 1.0)


def draw_detections(
    image: Any,
    detections: Detections,
    score_threshold: float = 0.3,
    *,
    edges: Literal["none", "std", "distribution"] = "none",
    colors: Literal["class", "score"] = "class",
    min_side: int = 0,
    font_path: str | None = None,
) -> Image.Image:
    """Draw the boxes whose score is greater than ``score_threshold``, with class name and score.

    ``image`` is the image the detections were found in, as ``detect`` takes it: a path, a PIL image, a uint8
    array (H, W, 3) or a tensor (3, H, W). ``edges="std"`` adds a translucent band one standard deviation to either
    side of every edge; ``edges="distribution"`` shades every bin by its probability. ``colors="score"`` runs from
    red (0) over amber to green (1).
    An image whose longer side is under ``min_side`` is enlarged, so that text on it is legible.
    ``font_path`` names a font file for class names that Pillow's own Latin font cannot write. A label
    that does not fit into the image is shortened, and left out of an image too small for any text.

    Raises ValueError for what is not an image, for an image that is not the one of the detections, or if ``edges``
    are to be drawn of a detector without edge distributions.
    """
    canvas = as_pil_image(image, detections.size)
    if edges != "none":
        require_distributions(detections)
    scale = max(1.0, min_side / max(canvas.size))
    canvas = enlarge(canvas, scale)
    found = detections.above(score_threshold)
    width, height = canvas.size
    unit = (width * height) ** 0.5
    line = max(1, round(unit / 240))
    font = load_font(max(11, min(72, round(unit / 32), height // 3)), font_path)
    palette = [
        class_color(label) if colors == "class" else score_color(score)
        for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    ]
    if edges != "none":
        bands = edge_bands(found) if edges == "std" else bin_bands(found)
        canvas = shade(canvas, [(i, scale_rect(rect, scale), opacity) for i, rect, opacity in bands], palette)
    draw = ImageDraw.Draw(canvas)
    boxes = [scale_rect((b[0], b[1], b[2], b[3]), scale) for b in found.boxes.tolist()]
    for box, color in reversed(list(zip(boxes, palette, strict=True))):
        draw_box(draw, box, color, line)
    taken: list[Rect] = []
    for box, color, text in zip(boxes, palette, format_labels(found), strict=True):
        draw_label(draw, text, box, color, font, taken, (0.0, 0.0, float(width), float(height)))
    return canvas


def as_pil_image(image: Any, size: tuple[int, int] | None = None) -> Image.Image:
    """Whatever ``detect`` takes as one image; ValueError for anything else, or for another height and width."""
    image = as_rgb(image, range_of_images([image]))
    if size is not None and tuple(image.shape[1:]) != tuple(size):
        raise ValueError(
            f"detections are in pixels of an image of height and width {tuple(size)}, this one has "
            f"{tuple(image.shape[1:])}: pass the image that was detected in, not resized"
        )
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def require_distributions(detections: Detections) -> None:
    """Raise ValueError unless these detections have edge distributions."""
    if not detections.edges.shape[-1]:
        raise ValueError("these detections have no edge distributions: their detector predicts four numbers per box")


def enlarge(image: Image.Image, scale: float) -> Image.Image:
    """An image enlarged by a factor; one of at most 1 changes nothing."""
    if scale <= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def scale_rect(rect: Rect, scale: float) -> Rect:
    """A rectangle in pixels of an image enlarged by a factor."""
    return rect[0] * scale, rect[1] * scale, rect[2] * scale, rect[3] * scale


def class_color(label: int) -> Color:
    """The color of a class, the same in every image."""
    return PALETTE[label % len(PALETTE)]


def score_color(score: float) -> Color:
    """Red at 0, amber at 0.5, green at 1."""
    place = min(max(score, 0.0), 1.0) * (len(SCORE_RAMP) - 1)
    low = min(int(place), len(SCORE_RAMP) - 2)
    first, second, share = SCORE_RAMP[low], SCORE_RAMP[low + 1], place - low
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@lru_cache(maxsize=32)
def load_font(size: int, font_path: str | None = None) -> Font:
    """The font of labels at a height in pixels; Pillow's own where no file is named."""
    return ImageFont.truetype(font_path, size) if font_path else ImageFont.load_default(size)


def format_labels(detections: Detections) -> list[str]:
    """``name 0.87`` for each detection."""
    scores = detections.scores.tolist()
    return [f"{name} {score:.2f}" for name, score in zip(detections.class_names, scores, strict=True)]


def bin_positions(detections: Detections) -> Tensor:
    """Where each bin of each edge lies along its axis: x for left and right, y for top and bottom.

    (N, 4, K) float32, pixels of the original image.
    """
    bins = torch.arange(detections.edges.shape[-1], dtype=torch.float32)
    start = detections.points.cpu()[:, list(AXIS_OF_SIDE)].unsqueeze(-1)  # (N, 4, 1)
    step = detections.bin_sizes.cpu() * torch.tensor(SIGN_OF_SIDE)  # (N, 4)
    return start + step.unsqueeze(-1) * bins


Band = tuple[int, Rect, float]  # detection, rectangle, opacity 0..1


def edge_bands(detections: Detections) -> list[Band]:
    """One band per edge, from one standard deviation inside it to one outside."""
    boxes, std = detections.boxes.tolist(), detections.edge_std.tolist()
    return [
        (i, _across(box, side, box[side] - std[i][side], box[side] + std[i][side]), 0.4)
        for i, box in enumerate(boxes)
        for side in range(4)
    ]


def bin_bands(detections: Detections, min_probability: float = MIN_PROBABILITY) -> list[Band]:
    """One band per bin with more than ``min_probability`` of its edge, the more probable the more opaque."""
    boxes, halves = detections.boxes.tolist(), (detections.bin_sizes / 2).tolist()
    positions, edges = bin_positions(detections).tolist(), detections.edges.tolist()
    return [
        (i, _across(box, side, position - halves[i][side], position + halves[i][side]), 0.7 * probability**0.5)
        for i, box in enumerate(boxes)
        for side in range(4)
        for position, probability in zip(positions[i][side], edges[i][side], strict=True)
        if probability > min_probability
    ]


def _across(box: Sequence[float], side: int, low: float, high: float) -> Rect:
    return (low, box[1], high, box[3]) if AXIS_OF_SIDE[side] == 0 else (box[0], low, box[2], high)


def shade(canvas: Image.Image, bands: list[Band], palette: Sequence[Color]) -> Image.Image:
    """Draw translucent bands on an image; where two overlap, the later one is seen."""
    layer = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(layer)
    for i, (x0, y0, x1, y1), opacity in bands:
        # A pixel lies in the band if its center does, so that neighboring bins do not overlap.
        inner = (round(x0), round(y0), max(round(x0), round(x1) - 1), max(round(y0), round(y1) - 1))
        draw.rectangle(inner, fill=(*palette[i], round(255 * opacity)))
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")


def draw_box(draw: ImageDraw.ImageDraw, box: Rect, color: Color, line: int) -> None:
    """A frame that is visible on any background: the color inside a thin dark outline."""
    x0, y0, x1, y1 = (round(v) for v in box)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
    if line > 1:
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(20, 20, 20), width=line + 2)
    draw.rectangle((x0, y0, x1, y1), outline=color, width=line)


def draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Rect,
    color: Color,
    font: Font,
    taken: list[Rect],
    limits: Rect,
) -> None:
    """Write a label at its box, inside ``limits`` and clear of the ``taken`` rectangles, to which it is added."""
    ascent, descent = _line_height(font)
    pad = max(2, (ascent + descent) // 6)
    height = ascent + descent + pad
    text = _shorten(draw, text, font, limits[2] - limits[0] - 2 * pad)
    if not text or height > limits[3] - limits[1]:
        return
    width = draw.textlength(text, font=font) + 2 * pad
    x = min(max(box[0], limits[0]), limits[2] - width)
    tops = (box[1] - height, box[1], box[3], box[3] - height)
    places = [(x, y, x + width, y + height) for y in tops if limits[1] <= y <= limits[3] - height]
    places.append((x, y := min(max(box[1], limits[1]), limits[3] - height), x + width, y + height))
    place = next((p for p in places if not any(overlap(p, other) for other in taken)), places[0])
    taken.append(place)
    draw.rounded_rectangle(tuple(round(v) for v in place), radius=pad, fill=color)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 150
    start = (round(place[0]) + pad, round(place[1]) + pad / 2 + ascent)
    draw.text(start, text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255), anchor="ls")


def overlap(first: Rect, second: Rect) -> float:
    """Area of the intersection of two rectangles."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    return max(0.0, width) * max(0.0, min(first[3], second[3]) - max(first[1], second[1]))


def _line_height(font: Font) -> tuple[int, int]:
    if isinstance(font, ImageFont.FreeTypeFont):
        return font.getmetrics()
    return 10, 2  # of the bitmap font of a Pillow without FreeType


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    text = " ".join(text.split())  # a line break in a class name would leave the label
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..." if text else ""

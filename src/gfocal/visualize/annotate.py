"""Detections on their image: boxes, labels and, if wanted, the uncertainty of each edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image, ImageDraw

from gfocal.structures import Detections
from gfocal.structures.detected import COVERAGE, Edges
from gfocal.visualize.bands import bin_bands, require_distributions, shade, std_bands
from gfocal.visualize.drawing import (
    Color,
    as_pil_image,
    class_color,
    draw_box,
    enlarge,
    scale_rect,
    scale_with_image,
    score_color,
)
from gfocal.visualize.interval_boxes import draw_intervals
from gfocal.visualize.labels import Label, draw_labels
from gfocal.visualize.lettering import name_to_write

EDGES = get_args(Edges)
LabelText = Literal["none", "name", "score", "name+score"]
LABEL_TEXTS: tuple[LabelText, ...] = ("none", "name", "score", "name+score")

FONT_SIZE, LINE_WIDTH = 15.0, 2.2  # pixels of a 640x480 image
MIN_FONT_SIZE = 10
LABELED_AREA = 0.15  # of an image; labels that would take more are smaller
MAX_SHRINKING = 0.62


@dataclass(frozen=True)
class DrawStyle:
    """How ``draw_detections`` draws, as its arguments of the same names."""

    edges: Edges = "none"
    labels: LabelText = "name+score"
    line_width: int | None = None
    font_size: int | None = None
    font_path: str | None = None
    coverage: float = COVERAGE

    def draw(self, image: Any, detections: Detections, track_ids: Sequence[int | None] | None = None) -> Image.Image:
        """All detections in this style, see ``draw_detections``."""
        return draw_detections(
            image,
            detections,
            0.0,
            edges=self.edges,
            labels=self.labels,
            line_width=self.line_width,
            font_size=self.font_size,
            font_path=self.font_path,
            coverage=self.coverage,
            track_ids=track_ids,
        )


def draw_detections(
    image: Any,
    detections: Detections,
    score_threshold: float = 0.3,
    *,
    edges: Edges = "none",
    labels: LabelText = "name+score",
    colors: Literal["class", "score"] = "class",
    line_width: int | None = None,
    font_size: int | None = None,
    min_side: int = 0,
    font_path: str | None = None,
    coverage: float = COVERAGE,
    track_ids: Sequence[int | None] | None = None,
) -> Image.Image:
    """Draw the boxes whose score is greater than ``score_threshold``, with class name and score.

    ``image`` is the image the detections were found in, as ``detect`` takes it: a path, a PIL image, a uint8
    array (H, W, 3) or a tensor (3, H, W). ``edges="std"`` adds a translucent band to either side of every edge, one
    standard deviation of its labels wide, which leaves out what bins add to it (``docs/edges.md``);
    ``edges="distribution"`` shades every bin by its probability; ``edges="interval"``, of a calibrated model, shades
    where each edge of the object lies: all four between the outer box (dashed, in the color of the detection) and the
    inner one (dotted, in a light tint of it) with the probability ``coverage``.

    ``colors="score"`` runs from red (0) over amber to green (1). An image whose longer side is under ``min_side`` is
    enlarged, so that text on it is legible.

    ``line_width`` and ``font_size`` are in pixels; None: they follow the size of the image, and are smaller among
    many objects. A label stands where it hides no other one and least of the objects; where there is no space, its
    score is left out, and then the label, of the lowest scores first. ``font_path`` names a font file; without one,
    fonts of the system write the class names that Pillow's own (English letters) cannot. Names that none of them
    can write lose their accents, or become ``class 3``. ``track_ids``, one for each detection or None, are
    written before the labels as ``#7``, and give the colors.

    Raises ValueError for what is not an image, for an image that is not the one of the detections, or if ``edges``
    are to be drawn of a detector without edge distributions, or intervals of one that is not calibrated for them.
    """
    canvas = as_pil_image(image, detections.size)
    if edges not in EDGES:
        raise ValueError(f"edges is one of {', '.join(EDGES)}, not {edges!r}")
    if labels not in LABEL_TEXTS:
        raise ValueError(f"labels is one of {', '.join(LABEL_TEXTS)}, not {labels!r}")
    scale = max(1.0, min_side / max(canvas.size))
    canvas = enlarge(canvas, scale)
    found = detections.above(score_threshold).to("cpu")
    ids = _ids_above(score_threshold, detections, track_ids)
    palette = _palette(found, colors, ids)
    boxes = [scale_rect((b[0], b[1], b[2], b[3]), scale) for b in found.boxes.tolist()]
    texts = _with_ids(label_texts(found, labels, font_path), ids)
    font, line = choose_sizes(canvas.size, [text[0] for text in texts if text])
    if edges == "interval":
        require_distributions(found)
        canvas = draw_intervals(canvas, found, coverage, palette, line, scale, line_width)
    else:
        canvas = _draw_frames(canvas, found, edges, palette, line_width or line, scale)
    wanted = [Label(texts[i], boxes[i], palette[i]) for i in labeling_order(found) if texts[i]]
    limits = (0.0, 0.0, float(canvas.width), float(canvas.height))
    draw_labels(ImageDraw.Draw(canvas, "RGBA"), wanted, font_size or font, limits, objects=boxes, font_path=font_path)
    return canvas


def _draw_frames(
    canvas: Image.Image, found: Detections, edges: Edges, palette: list[Color], line: int, scale: float
) -> Image.Image:
    """Bands of the edges, where wanted, and the boxes over them, the best on top; a new image or the same one."""
    if edges != "none":
        require_distributions(found)
        bands = std_bands(found) if edges == "std" else bin_bands(found)
        canvas = shade(canvas, [(i, scale_rect(rect, scale), opacity) for i, rect, opacity in bands], palette)
    draw = ImageDraw.Draw(canvas, "RGBA")
    for (x0, y0, x1, y1), color in reversed(list(zip(found.boxes.tolist(), palette, strict=True))):
        draw_box(draw, scale_rect((x0, y0, x1, y1), scale), color, line)
    return canvas


def _ids_above(
    threshold: float, detections: Detections, track_ids: Sequence[int | None] | None
) -> Sequence[int | None]:
    """The tracks of the detections above a threshold."""
    above = (detections.scores > threshold).tolist()
    ids = [None] * len(above) if track_ids is None else track_ids
    return [one for one, is_above in zip(ids, above, strict=True) if is_above]


def _palette(found: Detections, colors: Literal["class", "score"], ids: Sequence[int | None]) -> list[Color]:
    """The color of each detection: of its track, else of its class or score."""
    return [
        class_color(one) if one is not None else class_color(label) if colors == "class" else score_color(score)
        for label, score, one in zip(found.labels.tolist(), found.scores.tolist(), ids, strict=True)
    ]


def _with_ids(texts: list[tuple[str, ...]], ids: Sequence[int | None]) -> list[tuple[str, ...]]:
    """The labels with the number of the track before them, which alone is written where the rest finds no place."""
    return [
        text if one is None else (*(f"#{one} {part}" for part in text), f"#{one}")
        for one, text in zip(ids, texts, strict=True)
    ]


def label_texts(detections: Detections, labels: LabelText, font_path: str | None = None) -> list[tuple[str, ...]]:
    """What may be written at each detection: ``cat 0.87``, or ``cat`` where that finds no place."""
    if labels == "none":
        return [()] * len(detections)
    names = {k: name_to_write(detections.names, k, font_path) for k in set(detections.labels.tolist())}
    texts: list[tuple[str, ...]] = []
    for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True):
        name, number = names[label], f"{score:.2f}"
        both = (f"{name} {number}", name)
        texts.append({"name": (name,), "score": (number,)}.get(labels, both))
    return texts


def labeling_order(detections: Detections) -> list[int]:
    """Best first, but the best of every class before all others: every color in a crowd gets its name."""
    order = sorted(range(len(detections)), key=detections.scores.neg().tolist().__getitem__)
    labels = detections.labels.tolist()
    first_of_class = {labels[i]: i for i in reversed(order)}
    firsts = set(first_of_class.values())
    return sorted(order, key=lambda i: i not in firsts)


def choose_sizes(size: tuple[int, int], texts: list[str]) -> tuple[int, int]:
    """Font size and line width for an image of this width and height with these labels, pixels."""
    font, line = scale_with_image(FONT_SIZE, size), scale_with_image(LINE_WIDTH, size)
    wanted = sum(0.55 * len(text) + 0.5 for text in texts) * 1.3 * font**2 / (size[0] * size[1])
    shrinking = min(1.0, max(MAX_SHRINKING, (LABELED_AREA / wanted) ** 0.5)) if wanted else 1.0
    return max(MIN_FONT_SIZE, round(font * shrinking)), max(1, round(line * shrinking))

"""Detections and ground truth on one image, side by side in their colors: what a model in training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from gfocal.data.dataset import Sample
from gfocal.evaluation.coco_ap import ScoredBoxes
from gfocal.visualize.annotate import choose_sizes
from gfocal.visualize.drawing import Color, as_pil_image, class_color, draw_box, draw_dashed, scale_rect
from gfocal.visualize.labels import Label, draw_labels
from gfocal.visualize.lettering import name_to_write

GROUND_TRUTH: Color = (255, 255, 255)
MIN_SCORE = 0.3
MOST_BOXES = 100  # of each kind on one image


def draw_predictions(
    image: Any, sample: Sample, detections: ScoredBoxes | None, names: Sequence[str], *, longest: int = 560
) -> tuple[Image.Image, str]:
    """Draw ground truth dashed in white, and the detections of score above 0.3 in the colors of their classes.

    Where no score is above 0.3 the best detection is drawn, if there is one. An image of more than ``longest``
    pixels along its longer side is made smaller first. Returns the image, and a line on what is on it.
    """
    canvas = as_pil_image(image).copy()
    width = canvas.width
    canvas.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    scale = canvas.width / width
    boxes, scores, labels = _best(detections)
    shown = sum(score > MIN_SCORE for score in scores) or min(1, len(scores))
    boxes, scores, labels = boxes[:shown], scores[:shown], labels[:shown]
    texts = [f"{name_to_write(names, label)} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    font, line = choose_sizes(canvas.size, texts)
    draw = ImageDraw.Draw(canvas, "RGBA")
    objects = sample.boxes[~sample.crowd].tolist()
    rects = [scale_rect((b[0], b[1], b[2], b[3]), scale) for b in boxes]
    for rect, label in reversed(list(zip(rects, labels, strict=True))):
        draw_box(draw, rect, class_color(label), line)
    # Last, as a detection shows in the gaps of the dashes.
    for x0, y0, x1, y1 in objects[:MOST_BOXES]:
        draw_dashed(draw, scale_rect((x0, y0, x1, y1), scale), GROUND_TRUTH, line, 4 * line)
    wanted = [
        Label((text,), rect, class_color(label)) for text, rect, label in zip(texts, rects, labels, strict=True)
    ]
    draw_labels(draw, wanted, font, (0.0, 0.0, float(canvas.width), float(canvas.height)), objects=rects)
    return canvas, _describe(len(objects), scores)


def _best(detections: ScoredBoxes | None) -> tuple[list[list[float]], list[float], list[int]]:
    """Boxes, scores and labels of the detections, best first."""
    if detections is None:
        return [], [], []
    best = detections.scores.argsort(descending=True, stable=True)[:MOST_BOXES].cpu()
    parts = (detections.boxes, detections.scores, detections.labels)
    boxes, scores, labels = (part.detach().cpu()[best].tolist() for part in parts)
    return boxes, scores, labels


def _describe(num_objects: int, scores: Sequence[float]) -> str:
    count = f"{num_objects} in ground truth"
    if not scores:
        return f"{count}, nothing detected yet"
    if scores[0] <= MIN_SCORE:
        return f"{count}, nothing above {MIN_SCORE:g} yet; the best is {scores[0]:.2f}"
    return f"{count}, {len(scores)} detected"

"""Figure 7: detections with different box representations in the same images.

Images are those with the most occlusion, where the paper finds the General distribution better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.data.dataset import ImageData
from gfocal.errors import DataError
from gfocal.lab.figures.canvas import Table
from gfocal.lab.figures.contact_sheet import Tile, save_contact_sheet
from gfocal.lab.figures.trained import evenly_spaced
from gfocal.models.detector import Detector
from gfocal.models.predict import detect_batch
from gfocal.structures import Detections
from gfocal.visualize.annotate import draw_detections
from gfocal.visualize.drawing import as_pil_image, class_color, draw_box, enlarge, scale_rect

MAX_OBJECTS = 15  # in an image: more cannot be distinguished in a column
HIT_IOU = 0.5  # an object with a detection of at least this IoU is found
MIN_SIDE = 440  # small images are enlarged to this before they are drawn on


@dataclass(frozen=True)
class SideBySide:
    """The detections of every detector in every chosen image."""

    images: tuple[int, ...]  # indices in the data
    found: dict[str, list[Detections]]  # name of the detector -> one for each image
    overlaps: dict[str, list[Tensor]]  # (N, G) of each image: IoU with ground truth of the same class, else 0


def side_by_side(
    models: Mapping[str, Detector],
    data: ImageData,
    count: int = 3,
    score_threshold: float = 0.4,
    images: tuple[int, ...] | None = None,
) -> SideBySide:
    """Detect with each model in ``images``, or in the ``count`` images with the most occlusion.

    Raises:
        DataError: no image has two or more objects.
    """
    chosen = most_occluded(data, count) if images is None else images
    found: dict[str, list[Detections]] = {name: [] for name in models}
    overlaps: dict[str, list[Tensor]] = {name: [] for name in models}
    for index in chosen:
        image, sample = data.read(index)
        for name, model in models.items():
            one = detect_batch(model, [image], score_threshold)[0].to("cpu")
            found[name].append(one)
            same = one.labels[:, None] == sample.labels  # (N, G)
            overlaps[name].append(torch.where(same, box_iou(one.boxes, sample.boxes), 0.0))
    return SideBySide(tuple(chosen), found, overlaps)


def most_occluded(data: ImageData, count: int, at_most: int = 2000) -> tuple[int, ...]:
    """The images of 2 to 15 objects with the largest overlaps, in this order. DataError if there are none."""
    ranked = []
    for index in evenly_spaced(data, at_most):
        sample = data.sample(index)
        boxes = sample.boxes[~sample.crowd]
        if 2 <= len(boxes) <= MAX_OBJECTS:
            overlap = box_iou(boxes, boxes).fill_diagonal_(0)
            ranked.append((-float(overlap.sum()), index))
    if not ranked:
        raise DataError(f"figure 7 needs images of 2 to {MAX_OBJECTS} objects; there is none")
    return tuple(index for _, index in sorted(ranked)[:count])


def draw_side_by_side(shown: SideBySide, path: Path, data: ImageData) -> None:
    """Draw as PNG: a row for each image, a column for the ground truth and for each detector."""
    rows = []
    for i, index in enumerate(shown.images):
        pixels, sample = data.read(index)
        row = [Tile(_draw_ground_truth(pixels, sample.boxes, sample.labels), f"{len(sample.boxes)} objects")]
        for name, found in shown.found.items():
            image = draw_detections(pixels, found[i], 0.0, min_side=MIN_SIDE)
            best = _row_max(shown.overlaps[name][i].T)
            hits = best[best >= HIT_IOU]
            mean = f", their mean IoU {hits.mean():.2f}" if len(hits) else ""
            row.append(Tile(image, f"{len(hits)} of {len(best)} found{mean}"))
        rows.append(row)
    save_contact_sheet(
        rows, path, title="The same images by box representation", column_titles=["ground truth", *shown.found]
    )


def _row_max(overlap: Tensor) -> Tensor:
    """Maximum of each row. (R, S) -> (R,), 0 if S is 0"""
    return overlap.amax(1) if overlap.shape[1] else overlap.new_zeros(len(overlap))


def _draw_ground_truth(pixels: Tensor, boxes: Tensor, labels: Tensor) -> Image.Image:
    canvas = as_pil_image(pixels)
    scale = max(1.0, MIN_SIDE / max(canvas.size))
    canvas = enlarge(canvas, scale)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round((canvas.width * canvas.height) ** 0.5 / 240))
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        draw_box(draw, scale_rect((box[0], box[1], box[2], box[3]), scale), class_color(label), line)
    return canvas


def side_by_side_table(shown: SideBySide) -> Table:
    """One row per detection: detector, image, class, score, box in pixels, IoU with its ground truth."""
    rows = [
        (name, index, one.class_names[k], one.scores[k].item(), *one.boxes[k].tolist(), overlap[k].item())
        for name, found in shown.found.items()
        for index, one, overlap in zip(shown.images, found, map(_row_max, shown.overlaps[name]), strict=True)
        for k in range(len(one))
    ]
    head = ("representation", "image", "class", "score", "x1", "y1", "x2", "y2", "iou")
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}

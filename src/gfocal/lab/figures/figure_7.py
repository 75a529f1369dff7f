"""Figure 7: what detectors with different box representations find in the same images.

Images are those in which objects hide one another most, where the paper sees the General distribution ahead.
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
from gfocal.lab.figures.trained import evenly
from gfocal.models.detector import Detector
from gfocal.models.predict import detect_batch
from gfocal.structures import Detections
from gfocal.visualize.drawing import class_color, draw_box, draw_detections, enlarge, image_of, scaled

MOST_OBJECTS = 15  # in an image that is shown: more cannot be told apart in a column
HIT = 0.5  # IoU from which on an object counts as found
LEAST_SIDE = 440  # small images are enlarged to this before they are drawn on


@dataclass(frozen=True)
class SideBySide:
    """Detections of every detector in every chosen image."""

    images: tuple[int, ...]  # indices in the data
    found: dict[str, list[Detections]]  # name of the detector -> one for each image
    overlaps: dict[str, list[Tensor]]  # (N, G) of each image: IoU of detections and ground truth of one class, else 0


def side_by_side(
    models: Mapping[str, Detector],
    data: ImageData,
    count: int = 3,
    score_threshold: float = 0.4,
    images: tuple[int, ...] | None = None,
) -> SideBySide:
    """Detect with each model in ``images``, or in the ``count`` images with the most occlusion.

    Raises:
        DataError: no image shows two or more objects.
    """
    chosen = occluded(data, count) if images is None else images
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


def occluded(data: ImageData, count: int, at_most: int = 2000) -> tuple[int, ...]:
    """Images of 2 to 15 objects in which two overlap most, best first. DataError when there are none."""
    rated = []
    for index in evenly(data, at_most):
        sample = data.sample(index)
        boxes = sample.boxes[~sample.crowd]
        if 2 <= len(boxes) <= MOST_OBJECTS:
            overlap = box_iou(boxes, boxes).fill_diagonal_(0)
            rated.append((-float(overlap.sum()), index))
    if not rated:
        raise DataError(f"figure 7 needs images of 2 to {MOST_OBJECTS} objects; there is none")
    return tuple(index for _, index in sorted(rated)[:count])


def draw_side_by_side(shown: SideBySide, path: Path, data: ImageData) -> None:
    """Draw as PNG: a row for each image, a column for the ground truth and for each detector."""
    rows = []
    for i, index in enumerate(shown.images):
        pixels, sample = data.read(index)
        row = [Tile(_draw_ground_truth(pixels, sample.boxes, sample.labels), f"{len(sample.boxes)} objects")]
        for name, found in shown.found.items():
            image = draw_detections(pixels, found[i], 0.0, least_side=LEAST_SIDE)
            best = _greatest(shown.overlaps[name][i].T)
            hits = best[best >= HIT]
            mean = f", their mean IoU {hits.mean():.2f}" if len(hits) else ""
            row.append(Tile(image, f"{len(hits)} of {len(best)} found{mean}"))
        rows.append(row)
    save_contact_sheet(
        rows, path, title="The same images by box representation", column_titles=["ground_truth", *shown.found]
    )


def _greatest(overlap: Tensor) -> Tensor:
    """Greatest of each row. (R, S) -> (R,), 0 where S is 0"""
    return overlap.amax(1) if overlap.shape[1] else overlap.new_zeros(len(overlap))


def _draw_ground_truth(pixels: Tensor, boxes: Tensor, labels: Tensor) -> Image.Image:
    canvas = image_of(pixels)
    scale = max(1.0, LEAST_SIDE / max(canvas.size))
    canvas = enlarge(canvas, scale)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round((canvas.width * canvas.height) ** 0.5 / 240))
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        draw_box(draw, scaled((box[0], box[1], box[2], box[3]), scale), class_color(label), line)
    return canvas


def side_by_side_table(shown: SideBySide) -> Table:
    """One row per detection: detector, image, class, score, box in pixels, IoU with its ground truth."""
    rows = [
        (name, index, one.class_names[k], one.scores[k].item(), *one.boxes[k].tolist(), overlap[k].item())
        for name, found in shown.found.items()
        for index, one, overlap in zip(shown.images, found, map(_greatest, shown.overlaps[name]), strict=True)
        for k in range(len(one))
    ]
    head = ("representation", "image", "class", "score", "x1", "y1", "x2", "y2", "iou")
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}

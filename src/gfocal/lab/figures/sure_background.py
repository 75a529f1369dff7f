"""Figure 2 (left): background of which a separate quality branch is sure.

Such a branch is taught on positives alone, so what it says of background is anybody's guess. Shown are the background
points with the highest predicted quality whose box hardly meets any object, one of each picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.boxes import clip_boxes
from gfocal.data.preparation import scale_xyxy
from gfocal.data.samples import DataError, ImageData
from gfocal.lab.figures.contact_sheet import Tile, save_contact_sheet
from gfocal.lab.figures.runs import each_output, readings_of
from gfocal.lab.figures.tables import Table
from gfocal.models.detector import Detector
from gfocal.plots.pictures import PALETTE, draw_box, enlarge, picture_of, scaled

TRUTH = (255, 255, 255)


@dataclass(frozen=True)
class SureBackground:
    """One background point, and what the detector says there."""

    picture: int  # index in the data
    box: tuple[float, float, float, float]  # predicted, xyxy in pixels of the picture
    point: tuple[float, float]  # pixels of the picture
    quality: float
    class_score: float
    iou: float  # with the object that the box overlaps most


def sure_background(
    model: Detector, data: ImageData, count: int = 4, at_most: int = 100, most_iou: float = 0.1
) -> list[SureBackground]:
    """The surest background points of up to ``at_most`` pictures, one of a picture, best first.

    Raises:
        DataError: the detector has no quality branch.
    """
    found: list[SureBackground] = []
    for index, batch, outputs in each_output(model, data, at_most):
        if outputs.quality_logits is None:
            raise DataError("figure 2 (left) needs a detector with a separate quality branch")
        readings = readings_of(model, batch, outputs, index)
        height, width = (int(side) for side in batch.sizes[0])
        xy = outputs.points.xy.cpu()[readings.point]
        inside = (xy >= 0).all(1) & (xy < xy.new_tensor([width, height])).all(1)  # not in the padding
        wrong = ~readings.positive & (readings.iou <= most_iou) & inside
        if not bool(wrong.any()):
            continue
        best = int(torch.where(wrong, readings.quality, -1.0).argmax())
        place = readings.point[best].to(outputs.box_logits.device)
        boxes = model.distribution.boxes(
            outputs.box_logits[0, place].unsqueeze(0), outputs.points.select(place[None])
        )
        scale = scale_xyxy((height, width), (int(batch.original_sizes[0, 0]), int(batch.original_sizes[0, 1])))
        box = (clip_boxes(boxes[0].cpu(), height, width) * scale).tolist()
        point = (xy[best] * scale[:2]).tolist()
        found.append(
            SureBackground(
                index,
                (box[0], box[1], box[2], box[3]),
                (point[0], point[1]),
                float(readings.quality[best]),
                float(readings.class_score[best]),
                float(readings.iou[best]),
            )
        )
    found.sort(key=lambda one: -one.quality)
    return found[:count]


def draw_sure_background(found: list[SureBackground], path: Path, data: ImageData) -> None:
    """Draw as PNG: the point and its box in red, truth in white."""
    row = []
    for one in found:
        picture, sample = data.read(one.picture)
        row.append(
            Tile(_marked(picture, sample.boxes, one), f"quality {one.quality:.2f}, class {one.class_score:.2f}")
        )
    rows = [row[i : i + 4] for i in range(0, len(row), 4)]
    if not rows:
        raise DataError("figure 2 (left): every background point of these pictures overlaps an object")
    save_contact_sheet(rows, path, title="Background of high predicted quality (red); objects in white")


def _marked(picture: Tensor, truth: Tensor, one: SureBackground) -> Image.Image:
    canvas = picture_of(picture)
    scale = max(1.0, 440 / max(canvas.size))
    canvas = enlarge(canvas, scale)
    draw = ImageDraw.Draw(canvas)
    for box in truth.tolist():
        draw_box(draw, scaled((box[0], box[1], box[2], box[3]), scale), TRUTH, 2)
    draw_box(draw, scaled(one.box, scale), PALETTE[0], 3)
    x, y = one.point[0] * scale, one.point[1] * scale
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=PALETTE[0], outline=(20, 20, 20))
    return canvas


def sure_background_table(found: list[SureBackground]) -> Table:
    """One row per point: picture, box in pixels, predicted quality, class score, IoU with the nearest object."""
    return {
        "picture": [one.picture for one in found],
        "x1": [one.box[0] for one in found],
        "y1": [one.box[1] for one in found],
        "x2": [one.box[2] for one in found],
        "y2": [one.box[3] for one in found],
        "predicted_quality": [one.quality for one in found],
        "class_score": [one.class_score for one in found],
        "iou": [one.iou for one in found],
    }

"""Figure 2: a separate quality branch against the joint score of QFL.

Left: a separate branch is trained on positives alone, so its predictions on background are not supervised. Shown are
the background points with the highest predicted quality whose box hardly overlaps any object, one per image.

Right: how far the score at a point is the quality (IoU) of its box, for a separate branch and for the joint score.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.data.dataset import ImageData
from gfocal.data.preprocess import scale_xyxy
from gfocal.errors import DataError
from gfocal.lab.figures.canvas import Table, heading, label, save, sheet
from gfocal.lab.figures.contact_sheet import Tile, save_contact_sheet
from gfocal.lab.figures.trained import PointPredictions, correlation, each_output, read_image_points, read_points
from gfocal.models.detector import Detector
from gfocal.ops.boxes import clip_boxes
from gfocal.visualize.charts import COLORS, GRAY
from gfocal.visualize.drawing import PALETTE, as_pil_image, draw_box, enlarge, scale_rect

GROUND_TRUTH = (255, 255, 255)


@dataclass(frozen=True)
class ConfidentBackground:
    """One background point, and the predictions there."""

    image: int  # index in the data
    box: tuple[float, float, float, float]  # predicted, xyxy in pixels of the image
    point: tuple[float, float]  # pixels of the image
    quality: float
    class_score: float
    iou: float  # the highest with any object


def confident_background(
    model: Detector, data: ImageData, count: int = 4, at_most: int = 100, most_iou: float = 0.1
) -> list[ConfidentBackground]:
    """The background points with the highest quality, one of each of up to ``at_most`` images, highest first.

    Raises:
        DataError: the detector has no quality branch.
    """
    found: list[ConfidentBackground] = []
    for index, batch, outputs in each_output(model, data, at_most):
        if outputs.quality_logits is None:
            raise DataError("figure 2 (left) needs a detector with a separate quality branch")
        predictions = read_image_points(model, batch, outputs, index)
        height, width = (int(side) for side in batch.sizes[0])
        xy = outputs.points.xy.cpu()[predictions.point]
        inside = (xy >= 0).all(1) & (xy < xy.new_tensor([width, height])).all(1)  # not in the padding
        wrong = ~predictions.positive & (predictions.iou <= most_iou) & inside
        if not bool(wrong.any()):
            continue
        best = int(torch.where(wrong, predictions.quality, -1.0).argmax())
        place = predictions.point[best].to(outputs.box_logits.device)
        boxes = model.box_coder.boxes(outputs.box_logits[0, place].unsqueeze(0), outputs.points.select(place[None]))
        scale = scale_xyxy((height, width), (int(batch.original_sizes[0, 0]), int(batch.original_sizes[0, 1])))
        box = (clip_boxes(boxes[0].cpu(), height, width) * scale).tolist()
        point = (xy[best] * scale[:2]).tolist()
        found.append(
            ConfidentBackground(
                index,
                (box[0], box[1], box[2], box[3]),
                (point[0], point[1]),
                float(predictions.quality[best]),
                float(predictions.class_score[best]),
                float(predictions.iou[best]),
            )
        )
    found.sort(key=lambda one: -one.quality)
    return found[:count]


def draw_confident_background(found: list[ConfidentBackground], path: Path, data: ImageData) -> None:
    """Draw as PNG: the point and its box in red, ground truth in white."""
    row = []
    for one in found:
        image, sample = data.read(one.image)
        row.append(
            Tile(_draw_point(image, sample.boxes, one), f"quality {one.quality:.2f}, class {one.class_score:.2f}")
        )
    rows = [row[i : i + 4] for i in range(0, len(row), 4)]
    if not rows:
        raise DataError("figure 2 (left): every background point of these images overlaps an object")
    save_contact_sheet(rows, path, title="Background with a high predicted quality (red); ground truth in white")


def _draw_point(image: Tensor, ground_truth: Tensor, one: ConfidentBackground) -> Image.Image:
    canvas = as_pil_image(image)
    scale = max(1.0, 440 / max(canvas.size))
    canvas = enlarge(canvas, scale)
    draw = ImageDraw.Draw(canvas)
    for box in ground_truth.tolist():
        draw_box(draw, scale_rect((box[0], box[1], box[2], box[3]), scale), GROUND_TRUTH, 2)
    draw_box(draw, scale_rect(one.box, scale), PALETTE[0], 3)
    x, y = one.point[0] * scale, one.point[1] * scale
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=PALETTE[0], outline=(20, 20, 20))
    return canvas


def confident_background_table(found: list[ConfidentBackground]) -> Table:
    """One row per point: image, box in pixels, predicted quality, class score, highest IoU with any object."""
    return {
        "image": [one.image for one in found],
        "x1": [one.box[0] for one in found],
        "y1": [one.box[1] for one in found],
        "x2": [one.box[2] for one in found],
        "y2": [one.box[3] for one in found],
        "predicted_quality": [one.quality for one in found],
        "class_score": [one.class_score for one in found],
        "iou": [one.iou for one in found],
    }


TICKS = (0, 0.25, 0.5, 0.75, 1)
MAX_POINTS = 1200  # of each kind in one panel; more would hide one another


@dataclass(frozen=True)
class ScoreAndQuality:
    """Predictions of a detector of either kind, or of both."""

    separate: PointPredictions | None
    joint: PointPredictions | None


def score_and_quality(
    data: ImageData, separate: Detector | None = None, joint: Detector | None = None, at_most: int = 200
) -> ScoreAndQuality:
    """Predictions of both detectors at the points of up to ``at_most`` images.

    Raises:
        DataError: neither is given, the first has no quality branch or the second has one, or no point is positive.
    """
    if separate is None and joint is None:
        raise DataError("figure 2 needs a detector with a quality branch, or one with a joint score, or both")
    result = ScoreAndQuality(
        None if separate is None else read_points(separate, data, at_most),
        None if joint is None else read_points(joint, data, at_most),
    )
    if result.separate is not None and bool(result.separate.quality.isnan().any()):
        raise DataError("figure 2: the detector given as separate has no quality branch")
    if result.joint is not None and not bool(result.joint.quality.isnan().all()):
        raise DataError("figure 2: the detector given as joint has a quality branch beside its score")
    return result


def _panels(data: ScoreAndQuality) -> list[tuple[str, str, str, PointPredictions, Tensor, Tensor]]:
    """Title, axis labels, predictions, and x and y of each panel."""
    found = []
    if (one := data.separate) is not None:
        found.append(("separate", "class score", "predicted quality", one, one.class_score, one.quality))
        found.append(("separate", "class score × quality", "IoU", one, one.class_score * one.quality, one.iou))
    if (one := data.joint) is not None:
        found.append(("joint", "score", "IoU", one, one.class_score, one.iou))
    return found


def draw_score_and_quality(data: ScoreAndQuality, path: Path) -> None:
    """Draw as PNG: a scatter plot for each panel, with the correlation over its positives."""
    shown = _panels(data)
    figure, axes = sheet(1, len(shown), height=(4.6, 4.2, 3.3)[len(shown) - 1])
    for one, (kind, x_label, y_label, predictions, x, y) in zip(axes, shown, strict=True):
        for is_positive, name, color in ((False, "background", COLORS[1]), (True, "positive", COLORS[0])):
            rows = torch.nonzero(predictions.positive == is_positive).flatten()
            rows = rows[:: max(1, -(-len(rows) // MAX_POINTS))]
            one.scatter(x[rows], y[rows], s=7, color=color, alpha=0.45, linewidths=0, label=name)
        one.plot([0, 1], [0, 1], color=GRAY, linewidth=0.9, linestyle=(0, (2, 3)))
        one.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=TICKS, yticks=TICKS)
        of_positives = correlation(x[predictions.positive], y[predictions.positive])
        title = f"{kind}: r = {of_positives:.2f}\nwith background {correlation(x, y):.2f}"
        label(one, title, x_label, y_label)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper right", ncols=2, frameon=False, fontsize=8.5, markerscale=2)
    heading(figure, "Score and quality at points; r: correlation over positives")
    save(figure, path)


def score_and_quality_table(data: ScoreAndQuality) -> Table:
    """One row per point: detector, kind, image, point, class score, predicted quality (or nan), IoU."""
    kinds = [(name, one) for name, one in (("separate", data.separate), ("joint", data.joint)) if one is not None]
    return {
        "detector": [name for name, one in kinds for _ in one.iou],
        "kind": ["positive" if p else "background" for _, one in kinds for p in one.positive.tolist()],
        "image": torch.cat([one.image for _, one in kinds]),
        "point": torch.cat([one.point for _, one in kinds]),
        "class_score": torch.cat([one.class_score for _, one in kinds]),
        "predicted_quality": torch.cat([one.quality for _, one in kinds]),
        "iou": torch.cat([one.iou for _, one in kinds]),
    }

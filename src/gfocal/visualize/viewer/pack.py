"""An image of the viewer: pixels as JPEG, detections and ground truth as base64 of little-endian arrays."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration
from gfocal.structures.detected import COVERAGE
from gfocal.text import printable
from gfocal.visualize.drawing import as_pil_image

MAX_SIDE, MIN_SIDE = 1024, 240  # of the JPEG of an image, pixels
BYTES_PER_PIXEL = 0.3  # of a photograph as base64 of a JPEG of this quality
QUALITY = 80
MAX_NAME = 300  # characters

PackedImage = dict[str, Any]  # can be written as json


@dataclass(frozen=True)
class Annotated:
    """The ground truth of an image, and what became of its detections."""

    boxes: Tensor  # (G, 4) xyxy, pixels
    labels: Tensor  # (G,)
    crowd: Tensor  # (G,) bool
    detection: Tensor  # (G,) index of the detection that found it, or -1
    kinds: Tensor  # (N,) of the detections, as ``gfocal.evaluation.error_analysis`` numbers them


def choose_side(num_images: int, max_bytes: int) -> int:
    """The longer side that the images of a page get, in pixels, so that all of them fit into it."""
    pixels = max_bytes / max(num_images, 1) / BYTES_PER_PIXEL
    return max(MIN_SIDE, min(MAX_SIDE, int(math.sqrt(pixels * 4 / 3))))


def pack_pixels(image: Any, side: int) -> str:
    """An image, scaled down to a longer side of ``side`` pixels, as base64 of a JPEG.

    ``image`` is what ``detect`` takes, but for a path.
    """
    small = as_pil_image(image)
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def pack_image(name: str, detections: Any, size: tuple[int, int], annotated: Annotated | None = None) -> PackedImage:
    """An image as json, without its pixels, which are added as ``jpeg``, see ``pack_pixels``.

    Args:
        name: of the image, as it is shown.
        detections: ``Detections``, or what has ``boxes``, ``scores`` and ``labels`` like these.
        size: height and width of the image, pixels.
        annotated: its ground truth, if there is some.
    """
    packed: PackedImage = {
        "name": printable(name, MAX_NAME),
        "width": int(size[1]),
        "height": int(size[0]),
        "boxes": _encode(detections.boxes, "<f4"),
        "scores": _encode(detections.scores, "<f4"),
        "labels": _encode(detections.labels, "<u2"),
    }
    if isinstance(detections, Detections) and (bins := detections.edges.shape[-1]):
        # The root of a probability in 255 steps, so that small ones, in the tails of an interval, are exact too.
        packed |= {
            "bins": int(bins),
            "edges": _encode((detections.edges.clamp(0, 1).sqrt() * 255).round(), "u1"),
            "points": _encode(detections.points, "<f4"),
            "bin_sizes": _encode(detections.bin_sizes, "<f4"),
            "edge_std": _encode(detections.edge_std, "<f4"),
        }
        if detections.calibration is not None:
            packed["calibrated_scores"] = _encode(detections.calibrated_scores(), "<f4")
    if annotated is not None:
        packed |= {
            "kinds": _encode(annotated.kinds, "u1"),
            "gt_boxes": _encode(annotated.boxes, "<f4"),
            "gt_labels": _encode(annotated.labels, "<u2"),
            "gt_crowd": _encode(annotated.crowd, "u1"),
            "gt_detection": _encode(annotated.detection, "<i4"),
        }
    return packed


def pack_calibration(
    calibration: Calibration | None, num_classes: int, coverage: float | None = None
) -> dict[str, Any] | None:
    """What the page needs to compute ``Detections.edge_interval`` at a chosen coverage; None without a calibration.

    Half of an interval is ``edge_std / std_factor`` times the factor of its class, or of its side. A factor is None
    where the calibration has too few boxes for the coverage.
    """
    if calibration is None:
        return None
    coverages = sorted({*(k / 100 for k in range(50, 100)), COVERAGE if coverage is None else coverage})
    labels = torch.arange(num_classes)
    box, edge = [], []
    for one in coverages:
        can = calibration.can_promise(one)
        box.append(calibration.factors(labels, one, "box")[:, 0].tolist() if can else None)
        edge.append(calibration.factors(labels[:1], one, "edge")[0].tolist() if can else None)
    pooled = all(row is None or len(set(row)) == 1 for row in box)
    return {
        "coverages": coverages,
        "std_factor": calibration.std_factor,
        "box": [row[:1] if row and pooled else row for row in box],  # of each class, or one for all
        "edge": edge,  # of left, top, right, bottom
        "num_boxes": calibration.num_boxes,
        "iou_threshold": calibration.iou_threshold,
        "data": printable(calibration.data, MAX_NAME),
    }


def _encode(values: Tensor | Sequence[float], kind: str) -> str:
    array = torch.as_tensor(values).detach().cpu().numpy().astype(kind)
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")

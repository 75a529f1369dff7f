"""Detections as objects of the package supervision: its annotators, trackers, zones and metrics."""

# FOLDED interop.torchvision: Detections as torchvision's detectors give them: a dictionary of tensors, boxes with the image's size.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfocal.errors import MissingExtraError
from gfocal.structures import Detections

if TYPE_CHECKING:
    import supervision


def to_supervision(detections: Detections) -> supervision.Detections:
    """What was found in one image as ``supervision.Detections``, in the same order.

    ``xyxy`` (N, 4) float32 in pixels, ``confidence`` (N,) float32 and ``class_id`` (N,) int64 are boxes, scores and
    labels. ``data`` has ``class_name`` (N,) text and ``edge_std`` (N, 4) float32: the standard deviations of the
    edges left, top, right, bottom in pixels, NaN of a detector without edge distributions.

    Raises MissingExtraError where the package is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtraError(
            f"to_supervision needs the package supervision ({error}): pip install 'gfocal[supervision]'"
        ) from error
    found = detections.to("cpu")
    data: dict[str, Any] = {
        "class_name": np.array(found.class_names, dtype=np.str_),
        "edge_std": found.edge_std.detach().numpy().astype(np.float32),
    }
    return supervision.Detections(
        xyxy=found.boxes.detach().numpy().astype(np.float32),
        confidence=found.scores.detach().numpy().astype(np.float32),
        class_id=found.labels.numpy().astype(np.int64),
        data=data,
    )


def to_torchvision(detections: Detections) -> dict[str, Any]:
    """What was found in one image as ``boxes``, ``scores`` and ``labels``, on the device where they are.

    ``boxes`` is a ``torchvision.tv_tensors.BoundingBoxes`` (N, 4), xyxy in pixels, which knows the image's size:
    torchvision's transforms move it together with the image. Labels are 0..C-1, as everywhere in gfocal;
    torchvision's own detectors count from 1, with 0 for the background.
    """
    from torchvision import tv_tensors

    boxes = tv_tensors.BoundingBoxes(
        detections.boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=detections.size
    )
    return {"boxes": boxes, "scores": detections.scores, "labels": detections.labels}

"""Detections as torchvision's detectors give them: a dictionary of tensors, boxes with the picture's size."""

from __future__ import annotations

from typing import Any

from gfocal.structures import Detections


def to_torchvision(detections: Detections) -> dict[str, Any]:
    """What was found in one picture as ``boxes``, ``scores`` and ``labels``, on the device where they are.

    ``boxes`` is a ``torchvision.tv_tensors.BoundingBoxes`` (N, 4), xyxy in pixels, which knows the picture's size:
    torchvision's transforms move it together with the picture. Labels are 0..C-1, as everywhere in gfocal;
    torchvision's own detectors count from 1, with 0 for the background.
    """
    from torchvision import tv_tensors

    boxes = tv_tensors.BoundingBoxes(
        detections.boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=detections.size
    )
    return {"boxes": boxes, "scores": detections.scores, "labels": detections.labels}

"""The tensors that pass between the packages of gfocal.

    tensors.py      Batch, Targets, Points, HeadOutputs, Assignment, Losses; padding of ground truth
    detected.py     Detections of an image, and one Detection
    calibration.py  what calibration found out about a model, and its use on detections

Letters in shapes, the same everywhere: B image, P point over all levels, L pyramid level, G ground-truth box,
M slot that may hold a positive, C class, K = n + 1 bins of an edge distribution, H W size, N detection.
Boxes are xyxy in pixels; a name that ends in ``_strided`` is divided by the stride of its point.
"""

from __future__ import annotations

from gfocal.structures.detected import Color, Detection, Detections, ImageSource
from gfocal.structures.tensors import (
    BACKGROUND,
    PADDING,
    Assignment,
    Batch,
    HeadOutputs,
    Losses,
    Points,
    Targets,
    pad_targets,
)

__all__ = [
    "BACKGROUND",
    "PADDING",
    "Assignment",
    "Batch",
    "Color",
    "Detection",
    "Detections",
    "HeadOutputs",
    "ImageSource",
    "Losses",
    "Points",
    "Targets",
    "pad_targets",
]

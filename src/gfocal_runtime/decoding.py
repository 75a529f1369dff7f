"""Outputs of an exported network -> detections: score threshold, best candidates, non-maximum suppression.

The same steps as ``gfocal.ops.decoding``, and the same numbers but for rounding and for the order of equal scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gfocal_runtime.metadata import DecodeRule, Metadata

Array = npt.NDArray[Any]


class Found(NamedTuple):
    """Objects of one image, best first, in pixels of the original image."""

    boxes: Array  # (N, 4) float32
    scores: Array  # (N,) float32
    labels: Array  # (N,) int64
    edges: Array  # (N, 4, K) float32, probabilities; K = 0: no distributions
    points: Array  # (N, 2) float32
    bin_sizes: Array  # (N, 4) float32


def decode_image(
    outputs: Mapping[str, Array],
    index: int,
    size: tuple[int, int],
    original_size: tuple[int, int],
    metadata: Metadata,
    rule: DecodeRule,
) -> Found:
    """The detections of one image of a batch.

    Args:
        outputs: of the network, by name.
        index: of the image in the batch.
        size: its height and width in the network's input, without padding.
        original_size: its own height and width.
        metadata: of the file.
        rule: thresholds and limits.
    """
    if metadata.has_nms:
        rows = np.flatnonzero((outputs["image"] == index) & (outputs["scores"] > rule.score_threshold))
        scores, labels, of_points = outputs["scores"][rows], outputs["labels"][rows].astype(np.int64), rows
        boxes, points, edges = outputs["boxes"], outputs["points"], outputs.get("edge_logits")
    else:
        points = outputs["points"]
        quality = outputs["quality"][index] if "quality" in outputs else None
        of_points, scores, labels = best_pairs(outputs["scores"][index], points[:, 2], rule)
        if quality is not None:
            scores = scores * quality[of_points]
        boxes, edges = outputs["boxes"][index], outputs["edge_logits"][index] if metadata.num_bins else None
    boxes = boxes[of_points].clip(0, np.array([size[1], size[0]] * 2, np.float32))
    # Resizing rounds each side to whole pixels, so the two axes have scales of their own.
    scale = np.array([original_size[1] / size[1], original_size[0] / size[0]], np.float32)  # x, y
    boxes = boxes * np.tile(scale, 2)
    solid = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) > 0).all(-1))
    if metadata.has_nms:
        keep = solid[np.argsort(-scores[solid], kind="stable")][: rule.max_detections]
    else:
        keep = solid[suppress(boxes[solid], scores[solid], labels[solid], rule)]
    chosen = of_points[keep]
    return Found(
        boxes=boxes[keep],
        scores=scores[keep],
        labels=labels[keep],
        edges=np.zeros((len(keep), 4, 0), np.float32) if edges is None else softmax(edges[chosen]),
        points=points[chosen, :2] * scale,
        bin_sizes=points[chosen, 2:3] * np.float32(metadata.delta) * np.tile(scale, 2),
    )


def best_pairs(scores: Array, strides: Array, rule: DecodeRule) -> tuple[Array, Array, Array]:
    """The (point, class) pairs above the score threshold, at most ``per_level`` of each level.

    scores (P, C), strides (P,) -> points (N,), scores (N,), labels (N,). Points of one stride are a level.
    """
    num_classes = scores.shape[1]
    flat = np.ascontiguousarray(scores).reshape(-1)
    pairs = np.flatnonzero(flat > rule.score_threshold)
    if len(pairs) > rule.per_level:
        level = strides[pairs // num_classes]
        parts = []
        for stride in np.unique(level):
            part = pairs[level == stride]
            if len(part) > rule.per_level:
                part = part[np.argpartition(-flat[part], rule.per_level - 1)[: rule.per_level]]
            parts.append(part)
        pairs = np.concatenate(parts)
    return pairs // num_classes, flat[pairs], pairs % num_classes


def suppress(boxes: Array, scores: Array, labels: Array, rule: DecodeRule) -> Array:
    """Indices of the boxes that non-maximum suppression keeps, best first, at most ``max_detections``.

    boxes (N, 4), scores (N,), labels (N,). Among equal scores the box given first is the better one.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    areas = (x2 - x1) * (y2 - y1)
    groups = np.zeros_like(labels) if rule.class_agnostic_nms else labels[order]
    left = np.arange(len(order))
    keep: list[int] = []
    while len(left) and len(keep) < rule.max_detections:
        best, left = left[0], left[1:]
        keep.append(int(order[best]))
        width = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
        height = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        overlap = width.clip(0) * height.clip(0)
        iou = overlap / (areas[best] + areas[left] - overlap)
        left = left[(iou <= np.float32(rule.nms_threshold)) | (groups[left] != groups[best])]
    return np.array(keep, np.int64)


def softmax(logits: Array) -> Array:
    """Over the last dimension."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True)) if logits.size else logits
    return exponents / exponents.sum(-1, keepdims=True)

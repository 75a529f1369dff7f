"""How much there is to learn from the objects that a model sees in an image: by their scores and by their edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gfocal.structures import Detections

LEAST_SCORE = 0.1  # detections below are noise, of which every image has many
MEAN_OF_NORMAL = (2 / torch.pi) ** 0.5  # mean size of an error whose standard deviation is 1


def image_uncertainty(found: Detections) -> tuple[float, float]:
    """The sums of ``score_uncertainty`` and ``edge_uncertainty`` over the detections above ``LEAST_SCORE``.

    Sums, not means: an image with many uncertain objects has more to teach than one with a single one.
    """
    found = found.above(LEAST_SCORE)
    return float(score_uncertainty(found).sum()), float(edge_uncertainty(found).sum())


def record_uncertainty(record: Mapping[str, Any]) -> float:
    """The uncertainty that the record of an image states; else that of its detections, by their scores."""
    if "uncertainty" in record:
        return record["uncertainty"]
    p = torch.tensor(record["scores"], dtype=torch.float64)
    boxes = torch.tensor(record["boxes"], dtype=torch.float64).reshape(-1, 4)
    std = torch.tensor(record.get("edge_std") or [], dtype=torch.float64).reshape(-1, 4)
    lost = _lost_iou(p, boxes, std).sum() if "edge_std" in record else 0.0
    return float(_entropy(p).sum() + lost)


def score_uncertainty(found: Detections) -> Tensor:
    """Binary entropy of the probability that each detection is right, in bits: 1 where it is 0.5. (N,) float64

    The probability is the calibrated one of a calibrated model, else the score.
    """
    return _entropy(_probabilities(found))


def edge_uncertainty(found: Detections) -> Tensor:
    """The share of its IoU that each box is expected to lose by the spread of its edges, times its probability.

    To first order a box loses the sum of its edges' errors over the sides of the box. Of a calibrated model
    ``edge_std`` is the deviation of that error; of others it is only in proportion. (N,) float64 in 0..1; 0 for
    detectors without edge distributions.
    """
    if not found.edges.shape[-1]:
        return torch.zeros(len(found), dtype=torch.float64)
    return _lost_iou(_probabilities(found), found.boxes.double().cpu(), found.edge_std.double().cpu())


def _entropy(p: Tensor) -> Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log2() + (1 - p) * (1 - p).log2())


def _lost_iou(p: Tensor, boxes: Tensor, std: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2).clamp(min=1e-6)
    return p * (MEAN_OF_NORMAL * std / sides).sum(1).clamp(max=1)


def _probabilities(found: Detections) -> Tensor:
    p = found.scores if found.calibration is None else found.calibrated_scores("precision")
    return p.double().cpu()

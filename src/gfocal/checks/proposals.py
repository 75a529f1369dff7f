"""What a model finds in an image and in its mirror image, as one set of boxes that annotations are compared with.

Letters of shapes: D detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration, SpreadRule, edge_features

SAME_OBJECT = 0.5  # IoU of the detections of an object in the image and in its mirror image
MIRRORED_SIDES = [2, 1, 0, 3]  # the left edge of a mirrored box is its right one


@dataclass(frozen=True)
class Proposals:
    """Detections of one image down to low scores, several classes at one place included."""

    boxes: Tensor  # (D, 4) float64 xyxy, pixels; edges are means over the image and its mirror image, by precision
    scores: Tensor  # (D,) float64 in 0..1; means of both, in which no detection counts as 0
    labels: Tensor  # (D,) int64
    features: Tensor  # (D, 4, F) float64, of the edges, see ``edge_features``
    differences: Tensor  # (D, 4) float64, between the image and its mirror image, pixels; 0 where only one has it
    bin_sizes: Tensor  # (D,) float64, pixels: the pyramid level
    std: Tensor | None  # (D, 4) float64, calibrated standard deviation in pixels; None: not calibrated

    def __len__(self) -> int:
        return len(self.labels)


def combine(found: Detections, mirrored: Detections | None, new_labels: Sequence[int]) -> Proposals:
    """The detections of an image with those of its mirror image, in the classes of a dataset.

    Args:
        found: in the image.
        mirrored: in the mirror image, in its coordinates; None: it was not looked at.
        new_labels: label of the model -> label of the dataset, -1 for a class that it lacks.
    """
    kept, calibration = _relabel(found, new_labels), found.calibration
    boxes, scores, features = _values(kept)
    differences = torch.zeros_like(boxes)
    std = _std(kept, calibration)
    if mirrored is not None:
        other = _relabel(_mirror(mirrored), new_labels)
        other_boxes, other_scores, other_features = _values(other)
        partner, has_one = _partners(boxes, kept.labels, other_boxes, other_scores, other.labels)
        if len(other):
            rows = has_one.unsqueeze(1)
            of_other = other_boxes[partner]
            differences = torch.where(rows, (boxes - of_other).abs(), 0)
            weights = torch.stack([_precision(features), _precision(other_features[partner])])  # (2, D, 4)
            mean_box = (torch.stack([boxes, of_other]) * weights).sum(0) / weights.sum(0)
            boxes = torch.where(rows, mean_box, boxes)
            mean = (features + other_features[partner]) / 2
            features = torch.where(rows.unsqueeze(2), mean, features)
            scores = (scores + torch.where(has_one, other_scores[partner], 0)) / 2
        else:
            scores = scores / 2
    return Proposals(boxes, scores, kept.labels, features, differences, kept.bin_sizes[:, 0].double(), std)


def _relabel(found: Detections, new_labels: Sequence[int]) -> Detections:
    """On the CPU, with the labels of the dataset; without the classes that it lacks."""
    found = found.to("cpu")
    labels = torch.tensor(new_labels, dtype=torch.int64)[found.labels]
    kept = found.select(labels >= 0)
    return replace(kept, labels=labels[labels >= 0])


def _values(found: Detections) -> tuple[Tensor, Tensor, Tensor]:
    features = edge_features(found.edges, found.bin_sizes, found.boxes, found.scores)
    return found.boxes.double(), found.scores.double(), features


def _precision(features: Tensor) -> Tensor:
    """One over the squared spread of each edge by the standard rule. (D, 4)"""
    return (-2 * (features @ features.new_tensor(SpreadRule().weights))).exp()


def _std(found: Detections, calibration: Calibration | None) -> Tensor | None:
    if calibration is None or not found.edges.shape[-1]:
        return None
    spread = calibration.spread(found.edges, found.bin_sizes, found.boxes, found.scores)
    return spread * calibration.std_factor


def _mirror(found: Detections) -> Detections:
    """The detections of a mirror image in the coordinates of the image."""
    x1, y1, x2, y2 = found.boxes.unbind(1)
    width = found.size[1]
    return replace(
        found,
        boxes=torch.stack([width - x2, y1, width - x1, y2], 1),
        edges=found.edges[:, MIRRORED_SIDES],
        bin_sizes=found.bin_sizes[:, MIRRORED_SIDES],
    )


def _partners(
    boxes: Tensor, labels: Tensor, other_boxes: Tensor, other_scores: Tensor, other_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The detection of the same class and object in the mirror image, by IoU x score. (D,) index, (D,) bool"""
    if not len(other_boxes):
        return torch.zeros(len(boxes), dtype=torch.int64), torch.zeros(len(boxes), dtype=torch.bool)
    iou = box_iou(boxes, other_boxes)
    allowed = (iou >= SAME_OBJECT) & (labels.unsqueeze(1) == other_labels.unsqueeze(0))
    best = torch.where(allowed, iou * other_scores, -1.0).max(1)
    return best.indices, best.values >= 0

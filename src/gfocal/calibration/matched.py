"""What a calibration is made from: detections of annotated images, and which of them are right.

Letters of shapes: D detection above the threshold, N of these that are true positives, K bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gfocal.data.dataset import ImageData
from gfocal.evaluation.matching import collect_boxes, compute_overlaps, find_best_overlap, match
from gfocal.structures import Detections

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class TruePositives:
    """Detections that are matched to an object of their class; of several on one object, the best."""

    image: Tensor  # (N,) int64, index of the image
    labels: Tensor  # (N,) int64
    scores: Tensor  # (N,)
    boxes: Tensor  # (N, 4) float64 xyxy, pixels of the original image
    gt_boxes: Tensor  # (N, 4) what of them lies within the image, as intervals do
    edges: Tensor  # (N, 4, K)
    bin_sizes: Tensor  # (N, 4)
    points: Tensor  # (N, 2) where distances start, pixels
    sizes: Tensor  # (N, 2) height and width of the image

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def errors(self) -> Tensor:
        """How far each edge lies from its object's, pixels. (N, 4)"""
        return (self.boxes - self.gt_boxes).abs()

    def select(self, rows: Tensor) -> TruePositives:
        """Some of them, by a mask or indices."""
        return replace(self, **{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Scored:
    """Every detection above the low threshold of an evaluation, with what it turned out to be worth."""

    image: Tensor  # (D,) int64
    labels: Tensor  # (D,) int64
    scores: Tensor  # (D,)
    iou: Tensor  # (D,) with its object; 0 for a false positive
    is_right: Tensor  # (D,) bool

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Tensor) -> Scored:
        """Some of them, by a mask or indices."""
        return replace(self, **{name: values[rows] for name, values in vars(self).items()})


def match_detections(
    data: ImageData,
    detections: Mapping[int, Detections],
    score_threshold: float | Sequence[float],
    iou_threshold: float = IOU_THRESHOLD,
) -> tuple[TruePositives, Scored]:
    """Match the detections of a dataset as COCO does; those on crowd regions are left out.

    Args:
        data: annotated images.
        detections: by image id, down to the low scores that AP needs.
        score_threshold: true positives must score more; one number, or one of each class, by label.
        iou_threshold: of a match.
    """
    samples = [data.sample(i) for i in range(len(data))]
    boxes = collect_boxes(samples, detections, data.names)
    pairs = compute_overlaps(boxes)
    matching = match(boxes, pairs, iou_threshold)
    counted = np.flatnonzero(~matching.ignored)
    own = pairs.ground_truth == matching.gt_index[pairs.detection]
    iou, _ = find_best_overlap(pairs, own, len(boxes.score))
    scored = Scored(
        image=torch.from_numpy(boxes.image[counted]),
        labels=torch.from_numpy(boxes.label[counted]),
        scores=torch.from_numpy(boxes.score[counted]),
        iou=torch.from_numpy(iou[counted]),
        is_right=torch.from_numpy(matching.true_positive[counted]),
    )
    threshold = np.broadcast_to(np.asarray(score_threshold, dtype=np.float64), (len(data.names),))
    rows = np.flatnonzero(matching.true_positive & (boxes.score > threshold[boxes.label]))
    found = [detections[int(boxes.image_ids[image])] for image in boxes.image[rows]]
    place = [(one, int(row)) for one, row in zip(found, boxes.row[rows], strict=True)]
    num_bins = found[0].edges.shape[-1] if found else 0
    sizes = torch.tensor([one.size for one in found], dtype=torch.int64).reshape(-1, 2)
    gt_boxes = torch.from_numpy(boxes.gt_box[matching.gt_index[rows]])
    return (
        TruePositives(
            image=torch.from_numpy(boxes.image[rows]),
            labels=torch.from_numpy(boxes.label[rows]),
            scores=torch.from_numpy(boxes.score[rows]),
            boxes=torch.from_numpy(boxes.box[rows]),
            gt_boxes=torch.minimum(gt_boxes.clamp(min=0), sizes.flip(1).repeat(1, 2)),
            edges=_stack([one.edges[row] for one, row in place], (4, num_bins)),
            bin_sizes=_stack([one.bin_sizes[row] for one, row in place], (4,)),
            points=_stack([one.points[row] for one, row in place], (2,)),
            sizes=sizes,
        ),
        scored,
    )


def _stack(rows: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack([row.cpu() for row in rows]) if rows else torch.zeros(0, *shape)

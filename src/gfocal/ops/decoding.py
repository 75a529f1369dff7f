"""From logits to detections: score threshold, best candidates, expectation, non-maximum suppression.

The test-time protocol of Li et al. 2020, appendix D. Boxes are ranked by the class score alone, which stands for
class and quality together; detections include the distribution of each edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, nms

from gfocal.ops.box_coders import BoxCoder
from gfocal.ops.boxes import clip_boxes
from gfocal.structures import Detections, HeadOutputs, Points


@dataclass(frozen=True)
class DecodeSettings:
    """The numbers of the test-time protocol."""

    score_threshold: float = 0.05  # (point, class) pairs at or below are dropped
    per_level: int = 1000  # best pairs per pyramid level; the others are dropped
    nms_threshold: float = 0.6  # IoU above which two boxes of a class are one object; gfocal detect --nms-iou
    max_detections: int = 100
    softmax: bool = False  # classes share one softmax with an implicit background of logit 0, as in SSD
    class_agnostic_nms: bool = False  # two boxes of any classes are one object, and get the name with the best score


@torch.no_grad()
def decode(
    outputs: HeadOutputs,
    box_coder: BoxCoder,
    sizes: Tensor,
    original_sizes: Tensor,
    names: Sequence[str],
    settings: DecodeSettings | None = None,
) -> list[Detections]:
    """Detections of every image of a batch, in pixels of the original images.

    Args:
        outputs: logits of a batch.
        box_coder: what the box logits mean.
        sizes: (B, 2) height and width of each image in the network's input, without padding.
        original_sizes: (B, 2) height and width of each original image.
        names: of the classes.
        settings: thresholds and limits.
    """
    settings = settings or DecodeSettings()
    quality = outputs.quality_logits
    return [
        _decode_one(
            outputs.cls_logits[i],
            outputs.box_logits[i],
            None if quality is None else quality[i],
            outputs.points,
            box_coder,
            size,
            original,
            names,
            settings,
        )
        for i, (size, original) in enumerate(zip(sizes.tolist(), original_sizes.tolist(), strict=True))
    ]


def _decode_one(
    cls_logits: Tensor,  # (P, C)
    box_logits: Tensor,  # (P, 4, K)
    quality_logits: Tensor | None,  # (P,)
    points: Points,
    box_coder: BoxCoder,
    size: list[int],
    original_size: list[int],
    names: Sequence[str],
    settings: DecodeSettings,
) -> Detections:
    chosen, scores, labels = best_pairs(cls_logits.float(), points.counts, settings)
    if quality_logits is not None:  # after the threshold, as published for detectors with a quality branch
        scores = scores * quality_logits[chosen].float().sigmoid()
    edges = box_coder.probabilities(box_logits[chosen])  # (N, 4, K)
    boxes = clip_boxes(box_coder.boxes(box_logits[chosen], points.select(chosen)), size[0], size[1])

    # Resizing rounds each side to whole pixels, so the two axes have scales of their own.
    scale = boxes.new_tensor([original_size[1] / size[1], original_size[0] / size[0]])  # x, y
    boxes = boxes * scale.repeat(2)
    solid = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(-1)
    boxes, scores, labels, chosen, edges = (t[solid] for t in (boxes, scores, labels, chosen, edges))
    keep = suppress(boxes, scores, labels, settings)[: settings.max_detections]
    return Detections(
        boxes=boxes[keep],
        scores=scores[keep],
        labels=labels[keep],
        edges=edges[keep],
        points=points.xy[chosen[keep]] * scale,
        bin_sizes=points.strides[chosen[keep]].unsqueeze(-1) * box_coder.delta * scale.repeat(2),
        names=tuple(names),
        size=(original_size[0], original_size[1]),
    )


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, settings: DecodeSettings) -> Tensor:
    """Indices of the boxes that non-maximum suppression keeps, best first: within each class, or across all.

    boxes (N, 4), scores (N,), labels (N,) -> (M,) int64
    """
    if settings.class_agnostic_nms:
        return nms(boxes, scores, settings.nms_threshold)
    return batched_nms(boxes, scores, labels, settings.nms_threshold)


def best_pairs(cls_logits: Tensor, counts: Sequence[int], settings: DecodeSettings) -> tuple[Tensor, Tensor, Tensor]:
    """The (point, class) pairs above the score threshold, at most ``per_level`` of each level.

    cls_logits (P, C) -> points (N,), scores (N,), labels (N,). A point may be in pairs with several classes.
    """
    num_classes = cls_logits.shape[1]
    scores = F.pad(cls_logits, (1, 0)).softmax(-1)[:, 1:] if settings.softmax else cls_logits.sigmoid()
    chosen_points, chosen_scores, chosen_labels = [], [], []
    start = 0
    for level_scores in scores.split(list(counts)):
        flat = level_scores.flatten()
        pairs = (flat > settings.score_threshold).nonzero().squeeze(1)
        pair_scores = flat[pairs]
        if len(pairs) > settings.per_level:
            pair_scores, best = pair_scores.topk(settings.per_level)
            pairs = pairs[best]
        chosen_points.append(torch.div(pairs, num_classes, rounding_mode="floor") + start)
        chosen_labels.append(pairs % num_classes)
        chosen_scores.append(pair_scores)
        start += len(level_scores)
    return torch.cat(chosen_points), torch.cat(chosen_scores), torch.cat(chosen_labels)

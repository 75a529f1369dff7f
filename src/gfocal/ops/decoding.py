"""From logits to detections: score threshold, best candidates, expectation, non-maximum suppression.

The test-time protocol of Li et al. 2020, appendix D. Boxes are ranked by the class score alone, which stands for
class and quality together; detections include the distribution of each edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from gfocal.ops.box_coders import BoxCoder
from gfocal.ops.boxes import clip_boxes
from gfocal.ops.nms import batched_nms, nms
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
    candidates = box_logits[chosen]  # (N, 4, K)
    boxes = clip_boxes(box_coder.boxes(candidates, points.select(chosen)), size[0], size[1])

    # Resizing rounds each side to whole pixels, so the two axes have scales of their own.
    scale = boxes.new_tensor([original_size[1] / size[1], original_size[0] / size[0]])  # x, y
    boxes = boxes * scale.repeat(2)
    solid = ((boxes[:, 2:] > boxes[:, :2]).all(-1)).nonzero().squeeze(1)
    keep = solid[suppress(boxes[solid], scores[solid], labels[solid], settings)[: settings.max_detections]]
    return Detections(
        boxes=boxes[keep],
        scores=scores[keep],
        labels=labels[keep],
        edges=box_coder.probabilities(candidates[keep]),
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
    if settings.softmax:
        values = F.pad(cls_logits, (1, 0)).softmax(-1)[:, 1:].flatten()
        pairs = (values > settings.score_threshold).nonzero().squeeze(1)  # in ascending order
        scores = values[pairs]
    else:
        # The sigmoid of few: the logit of the threshold, a little lowered, lets no pair above the threshold out.
        values = cls_logits.flatten()
        pairs = (values > lowered_logit(settings.score_threshold)).nonzero().squeeze(1)
        scores = values[pairs].sigmoid()
        above = scores > settings.score_threshold
        pairs, scores = pairs[above], scores[above]
    if len(pairs) > settings.per_level:
        best = best_of_levels(pairs, scores, [count * num_classes for count in counts], settings.per_level)
        pairs, scores = pairs[best], scores[best]
    return torch.div(pairs, num_classes, rounding_mode="floor"), scores, pairs % num_classes


def lowered_logit(score: float) -> float:
    """A logit whose sigmoid is just below a score in 0..1."""
    if not 0 < score < 1:
        return -math.inf if score <= 0 else 16.0  # 1 is the sigmoid of some 17 in float32
    logit = math.log(score) - math.log1p(-score)
    return logit - 1e-3 * max(1.0, abs(logit))


def best_of_levels(pairs: Tensor, scores: Tensor, sizes: Sequence[int], per_level: int) -> Tensor:
    """Positions of the ``per_level`` best scores of each level, level by level.

    Ascending pairs (N,) of levels that follow one another, of ``sizes`` pairs each; scores (N,) -> (M,)
    """
    ends = pairs.new_tensor(list(accumulate(sizes)))
    found, start = [], 0
    for end in torch.searchsorted(pairs, ends).tolist():
        level = scores[start:end]
        is_long = len(level) > per_level
        found.append(
            (level.topk(per_level).indices if is_long else torch.arange(len(level)).to(pairs.device)) + start
        )
        start = end
    return torch.cat(found)

"""Box losses of the detectors beside GFL: each takes what a head said of a box and the ground truth.

All share one signature, ``BoxLoss``, so that a criterion takes any of them: numbers of the head (..., 4, K), their
representation, the points (...), the boxes decoded from them (..., 4) and the ground truth (..., 4), both xyxy in pixels of
the network's input. -> (...), un-reduced.
"""

# FOLDED losses.iou: Box regression loss on overlaps.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gfocal.ops.box_coders import AnchorDeltas, BoxCoder, GaussianDistances, LogDistances
from gfocal.ops.boxes import distances_to_edges, giou, iou
from gfocal.structures import Points

BoxLoss = Callable[[Tensor, BoxCoder, Points, Tensor, Tensor], Tensor]


def overlap_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 - GIoU, of ATSS and GFL; the numbers themselves play no part."""
    return giou_loss(boxes, gt_boxes)


def log_iou_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """-log IoU (Yu et al. 2016), of FCOS."""
    return -iou(boxes, gt_boxes).clamp(min=1e-6).log()


@dataclass(frozen=True)
class CodedLoss:
    """Smooth L1 between the head's numbers and those that code the ground truth, summed over the four.

    ``beta`` is where the square becomes a line; 0 is the plain L1 of RetinaNet, 0.11 FoveaBox's.
    """

    beta: float = 0.0

    def __call__(
        self, logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor
    ) -> Tensor:
        """(..., 4, 1), ... -> (...)"""
        assert isinstance(box_coder, AnchorDeltas | LogDistances), "only these code a box in numbers"
        wanted = box_coder.encode(gt_boxes, points)
        # Slots without a ground-truth box code a box of no size; they weigh nothing, but must stay finite.
        wanted = torch.nan_to_num(wanted, 0.0, 1e4, -1e4)
        return F.smooth_l1_loss(logits.squeeze(-1).float(), wanted, reduction="none", beta=self.beta).sum(-1)


def gaussian_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """(x - y)^2 / (2 sigma^2) + log(sigma^2) / 2 (Li et al. 2020, table 5), in strides, the mean of the four edges.

    It evaluates each edge alone: a Gaussian cannot take part in a loss on overlaps, which knows no variance.
    """
    assert isinstance(box_coder, GaussianDistances), "the Gaussian loss is of Gaussian edges"
    wanted = distances_to_edges(points.xy, gt_boxes) / points.strides.unsqueeze(-1)  # (..., 4)
    log_variance = box_coder.log_variance(logits)
    error = box_coder.mean(logits) - wanted
    return (error**2 * (-log_variance).exp() + log_variance).mean(-1) / 2


def giou_loss(boxes: Float[Tensor, "*shape 4"], gt_boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """1 - GIoU of paired xyxy boxes (Rezatofighi et al. 2019). (..., 4), (..., 4) -> (...) in 0..2.

    The unit does not matter as long as both share it and areas stay far above 1e-6.
    """
    return 1 - giou(boxes, gt_boxes)

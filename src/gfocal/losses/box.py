"""Box losses: the GIoU loss of GFL, and the losses of the other detectors under one signature.

The others share ``BoxLoss``, so that a criterion takes any of them: box logits (..., 4, K), their box coder, the
points (...), the decoded boxes (..., 4) and the ground-truth boxes (..., 4), both xyxy in pixels of the network's
input. -> (...), un-reduced.
"""

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


def giou_loss(boxes: Float[Tensor, "*shape 4"], gt_boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """1 - GIoU of paired xyxy boxes (Rezatofighi et al. 2019). (..., 4), (..., 4) -> (...) in 0..2.

    The unit does not matter as long as both share it and areas stay far above 1e-6.
    """
    return 1 - giou(boxes, gt_boxes)


def overlap_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """``giou_loss`` as a ``BoxLoss``, of ATSS and GFL; the logits are not used."""
    return giou_loss(boxes, gt_boxes)


def log_iou_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """-log IoU (Yu et al. 2016), of FCOS."""
    return -iou(boxes, gt_boxes).clamp(min=1e-6).log()


@dataclass(frozen=True)
class SmoothL1Loss:
    """Smooth L1 between the box logits and the encoded ground truth, summed over the four edges.

    ``beta`` is where the square becomes a line; 0 is the plain L1 of RetinaNet, FoveaBox has 0.11, SSD 1.
    """

    beta: float = 0.0

    def __call__(
        self, logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor
    ) -> Tensor:
        """(..., 4, 1), ... -> (...)"""
        assert isinstance(box_coder, AnchorDeltas | LogDistances), "only these encode a box"
        wanted = box_coder.encode(gt_boxes, points)
        # Slots without a ground-truth box encode a box of no size; their weight is 0, but they must stay finite.
        wanted = torch.nan_to_num(wanted, 0.0, 1e4, -1e4)
        return F.smooth_l1_loss(logits.squeeze(-1).float(), wanted, reduction="none", beta=self.beta).sum(-1)


def gaussian_loss(logits: Tensor, box_coder: BoxCoder, points: Points, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """(x - y)^2 / (2 sigma^2) + log(sigma^2) / 2 (Li et al. 2020, table 5), in strides, the mean of the four edges.

    Each edge counts by itself: a loss on overlaps has no use for a variance.
    """
    assert isinstance(box_coder, GaussianDistances), "the Gaussian loss is of Gaussian edges"
    wanted = distances_to_edges(points.xy, gt_boxes) / points.strides.unsqueeze(-1)  # (..., 4)
    log_variance = box_coder.log_variance(logits)
    error = box_coder.mean(logits) - wanted
    return (error**2 * (-log_variance).exp() + log_variance).mean(-1) / 2

"""Box regression loss on overlaps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gfocal.boxes import giou


def giou_loss(boxes: Float[Tensor, "*shape 4"], gt_boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """1 - GIoU of paired xyxy boxes (Rezatofighi et al. 2019). (..., 4), (..., 4) -> (...) in 0..2.

    The unit does not matter as long as both share it and areas stay far above 1e-6.
    """
    return 1 - giou(boxes, gt_boxes)

"""The class loss of SSD (Liu et al. 2016, section 2.2): softmax over classes and background, hard negatives."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses.numerics import at_least_float32


def background_cross_entropy(
    logits: Float[Tensor, "*shape C"], labels: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """-log p_label with p = softmax(0, x_1 ... x_C): the background's logit is 0 and the others are relative to it.

    Args:
        logits: (..., C), any float dtype; the arithmetic is float32 at least.
        labels: (...), 0..C-1, or -1 for the background.

    Returns:
        (...) float32 at least.
    """
    x = F.pad(at_least_float32(logits), (1, 0))  # (..., 1 + C)
    return x.logsumexp(-1) - x.gather(-1, (labels + 1).unsqueeze(-1)).squeeze(-1)


def hard_negatives(
    loss: Float[Tensor, "B P"], positive: Bool[Tensor, "B P"], negative: Bool[Tensor, "B P"], ratio: float = 3.0
) -> Bool[Tensor, "B P"]:
    """The negatives of greatest loss, at most ``ratio`` for each positive of the same image.

    Args:
        loss: (B, P) of each point.
        positive: (B, P).
        negative: (B, P); points that are neither, such as those in the padding, are left out.
        ratio: 3 in the paper.

    Returns:
        (B, P) bool; False everywhere in an image without positives.
    """
    hardest_first = loss.detach().masked_fill(~negative, -torch.inf).argsort(stable=True, dim=1, descending=True)
    rank = torch.empty_like(hardest_first).scatter_(
        1, hardest_first, torch.arange(loss.shape[1], device=loss.device).expand_as(hardest_first)
    )
    return negative & (rank < ratio * positive.sum(1, keepdim=True))

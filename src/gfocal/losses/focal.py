"""Focal Loss (Lin et al. 2017; Li et al. 2020, eq. 1)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses.numerics import at_least_float32, power


def focal_loss(
    logits: Float[Tensor, "*shape"],
    target: Shaped[Tensor, "*shape"],
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[Tensor, "*shape"]:
    """FL(p) = -(1 - p_t)^gamma log(p_t), un-reduced, on logits.

    p = sigmoid(logits); p_t = p where the target is 1, 1 - p where it is 0.

    Args:
        logits: any shape, any float dtype; the arithmetic is float32 at least.
        target: same shape, 0 or 1.
        gamma: focusing parameter, >= 0.
        alpha: weight of the positives, 1 - alpha that of the negatives; None: no weights, as in the paper.

    Returns:
        The loss of each element, float32 at least.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, not {gamma}")
    logits = at_least_float32(logits)
    target = target.to(logits.dtype)
    signed = torch.where(target > 0.5, logits, -logits)  # log p_t = logsigmoid(signed)
    loss = power(torch.sigmoid(-signed), gamma) * F.softplus(-signed)
    if alpha is not None:
        loss = loss * (alpha * target + (1 - alpha) * (1 - target))
    return loss

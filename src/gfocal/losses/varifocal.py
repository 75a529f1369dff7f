"""The Varifocal Loss (Zhang et al. 2021, VarifocalNet, eq. 2), which may take the place of QFL."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses.numerics import at_least_float32, power


def varifocal_loss(
    logits: Float[Tensor, "*shape"],
    quality: Float[Tensor, "*shape"],
    gamma: float = 2.0,
    alpha: float = 0.75,
) -> Float[Tensor, "*shape"]:
    """Varifocal Loss, un-reduced, on logits, p = sigmoid(logits).

    ``VFL(p, q) = -q (q log(p) + (1 - q) log(1 - p))`` where q > 0, and ``-alpha p^gamma log(1 - p)`` where q = 0.

    A positive counts by its own target, not by how far its score is from it as in QFL, and only background is focal.
    For q > 0 the minimum of an element lies at p = q, and is q times the entropy of q.

    Args:
        logits: any shape, any float dtype; the arithmetic is float32 at least.
        quality: same shape, q in 0..1; 0 for every class that is not the object's.
        gamma: focusing parameter of the background, >= 0.
        alpha: weight of the background, >= 0.

    Returns:
        The loss of each element, float32 at least. The gradient flows through p^gamma too.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, not {gamma}")
    x = at_least_float32(logits)
    q = quality.to(x.dtype)
    background = F.softplus(x)  # -log(1 - p)
    of_positive = q * (q * F.softplus(-x) + (1 - q) * background)
    return torch.where(q > 0, of_positive, alpha * power(torch.sigmoid(x), gamma) * background)

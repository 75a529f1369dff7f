"""Numerics shared by the losses: float32 arithmetic, and powers that have a gradient at zero."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision input becomes float32; float64 stays. An easy negative's loss underflows in float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def power(base: Tensor, exponent: float) -> Tensor:
    """base^exponent for base >= 0, with 0^0 = 1 and a finite gradient everywhere.

    Between exponents 0 and 1 the derivative at base 0 is infinite; there the gradient is taken as 0, which
    is right for a modulating factor: it vanishes only where the loss has its minimum.
    """
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    if exponent > 1:
        return base.pow(exponent)
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1.0).pow(exponent), 0.0)

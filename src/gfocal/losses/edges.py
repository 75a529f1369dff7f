"""The expectation of edges and their DFL, from one softmax and with one gradient."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gfocal.losses.numerics import at_least_float32


def expectation_and_dfl(
    logits: Float[Tensor, "*shape bins"], target: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The expectation of an edge in bins (eq. 5 with Delta = 1), and ``distribution_focal_loss`` of its logits.

    Args:
        logits: (..., n + 1), any float dtype; the arithmetic is float32 at least. The gradient flows to them alone.
        target: (...), in bins, 0 <= y <= n.
    """
    x = at_least_float32(logits)
    mean, dfl = _Edges.apply(x, target.to(x.dtype))
    return mean, dfl


class _Edges(torch.autograd.Function):
    """With p = softmax: d mean / dx = p (k - mean), d DFL / dx = p - (weights of the two bins around the target)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_p = logits.log_softmax(-1)
        p = log_p.exp()
        mean = p @ torch.arange(p.shape[-1], dtype=p.dtype, device=p.device)
        left = target.floor().clamp(0, p.shape[-1] - 2)
        share = target - left  # of the right bin
        shares = torch.stack((1 - share, share), -1)
        pair = torch.stack((left, left + 1), -1).to(torch.int64)
        ctx.save_for_backward(p, mean, pair, shares)
        return mean, -(log_p.gather(-1, pair) * shares).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_mean, of_dfl = (g.unsqueeze(-1) for g in gradients)
        p, mean, pair, shares = ctx.saved_tensors
        bins = torch.arange(p.shape[-1], dtype=p.dtype, device=p.device)
        gradient = torch.addcmul(of_dfl - of_mean * mean.unsqueeze(-1), of_mean, bins).mul_(p)
        return gradient.scatter_add_(-1, pair, -of_dfl * shares), None

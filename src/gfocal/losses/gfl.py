"""Quality Focal Loss, Distribution Focal Loss, and the Generalized Focal Loss that contains both.

Li et al. 2020, eq. 2, 6 and 7. Pure functions on logits or log-probabilities, un-reduced: weights and
normalizers are in ``gfocal.criteria.gfl`` alone.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses.numerics import at_least_float32, power


def quality_focal_loss(
    logits: Float[Tensor, "*shape"], quality: Float[Tensor, "*shape"], beta: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Quality Focal Loss, eq. 2: ``QFL(s) = -|y - s|^beta ((1 - y) log(1 - s) + y log(s))``.

    The minimum of each element lies at s = y: the score learns the IoU of its box.

    Args:
        logits: any shape, any float dtype; s = sigmoid(logits). The arithmetic is float32 at least.
        quality: same shape, y in 0..1; 0 for every class that is not the object's.
        beta: >= 0; 0 is the plain cross-entropy with soft target.

    Returns:
        The loss of each element, float32 at least. The gradient flows through the modulating factor too.
    """
    if beta < 0:
        raise ValueError(f"beta must be >= 0, not {beta}")
    x = at_least_float32(logits)
    y = quality.to(x.dtype)
    opposite, rest = -x, 1 - y
    # y - s = y (1 - s) - (1 - y) s is accurate even where s rounds to 0 or 1.
    distance = (y * torch.sigmoid(opposite) - rest * torch.sigmoid(x)).abs()
    # Not F.binary_cross_entropy_with_logits, which is 0 in float32 for an easy negative: its terms cancel below
    # x = -15, and are 1 % off at x = -10.
    cross_entropy = y * F.softplus(opposite) + rest * F.softplus(x)
    return power(distance, beta) * cross_entropy


def distribution_focal_loss(
    logits: Float[Tensor, "*shape bins"], target: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Distribution Focal Loss, eq. 6: ``DFL = -((y_i+1 - y) log S_i + (y - y_i) log S_i+1)``, S = softmax(logits).

    Args:
        logits: (..., n + 1), any float dtype; the arithmetic is float32 at least.
        target: (...), y in bins, 0 <= y <= n: distance / (stride * Delta); integers are allowed, n included.

    Returns:
        (...) float32 at least. Its minimum is the entropy of the two weights, which is 0 only on a bin.
    """
    x = at_least_float32(logits)
    y = target.to(x.dtype)
    n = x.shape[-1] - 1
    left = y.detach().floor().clamp(0, n - 1)  # at y = n the pair is (n - 1, n), with all weight on n
    weight_right = y - left
    index = left.to(torch.int64).unsqueeze(-1)
    x_left = x.gather(-1, index).squeeze(-1)
    x_right = x.gather(-1, index + 1).squeeze(-1)
    # log S_k = x_k - logsumexp(x), and the two weights sum to one.
    return x.logsumexp(-1) - (1 - weight_right) * x_left - weight_right * x_right


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
        p = logits.softmax(-1)
        mean = p @ torch.arange(p.shape[-1], dtype=p.dtype, device=p.device)
        left = target.floor().clamp(0, p.shape[-1] - 2)
        share = target - left  # of the right bin
        shares = torch.stack((1 - share, share), -1)
        pair = torch.stack((left, left + 1), -1).to(torch.int64)
        ctx.save_for_backward(p, mean, pair, shares)
        # A probability of 0 costs as much as the smallest number; the gradient does not depend on it.
        log_p = p.gather(-1, pair).clamp(min=torch.finfo(p.dtype).tiny).log()
        return mean, -(log_p * shares).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_mean, of_dfl = (g.unsqueeze(-1) for g in gradients)
        p, mean, pair, shares = ctx.saved_tensors
        bins = torch.arange(p.shape[-1], dtype=p.dtype, device=p.device)
        gradient = torch.addcmul(of_dfl - of_mean * mean.unsqueeze(-1), of_mean, bins).mul_(p)
        return gradient.scatter_add_(-1, pair, -of_dfl * shares), None


def generalized_focal_loss(
    log_p_left: Float[Tensor, "*shape"],
    log_p_right: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    y_left: float | Tensor = 0.0,
    y_right: float | Tensor = 1.0,
    beta: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """Generalized Focal Loss, eq. 7.

    ``GFL = -|y - (y_l p_l + y_r p_r)|^beta ((y_r - y) log p_l + (y - y_l) log p_r)``

    The probabilities of two values y_l < y_r may come from a sigmoid or from a softmax over more values,
    so they are given as log-probabilities (``logsigmoid(-x)`` and ``logsigmoid(x)``, or two entries of
    ``log_softmax``). Special cases (appendix C):

    * FL: y_l = 0, y_r = 1, p_r = p, target in {0, 1}, beta = gamma
    * QFL: y_l = 0, y_r = 1, p_r = s, target in [0, 1]
    * DFL: y_l = y_i, y_r = y_i+1, beta = 0

    Args:
        log_p_left: any shape, natural logarithm of p_l.
        log_p_right: same shape.
        target: same shape, y_l <= y <= y_r.
        y_left: y_l, a number or a tensor that broadcasts.
        y_right: y_r > y_l.
        beta: >= 0.

    Returns:
        The loss of each element. Where p_l + p_r = 1, its minimum is 0 for beta > 0, reached exactly where
        the prediction y_l p_l + y_r p_r equals y (appendix B).
    """
    if beta < 0:
        raise ValueError(f"beta must be >= 0, not {beta}")
    log_p_left, log_p_right = at_least_float32(log_p_left), at_least_float32(log_p_right)
    y = target.to(log_p_left.dtype)
    prediction = y_left * log_p_left.exp() + y_right * log_p_right.exp()
    cross_entropy = -((y_right - y) * log_p_left + (y - y_left) * log_p_right)
    return power((y - prediction).abs(), beta) * cross_entropy

"""QFL, FL and VFL of whole points, where almost every target is zero: summed over classes, without a dense target.

A slot names a point and one class of it; every other target of the batch is zero. The loss is then that of background
everywhere, s^beta softplus(x) with s = sigmoid(x), and a change at the slots. The gradient is computed beside the
loss, by the formula, and is the one tensor of shape (B, P, C) that is made.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfocal.losses.numerics import at_least_float32, power

# Elements that are computed at once on a processor: all that is needed for them stays in its cache.
CHUNK = 1 << 17


def sparse_quality_focal_loss(
    logits: Float[Tensor, "B P C"],
    slots: Int[Tensor, "B M"],
    labels: Int[Tensor, "B M"],
    quality: Float[Tensor, "B M"],
    beta: float = 2.0,
) -> Float[Tensor, "B P"]:
    """``quality_focal_loss`` of every point, summed over its classes. The gradient flows to the logits alone.

    Args:
        logits: (B, P, C), any float dtype. The arithmetic is float32 at least.
        slots: (B, M) points. Several slots may name a point, of which one has a quality above 0.
        labels: (B, M) the class of each slot's target.
        quality: (B, M) that target, in 0..1; every other target is 0.
        beta: >= 0.

    Returns:
        (B, P), float32 at least.
    """
    if beta < 0:
        raise ValueError(f"beta must be >= 0, not {beta}")
    place = slots * logits.shape[-1] + labels  # (B, M) into (P * C)
    with torch.no_grad():
        x = at_least_float32(logits.flatten(1).gather(1, place))
        loss, slope = loss_and_slope(x, quality.to(x.dtype), beta)
        background, its_slope = loss_and_slope(x, torch.zeros_like(x), beta)
    return _OverClasses.apply(logits, place, loss - background, slope - its_slope, beta, 1.0)


def sparse_warming_quality_focal_loss(
    logits: Float[Tensor, "B P C"],
    slots: Int[Tensor, "B M"],
    labels: Int[Tensor, "B M"],
    quality: Float[Tensor, "B M"],
    beta: float = 2.0,
    unmodulated: float = 1.0,
) -> Float[Tensor, "B P"]:
    """QFL in which the factor |y - s|^beta of targets above 0 is not, or not wholly, there; background has its own.

    ``unmodulated``, 0..1, is how far that factor is taken to 1: 0 is QFL, 1 plain cross-entropy for these targets.
    The other arguments, and the result, as those of ``sparse_quality_focal_loss``.
    """
    if not 0 <= unmodulated <= 1:
        raise ValueError(f"unmodulated lies in 0..1, not {unmodulated}")
    place = slots * logits.shape[-1] + labels
    with torch.no_grad():
        x = at_least_float32(logits.flatten(1).gather(1, place))
        background, its_slope = loss_and_slope(x, torch.zeros_like(x), beta)
        modulated = loss_and_slope(x, quality.to(x.dtype), beta)
        plain = loss_and_slope(x, quality.to(x.dtype), 0.0)
        loss, slope = (torch.lerp(a, b, unmodulated) for a, b in zip(modulated, plain, strict=True))
        change = torch.where(quality > 0, loss - background, 0.0)
        change_of_slope = torch.where(quality > 0, slope - its_slope, 0.0)
    return _OverClasses.apply(logits, place, change, change_of_slope, beta, 1.0)


def sparse_focal_loss(
    logits: Float[Tensor, "B P C"],
    slots: Int[Tensor, "B M"],
    labels: Int[Tensor, "B M"],
    positive: Bool[Tensor, "B M"],
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[Tensor, "B P"]:
    """``focal_loss`` of every point, summed over its classes; the target of a positive slot is 1, every other 0.

    Arguments and result as those of ``sparse_quality_focal_loss``, gamma and alpha as those of ``focal_loss``.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, not {gamma}")
    of_positives, of_background = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    place = slots * logits.shape[-1] + labels
    with torch.no_grad():
        x = at_least_float32(logits.flatten(1).gather(1, place))
        # With a target of 0 or 1, FL is QFL.
        loss, slope = loss_and_slope(x, torch.ones_like(x), gamma)
        background, its_slope = loss_and_slope(x, torch.zeros_like(x), gamma)
        change = torch.where(positive, of_positives * loss - of_background * background, 0.0)
        change_of_slope = torch.where(positive, of_positives * slope - of_background * its_slope, 0.0)
    return _OverClasses.apply(logits, place, change, change_of_slope, gamma, of_background)


def sparse_varifocal_loss(
    logits: Float[Tensor, "B P C"],
    slots: Int[Tensor, "B M"],
    labels: Int[Tensor, "B M"],
    quality: Float[Tensor, "B M"],
    gamma: float = 2.0,
    alpha: float = 0.75,
) -> Float[Tensor, "B P"]:
    """``varifocal_loss`` of every point, summed over its classes.

    Arguments and result as those of ``sparse_quality_focal_loss``, gamma and alpha as those of ``varifocal_loss``.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, not {gamma}")
    place = slots * logits.shape[-1] + labels
    with torch.no_grad():
        x = at_least_float32(logits.flatten(1).gather(1, place))
        y = quality.to(x.dtype)
        loss, slope = loss_and_slope(x, y, 0.0)  # the cross-entropy
        background, its_slope = loss_and_slope(x, torch.zeros_like(x), gamma)
        change = torch.where(y > 0, y * loss - alpha * background, 0.0)
        change_of_slope = torch.where(y > 0, y * slope - alpha * its_slope, 0.0)
    return _OverClasses.apply(logits, place, change, change_of_slope, gamma, alpha)


def loss_and_slope(x: Tensor, y: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """QFL of logits x with targets y, and its derivative by x; both of any one shape.

    With d = y - s: QFL = |d|^beta CE, dCE/dx = -d, d|d|/dx = -sign(d) s (1 - s).
    """
    score, opposite = torch.sigmoid(x), torch.sigmoid(-x)
    distance = y * opposite - (1 - y) * score  # accurate even where s rounds to 0 or 1
    cross_entropy = softplus(score, opposite) - y * x
    size = distance.abs()
    modulation = power(size, beta)
    steepness = beta * power(size, beta - 1) if beta else torch.zeros_like(size)  # d modulation / d size
    return (
        modulation * cross_entropy,
        -modulation * distance - steepness * distance.sign() * score * opposite * cross_entropy,
    )


def softplus(score: Tensor, opposite: Tensor) -> Tensor:
    """softplus(x) = -log(1 - s) from sigmoid(x) and sigmoid(-x); constant where the latter is below 1e-38.

    Where 1 - s rounds to 1, what it lost is added, which is ``rest`` to first order. Several times as fast as log1p,
    on which torch's is built.
    """
    opposite = opposite.clamp(min=torch.finfo(opposite.dtype).tiny)
    rest = (1 - opposite) - score
    return -torch.addcmul(opposite.log(), rest, opposite)


class _OverClasses(torch.autograd.Function):
    """Background's loss summed over classes, changed at some places; and its gradient, computed in the same pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, place: Tensor, change: Tensor, change_of_slope: Tensor, beta: float, factor: float
    ) -> Tensor:
        num_images, num_points, num_classes = logits.shape
        sums, slope = background_over_classes(logits.reshape(-1, num_classes), beta, factor)
        point = torch.div(place, num_classes, rounding_mode="floor")
        slope.view(num_images, -1).scatter_add_(1, place, change_of_slope)
        ctx.save_for_backward(slope.view_as(logits))
        ctx.dtype = logits.dtype
        return sums.view(num_images, num_points).scatter_add_(1, point, change)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        # Not in place: a graph that is kept may be gone through again.
        return (slope * gradients[0].unsqueeze(-1)).to(ctx.dtype), None, None, None, None, None


def background_over_classes(
    logits: Float[Tensor, "N C"], beta: float, factor: float
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N C"]]:
    """factor * QFL with target 0, summed over classes, (N,); and its derivative by each logit, (N, C).

    QFL = q softplus(x) with q = s^beta. Its derivative, beta (1 - s) QFL + q s, lies between beta QFL and q.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    sums, slope = logits.new_empty(len(logits), dtype=dtype), logits.new_empty(logits.shape, dtype=dtype)
    minus_ones = logits.new_full(logits.shape[1:], -1.0, dtype=dtype)
    tiny = torch.finfo(dtype).tiny
    at_once = max(1, CHUNK // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
    memory = logits.new_empty(4, min(at_once, len(logits)), logits.shape[1], dtype=dtype)
    for x, its_sums, its_slope in zip(logits.split(at_once), sums.split(at_once), slope.split(at_once), strict=True):
        # Into the same memory for every part, which new tensors would not have.
        s, opposite, rest, q = memory[:, : len(x)].unbind()
        x = x.to(dtype)
        torch.sigmoid(x, out=s)
        torch.sigmoid(torch.neg(x, out=opposite), out=opposite).clamp_(min=tiny)
        torch.sub(1, opposite, out=rest).sub_(s)
        loss = torch.addcmul(torch.log(opposite, out=q), rest, opposite, out=rest)  # -softplus(x), as above
        if beta == 2:
            torch.mul(s, s, out=q)
        else:
            torch.pow(s, beta, out=q)
        if factor != 1:
            q.mul_(factor)
        torch.mv(loss.mul_(q), minus_ones, out=its_sums)
        torch.lerp(loss.mul_(-beta), q, s, out=its_slope)
    return sums, slope

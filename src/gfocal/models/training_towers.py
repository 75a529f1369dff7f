"""The towers of a head over all levels of a pyramid: on a CPU layer by layer, so that levels share their work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.models.winograd_training import convolve


def run_tower(tower: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a stack of layers for each map. (B, C, h, w) each -> (B, C', h, w) each"""
    is_apart = torch.compiler.is_compiling() or not torch.is_grad_enabled() or maps[0].device.type != "cpu"
    if is_apart or type(tower) is not nn.Sequential or tower._forward_hooks or tower._forward_pre_hooks:
        return [tower(one) for one in maps]
    maps, layers = list(maps), list(tower)
    while layers:
        layer = layers.pop(0)
        if layers and can_join(layer, layers[0], maps):
            assert isinstance(layer, nn.GroupNorm)
            layers.pop(0)
            maps = [_NormReLU.apply(one, layer.weight, layer.bias, layer.num_groups, layer.eps) for one in maps]
        else:
            maps = convolve(layer, maps)
    return maps


def can_join(norm: nn.Module, activation: nn.Module, maps: Sequence[Tensor]) -> bool:
    """Whether two layers are a GroupNorm and a ReLU that ``_NormReLU`` computes faster."""
    if not isinstance(norm, nn.GroupNorm) or type(activation) is not nn.ReLU or norm.weight is None:
        return False
    if any(m._forward_hooks or m._forward_pre_hooks for m in (norm, activation)):
        return False
    return all(
        one.dtype in (torch.float32, torch.bfloat16)
        and one.requires_grad
        and one.is_contiguous(memory_format=torch.channels_last)
        for one in maps
    )


class _NormReLU(torch.autograd.Function):
    """ReLU of GroupNorm, of a map with channels last, for which torch's gradient takes several times as long.

    With x' = (x - mean) / std of each group, g the gradient behind the ReLU times the weight, and means over the
    group: the gradient of x is (g - mean(g) - x' mean(g x')) / std. Sums over the cells of each channel give them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, height, width = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        y.relu_()
        ctx.save_for_backward(x, y, mean, rstd, weight)
        ctx.groups = groups
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y, mean, rstd, weight = ctx.saved_tensors
        g = torch.ops.aten.threshold_backward(gradients[0], y, 0)
        (batch, channels, height, width), groups = x.shape, ctx.groups
        if x.dtype == torch.bfloat16:  # its sums need float32: moving it costs less
            found = torch.ops.aten.native_group_norm_backward(
                g.contiguous(),
                x.contiguous(),
                mean,
                rstd,
                weight,
                batch,
                channels,
                height * width,
                groups,
                [True] * 3,
            )
            return found[0].contiguous(memory_format=torch.channels_last), *found[1:], None, None
        g, cells = (t.permute(0, 2, 3, 1).reshape(batch, -1, channels) for t in (g, x))
        mean, rstd = (t.repeat_interleave(channels // groups, 1) for t in (mean, rstd))  # (B, C)
        of_bias = g.sum(1)  # (B, C)
        of_weight = ((g * cells).sum(1) - mean * of_bias) * rstd

        def mean_of_group(sums: Tensor) -> Tensor:
            means = (sums * weight).view(batch, groups, -1).sum(2) / (height * width * channels // groups)
            return means.repeat_interleave(channels // groups, 1)

        slope = -rstd * rstd * mean_of_group(of_weight)
        shift = -rstd * mean_of_group(of_bias) - mean * slope
        found = torch.addcmul(shift.unsqueeze(1), cells, slope.unsqueeze(1)).addcmul_(g, (rstd * weight).unsqueeze(1))
        return (
            found.view(batch, height, width, channels).permute(0, 3, 1, 2),
            of_weight.sum(0),
            of_bias.sum(0),
            None,
            None,
        )

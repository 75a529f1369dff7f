"""Convolutions that take the place of a network's own: deformable ones, and depthwise ones in bf16 or float32.

Deformable, through torchvision's operator. Version 1 (Dai et al. 2017): each of the 9 taps moves by a learned offset,
18 channels; MMDetection's published "dconv" models have this one. Version 2 (Zhu et al. 2019) also weights each tap,
27 channels; the paper and its own repository use this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DeformableConv2d(nn.Module):
    """Takes the place of a 3x3 convolution without bias; starts as exactly that convolution.

    Args:
        plain: the convolution whose weight, stride, padding, dilation and groups it takes over.
        modulated: version 2, which weights each tap by a sigmoid; it then starts at half the plain output.
    """

    def __init__(self, plain: nn.Conv2d, modulated: bool) -> None:
        super().__init__()
        if plain.kernel_size != (3, 3) or plain.bias is not None:
            raise ValueError("only a 3x3 convolution without bias can be made deformable")
        self.stride, self.padding, self.dilation = plain.stride, plain.padding, plain.dilation
        self.modulated = modulated
        self.weight = plain.weight
        self.conv_offset = nn.Conv2d(
            plain.in_channels,
            27 if modulated else 18,
            3,
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            plain.dilation,  # type: ignore[arg-type]
        )
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')"""
        from torchvision.ops import deform_conv2d  # here: only detectors with such layers wait for this import

        offset, mask = self.conv_offset(x), None
        if self.modulated:
            offset, mask = offset[:, :18], offset[:, 18:].sigmoid()
        # The operator takes its inputs in one dtype and in the plain memory layout.
        dtype = torch.promote_types(x.dtype, torch.float32)
        return deform_conv2d(
            x.to(dtype),
            offset.to(dtype),
            self.weight.to(dtype),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=None if mask is None else mask.to(dtype),
        ).to(x.dtype)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Both maps with their channels in turn: "channel shuffle" of two groups. (B, C, H, W) each -> (B, 2 C, H, W)"""
    return torch.stack((first, second), 2).flatten(1, 2)


def make_deformable(body: nn.Module, stages: Iterable[int], modulated: bool) -> None:
    """Replace the 3x3 convolution of every bottleneck block in some stages (2, 3, 4 give C3, C4, C5)."""
    for stage in stages:
        for block in getattr(body, f"layer{stage}"):
            block.conv2 = DeformableConv2d(block.conv2, modulated)


def keep_depthwise_float32(network: nn.Module) -> None:
    """Run the depthwise convolutions of a network that are slow in bf16 otherwise, under autocast on a CPU; in place.

    Gradients of a stride of 2 take ten times as long there in bf16 as in float32, and so does that of a weight of 5x5
    (benchmarks/precision.py): the former stay in float32, the latter is computed in parts. On a GPU nothing changes.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = partial(convolve, module)  # type: ignore[method-assign]


def convolve(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """The output of a depthwise convolution; see ``keep_depthwise_float32``. (B, C, H, W) -> (B, C', H', W')"""
    forward = type(convolution).forward
    if maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(convolution, maps)
    needs_gradient = torch.is_grad_enabled() and (maps.requires_grad or convolution.weight.requires_grad)
    is_plain = type(convolution) is nn.Conv2d and convolution.stride == convolution.dilation == (1, 1)
    if not needs_gradient or (is_plain and convolution.kernel_size == (3, 3)):
        return forward(convolution, maps)
    has_parts = convolution.kernel_size == (5, 5) and convolution.padding == (2, 2) and convolution.bias is None
    if is_plain and has_parts and convolution.out_channels == convolution.groups:
        dtype = torch.get_autocast_dtype("cpu")
        return _Depthwise5x5.apply(maps.to(dtype), convolution.weight.to(dtype))
    with torch.autocast("cpu", enabled=False):
        return forward(convolution, maps.float())


class _Depthwise5x5(torch.autograd.Function):
    """A depthwise convolution of 5x5, stride 1, whose weight's gradient is put together from those of four of 3x3."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return F.conv2d(maps, weight, None, 1, 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, weight = ctx.saved_tensors
        (of_output,) = gradients
        of_output = of_output.to(maps.dtype, memory_format=torch.channels_last)
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = _gradient(of_output, maps, weight, 2, of_maps=True)
        if ctx.needs_input_grad[1]:
            of_weight, part = torch.empty_like(weight), weight[:, :, :3, :3]
            padded = F.pad(maps, (2, 2, 2, 2))
            height, width = maps.shape[2] + 2, maps.shape[3] + 2
            for y, x in ((0, 0), (0, 2), (2, 0), (2, 2)):  # the middle row and column twice
                seen = padded[:, :, y : y + height, x : x + width].contiguous(memory_format=torch.channels_last)
                of_weight[:, :, y : y + 3, x : x + 3] = _gradient(of_output, seen, part, 0, of_maps=False)
        return of_maps, of_weight


def _gradient(of_output: Tensor, maps: Tensor, weight: Tensor, padding: int, of_maps: bool) -> Tensor:
    """The gradient of a depthwise convolution of stride 1 by its maps, or by its weight."""
    ones, wanted = [1, 1], [of_maps, not of_maps, False]
    found = torch.ops.aten.convolution_backward(
        of_output, maps, weight, None, ones, [padding, padding], ones, False, [0, 0], len(weight), wanted
    )
    return found[0] if of_maps else found[1]

"""Convolutions that take the place of a network's own: deformable ones, and depthwise ones that stay in float32.

Deformable, through torchvision's operator. Version 1 (Dai et al. 2017): each of the 9 taps moves by a learned offset,
18 channels; MMDetection's published "dconv" models have this one. Version 2 (Zhu et al. 2019) also weights each tap,
27 channels; the paper and its own repository use this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn


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


def make_deformable(body: nn.Module, stages: Iterable[int], modulated: bool) -> None:
    """Replace the 3x3 convolution of every bottleneck block in some stages (2, 3, 4 give C3, C4, C5)."""
    for stage in stages:
        for block in getattr(body, f"layer{stage}"):
            block.conv2 = DeformableConv2d(block.conv2, modulated)


def keep_depthwise_float32(network: nn.Module) -> None:
    """Run the depthwise convolutions of a network in float32 on a CPU, under autocast too; in place.

    In bfloat16 their gradients take several times as long there, with kernels of 5 or a stride of 2: more than all
    other layers gain (benchmarks/precision.py). On a GPU nothing changes.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = partial(convolve, module)  # type: ignore[method-assign]


def convolve(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """The output of a convolution, computed in float32 on a CPU under autocast. (B, C, H, W) -> (B, C', H', W')"""
    forward = type(convolution).forward
    if maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(convolution, maps)
    with torch.autocast("cpu", enabled=False):
        return forward(convolution, maps.float())

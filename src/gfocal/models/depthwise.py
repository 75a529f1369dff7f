"""Depthwise convolutions that stay in float32 when a processor computes the rest in bfloat16."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def keep_depthwise_float32(network: nn.Module) -> None:
    """Have the depthwise convolutions of a network leave bfloat16 out, on a processor under autocast.

    With kernels of 5 or a stride of 2 their gradients take several times as long there as in float32, which eats more
    than what all other layers gain (benchmarks/precision.py). On a GPU nothing changes.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = partial(convolve, module)  # type: ignore[method-assign]


def convolve(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """The convolution by its class: in float32 on a processor under autocast, else as it is. (B, C, H, W) -> same"""
    forward = type(convolution).forward
    if maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(convolution, maps)
    with torch.autocast("cpu", enabled=False):
        return forward(convolution, maps.float())

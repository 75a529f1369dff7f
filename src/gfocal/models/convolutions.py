"""Deformable convolution in chosen stages of a ResNet, through torchvision's operator.

Version 1 (Dai et al. 2017): each of the 9 taps moves by a learned offset, 18 channels; MMDetection's published
"dconv" models hold this one. Version 2 (Zhu et al. 2019) also weighs each tap, 27 channels; the paper and its
own repository use this one.
"""

# FOLDED models.depthwise: Depthwise convolutions that stay in float32 when a processor computes the rest in bfloat16.
# FOLDED models.caffe: ResNets of the Caffe kind, on which FCOS was published: another place of the strides, and BGR input.
from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Module):
    """Takes the place of a 3x3 convolution without bias; starts as exactly that convolution.

    Args:
        plain: the convolution whose weight, stride, padding, dilation and groups it takes over.
        modulated: version 2, which weighs each tap by a sigmoid; it then starts at half the plain output.
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


# Mean pixel values, in the order of our images: red, green, blue. These networks do not divide by a deviation.
MEAN = (122.7717, 115.9465, 102.9801)
STD = (1.0, 1.0, 1.0)


def make_caffe(body: nn.Module) -> None:
    """Let each stage of a ResNet shrink its map in the first 1x1 convolution, not in the 3x3 behind it, in place.

    Raises:
        ValueError: the network has no bottlenecks.
    """
    found = False
    for block in body.modules():
        first, second = getattr(block, "conv1", None), getattr(block, "conv2", None)
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d) and hasattr(block, "conv3"):
            found = True
            first.stride, second.stride = second.stride, first.stride
    if not found:
        raise ValueError("only ResNets with bottlenecks (ResNet-50 and larger) are of the Caffe kind")


def from_bgr(weight: Tensor) -> Tensor:
    """A first convolution for BGR as one for RGB, and the other way round. (O, 3, h, w) -> (O, 3, h, w)"""
    return weight[:, [2, 1, 0]]


@torch.no_grad()
def take_bgr_weights(body: nn.Module) -> None:
    """Make a network whose weights are for BGR one for RGB, in place."""
    conv = body.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    conv.weight.copy_(from_bgr(conv.weight))

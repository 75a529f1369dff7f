"""ResNets of the Caffe kind, on which FCOS was published: another place of the strides, and BGR input.

gfocal reads pictures as RGB. Such a network's first convolution therefore has its input channels turned round once,
when weights come in, instead of every picture at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Mean pixel values, in the order of our pictures: red, green, blue. These networks do not divide by a deviation.
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

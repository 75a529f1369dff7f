"""ResNets of the Caffe kind, on which FCOS was published: strides in the 1x1 convolutions, and BGR input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Mean pixel values of red, green and blue. These networks do not divide by a standard deviation.
MEAN = (122.7717, 115.9465, 102.9801)
STD = (1.0, 1.0, 1.0)


def make_caffe(body: nn.Module) -> None:
    """Move the stride of each stage of a ResNet from the 3x3 convolution to the 1x1 before it, in place.

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


def bgr_to_rgb(weight: Tensor) -> Tensor:
    """Weight of a first convolution for BGR images -> for RGB images, or the reverse. (O, 3, h, w) -> (O, 3, h, w)"""
    return weight[:, [2, 1, 0]]


@torch.no_grad()
def convert_bgr_weights(body: nn.Module) -> None:
    """Convert a network whose weights are for BGR images to RGB, in place."""
    conv = body.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    conv.weight.copy_(bgr_to_rgb(conv.weight))

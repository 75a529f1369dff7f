"""Layers of the inference copy: a convolution with all that follows it, in one operation where oneDNN is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models.convolutions import DeformableConv2d
from gfocal.models.winograd import WinogradConv, is_suitable

POOLED = 1_000_000  # numbers of a result of max pooling that are computed at a time


@dataclass(frozen=True)
class Activation:
    """An activation without weights, by oneDNN's name."""

    name: str
    numbers: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """The activation of a tensor that nothing else reads, in place. Shape as given."""
        if self.name == "relu":
            return F.relu_(x)
        if self.name == "hardtanh":
            return F.hardtanh_(x, *self.numbers)
        if self.name == "leaky_relu":
            return F.leaky_relu_(x, *self.numbers)
        if self.name == "swish":
            return F.silu(x, inplace=True)
        assert self.name == "hardswish", self.name
        return F.hardswish(x, inplace=True)


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that a layer computes; None for any other layer."""
    kind = type(module)
    if kind is nn.ReLU:
        return Activation("relu")
    if isinstance(module, nn.Hardtanh):  # nn.ReLU6 is one
        return Activation("hardtanh", (module.min_val, module.max_val))
    if isinstance(module, nn.LeakyReLU):
        return Activation("leaky_relu", (module.negative_slope,))
    return Activation("swish") if kind is nn.SiLU else Activation("hardswish") if kind is nn.Hardswish else None


def has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN's convolutions with what follows them are there for a device and a number format."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    operations = torch.ops.mkldnn
    if not hasattr(operations, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(operations._is_mkldnn_bf16_supported())


def can_fuse(conv: nn.Module) -> bool:
    """Whether a layer is a convolution that ``FusedConv`` computes."""
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros":
        return False
    return type(conv) is nn.Conv2d or is_tensorflow_padded(conv)


def is_tensorflow_padded(conv: nn.Conv2d) -> bool:
    """Whether timm pads the input of a convolution as TensorFlow does: at the end, by what its size needs."""
    return type(conv).__name__ == "Conv2dSame"


def fold(weight: Tensor, bias: Tensor | None, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Weight (O, I, h, w) and bias of a convolution, with the BatchNorm that follows it multiplied in."""
    if norm is None:
        return weight, bias
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return weight * scale.view(-1, 1, 1, 1).to(weight.dtype), shift.to(weight.dtype)


class FusedConv(nn.Module):
    """Convolution, BatchNorm, a sum with another map and an activation; the last three may be missing.

    Args:
        conv: its weight and geometry.
        norm: the BatchNorm behind it.
        activation: computed last.
        adds: "": nothing is added; "new": another map is added; "into": the sum takes the other map's place.
        dtype: number format of weight and output; the input is converted.
        onednn: use oneDNN's operation, which does all at once.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.Module | None,
        activation: Activation | None,
        adds: str,
        dtype: torch.dtype,
        onednn: bool,
    ) -> None:
        super().__init__()
        weight, bias = fold(conv.weight.detach(), None if conv.bias is None else conv.bias.detach(), norm)
        self.kernel = weight.shape[-2:]
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.pads_as_tensorflow = is_tensorflow_padded(conv)
        self.padding = list(conv.padding) if not isinstance(conv.padding, str) else same_padding(conv)
        self.activation, self.adds, self.dtype, self.onednn = activation, adds, dtype, onednn
        self.winograd = None
        if onednn and dtype == torch.float32 and not self.pads_as_tensorflow and is_suitable(conv):
            self.winograd = WinogradConv(weight, bias)
            return
        # Not in oneDNN's own layout: that depends on the size of the map, and another one costs more than it saves.
        self.weight = nn.Parameter(weight.to(dtype, memory_format=torch.channels_last), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=False)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, H, W), other (B, C', H', W') -> (B, C', H', W'), in ``dtype``."""
        x = x.to(self.dtype)
        if self.pads_as_tensorflow:
            x = pad_as_tensorflow(x, self.kernel, self.stride, self.dilation)
        return self._by_onednn(x, other) if self.onednn and self.winograd is None else self._by_torch(x, other)

    def _by_torch(self, x: Tensor, other: Tensor | None) -> Tensor:
        if self.winograd is not None:
            x = self.winograd(x)
        else:
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if other is not None:
            x += other
        return x if self.activation is None else self.activation(x)

    def _by_onednn(self, x: Tensor, other: Tensor | None) -> Tensor:
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        operations, after = torch.ops.mkldnn, self.activation
        if other is None:
            name, numbers = ("none", ()) if after is None else (after.name, after.numbers)
            return operations._convolution_pointwise(x, self.weight, self.bias, *geometry, name, numbers, "")
        unary = (None, [], None) if after is None else (after.name, after.numbers, "")
        if self.adds == "into":
            return operations._convolution_pointwise_.binary(
                other, x, self.weight, self.bias, *geometry, "add", 1.0, *unary
            )
        return operations._convolution_pointwise.binary(
            x, other, self.weight, self.bias, *geometry, "add", 1.0, *unary
        )


def same_padding(conv: nn.Conv2d) -> list[int]:
    """The numbers of a padding that torch names by a word; an even kernel, which needs uneven ones, is an error."""
    if conv.padding == "valid":
        return [0, 0]
    totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(total % 2 for total in totals):
        raise ValueError("an even kernel has no padding of equal sides")
    return [total // 2 for total in totals]


def pad_as_tensorflow(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Zeros around a map so that a convolution gives ceil(size / stride) cells; one more at the end where uneven."""
    totals = [
        max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
        for size, k, s, d in zip(x.shape[-2:], kernel, stride, dilation, strict=True)
    ]
    (top, left) = (total // 2 for total in totals)
    return F.pad(x, (left, totals[1] - left, top, totals[0] - top)) if any(totals) else x


class FusedDeformable(nn.Module):
    """A deformable convolution with the BatchNorm and the activation that follow it, in float32 inside."""

    def __init__(self, conv: DeformableConv2d, norm: nn.Module | None, activation: Activation | None) -> None:
        super().__init__()
        self.weight, self.bias = fold(conv.weight.detach(), None, norm)
        self.conv_offset, self.modulated, self.activation = conv.conv_offset, conv.modulated, activation
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'), in the number format given."""
        from torchvision.ops import deform_conv2d  # here: only detectors with such layers wait for this import

        maps = x.float()
        offset, mask = self.conv_offset(maps), None
        if self.modulated:
            offset, mask = offset[:, :18], offset[:, 18:].sigmoid()
        # The operator takes the plain memory layout, and gives it.
        maps = deform_conv2d(maps, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)
        if self.activation is not None:
            maps = self.activation(maps)
        return maps.to(x.dtype, memory_format=torch.channels_last)


class NormAct(nn.Module):
    """GroupNorm with the activation that follows it; statistics in float32."""

    def __init__(self, norm: nn.GroupNorm, activation: Activation | None) -> None:
        super().__init__()
        self.num_groups, self.eps, self.activation = norm.num_groups, norm.eps, activation
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and number format."""
        x = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return x if self.activation is None else self.activation(x)


class StripedMaxPool(nn.Module):
    """Max pooling of 3x3 cells with stride 2 and padding 1, a few rows at a time.

    torch computes the index of every maximum too, eight bytes each: behind the first convolution of a ResNet that is
    the largest tensor of a pass in bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')"""
        height, width = (-(-side // 2) for side in x.shape[-2:])
        step = max(1, POOLED // max(1, x.shape[0] * x.shape[1] * width))  # rows of the result
        if step >= height or x.shape[-2] % 2:
            return F.max_pool2d(x, 3, 2, 1)
        pooled = x.new_empty(x.shape[0], height, width, x.shape[1]).permute(0, 3, 1, 2)  # channels_last
        for first in range(0, height, step):
            last = min(first + step, height)
            rows = x[:, :, max(2 * first - 1, 0) : 2 * last]  # the first has the row above, which the top one lacks
            pooled[:, :, first:last] = F.max_pool2d(rows, 3, 2, (int(first == 0), 1))[:, :, : last - first]
        return pooled


def is_striped(layer: nn.Module | None) -> bool:
    """Whether a layer is the pooling that ``StripedMaxPool`` computes."""
    if type(layer) is not nn.MaxPool2d or layer.ceil_mode or layer.return_indices:
        return False
    sizes = [layer.kernel_size, layer.stride, layer.padding, layer.dilation]
    return [size if isinstance(size, int) else tuple(size) for size in sizes] == [3, 2, 1, 1]

"""GhostPAN, the neck of NanoDet-Plus: path aggregation (Liu et al. 2018) by ghost modules (Han et al. 2020).

Maps are joined by concatenation, not addition. All activations are leaky ReLUs of slope 0.1, every convolution is
followed by BatchNorm, and the 5x5 ones are depthwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models.convolutions import keep_depthwise_float32

SLOPE = 0.1


class GhostPAN(nn.Module):
    """C3-C5 to maps of one width at strides 8, 16, 32 and 64.

    Args:
        in_channels: width of C3, C4, C5.
        channels: width of the pyramid, an even number.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 96) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"channels of a GhostPAN must be even, not {channels}")
        steps = len(in_channels) - 1
        self.laterals = nn.ModuleList(conv_norm(c, channels, 1) for c in in_channels)
        self.top_down = nn.ModuleList(GhostBottleneck(2 * channels, channels) for _ in range(steps))  # coarsest first
        self.downsamples = nn.ModuleList(separable(channels, stride=2) for _ in range(steps))  # finest first
        self.bottom_up = nn.ModuleList(GhostBottleneck(2 * channels, channels) for _ in range(steps))
        self.extra_in, self.extra_out = separable(channels, stride=2), separable(channels, stride=2)
        for part in (self.laterals, self.downsamples, self.extra_in, self.extra_out):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        keep_depthwise_float32(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first, each twice as large as the next -> maps of the pyramid."""
        reduced = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]
        inner = [reduced[-1]]  # finest first
        for finer, block in zip(reduced[-2::-1], self.top_down, strict=True):
            upsampled = F.interpolate(inner[0], scale_factor=2.0, mode="bilinear", align_corners=False)
            inner.insert(0, block(torch.cat((upsampled, finer), 1)))
        pyramid = [inner[0]]
        for coarser, downsample, block in zip(inner[1:], self.downsamples, self.bottom_up, strict=True):
            pyramid.append(block(torch.cat((downsample(pyramid[-1]), coarser), 1)))
        return [*pyramid, self.extra_in(reduced[-1]) + self.extra_out(pyramid[-1])]


class GhostBottleneck(nn.Module):
    """Two ghost modules, the second without activations, and a separable 5x5 shortcut; no activation after the sum.

    Args:
        in_channels: width of the input, and inside the shortcut.
        channels: width of the output, an even number.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.ghost1 = GhostModule(in_channels, channels, SLOPE)
        self.ghost2 = GhostModule(channels, channels, slope=None)
        self.shortcut = nn.Sequential(
            *conv_norm(in_channels, in_channels, 5, groups=in_channels, slope=None),
            *conv_norm(in_channels, channels, 1, slope=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)"""
        return self.ghost2(self.ghost1(x)) + self.shortcut(x)


class GhostModule(nn.Module):
    """Half of the output from a 1x1 convolution, the other half from a depthwise 3x3 one of the first."""

    def __init__(self, in_channels: int, channels: int, slope: float | None = SLOPE) -> None:
        super().__init__()
        half = channels // 2
        self.primary = conv_norm(in_channels, half, 1, slope=slope)
        self.cheap = conv_norm(half, half, 3, groups=half, slope=slope)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)"""
        first = self.primary(x)
        return torch.cat((first, self.cheap(first)), 1)


def separable(channels: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 5x5 and a 1x1 convolution, each with BatchNorm and activation."""
    return nn.Sequential(
        *conv_norm(channels, channels, 5, stride, groups=channels), *conv_norm(channels, channels, 1)
    )


def conv_norm(
    in_channels: int, channels: int, size: int, stride: int = 1, groups: int = 1, slope: float | None = SLOPE
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, and a leaky ReLU unless ``slope`` is None."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]
    if slope is not None:
        layers.append(nn.LeakyReLU(slope, inplace=True))
    return nn.Sequential(*layers)

"""Feature Pyramid Network (Lin et al. 2017) with further levels P6 and P7, as the dense detectors use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models.winograd_training import convolve

STRIDES = (8, 16, 32, 64, 128)  # of P3 to P7


def strides_from(finest: int) -> tuple[int, ...]:
    """Strides of the levels of a pyramid that begins at a stride: 8 for P3 to P7, 4 for P2 to P7."""
    return STRIDES if finest == STRIDES[0] else (finest, *STRIDES)


class FPN(nn.Module):
    """Maps C3-C5 to P3 ... P(2 + num_levels) of one width; or C2-C5 to P2 ... P(1 + num_levels).

    Lateral 1x1 and output 3x3 convolutions with bias, no norm, no activation; nearest upsampling to the
    exact size of the finer map; each further level is a stride-2 convolution of the one before.

    Args:
        in_channels: width of C3, C4, C5; or of C2 to C5.
        channels: width of the pyramid.
        num_levels: how many levels it has, 5 for P3 to P7, 6 for P2 to P7.
        extra_from_input: make P6 from C5, as RetinaNet and FoveaBox do, instead of P5.
        relu_between_extra: a ReLU between P6 and the convolution to P7, as in FCOS. The head gets P6 without it.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        num_levels: int = 5,
        extra_from_input: bool = False,
        relu_between_extra: bool = False,
    ) -> None:
        super().__init__()
        self.extra_from_input, self.relu_between_extra = extra_from_input, relu_between_extra
        if num_levels < len(in_channels):
            raise ValueError(f"{len(in_channels)} maps need at least as many levels, not {num_levels}")
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.extra = nn.ModuleList(
            nn.Conv2d(in_channels[-1] if i == 0 and extra_from_input else channels, channels, 3, stride=2, padding=1)
            for i in range(num_levels - len(in_channels))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first -> maps of the pyramid, finest first."""
        merged = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            finer = merged[i - 1]
            merged[i - 1] = finer + F.interpolate(merged[i], size=finer.shape[-2:], mode="nearest")
        pyramid = [convolve(output, [m])[0] for output, m in zip(self.outputs, merged, strict=True)]
        source = maps[-1] if self.extra_from_input else pyramid[-1]
        for extra in self.extra:
            pyramid.append(coarser(extra, source))
            source = F.relu(pyramid[-1]) if self.relu_between_extra else pyramid[-1]
        return pyramid


def coarser(convolution: nn.Module, maps: Tensor) -> Tensor:
    """A map of half the size. (B, C, H, W) -> (B, C, H/2, W/2)

    A single cell is computed in float32 on a CPU: its gradient in bfloat16 contains uninitialized memory there.
    """
    if torch.is_autocast_enabled("cpu") and maps.device.type == "cpu" and maps.shape[-2:] == (1, 1):
        with torch.autocast("cpu", enabled=False):
            return convolution(maps.float())
    return convolution(maps)

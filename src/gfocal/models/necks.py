"""Feature Pyramid Network (Lin et al. 2017) with P6 and P7 made from P5, as GFL uses it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FPN(nn.Module):
    """Maps C3-C5 to P3 ... P(2 + num_levels) of one width.

    Lateral 1x1 and output 3x3 convolutions with bias, no norm, no activation; nearest upsampling to the
    exact size of the finer map; each further level is a stride-2 convolution of the one before, without
    ReLU in between.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, num_levels: int = 5) -> None:
        super().__init__()
        if num_levels < len(in_channels):
            raise ValueError(f"{len(in_channels)} maps need at least as many levels, not {num_levels}")
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.extra = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_levels - len(in_channels))
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
        pyramid = [output(m) for output, m in zip(self.outputs, merged, strict=True)]
        for extra in self.extra:
            pyramid.append(extra(pyramid[-1]))
        return pyramid

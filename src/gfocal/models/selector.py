"""Which pyramid levels are to learn an object: the meta-selection network of SAPD (Zhu et al. 2020, section 3.2).

It sees the features of an object on every level and says how much of the object each level is to learn. What is right
is what the detector itself shows while it trains: the level that has the least loss on the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from gfocal.models.necks import STRIDES

POOLED = 7  # cells to a side that an object is pooled to; three convolutions without padding leave one


class LevelSelector(nn.Module):
    """RoIAlign on every level, three 3x3 convolutions without padding, and one number per level.

    Args:
        in_channels: width of the pyramid.
        channels: width of the convolutions, 256 in the paper.
        level_strides: stride of each level.
    """

    def __init__(self, in_channels: int = 256, channels: int = 256, level_strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.level_strides = tuple(level_strides)
        widths = (in_channels * len(self.level_strides), channels, channels, channels)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers)
        self.out = nn.Linear(channels, len(self.level_strides))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Maps (B, F, h, w) of each level, boxes (B, G, 4) in pixels of the network's input -> logits (B, G, L)."""
        num_images, num_boxes = boxes.shape[:2]
        image = torch.arange(num_images, dtype=torch.float32, device=boxes.device).repeat_interleave(num_boxes)
        regions = torch.cat((image.unsqueeze(1), boxes.float().flatten(0, 1)), 1)  # (B * G, 5)
        pooled = [
            roi_align(level.float(), regions, POOLED, 1 / stride, sampling_ratio=2, aligned=True)
            for level, stride in zip(pyramid, self.level_strides, strict=True)
        ]
        features = self.convs(torch.cat(pooled, 1)).flatten(1)  # (B * G, channels)
        return self.out(features).view(num_images, num_boxes, -1)


def level_weights(logits: Tensor, topk: int = 3) -> Tensor:
    """Softmax over levels, 0 on all but the ``topk`` best of each box. logits (B, G, L) -> (B, G, L), detached.

    The weights say what a level is to learn; they are not themselves taught by the detection loss, which would only
    push them to where it is small.
    """
    weights = logits.detach().softmax(-1)
    best = weights.topk(min(topk, weights.shape[-1]), -1).indices
    return torch.zeros_like(weights).scatter(-1, best, weights.gather(-1, best))

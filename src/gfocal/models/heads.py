"""The GFL head: per point one score per class and one distribution per box edge; and the parts it shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gfocal.models.edge_quality import EdgeQuality, multiply_scores
from gfocal.models.winograd_training import run_tower
from gfocal.ops.points import Origin, make_points
from gfocal.structures import HeadOutputs


class Scale(nn.Module):
    """A learnable factor of the box logits: one per level, it sets how peaked the level's edge distributions are."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the factor."""
        return x * self.scale


class GroupNorm(nn.GroupNorm):
    """GroupNorm that trains in the plain memory layout on a CPU: with channels last its gradient takes 5 to 25 times
    as long there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same, in the memory layout given."""
        is_training = x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"
        if is_training and x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class GFLHead(nn.Module):
    """Two towers of [3x3 convolution, GroupNorm, ReLU], shared by all levels (Li et al. 2020, figure 4).

    Args:
        num_classes: C.
        in_channels: width of the pyramid.
        channels: width of the towers, a multiple of ``num_groups``.
        num_convs: depth of each tower, 4 in the paper.
        num_bins: K = n + 1 values per edge, n = 16 (``reg_max``) in the paper.
        level_strides: stride of each level.
        origin: where a cell's point lies.
        num_groups: of GroupNorm.
        slope: of the activation below zero; 0 is the ReLU of the paper.
        dgqp: whether scores are multiplied by a quality that is read from the edge distributions (GFLv2).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        channels: int = 256,
        num_convs: int = 4,
        num_bins: int = 17,
        level_strides: Sequence[int] = (8, 16, 32, 64, 128),
        origin: Origin = "corner",
        num_groups: int = 32,
        slope: float = 0.0,
        dgqp: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        self.num_classes, self.num_bins = num_classes, num_bins
        self.level_strides, self.origin = tuple(level_strides), origin
        self.cls_tower = tower(in_channels, channels, num_convs, num_groups, slope)
        self.box_tower = tower(in_channels, channels, num_convs, num_groups, slope)
        self.cls_out = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, 4 * num_bins, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in level_strides)
        initialize(self, [self.cls_out])
        self.edge_quality = EdgeQuality(num_bins) if dgqp else None

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Maps of the pyramid -> logits of all points; levels are flattened here and never again."""
        cls_logits, box_logits = [], []
        of_cls, of_box = run_tower(self.cls_tower, maps), run_tower(self.box_tower, maps)
        for cls_level, box_level, scale in zip(of_cls, of_box, self.scales, strict=True):
            cls = self.cls_out(cls_level)  # (B, C, h, w)
            # float32 from here: a half-precision edge would be off by a part of a pixel.
            box = scale(self.box_out(box_level).float())  # (B, 4K, h, w)
            cls_logits.append(cls.permute(0, 2, 3, 1).flatten(1, 2))  # (B, h*w, C)
            box_logits.append(box.permute(0, 2, 3, 1).flatten(1, 2))  # (B, h*w, 4K)
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        scores, edges = torch.cat(cls_logits, 1), torch.cat(box_logits, 1).unflatten(-1, (4, self.num_bins))
        if self.edge_quality is not None:
            scores = multiply_scores(scores, self.edge_quality(edges))
        return HeadOutputs(
            cls_logits=scores,
            box_logits=edges,
            points=make_points(shapes, self.level_strides, self.origin, maps[0].device),
        )


def tower(
    in_channels: int, channels: int, num_convs: int, num_groups: int | None, slope: float = 0.0
) -> nn.Sequential:
    """A stack of [3x3 convolution without bias, GroupNorm, ReLU]; without groups [3x3 convolution, ReLU].

    With a ``slope`` the activation is a leaky ReLU.
    """
    layers: list[nn.Module] = []
    for i in range(num_convs):
        width = in_channels if i == 0 else channels
        layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=num_groups is None))
        if num_groups is not None:
            layers.append(GroupNorm(num_groups, channels))
        layers.append(nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def norm_groups(channels: int) -> int:
    """Number of groups of GroupNorm in a tower of this width: 32 as published, fewer for a narrow one."""
    # At least two channels per group: a single value of a 1x1 map has no deviation to divide by.
    return min(32, channels // 2)


def initialize(head: nn.Module, cls_outs: Iterable[nn.Module]) -> None:
    """Initialize the convolutions of a head as published: small weights, zero biases, and every score at 0.01.

    ``cls_outs`` are the convolutions of the head whose outputs are the logits of the classes.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # The many negatives would dominate the first steps otherwise.
    for out in cls_outs:
        assert isinstance(out, nn.Conv2d)
        assert out.bias is not None
        nn.init.constant_(out.bias, -math.log(99))

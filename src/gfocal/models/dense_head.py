"""The head of the other dense detectors of Li et al. 2020: RetinaNet, FCOS, FoveaBox and ATSS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gfocal.models.heads import Scale, initialize, tower
from gfocal.models.necks import STRIDES
from gfocal.models.winograd_training import run_tower
from gfocal.ops.points import AnchorShapes, PointLayout, make_pyramid_points
from gfocal.structures import HeadOutputs

# The tower that a separate quality branch is attached to: that of the scores in FCOS, of the boxes in ATSS.
QualityBranch = Literal["none", "cls", "box"]


class DenseHead(nn.Module):
    """Two towers shared by all levels, as in ``GFLHead``, with options for what differs between the detectors.

    Args:
        num_classes: C.
        in_channels: width of the pyramid.
        channels: width of the towers, a multiple of ``num_groups``.
        num_convs: depth of each tower.
        num_bins: K numbers per edge; 1 for the four numbers of a Dirac box.
        level_strides: stride of each level.
        point_layout: where a cell's point lies; or the anchors of a cell, each of which is a point.
        num_groups: of GroupNorm; None: no norm, and convolutions with a bias.
        quality: the tower that a separate quality branch is attached to.
        scale_levels: whether a learnable factor per level multiplies the box numbers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        channels: int = 256,
        num_convs: int = 4,
        num_bins: int = 1,
        level_strides: Sequence[int] = STRIDES,
        point_layout: PointLayout = "center",
        num_groups: int | None = 32,
        quality: QualityBranch = "none",
        scale_levels: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        if quality not in ("none", "cls", "box"):
            raise ValueError(f"quality is the tower of a quality branch, cls or box, or none; not {quality!r}")
        self.num_classes, self.num_bins = num_classes, num_bins
        self.level_strides, self.point_layout, self.quality = tuple(level_strides), point_layout, quality
        self.per_cell = point_layout.per_cell if isinstance(point_layout, AnchorShapes) else 1
        self.cls_tower = tower(in_channels, channels, num_convs, num_groups)
        self.box_tower = tower(in_channels, channels, num_convs, num_groups)
        self.cls_out = nn.Conv2d(channels, self.per_cell * num_classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, self.per_cell * 4 * num_bins, 3, padding=1)
        self.quality_out = None if quality == "none" else nn.Conv2d(channels, self.per_cell, 3, padding=1)
        self.scales = nn.ModuleList(Scale() if scale_levels else nn.Identity() for _ in level_strides)
        initialize(self, [self.cls_out])

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Maps of the pyramid -> logits of all points; channels of a cell are anchor-major, then side-major."""
        cls_logits, box_logits, quality_logits = [], [], []
        towers = run_tower(self.cls_tower, maps), run_tower(self.box_tower, maps)
        for of_cls, of_box, scale in zip(*towers, self.scales, strict=True):
            cls_logits.append(per_point(self.cls_out(of_cls), self.num_classes))
            # float32 from here: a half-precision edge would be off by a part of a pixel.
            box_logits.append(per_point(scale(self.box_out(of_box).float()), 4 * self.num_bins))
            if self.quality_out is not None:
                quality_logits.append(per_point(self.quality_out(of_cls if self.quality == "cls" else of_box), 1))
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        return HeadOutputs(
            cls_logits=torch.cat(cls_logits, 1),
            box_logits=torch.cat(box_logits, 1).unflatten(-1, (4, self.num_bins)),
            points=make_pyramid_points(shapes, self.level_strides, self.point_layout, maps[0].device),
            quality_logits=torch.cat(quality_logits, 1).squeeze(-1) if quality_logits else None,
        )


def per_point(level: Tensor, num_values: int) -> Tensor:
    """A level's map as rows of points. (B, A * num_values, h, w) -> (B, h * w * A, num_values)"""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, num_values)

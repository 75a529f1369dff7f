"""SAPD, the Soft Anchor-Point Detector (Zhu et al. 2020): one point per cell, and a network that selects levels.

The level selector (section 3.2, the meta-selection network) predicts a weight of each pyramid level for an object;
only the criterion calls it, detection does not.

Departures: an edge lies 4 exp(x) strides from its point (the paper's head predicts x itself, also in units of 4
strides); and FPN and towers are those of this library's preset of RetinaNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from gfocal.data.preprocess import InputSettings
from gfocal.models.backbone import published_resnet
from gfocal.models.dense_head import DenseHead
from gfocal.models.detector import Detector, class_names
from gfocal.models.necks import FPN, STRIDES
from gfocal.models.published_settings import PublishedSettings
from gfocal.ops.box_coders import DiracDistances
from gfocal.ops.decoding import DecodeSettings
from gfocal.structures import HeadOutputs

PUBLISHED = PublishedSettings(
    criterion="sapd",
    assigner="sapd",
    quality="none",
    box_loss="log_iou",
    box_weight=1.0,
    decode=DecodeSettings(nms_threshold=0.5),
)
POOLED = 7  # cells per side that RoIAlign pools an object to; three 3x3 convolutions without padding leave one


def sapd_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    channels: int = 256,
    num_convs: int = 4,
    body: str = "resnet50.tv_in1k",
) -> Detector:
    """SAPD with a ResNet-50, or any timm network with feature maps at strides 8, 16 and 32."""
    backbone = published_resnet(body, pretrained, weights)
    return Detector(
        backbone,
        FPN(backbone.channels, channels, len(STRIDES), extra_from_input=True),
        SAPDHead(num_classes, channels, num_convs),
        class_names(num_classes, names),
        DiracDistances(),
        input_settings or InputSettings(backbone.mean, backbone.std),
        built_from={
            "preset": "sapd_r50_fpn",
            "options": {"channels": channels, "num_convs": num_convs, "body": body},
        },
        published=PUBLISHED,
    )


class SAPDHead(nn.Module):
    """Two towers without norms, and the level selector, which only the criterion calls.

    Args:
        num_classes: C.
        channels: width of pyramid, towers and selector.
        num_convs: depth of each tower.
    """

    def __init__(self, num_classes: int, channels: int = 256, num_convs: int = 4) -> None:
        super().__init__()
        self.dense = DenseHead(
            num_classes,
            channels,
            channels,
            num_convs,
            num_bins=1,
            point_layout="center",
            num_groups=None,
            scale_levels=False,
        )
        self.selector = LevelSelector(channels, channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Maps of the pyramid -> logits of all points; in training mode also the maps, for the selector."""
        outputs: HeadOutputs = self.dense(maps)
        return replace(outputs, pyramid=tuple(maps)) if self.training else outputs


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
        from torchvision.ops import roi_align  # here: only training runs this network

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

    Detached: the detection loss would only push the weights to where it is small.
    """
    weights = logits.detach().softmax(-1)
    best = weights.topk(min(topk, weights.shape[-1]), -1).indices
    return torch.zeros_like(weights).scatter(-1, best, weights.gather(-1, best))

"""SAPD, the Soft Anchor-Point Detector (Zhu et al. 2020): one point per cell, and a network that selects levels.

Departures: an edge lies 4 exp(x) strides from its point (the paper's head says x itself, also in units of 4 strides);
and RetinaNet's FPN and towers are taken as this library's preset of RetinaNet has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from gfocal.data.preparation import InputSettings
from gfocal.models.backbone import published_resnet
from gfocal.models.dense_head import DenseHead
from gfocal.models.detector import Detector, class_names
from gfocal.models.necks import FPN, STRIDES
from gfocal.models.selector import LevelSelector
from gfocal.representations import DiracDistances
from gfocal.structures import HeadOutputs


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
    model = Detector(
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
    )
    model.decode_settings = replace(model.decode_settings, nms_threshold=0.5)
    return model


class SAPDHead(nn.Module):
    """Two towers without norms, and the selector that its criterion asks which levels are to learn an object.

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
            laying="centre",
            num_groups=None,
            scale_levels=False,
        )
        self.selector = LevelSelector(channels, channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Maps of the pyramid -> logits of all points; in training with the maps themselves, for the selector."""
        outputs: HeadOutputs = self.dense(maps)
        return replace(outputs, pyramid=tuple(maps)) if self.training else outputs

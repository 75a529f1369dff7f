"""NanoDet-Plus (RangiLyu 2021): a light detector of GFL's kind, with an auxiliary part that guides its training.

The head predicts the logits of GFL with n = 7 at strides 8, 16, 32 and 64, a head of its own for each level. In
training mode a second neck, and a larger head on the maps of both necks, predict the same; their predictions decide
which points are to detect an object (``gfocal.criteria.nanodet``). In evaluation mode that part does not run.

Departures: the network takes RGB, the published one BGR; ``gfocal import`` converts the weights. The logits of
classes and edges, rows of one convolution in the published head, are two convolutions here: the same function, and
for other classes the one alone is replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.data.preprocess import InputSettings
from gfocal.models.convolutions import keep_depthwise_float32
from gfocal.models.dense_head import per_point
from gfocal.models.detector import Detector, class_names
from gfocal.models.ghost_pan import SLOPE, GhostPAN, separable
from gfocal.models.heads import GFLHead, initialize, norm_groups
from gfocal.models.published_settings import PublishedSettings
from gfocal.models.shufflenet import ShuffleNet
from gfocal.ops.decoding import DecodeSettings
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import Origin, make_points
from gfocal.structures import HeadOutputs

STRIDES = (8, 16, 32, 64)
ORIGIN: Origin = "corner"  # of each point in its cell
PUBLISHED = PublishedSettings(
    criterion="nanodet",
    assigner="dsla",
    quality="joint",
    dfl_weight=0.25,
    box_weight=2.0,
    # Every pair above the threshold takes part in non-maximum suppression.
    decode=DecodeSettings(score_threshold=0.05, per_level=1_000_000, nms_threshold=0.6, max_detections=100),
    detach_epoch=10,
)
# Images are stretched to a square; the checkpoints differ in its side alone, 320 or 416.
INPUT = InputSettings(short_side=416, long_side=416, stretch=True)


def nanodet_plus_m(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 7,
    channels: int = 96,
    auxiliary: bool = True,
) -> Detector:
    """NanoDet-Plus-m: ShuffleNetV2 1.0x; 1.20 M parameters, in training 4.33 M with the auxiliary part.

    Nothing is frozen. ``auxiliary=False`` leaves the auxiliary part out: training is then guided by the head itself.
    """
    backbone = ShuffleNet("1.0x", pretrained, weights, SLOPE)
    options = {"n": n, "channels": channels, "auxiliary": auxiliary}
    return _nanodet("nanodet_plus_m", options, backbone, num_classes, names, input_settings)


def nanodet_plus_m_1_5x(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 7,
    channels: int = 128,
    auxiliary: bool = True,
) -> Detector:
    """NanoDet-Plus-m-1.5x: ShuffleNetV2 1.5x; 2.48 M parameters, in training 7.96 M with the auxiliary part."""
    backbone = ShuffleNet("1.5x", pretrained, weights, SLOPE)
    options = {"n": n, "channels": channels, "auxiliary": auxiliary}
    return _nanodet("nanodet_plus_m_1_5x", options, backbone, num_classes, names, input_settings)


def _nanodet(
    preset: str,
    options: dict[str, Any],
    backbone: ShuffleNet,
    num_classes: int,
    names: Sequence[str] | None,
    input_settings: InputSettings | None,
) -> Detector:
    """Backbone, neck and head as a detector; ``options`` are the preset's, which a saved file repeats."""
    box_coder = GeneralDistribution(options["n"])
    channels, auxiliary = options["channels"], options["auxiliary"]
    return Detector(
        backbone,
        NanoDetNeck(GhostPAN(backbone.channels, channels), auxiliary),
        NanoDetHead(num_classes, channels, box_coder.num_bins, auxiliary),
        class_names(num_classes, names),
        box_coder,
        input_settings or INPUT,
        built_from={"preset": preset, "options": options},
        published=PUBLISHED,
    )


class NanoDetNeck(nn.Module):
    """A pyramid, and in training mode a second one of the same shape for the auxiliary head.

    Args:
        main: the pyramid.
        auxiliary: whether there is a second one; it starts as a copy.

    Attributes:
        detach_auxiliary: whether the auxiliary part no longer trains backbone and pyramid, see
            ``set_auxiliary_detached``.
    """

    def __init__(self, main: GhostPAN, auxiliary: bool = True) -> None:
        super().__init__()
        self.main = main
        self.auxiliary = copy.deepcopy(main) if auxiliary else None
        self.detach_auxiliary = False

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the backbone -> four maps of width F; in training mode four more of width 2 F, for that head."""
        pyramid = self.main(maps)
        if self.auxiliary is None or not self.training:
            return pyramid
        shared = pyramid
        if self.detach_auxiliary:
            maps, shared = [m.detach() for m in maps], [m.detach() for m in pyramid]
        return pyramid + [torch.cat(both, 1) for both in zip(shared, self.auxiliary(maps), strict=True)]


class NanoDetHead(nn.Module):
    """For each level a tower of two separable 5x5 convolutions, from which one 1x1 convolution predicts all logits.

    Args:
        num_classes: C.
        channels: width F of pyramid and towers.
        num_bins: K = n + 1 values per edge.
        auxiliary: whether there is the auxiliary head: that of GFL, of width 2 F, shared by all levels.
    """

    def __init__(self, num_classes: int, channels: int = 96, num_bins: int = 8, auxiliary: bool = True) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        self.num_classes, self.num_bins = num_classes, num_bins
        self.level_strides, self.origin = STRIDES, ORIGIN
        self.towers = nn.ModuleList(nn.Sequential(separable(channels), separable(channels)) for _ in STRIDES)
        self.cls_outs = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for _ in STRIDES)
        self.box_outs = nn.ModuleList(nn.Conv2d(channels, 4 * num_bins, 1) for _ in STRIDES)
        initialize(self, self.cls_outs)
        keep_depthwise_float32(self)
        self.auxiliary = None
        if auxiliary:
            width = 2 * channels
            self.auxiliary = GFLHead(
                num_classes,
                width,
                width,
                num_bins=num_bins,
                level_strides=STRIDES,
                num_groups=norm_groups(width),
                slope=SLOPE,
            )

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Four maps of the pyramid, or eight in training mode -> logits of all points, of the auxiliary head too."""
        cls_logits, box_logits = [], []
        for level, tower, cls_out, box_out in zip(
            maps[: len(STRIDES)], self.towers, self.cls_outs, self.box_outs, strict=True
        ):
            features = tower(level)
            cls_logits.append(per_point(cls_out(features), self.num_classes))
            # float32 from here: a half-precision edge would be off by a part of a pixel.
            box_logits.append(per_point(box_out(features).float(), 4 * self.num_bins))
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps[: len(STRIDES)]]
        outputs = HeadOutputs(
            cls_logits=torch.cat(cls_logits, 1),
            box_logits=torch.cat(box_logits, 1).unflatten(-1, (4, self.num_bins)),
            points=make_points(shapes, STRIDES, self.origin, maps[0].device),
        )
        if self.auxiliary is None or len(maps) == len(STRIDES):
            return outputs
        return replace(outputs, auxiliary=self.auxiliary(maps[len(STRIDES) :]))


def set_auxiliary_detached(model: nn.Module, is_detached: bool) -> None:
    """Set whether the auxiliary part of a detector trains itself alone, no longer backbone and neck; if it has one.

    As published, it does from ``published.detach_epoch`` on: first it gives the others their direction, later the
    main head alone does.
    """
    for module in model.modules():
        if isinstance(module, NanoDetNeck):
            module.detach_auxiliary = is_detached


def without_auxiliary(model: Detector) -> Detector:
    """A copy of a NanoDet-Plus without its auxiliary part: only what inference needs.

    A detector of another kind, or one that lacks the part, is returned itself.
    """
    if not isinstance(model.neck, NanoDetNeck) or model.neck.auxiliary is None:
        return model
    model = copy.deepcopy(model)
    assert isinstance(model.neck, NanoDetNeck)
    assert isinstance(model.head, NanoDetHead)
    model.neck.auxiliary = model.head.auxiliary = None
    model.built_from["options"]["auxiliary"] = False
    return model

"""The paper's detectors as presets: backbone, FPN and the GFL head, with the published numbers filled in.

Every preset takes ``n`` (``reg_max`` elsewhere) and ``delta`` of the General distribution of an edge: n + 1 values,
``delta`` strides apart, so that the regression range of a level is n * delta strides; and ``finest``, the stride of
its first level: 8 as published, or 4 for a further level P2, where objects are small; and ``dgqp``, whether the
scores are multiplied by a quality that is read from the edge distributions, as in GFLv2. ``body`` of a ResNet is any
timm network with feature maps at strides 2 to 32, such as the same one with better weights: ``resnet50.a1_in1k``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfocal.data.preprocess import InputSettings
from gfocal.models.backbone import TimmBackbone, published_resnet
from gfocal.models.detector import Detector, class_names
from gfocal.models.heads import GFLHead, norm_groups
from gfocal.models.necks import FPN, strides_from
from gfocal.models.published_settings import PublishedSettings
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import Origin

PUBLISHED = PublishedSettings(criterion="gfl", assigner="atss", quality="joint", dfl_weight=0.25)


def gfl_light_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    channels: int = 96,
    num_convs: int = 2,
    body: str = "tf_efficientnet_lite0.in1k",
) -> Detector:
    """The light preset, for CPUs and small data: a mobile backbone, FPN and towers of width 96.

    ``body`` is EfficientNet-lite0, or any timm network with feature maps at strides 8, 16 and 32. With ImageNet
    weights the stem and the first two stages are frozen: they have the largest maps, and so take the most time.
    """
    published = pretrained or weights is not None
    backbone = TimmBackbone(body, pretrained, weights, frozen_stages=2 if published else 0, finest=finest)
    settings = input_settings or InputSettings(backbone.mean, backbone.std, short_side=320, long_side=512)
    options = {
        "n": n,
        "delta": delta,
        "origin": origin,
        "finest": finest,
        "dgqp": dgqp,
        "channels": channels,
        "num_convs": num_convs,
        "body": body,
    }
    return _gfl("gfl_light_fpn", options, backbone, num_classes, names, settings)


def gfl_r18_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    channels: int = 256,
    num_convs: int = 4,
    body: str = "resnet18.tv_in1k",
) -> Detector:
    """ResNet-18 with the paper's neck and head, whose width and depth may be reduced."""
    backbone = published_resnet(body, pretrained, weights, finest=finest)
    options = {
        "n": n,
        "delta": delta,
        "origin": origin,
        "finest": finest,
        "dgqp": dgqp,
        "channels": channels,
        "num_convs": num_convs,
        "body": body,
    }
    return _gfl("gfl_r18_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r34_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    body: str = "resnet34.tv_in1k",
) -> Detector:
    """ResNet-34 with the paper's neck and head."""
    backbone = published_resnet(body, pretrained, weights, finest=finest)
    options = {"n": n, "delta": delta, "origin": origin, "finest": finest, "dgqp": dgqp, "body": body}
    return _gfl("gfl_r34_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    body: str = "resnet50.tv_in1k",
) -> Detector:
    """The paper's detector: ResNet-50, FPN, towers of 4 convolutions of width 256; 32.44 M parameters."""
    backbone = published_resnet(body, pretrained, weights, finest=finest)
    options = {"n": n, "delta": delta, "origin": origin, "finest": finest, "dgqp": dgqp, "body": body}
    return _gfl("gfl_r50_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r101_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    body: str = "resnet101.tv_in1k",
) -> Detector:
    """ResNet-101; 51.43 M parameters."""
    backbone = published_resnet(body, pretrained, weights, finest=finest)
    options = {"n": n, "delta": delta, "origin": origin, "finest": finest, "dgqp": dgqp, "body": body}
    return _gfl("gfl_r101_fpn", options, backbone, num_classes, names, input_settings)


def gfl_x101_32x4d_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
) -> Detector:
    """ResNeXt-101, 32 groups of width 4; 51.06 M parameters."""
    backbone = published_resnet("resnext101_32x4d.gluon_in1k", pretrained, weights, finest=finest)
    options = {"n": n, "delta": delta, "origin": origin, "finest": finest, "dgqp": dgqp}
    return _gfl("gfl_x101_32x4d_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r101_dcn_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    modulated: bool = True,
    deformable_stages: Sequence[int] = (2, 3, 4),
) -> Detector:
    """ResNet-101 with deformable convolutions in c3-c5; 52.72 M parameters when not modulated.

    Modulated (version 2) is the paper's; MMDetection's published checkpoints are not.
    """
    stages = tuple(deformable_stages)
    backbone = published_resnet("resnet101.tv_in1k", pretrained, weights, stages, modulated, finest)
    options = {
        "n": n,
        "delta": delta,
        "origin": origin,
        "finest": finest,
        "dgqp": dgqp,
        "modulated": modulated,
        "deformable_stages": list(stages),
    }
    return _gfl("gfl_r101_dcn_fpn", options, backbone, num_classes, names, input_settings)


def gfl_x101_32x4d_dcn_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    delta: float = 1.0,
    origin: Origin = "corner",
    finest: int = 8,
    dgqp: bool = False,
    modulated: bool = True,
    deformable_stages: Sequence[int] = (3, 4),
) -> Detector:
    """ResNeXt-101-32x4d with deformable convolutions in c4-c5; 53.47 M parameters when not modulated.

    The paper's own repository names c3-c5: ``deformable_stages=(2, 3, 4)``.
    """
    stages = tuple(deformable_stages)
    backbone = published_resnet("resnext101_32x4d.gluon_in1k", pretrained, weights, stages, modulated, finest)
    options = {
        "n": n,
        "delta": delta,
        "origin": origin,
        "finest": finest,
        "dgqp": dgqp,
        "modulated": modulated,
        "deformable_stages": list(stages),
    }
    return _gfl("gfl_x101_32x4d_dcn_fpn", options, backbone, num_classes, names, input_settings)


def _gfl(
    preset: str,
    options: dict[str, Any],
    backbone: TimmBackbone,
    num_classes: int,
    names: Sequence[str] | None,
    input_settings: InputSettings | None,
) -> Detector:
    """Backbone, neck and head as a detector; ``options`` are the preset's, which a saved file repeats."""
    box_coder = GeneralDistribution(options["n"], options["delta"])
    channels, num_convs = options.get("channels", 256), options.get("num_convs", 4)
    strides = strides_from(options["finest"])
    head = GFLHead(
        num_classes,
        channels,
        channels,
        num_convs,
        box_coder.num_bins,
        strides,
        options["origin"],
        norm_groups(channels),
        dgqp=options["dgqp"],
    )
    return Detector(
        backbone,
        FPN(backbone.channels, channels, len(strides)),
        head,
        class_names(num_classes, names),
        box_coder,
        input_settings or InputSettings(backbone.mean, backbone.std),
        built_from={"preset": preset, "options": options},
        published=PUBLISHED,
    )

"""Presets: complete detectors as functions, with the published numbers filled in.

A preset takes the number of classes and the few numbers that people change. The only table of the library
that is keyed by strings is ``PRESETS``, for the command line and for saved files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.preparation import InputSettings
from gfocal.distributions import GeneralDistribution
from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector
from gfocal.models.heads import GFLHead
from gfocal.models.necks import FPN
from gfocal.points import Origin

STRIDES = (8, 16, 32, 64, 128)


def gfl_light_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
    channels: int = 96,
    num_convs: int = 2,
    body: str = "tf_efficientnet_lite0.in1k",
) -> Detector:
    """The light preset, for CPUs and small data: a mobile backbone, FPN and towers of width 96.

    ``body`` is EfficientNet-lite0, or any timm network with feature maps at strides 8, 16 and 32. With ImageNet
    weights the stem and the first two stages are frozen: they see the most pixels, and so take the most time.
    """
    published = pretrained or weights is not None
    backbone = Backbone(body, pretrained, weights, frozen_stages=2 if published else 0)
    settings = input_settings or InputSettings(backbone.mean, backbone.std, short_side=320, long_side=512)
    options = {"n": n, "origin": origin, "channels": channels, "num_convs": num_convs, "body": body}
    return _detector("gfl_light_fpn", options, backbone, num_classes, names, settings)


def gfl_r18_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
    channels: int = 256,
    num_convs: int = 4,
) -> Detector:
    """ResNet-18 with the paper's neck and head, whose width and depth may be reduced."""
    backbone = _resnet("resnet18.tv_in1k", pretrained, weights)
    options = {"n": n, "origin": origin, "channels": channels, "num_convs": num_convs}
    return _detector("gfl_r18_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r34_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
) -> Detector:
    """ResNet-34 with the paper's neck and head."""
    backbone = _resnet("resnet34.tv_in1k", pretrained, weights)
    return _detector("gfl_r34_fpn", {"n": n, "origin": origin}, backbone, num_classes, names, input_settings)


def gfl_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
) -> Detector:
    """The paper's detector: ResNet-50, FPN, towers of 4 convolutions of width 256; 32.44 M parameters."""
    backbone = _resnet("resnet50.tv_in1k", pretrained, weights)
    return _detector("gfl_r50_fpn", {"n": n, "origin": origin}, backbone, num_classes, names, input_settings)


def gfl_r101_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
) -> Detector:
    """ResNet-101; 51.43 M parameters."""
    backbone = _resnet("resnet101.tv_in1k", pretrained, weights)
    return _detector("gfl_r101_fpn", {"n": n, "origin": origin}, backbone, num_classes, names, input_settings)


def gfl_x101_32x4d_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
) -> Detector:
    """ResNeXt-101, 32 groups of width 4; 51.06 M parameters."""
    backbone = _resnet("resnext101_32x4d.gluon_in1k", pretrained, weights)
    options = {"n": n, "origin": origin}
    return _detector("gfl_x101_32x4d_fpn", options, backbone, num_classes, names, input_settings)


def gfl_r101_dcn_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
    modulated: bool = True,
    deformable_stages: Sequence[int] = (2, 3, 4),
) -> Detector:
    """ResNet-101 with deformable convolutions in c3-c5; 52.72 M parameters when not modulated.

    Modulated (version 2) is the paper's; MMDetection's published checkpoints are not.
    """
    stages = tuple(deformable_stages)
    backbone = _resnet("resnet101.tv_in1k", pretrained, weights, stages, modulated)
    options = {"n": n, "origin": origin, "modulated": modulated, "deformable_stages": list(stages)}
    return _detector("gfl_r101_dcn_fpn", options, backbone, num_classes, names, input_settings)


def gfl_x101_32x4d_dcn_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    n: int = 16,
    origin: Origin = "corner",
    modulated: bool = True,
    deformable_stages: Sequence[int] = (3, 4),
) -> Detector:
    """ResNeXt-101-32x4d with deformable convolutions in c4-c5; 53.47 M parameters when not modulated.

    The paper's own repository names c3-c5: ``deformable_stages=(2, 3, 4)``.
    """
    stages = tuple(deformable_stages)
    backbone = _resnet("resnext101_32x4d.gluon_in1k", pretrained, weights, stages, modulated)
    options = {"n": n, "origin": origin, "modulated": modulated, "deformable_stages": list(stages)}
    return _detector("gfl_x101_32x4d_dcn_fpn", options, backbone, num_classes, names, input_settings)


def _resnet(
    name: str,
    pretrained: bool,
    weights: str | Path | None,
    deformable_stages: tuple[int, ...] = (),
    modulated: bool = True,
) -> Backbone:
    """A ResNet as published: with ImageNet weights, stem and first stage frozen and all statistics kept."""
    published = pretrained or weights is not None
    return Backbone(name, pretrained, weights, int(published), published, deformable_stages, modulated)


def _detector(
    preset: str,
    options: dict[str, Any],
    backbone: Backbone,
    num_classes: int,
    names: Sequence[str] | None,
    input_settings: InputSettings | None,
) -> Detector:
    """Backbone, neck and head joined; ``options`` are the preset's, which a saved file repeats."""
    distribution = GeneralDistribution(options["n"])
    channels, num_convs = options.get("channels", 256), options.get("num_convs", 4)
    # Two channels to a norm group at least: a lone value of a 1x1 map has no spread to divide by.
    num_groups = min(32, channels // 2)
    head = GFLHead(
        num_classes,
        channels,
        channels,
        num_convs,
        distribution.num_bins,
        STRIDES,
        options["origin"],
        num_groups,
    )
    return Detector(
        backbone,
        FPN(backbone.channels, channels),
        head,
        class_names(num_classes, names),
        distribution,
        input_settings or InputSettings(backbone.mean, backbone.std),
        built_from={"preset": preset, "options": options},
    )


def class_names(num_classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, checked against their number; or plain numbers where there are none."""
    if names is None:
        return tuple(f"class{i}" for i in range(num_classes))
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} names were given for {num_classes} classes")
    return tuple(names)


class PresetError(ValueError):
    """A preset that does not exist."""


Preset = Callable[..., Detector]
PRESETS: dict[str, Preset] = {
    preset.__name__: preset
    for preset in (
        gfl_light_fpn,
        gfl_r18_fpn,
        gfl_r34_fpn,
        gfl_r50_fpn,
        gfl_r101_fpn,
        gfl_x101_32x4d_fpn,
        gfl_r101_dcn_fpn,
        gfl_x101_32x4d_dcn_fpn,
    )
}


def preset_named(name: str) -> Preset:
    """The preset of that name; PresetError names all of them."""
    if name not in PRESETS:
        raise PresetError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def create(preset: str = "gfl_light_fpn", num_classes: int = 80, **options: object) -> Detector:
    """A detector by the name of its preset; ``options`` are those of the preset's function.

    ``gfocal.create("gfl_r50_fpn", num_classes=3, names=("cat", "dog", "owl"), pretrained=False)``

    Raises:
        PresetError: there is no such preset.
        WeightsError: the ImageNet weights cannot be had; the message names the ways out.
    """
    return preset_named(preset)(num_classes, **options)

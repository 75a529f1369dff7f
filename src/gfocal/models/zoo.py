"""Presets: complete detectors as functions, with the published numbers filled in.

A preset takes the number of classes and the few numbers that people change. The only table of the library
that is keyed by strings is ``PRESETS``, for the command line and for saved files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gfocal.data.preparation import InputSettings
from gfocal.distributions import GeneralDistribution
from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector
from gfocal.models.heads import GFLHead
from gfocal.models.necks import FPN
from gfocal.points import Origin

STRIDES = (8, 16, 32, 64, 128)
HALF = (127.5, 127.5, 127.5)


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
    """The paper's detector: ResNet-50, FPN, towers of 4 convolutions of width 256; 32.44 M parameters.

    With ImageNet weights the stem and the first stage are frozen and BatchNorm keeps its statistics.
    """
    published = pretrained or weights is not None
    backbone = Backbone("resnet50.tv_in1k", pretrained, weights, frozen_stages=int(published), norm_eval=published)
    names = class_names(num_classes, names)
    distribution = GeneralDistribution(n)
    return Detector(
        backbone,
        FPN(backbone.channels, 256),
        GFLHead(num_classes, 256, 256, 4, distribution.num_bins, STRIDES, origin),
        names,
        distribution,
        input_settings or InputSettings(),
        built_from={"preset": "gfl_r50_fpn", "options": {"n": n, "origin": origin}},
    )


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
    published = pretrained or weights is not None
    backbone = Backbone("resnet18.tv_in1k", pretrained, weights, frozen_stages=int(published), norm_eval=published)
    names = class_names(num_classes, names)
    distribution = GeneralDistribution(n)
    options = {"n": n, "origin": origin, "channels": channels, "num_convs": num_convs}
    return Detector(
        backbone,
        FPN(backbone.channels, channels),
        GFLHead(num_classes, channels, channels, num_convs, distribution.num_bins, STRIDES, origin),
        names,
        distribution,
        input_settings or InputSettings(),
        built_from={"preset": "gfl_r18_fpn", "options": options},
    )


def gfl_lite0_fpn(
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
) -> Detector:
    """The light preset, for CPUs and small data: EfficientNet-lite0, FPN and towers of width 96."""
    backbone = Backbone("tf_efficientnet_lite0.in1k", pretrained, weights)
    names = class_names(num_classes, names)
    distribution = GeneralDistribution(n)
    options = {"n": n, "origin": origin, "channels": channels, "num_convs": num_convs}
    return Detector(
        backbone,
        FPN(backbone.channels, channels),
        GFLHead(num_classes, channels, channels, num_convs, distribution.num_bins, STRIDES, origin),
        names,
        distribution,
        input_settings or InputSettings(mean=HALF, std=HALF, short_side=320, long_side=512),
        built_from={"preset": "gfl_lite0_fpn", "options": options},
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
PRESETS: dict[str, Preset] = {f.__name__: f for f in (gfl_lite0_fpn, gfl_r18_fpn, gfl_r50_fpn)}


def preset_named(name: str) -> Preset:
    """The preset of that name; PresetError names all of them."""
    if name not in PRESETS:
        raise PresetError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def create(preset: str = "gfl_lite0_fpn", num_classes: int = 80, **options: object) -> Detector:
    """A detector by the name of its preset; ``options`` are those of the preset's function.

    ``gfocal.create("gfl_r50_fpn", num_classes=3, names=("cat", "dog", "owl"), pretrained=False)``

    Raises:
        ValueError: there is no such preset.
        WeightsError: the ImageNet weights cannot be had; the message names the ways out.
    """
    return preset_named(preset)(num_classes, **options)

"""Small detectors of every kind, and what their exported files are compared by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gfocal.data.preprocess import InputSettings
from gfocal.models import gfl
from gfocal.models.backbone import TimmBackbone
from gfocal.models.convolutions import DeformableConv2d
from gfocal.models.detector import Detector
from gfocal.models.zoo import PRESETS, create

BODY = "test_resnet.r160_in1k"  # timm's smallest: one block in each stage
INPUT = InputSettings(short_side=96, long_side=160)
NARROW = {"channels": 32, "num_convs": 1}
# Those whose options make them small; the others differ from one of these in depth and width alone.
OPTIONS: dict[str, dict[str, Any]] = {
    "gfl_light_fpn": {**NARROW, "body": BODY, "finest": 4, "dgqp": True},
    "atss_r50_fpn": {**NARROW, "body": BODY},
    "fcos_r50_fpn": {**NARROW, "body": BODY, "box": "gaussian"},
    "foveabox_r50_fpn": {**NARROW, "body": BODY},
    "retinanet_r50_fpn": {**NARROW, "body": BODY},
    "sapd_r50_fpn": {**NARROW, "body": BODY},
    "nanodet_plus_m": {"channels": 32},
    "ssd512_vgg16": {},
}
assert set(OPTIONS) <= set(PRESETS)


def small(preset: str, seed: int = 0, **options: Any) -> Detector:
    """A small detector of three classes with random weights that find something."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {} if preset == "ssd512_vgg16" else {"input_settings": INPUT}
    if preset == "nanodet_plus_m":
        settings = {"input_settings": InputSettings(short_side=96, long_side=96, stretch=True)}
    model = create(
        preset, 3, names=("a", "b", "c"), pretrained=False, **(OPTIONS[preset] | settings | options)
    ).eval()
    return enliven(model)


def small_deformable(modulated: bool = True) -> Detector:
    """The deformable preset, with a small ResNet in place of the ResNet-101, and offsets that are not zero."""
    torch.manual_seed(0)
    backbone = TimmBackbone(BODY, False, deformable_stages=(3, 4), modulated=modulated)
    options = {"n": 16, "delta": 1.0, "origin": "corner", "finest": 8, "dgqp": False, "channels": 32, "num_convs": 1}
    model = gfl._gfl("gfl_r101_dcn_fpn", options, backbone, 3, ("a", "b", "c"), INPUT).eval()
    for module in model.modules():
        if isinstance(module, DeformableConv2d):
            nn.init.normal_(module.conv_offset.weight, std=0.02)
    return enliven(model)


def enliven(model: Detector) -> Detector:
    """Statistics of BatchNorm that are not those of the start, and predictions that differ between points."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in model.head.named_parameters():
        if "out" in name and parameter.ndim == 4:
            nn.init.normal_(parameter, std=0.3)
        elif "cls_out" in name:
            nn.init.constant_(parameter, -1.0)
    return model


def scenes(count: int = 3) -> list[Tensor]:
    """A few synthetic images of different shapes, uint8 (3, H, W)."""
    from gfocal.data.synthetic.scenes import SyntheticScenes

    images = [SyntheticScenes(count, size=192, seed=1, purpose="test").read(i)[0] for i in range(count)]
    return [image[:, : 192 - 40 * (i % 2), : 192 - 30 * (i % 3)].contiguous() for i, image in enumerate(images)]

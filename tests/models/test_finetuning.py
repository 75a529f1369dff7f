"""Other classes, the same network: what is known by name stays, the rest of the class layer begins anew."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import gfocal
from gfocal.models.detector import Detector
from gfocal.models.finetuning import CLASS_LAYER, compare_classes, for_classes

BEFORE = ("cat", "dog", "owl")
TINY = "mobilenetv4_conv_small.e2400_r224_in1k"
# Heads with one class layer, with several anchors a cell, inside another module, with one for each map, and with
# one beside it.
PRESETS: dict[str, dict[str, Any]] = {
    "gfl_light_fpn": {"channels": 32, "num_convs": 1, "body": TINY},
    "retinanet_r50_fpn": {"channels": 32, "num_convs": 1, "body": TINY},
    "sapd_r50_fpn": {"channels": 32, "num_convs": 1, "body": TINY},
    "ssd512_vgg16": {},
    "nanodet_plus_m": {"channels": 16},
}


def trained(preset: str = "gfl_light_fpn", names: tuple[str, ...] = BEFORE) -> Detector:
    """A detector whose every tensor differs from those of a new one."""
    torch.manual_seed(0)
    model = gfocal.create(preset, len(names), names=names, pretrained=False, **PRESETS[preset])
    with torch.no_grad():
        for value in model.state_dict().values():
            value += torch.ones((), dtype=value.dtype)
    return model.eval()


@pytest.mark.parametrize("preset", PRESETS)
def test_scores_of_known_classes_are_those_of_before_in_the_new_order(preset: str) -> None:
    torch.manual_seed(0)
    model = gfocal.create(preset, len(BEFORE), names=BEFORE, pretrained=False, **PRESETS[preset]).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():  # logits that differ between points and classes
            parameter.copy_(torch.randn(parameter.shape) * 0.05)
    other = for_classes(model, ("owl", "cow", "cat"))
    assert other.names == ("owl", "cow", "cat")
    assert other.num_classes == 3
    images = torch.randn(1, 3, 512, 512) if preset == "ssd512_vgg16" else torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before, after = model(images), other(images)
    assert torch.equal(after.box_logits, before.box_logits)
    torch.testing.assert_close(after.cls_logits[..., 0], before.cls_logits[..., 2])
    torch.testing.assert_close(after.cls_logits[..., 2], before.cls_logits[..., 0])
    assert not torch.allclose(after.cls_logits[..., 1], before.cls_logits[..., 1])


def test_a_new_class_starts_where_a_new_detector_starts() -> None:
    head = for_classes(trained(), ("cow", "owl", "hen", "dog")).state_dict()
    bias: Tensor = head["head.cls_out.bias"]
    assert bias[[0, 2]].tolist() == pytest.approx([-math.log(99)] * 2)
    assert bias[[1, 3]].tolist() == pytest.approx([1 - math.log(99)] * 2)
    weight: Tensor = head["head.cls_out.weight"]
    assert (weight[[0, 2]].abs() < 0.1).all()
    assert not torch.equal(weight[0], weight[2])
    assert (weight[[1, 3]] > 0.9).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_equal_lists_keep_everything(preset: str) -> None:
    model = trained(preset)
    other = for_classes(model, BEFORE)
    assert other is not model
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_everything_else_is_copied_and_nothing_is_shared() -> None:
    model = trained()
    model.input_settings = replace(model.input_settings, short_side=100, long_side=150, antialias=False)
    model.decode_settings = replace(model.decode_settings, nms_threshold=0.3)
    model.backbone.freeze(1, True)
    model.class_thresholds = (0.1, 0.2, 0.3)
    other = for_classes(model, ("owl",))
    for key, value in model.state_dict().items():
        assert CLASS_LAYER.search(key) or torch.equal(other.state_dict()[key], value), key
    assert other.input_settings == model.input_settings
    assert other.decode_settings == model.decode_settings
    assert (other.backbone.freezing.frozen_stages, other.backbone.freezing.norm_eval) == (1, True)
    assert other.class_thresholds is None  # they were of the weights before
    assert not other.training
    next(iter(other.state_dict().values())).fill_(7)
    assert not (next(iter(model.state_dict().values())) == 7).any()


@pytest.mark.parametrize("names", [(), ("cat", "cat")])
def test_names_must_be_names(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a name each"):
        for_classes(trained(), names)


def test_what_became_of_the_classes_in_a_line() -> None:
    assert str(compare_classes(("owl", "cow", "cat"), BEFORE)) == "knows 2 of your 3 classes; new: cow"
    assert str(compare_classes(("owl", "cat"), BEFORE)) == "knows 2 of your 2 classes"
    assert str(compare_classes(("object",), BEFORE)) == "does not know the class"
    many = tuple(f"c{i}" for i in range(9))
    assert str(compare_classes(("cat", *many), BEFORE)).endswith("new: c0, c1, c2, c3, c4, ...")

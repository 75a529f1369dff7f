"""Descriptions of detectors: every value is checked, and shapes are known without building anything."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.errors import ModelFileError
from gfocal.models import model_file
from gfocal.models.description import build_from_description, check_description, describe, tensor_shapes
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

BODY = "mobilenetv4_conv_small.e2400_r224_in1k"
SMALL = {"body": BODY, "channels": 32, "num_convs": 1}


@pytest.fixture(scope="module")
def model() -> Detector:
    return create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **SMALL)


def changed(about: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A description with another value at a dotted path."""
    about = deepcopy(about)
    *tables, last = path.split(".")
    table = about
    for name in tables:
        table = table[name]
    table[last] = value
    return about


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("preset", 3, "preset is not what it should be"),
        ("preset", "x" * 2**20, "there is no preset xxxx"),
        ("options", [], "options is not what it should be"),
        ("options.num_convs", 100_000, "num_convs lies in 0..64"),
        ("names", ["x" * 2**20, "a"], "the name of a class has 1,048,576 characters, more than 1,000"),
        ("names", ["x" * 900] * 2000, "have 1,800,000 characters, more than 1,000,000"),
        ("names", [str(i) for i in range(100_001)], "100,001 classes are more than 100,000"),
        ("names", ["a", 3], "the name of a class is text, not 3"),
        ("names", [], "at least one class"),
        ("input.short_side", 10**6, "sizes are"),
        ("input.long_side", 10**6, "sizes are at most 32,768 pixels, not 1,000,000"),
        ("input.short_side", "320", "input.short_side must be a whole number, not '320'"),
        ("input.multiple", 2**40, "input.multiple lies in 32..4096"),
        ("input.std", [0, 1, 1], "input.std lies in"),
        ("input.mean", [1.0], "input.mean must be a list"),
        ("input.x", 1, "input has an unknown key 'x'"),
        ("decode.max_detections", 10**9, "decode.max_detections lies in 1..1e+06"),
        ("decode.nms_threshold", float("nan"), "decode.nms_threshold lies in 0..1, not nan"),
        ("decode.softmax", 1, "decode.softmax must be true or false"),
        ("frozen", [], "frozen is no table"),
        ("frozen.frozen_stages", 10**9, "frozen.frozen_stages lies in 0..64"),
        ("thresholds", {"scores": [0.5], "how": ""}, "1 thresholds for 2 classes"),
        ("thresholds", {"scores": [0.5, float("nan")], "how": ""}, "a threshold is a score in 0..1, not nan"),
        ("thresholds", {"scores": [0.5, 0.5], "how": 3}, "thresholds.how is no text"),
        ("options.body", "hf-hub:timm/resnet18.a1_in1k", "timm has no network 'hf-hub:timm/resnet18.a1_in1k'"),
        ("options.body", "vit_tiny_patch16_224", "takes images of 224 pixels only"),
        ("options.body", "convmixer_768_32", "gives feature maps at strides"),
    ],
)
def test_each_value_is_checked(model: Detector, path: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        build_from_description(changed(describe(model), path, value))
    assert expected in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("key", ["preset", "options", "names", "input", "decode"])
def test_each_part_is_needed(model: Detector, key: str) -> None:
    about = describe(model)
    del about[key]
    with pytest.raises(ValueError, match=f"{key} is missing"):
        check_description(about)


@pytest.mark.parametrize("preset", ["gfl_light_fpn", "atss_r50_fpn", "sapd_r50_fpn"])
def test_shapes_are_known_without_weights_and_random_numbers(preset: str) -> None:
    model = create(preset, 3, pretrained=False, **SMALL)
    about = json.loads(json.dumps(describe(model)))
    before = torch.get_rng_state()
    shapes = tensor_shapes(about)
    assert torch.equal(torch.get_rng_state(), before)
    assert shapes == {key: tuple(value.shape) for key, value in model.state_dict().items()}


def test_a_file_is_compared_with_its_description_before_anything_is_built(
    model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    wide = changed(describe(model), "options.channels", 1024)
    monkeypatch.setattr(model_file, "describe", lambda _: wide)
    save_model(model, path)

    def build(_: Any) -> None:
        raise AssertionError("is built although its tensors do not fit")

    monkeypatch.setattr(model_file, "build_from_description", build)
    with pytest.raises(ModelFileError, match="tensors do not fit gfl_light_fpn, the first is"):
        load_model(path)


def test_descriptions_that_are_no_table(model: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    for text in ("[" * 100_000, "9" * 5000, "[]", "null", '"x"', "{"):
        monkeypatch.setattr(model_file.json, "dumps", lambda _, text=text: text)
        save_model(model, path)
        monkeypatch.undo()
        with pytest.raises(ModelFileError, match="its description is damaged") as error:
            load_model(path)
        assert "\n" not in str(error.value)

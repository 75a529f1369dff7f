"""Which number format a detector computes in, and what is known of bf16 in its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.errors import ModelFileError
from gfocal.models import precision as precision_module
from gfocal.models.description import check_description, describe
from gfocal.models.detector import Detector
from gfocal.models.finetuning import for_classes
from gfocal.models.inference_copy import inference_network
from gfocal.models.model_file import load_model, save_model, store_bf16_check
from gfocal.models.precision import Bf16Check, digest_weights, is_bf16_native, resolve_precision
from gfocal.models.zoo import create


@pytest.fixture
def model() -> Detector:
    torch.manual_seed(0)
    return create("gfl_r18_fpn", 2, names=("cat", "dog"), pretrained=False, channels=32, num_convs=1).eval()


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_module, "is_bf16_native", lambda device: True)


def check_of(model: Detector, ap: float = 0.5) -> Bf16Check:
    return Bf16Check(ap, 0.5, 12, "12 images: split val of photos", digest_weights(model))


@pytest.mark.usefixtures("native")
def test_auto_is_bf16_only_where_these_weights_were_checked(model: Detector) -> None:
    assert resolve_precision(model) == "float32"
    model.bf16_check = check_of(model, 0.502)
    assert resolve_precision(model) == "bf16"
    model.bf16_check = check_of(model, 0.497)
    assert resolve_precision(model) == "float32"
    model.bf16_check = check_of(model)
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    assert resolve_precision(model) == "float32"
    assert resolve_precision(model, "bf16") == "bf16"
    with pytest.raises(ValueError, match="auto, float32 or bf16, not 'fp16'"):
        resolve_precision(model, "fp16")  # type: ignore[arg-type]


def test_auto_is_float32_without_instructions_for_bf16(model: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    model.bf16_check = check_of(model)
    for found, wanted in (({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "float32"), ({"bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert resolve_precision(model) == wanted
    assert not is_bf16_native(torch.device("mps"))


@pytest.mark.usefixtures("native")
def test_detect_computes_in_the_resolved_precision(model: Detector) -> None:
    def used(asked: Any = "auto") -> str:
        network = inference_network(model, asked)
        assert network is not None
        return network.precision

    assert used() == "float32"
    model.bf16_check = check_of(model)  # the copy that is there is not the one that is wanted now
    assert used() == "bf16"
    assert used("float32") == "float32"
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    assert used() == "float32"
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    one, other = (model.detect(image, 0.0, precision=precision) for precision in ("float32", "bf16"))  # type: ignore[arg-type]
    assert not torch.equal(one[:5].scores, other[:5].scores)  # type: ignore[union-attr, index]


def test_the_file_keeps_the_check_of_its_weights(model: Detector, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    assert load_model(path).bf16_check is None
    check = check_of(model)
    store_bf16_check(path, check)
    again = load_model(path)
    assert again.bf16_check == check
    assert again.bf16_check.weights == digest_weights(again)
    assert for_classes(again, ("cat", "owl")).bf16_check is None
    save_model(again, tmp_path / "copy.safetensors")
    assert load_model(tmp_path / "copy.safetensors").bf16_check == check
    store_bf16_check(path, None)
    assert load_model(path).bf16_check is None
    with pytest.raises(ModelFileError, match="bf16_check"):
        store_bf16_check(path, replace(check, ap=2.0))


@pytest.mark.parametrize(
    "wrong",
    [{"ap": 1.5}, {"num_images": 0}, {"data": "x" * 2000}, {"weights": 3}, {"other": 1}, {"ap": None}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_damaged_check_is_refused(model: Detector, wrong: dict[str, Any]) -> None:
    model.bf16_check = check_of(model)
    about = describe(model)
    assert check_description(about)
    about["bf16_check"] = about["bf16_check"] | wrong
    with pytest.raises(ValueError, match="bf16_check"):
        check_description(about)

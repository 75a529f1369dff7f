"""--precision, --compile and --store-precision of gfocal detect and eval."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from gfocal.cli import DONE, USER_ERROR, bf16_check
from gfocal.cli.bf16_check import check_bf16
from gfocal.cli.inputs import read_datasets, select_splits
from gfocal.config.config import read_config
from gfocal.data.preprocess import InputSettings
from gfocal.models import precision as precision_module
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_module, "is_bf16_native", lambda device: True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """4 images in COCO's layout, with a cat in each."""
    folder = tmp_path / "photos"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for k in range(4):
        Image.effect_noise((96, 64), 60 + 20 * k).convert("RGB").save(folder / "val2017" / f"{k}.jpg")
        images.append({"id": k + 1, "file_name": f"{k}.jpg", "width": 96, "height": 64})
        box = {"bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
        annotations.append({"id": k + 1, "image_id": k + 1, "category_id": 1, **box})
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = InputSettings(short_side=64, long_side=96)
    built = create(
        "gfl_r18_fpn", 1, names=("cat",), pretrained=False, input_settings=settings, channels=32, num_convs=1
    )
    with torch.no_grad():
        built.head.get_parameter("cls_out.bias").fill_(-1.0)
    save_model(built.eval(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def precision_of(folder: Path) -> str:
    return json.loads((folder / "detections.json").read_text())["info"]["run"]["precision"]


def test_eval_stores_what_bf16_costs_and_detect_uses_it(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    code, _, err = run("detect", model, photos / "val2017", "--out", tmp_path / "a", "--no-images")
    assert code == DONE, err
    assert precision_of(tmp_path / "a") == "float32"
    code, _, err = run("eval", model, photos, "--store-precision", "--out", tmp_path / "numbers.json")
    assert code == DONE, err
    assert "AP in float32 0.0" in err
    assert f"written into {model}" in err
    assert json.loads((tmp_path / "numbers.json").read_text())["precision"] == "float32"
    check = load_model(model).bf16_check
    assert check is not None
    assert check.num_images == 4
    code, _, err = run("detect", model, photos / "val2017", "--out", tmp_path / "b", "--no-images")
    assert code == DONE, err
    assert precision_of(tmp_path / "b") == "bf16"
    code, _, err = run("eval", model, photos, "--out", tmp_path / "numbers.json", "--report", tmp_path / "page.html")
    assert json.loads((tmp_path / "numbers.json").read_text())["precision"] == "bf16"
    assert "bf16" in (tmp_path / "page.html").read_text()
    options = ("--out", tmp_path / "c", "--no-images", "--precision", "float32")
    code, _, err = run("detect", model, photos / "val2017", *options)
    assert precision_of(tmp_path / "c") == "float32"


def test_a_difference_in_ap_is_not_stored(
    run: Run, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "MAX_AP_DIFFERENCE", -1.0)
    code, _, err = run("eval", model, photos, "--store-precision")
    assert code == DONE, err
    assert "stays with float32" in " ".join(err.split())
    assert load_model(model).bf16_check is None


def test_a_file_of_detections_has_no_precision(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("[]")
    code, _, err = run("eval", tmp_path / "found.json", photos, "--store-precision")
    assert code == USER_ERROR
    assert "--store-precision needs a model file" in err


def test_compiled(run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without inductor, which takes a minute: one graph serves images of all sizes, and gives the same numbers."""
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("CXX", sys.executable)
    compiled: list[object] = []

    def compile_without_inductor(function: Callable[..., object], **options: object) -> object:
        compiled.append(options)
        return real(function, backend="eager", fullgraph=True, **options)

    real: Any = torch.compile
    monkeypatch.setattr(torch, "compile", compile_without_inductor)
    Image.effect_noise((64, 96), 80).convert("RGB").save(photos / "val2017" / "tall.jpg")
    for name, options in (("plain", ()), ("compiled", ("--compile",))):
        code, _, err = run("detect", model, photos / "val2017", "--out", tmp_path / name, "--no-images", *options)
        assert code == DONE, err
    assert len(compiled) == 1
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "compiled")
    plain, other = (
        json.loads((tmp_path / name / "detections.json").read_text())["annotations"] for name in ("plain", "compiled")
    )
    assert len(plain) == len(other) > 0
    assert sorted(one["score"] for one in other) == pytest.approx(sorted(one["score"] for one in plain), abs=2e-4)


def test_compiling_needs_a_compiler(run: Run, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    code, _, err = run("detect", model, photos / "val2017", "--compile")
    assert code == USER_ERROR
    assert "--compile needs a C++ compiler" in err


def check_of(model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the check at the end of 'gfocal train' says of a model."""
    console = Console(stderr=True, width=200)
    data = read_datasets(select_splits([str(photos)], "val", "val"), console)
    check_bf16(model, data, read_config("light"), console)
    return capsys.readouterr().err


def test_training_ends_with_a_check_of_bf16(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "in bf16" not in check_of(model, photos, capsys)  # an AP of nothing is equal to any other
    monkeypatch.setattr(bf16_check, "LEAST_AP", 0.0)
    monkeypatch.setattr(bf16_check, "MOST_IMAGES", 3)
    assert "computes in bf16 unless --precision says otherwise" in check_of(model, photos, capsys)
    stored = load_model(model).bf16_check
    assert stored is not None
    assert stored.num_images == 3
    assert check_of(model, photos, capsys).count("AP") == 0  # it was checked


def test_a_device_without_bf16_checks_nothing(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bf16_check, "LEAST_AP", 0.0)
    monkeypatch.setattr(precision_module, "is_bf16_native", lambda device: False)
    assert "in bf16" not in check_of(model, photos, capsys)
    assert load_model(model).bf16_check is None

"""Detection and evaluation end to end with a light detector whose input is stretched to a square."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.cli import DONE
from gfocal.data.discovery import read_data
from gfocal.data.loading import evaluation_loader
from gfocal.data.preprocess import InputSettings
from gfocal.evaluation.detections import detect_all, evaluate_model
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.run_folder import RunFolder
from gfocal.structures import Detections

Run = Callable[..., tuple[int, str, str]]
OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
SQUARE = InputSettings(short_side=96, long_side=96, stretch=True)
SIZES = ((60, 120), (150, 50), (96, 96), (200, 210))


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    built = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, input_settings=SQUARE, **OPTIONS)
    torch.nn.init.normal_(built.head.get_parameter("cls_out.weight"), std=0.3)
    return built.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of four aspect ratios in COCO's layout, a cat in each, all in split val."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    images, annotations = [], []
    generator = np.random.default_rng(0)
    for k, (height, width) in enumerate(SIZES):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val2017" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": width, "height": height})
        box = {"bbox": [width / 4, height / 4, width / 2, height / 2], "area": width * height / 4, "iscrowd": 0}
        annotations.append({"id": k + 1, "image_id": k, "category_id": 1 + k % 2, **box})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


def test_detections_are_those_of_the_square_scaled_back(model: Detector, photos: Path) -> None:
    """The network sees 96 x 96 pixels, whatever the image: an image that is the square itself shows it."""
    for k, (height, width) in enumerate(SIZES):
        found = model.detect(photos / "val2017" / f"{k}.png", score_threshold=0.05)
        assert isinstance(found, Detections)
        assert len(found)
        assert found.size == (height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
        ratio = found.bin_sizes[:, 0] / found.bin_sizes[:, 1]  # pixels of the file along x and y
        torch.testing.assert_close(ratio, torch.full_like(ratio, width / height))
        strides = found.bin_sizes[:, 1] * 96 / height
        assert all(any(abs(s - t) < 1e-3 for t in (8, 16, 32, 64, 128)) for s in strides.tolist())


def test_together_or_alone_by_detect_or_by_the_loader(model: Detector, photos: Path) -> None:
    paths = [photos / "val2017" / f"{k}.png" for k in range(len(SIZES))]
    together = model.detect(paths, score_threshold=0.05, batch_size=4)
    data = read_data(photos, "val")
    loaded = detect_all(model, evaluation_loader(data, model.input_settings, batch_size=2))
    assert isinstance(together, list)
    for k, path in enumerate(paths):
        alone = model.detect(path, score_threshold=0.05)
        assert isinstance(alone, Detections)
        for other in (together[k], loaded[k]):
            assert len(other.scores) == len(alone.scores)
            torch.testing.assert_close(other.scores, alone.scores, rtol=0, atol=1e-5)
            torch.testing.assert_close(other.boxes, alone.boxes, rtol=0, atol=1e-2)


def test_detect_and_eval_on_the_command_line(model: Detector, photos: Path, tmp_path: Path, run: Run) -> None:
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").input_settings == SQUARE
    code, _, err = run(
        *("eval", tmp_path / "model.safetensors", photos, "--num-workers", 0, "--out", tmp_path / "numbers.json")
    )
    assert code == DONE, err
    ap = json.loads((tmp_path / "numbers.json").read_text())["ap"]
    assert ap == pytest.approx(evaluate_model(model, read_data(photos, "val")).ap, abs=1e-6)
    code, _, err = run("detect", tmp_path / "model.safetensors", photos / "val2017", "--out", tmp_path / "found")
    assert code == DONE, err


def test_a_run_trains_and_its_model_keeps_the_stretch(photos: Path, tmp_path: Path, run: Run) -> None:
    for part in ("annotations/instances_{}2017.json", "{}2017"):
        copy: Any = shutil.copytree if part == "{}2017" else shutil.copyfile
        copy(photos / part.format("val"), photos / part.format("train"))
    out = tmp_path / "run"
    arguments = ["train", photos, "--out", out, "--no-pretrained", "--epochs", 1, "--batch-size", 2]
    settings = {
        "size.short_side": 96,
        "size.long_side": 96,
        "size.stretch": "true",
        "augment.short_sides": "[64, 128]",
        "run.cpu": "true",
        "run.num_workers": 0,
        "model.options.body": OPTIONS["body"],
        "model.options.channels": 32,
        "model.options.num_convs": 1,
    }
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    code, _, err = run(*arguments)
    assert code == DONE, err
    trained = load_model(RunFolder(out).model_files[0]).input_settings
    assert (trained.short_side, trained.long_side, trained.stretch) == (96, 96, True)
    again = tmp_path / "again"
    code, _, err = run(
        *("train", photos, "--out", again, "--init-from", out, "--epochs", 1, "--batch-size", 2),
        *("--set", "run.cpu=true", "--set", "run.num_workers=0"),
    )
    assert code == DONE, err
    assert load_model(RunFolder(again).model_files[0]).input_settings.stretch

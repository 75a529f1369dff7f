"""--viewer of gfocal detect and gfocal eval: the page has all images of a run, whoever detected in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import tiny_detector
from gfocal.cli import DONE, USER_ERROR
from gfocal.models.model_file import load_model, save_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tiny_detector()
    with torch.no_grad():
        built.head.cls_out.bias.fill_(-1.0)  # some scores are above the threshold
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(built.eval(), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of noise in COCO's layout, with a cat in each."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for k in range(5):
        Image.effect_noise((120, 80), 60 + k).convert("RGB").save(folder / "val2017" / f"{k}.png")
        images.append({"id": k + 1, "file_name": f"{k}.png", "width": 120, "height": 80})
        annotations.append({"id": k + 1, "image_id": k + 1, "category_id": 1, "bbox": [10, 10, 50, 60], "iscrowd": 0})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


def images_of(page: Path) -> list[dict[str, Any]]:
    text = page.read_text(encoding="utf-8")
    return [json.loads(one) for one in re.findall(r'class="viewer-image">(.*?)</script>', text)]


def settings_of(page: Path) -> dict[str, Any]:
    (found,) = re.findall(r'class="viewer-settings">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found)


def array(text: str, kind: str = "<f4") -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_detect_writes_what_it_found(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "viewer.html"
    arguments = ("detect", model, photos / "val2017", "--out", tmp_path / "found", "--no-images", "--viewer", page)
    code, _, messages = run(*arguments, "--viewer-side", 60)
    assert code == DONE
    assert str(page) in messages
    found = load_model(model).detect(str(photos / "val2017" / "0.png"))
    assert len(found)
    images = images_of(page)
    assert [Path(one["name"]).name for one in images] == [f"{k}.png" for k in range(5)]
    np.testing.assert_allclose(array(images[0]["boxes"]).reshape(-1, 4), found.boxes, atol=0.05)
    np.testing.assert_allclose(array(images[0]["edge_std"]).reshape(-1, 4), found.edge_std, rtol=0.01)
    assert settings_of(page)["calibration"] is None
    assert settings_of(page)["thresholds"] is None
    assert list((tmp_path / "found").iterdir()) == [tmp_path / "found" / "detections.json"]


def test_classes_that_are_left_out_and_renamed(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "viewer.html"
    arguments = ("detect", model, photos / "val2017", "--out", tmp_path / "found", "--no-images", "--viewer", page)
    assert run(*arguments, "--rename", "dog=animal", "--classes", "animal")[0] == DONE
    assert settings_of(page)["names"] == ["animal"]
    assert {int(v) for one in images_of(page) for v in array(one["labels"], "<u2")} <= {0}


def test_what_cannot_be_written_is_said_before_anything_is_detected(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    for page in (tmp_path, tmp_path / "viewer.txt"):
        code, _, messages = run("detect", model, photos / "val2017", "--out", out, "--viewer", page)
        assert code == USER_ERROR
        assert "name a file that ends in .html" in messages
        assert not out.exists()
    code, _, messages = run("detect", "--merge", tmp_path, "--viewer", tmp_path / "viewer.html")
    assert code == USER_ERROR
    assert "--merge: writes no viewer" in messages


def test_a_full_page_is_a_note(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    for k in range(5):
        Image.effect_noise((1000, 1000), 90).convert("RGB").save(big / f"{k}.png")
    arguments = (
        "detect",
        model,
        big,
        "--out",
        tmp_path / "found",
        "--no-images",
        "--viewer",
        tmp_path / "viewer.html",
    )
    code, _, messages = run(*arguments, "--viewer-mb", 1, "--viewer-side", 1000)
    assert code == DONE
    assert "of 5 images it has the boxes alone" in messages
    assert (tmp_path / "viewer.html").stat().st_size <= 1_000_000


def test_eval_shows_ground_truth_beside_detections(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    page, report = tmp_path / "viewer.html", tmp_path / "report.html"
    code, _, messages = run("eval", model, photos, "--viewer", page, "--report", report, "--num-workers", 0)
    assert code == DONE
    assert f"viewer: {page}" in messages
    images = images_of(page)
    assert [one["name"] for one in images] == [f"{k}.png" for k in range(5)]
    assert array(images[0]["gt_boxes"]).tolist() == [10, 10, 60, 70]
    for one in images:
        kinds, by = array(one["kinds"], "u1"), array(one["gt_detection"], "<i4")
        assert (kinds == 0).sum() == (by >= 0).sum()
        assert all(kinds[d] == 0 for d in by if d >= 0)
    assert len(settings_of(page)["thresholds"]) == 2
    text = report.read_text(encoding="utf-8")
    assert 'class="viewer"' in text
    assert "<noscript><div" in text  # the drawn images


def test_eval_of_a_file_of_detections(run: Run, photos: Path, tmp_path: Path) -> None:
    rows = [{"image_id": k + 1, "category_id": 1, "bbox": [10, 10, 50, 60], "score": 0.9} for k in range(3)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    page = tmp_path / "viewer.html"
    assert run("eval", tmp_path / "results.json", photos, "--viewer", page)[0] == DONE
    images = images_of(page)
    assert [len(array(one["scores"])) for one in images] == [1, 1, 1, 0, 0]
    assert all("edges" not in one for one in images)

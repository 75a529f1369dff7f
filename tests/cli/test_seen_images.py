"""gfocal eval says how many of the images the model was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from gfocal import __version__
from gfocal.cli import DONE, USER_ERROR

Run = Callable[..., tuple[int, str, str]]
COUNT = 24
QUIET = ("--num-workers", 0, "--device", "cpu")


def write_photos(folder: Path) -> Path:
    images, annotations = [], []
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for k in range(COUNT):
        Image.fromarray(pixels.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / f"{k}.png")
        images.append({"id": k + 1, "file_name": f"{k}.png", "width": 80, "height": 60})
        box = {"bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
        annotations.append({"id": k + 1, "image_id": k + 1, "category_id": 1, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def rename_all(photos: Path, folder: Path) -> None:
    """A copy, in which no image has its name."""
    shutil.copytree(photos, folder)
    for k in range(COUNT):
        (folder / f"{k}.png").rename(folder / f"again{k}.png")
    file = folder / "annotations.json"
    file.write_text(file.read_text().replace('"file_name": "', '"file_name": "again'))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def trained(run: Run, photos: Path, tmp_path: Path) -> Path:
    code, _, err = run("train", photos, "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    return tmp_path / "run"


def test_images_of_training_are_said_wherever_they_lie(run: Run, photos: Path, trained: Path, tmp_path: Path) -> None:
    numbers, page = tmp_path / "numbers.json", tmp_path / "page.html"
    seen = len(json.loads((trained / "training_images.json").read_text())["digests"])
    assert 0 < seen < COUNT

    code, out, err = run("eval", trained, photos, *QUIET, "--out", numbers, "--report", page)  # those held out
    assert code == DONE, err
    assert "trained on" not in out + err
    assert "note: the best epoch was chosen on these images: AP is a little too high" in err
    assert json.loads(numbers.read_text())["training_images_seen"] == 0
    text = page.read_text(encoding="utf-8")
    assert f"<dt>images trained on</dt><dd>0 of {COUNT - seen} images</dd>" in text
    assert f"<dt>training images</dt><dd>{seen}</dd>" in text
    assert "<dt>trained for</dt><dd>1 epoch</dd>" in text
    assert f"<dt>trained with gfocal</dt><dd>{__version__}</dd>" in text
    assert "<dt>evaluated</dt><dd>20" in text

    rename_all(photos, tmp_path / "copy")
    model = trained / "last.safetensors"  # no run.json is needed to know the images
    code, out, err = run("eval", model, tmp_path / "copy", *QUIET, "--out", numbers, "--report", page)
    assert code == DONE, err
    assert f"warning: the model was trained on {seen} of these {COUNT} images: AP and all other" in err
    assert f"trained on {seen} of these {COUNT} images: " in out
    assert f"note: the best epoch was chosen on {COUNT - seen} of these images: AP is a little too high" in err
    assert json.loads(numbers.read_text())["training_images_seen"] == seen
    assert f"Warning: the model was trained on {seen} of these" in page.read_text(encoding="utf-8")


def test_only_images_of_training_in_one_line(run: Run, photos: Path, trained: Path, tmp_path: Path) -> None:
    held_out = set(json.loads((trained / "split.json").read_text())["val"])
    data = tmp_path / "train"
    shutil.copytree(photos, data)
    content = json.loads((data / "annotations.json").read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] not in held_out]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (data / "annotations.json").write_text(json.dumps(content))
    code, _, err = run("eval", trained, data, *QUIET)
    assert code == DONE, err
    assert "the best epoch was chosen" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: the model was trained on all of these {len(kept)} images: the numbers say how")


def test_a_run_without_digests_and_a_damaged_file(run: Run, photos: Path, trained: Path, tmp_path: Path) -> None:
    file, numbers = trained / "training_images.json", tmp_path / "numbers.json"
    file.unlink()
    code, out, err = run("eval", trained, photos, *QUIET, "--out", numbers)
    assert code == DONE, err
    assert "trained on" not in out + err
    assert json.loads(numbers.read_text())["training_images_seen"] is None
    file.write_text('{"digests": 3}')
    code, _, err = run("eval", trained, photos, *QUIET)
    assert code == USER_ERROR
    assert f"{file}: not as gfocal wrote it" in err


def test_the_page_is_written_of_a_run_with_damaged_files_too(
    run: Run, photos: Path, trained: Path, tmp_path: Path
) -> None:
    config = trained / "config.toml"
    for text in (config.read_text().replace("epochs = 1", 'epochs = "many"'), "[", ""):
        config.write_text(text)
        code, _, err = run("eval", trained, photos, *QUIET, "--report", tmp_path / "page.html", "--worst", 0)
        assert code == DONE, err
        assert "<dt>evaluated</dt>" in (tmp_path / "page.html").read_text(encoding="utf-8")

"""Images of 10 to 16 bits, of several pages and of too many pixels, through train, eval, detect and check.

What tools write: 10, 12 or 14 bits in the lower bits of 16 (GenICam's Pixel Format Naming Convention: Mono10, Mono12,
Mono14); a thermal camera 14 bits of which it fills a narrow band (FLIR Duo Pro R User Guide, 6.2.2: 0.04 K for each
count, so that 20 to 45 degrees are 7329 to 7954); microscopes all of 16 bits; thermal films and stacks several pages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import TINY
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.data.images import max_pixels
from gfocal.data.loading import start_worker
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

Run = Callable[..., tuple[int, str, str]]
Gray = npt.NDArray[np.int64]

COUNT, HEIGHT, WIDTH = 4, 64, 96
COPIES: dict[str, Callable[[Gray], Gray]] = {  # 8-bit values as cameras of other depths write them
    "10 bits.png": lambda v: v << 2,
    "12 bits.tif": lambda v: v << 4,
    "12 bits full.png": lambda v: v << 4 | v >> 4,
    "14 bits.tif": lambda v: v << 6,
    "16 bits.png": lambda v: v << 8,
    "16 bits full.tif": lambda v: v * 257,
}


def gray(number: int) -> Gray:
    """An image with all values from 0 to 255, and a bright square."""
    values = np.random.default_rng(number).integers(0, 120, (HEIGHT, WIDTH))
    values[20:44, 10 + 8 * number : 40 + 8 * number] += 130
    values[0, :2] = 0, 255
    return values


def write(folder: Path, convert: Callable[[Gray], Gray] | None, suffix: str, only: tuple[int, ...] = ()) -> Path:
    """A COCO dataset; ``only``: the images that are converted, the others have 8 bits."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(COUNT):
        name = f"{i}{suffix}"
        values = gray(i)
        is_deep = convert is not None and (not only or i in only)
        pixels = convert(values).astype(np.uint16) if convert is not None and is_deep else values.astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": i + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        box = [10 + 8 * i, 20, 30, 24]
        annotations.append({"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": box, "area": 720, "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("copies")
    found = {"8 bits.png": write(folder / "8", None, ".png")}
    for name, convert in COPIES.items():
        found[name] = write(folder / name.partition(".")[0], convert, Path(name).suffix)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 8-bit images."""
    import torch

    torch.manual_seed(0)
    options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
    built = create("gfl_light_fpn", 1, names=("square",), pretrained=False, **options)
    torch.nn.init.normal_(built.head.get_parameter("cls_out.weight"), std=0.3)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(built.eval(), path)
    return path


def evaluate(run: Run, model: Path, data: Path, out: Path, *options: str) -> tuple[Any, str]:
    """The detections, and what was printed."""
    code, _, error = run("eval", model, data, "--results", out, "--num-workers", 0, "--device", "cpu", *options)
    assert code == DONE, error
    return json.loads(out.read_text()), error


def train(run: Run, data: Path, out: Path, *options: str) -> str:
    code, _, error = run("train", data, "--val", data, "--out", out, *TINY, "--set", "run.seed=1", *options)
    assert code == DONE, error
    return error


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if "loss" in key or "ap" in key} for row in rows]


def test_one_model_gives_the_same_detections_on_copies_of_every_depth(
    run: Run, model: Path, copies: dict[str, Path], tmp_path: Path
) -> None:
    want, said = evaluate(run, model, copies["8 bits.png"], tmp_path / "want.json")
    assert len(want) > 20
    assert "more than 8 bits" not in said
    for name, data in copies.items():
        found, said = evaluate(run, model, data, tmp_path / "found.json")
        assert found == want, name
        if name != "8 bits.png":
            assert f"a depth of {name[:2]} bits" in said


def test_detect_gives_the_same_on_copies_of_every_depth(
    run: Run, model: Path, copies: dict[str, Path], tmp_path: Path
) -> None:
    found = {}
    loaded = load_model(model)
    for name, data in copies.items():
        out = tmp_path / name
        code, _, error = run("detect", model, data, "--out", out, "--score-threshold", 0.06, "--device", "cpu")
        assert code == DONE, error
        content = json.loads((out / "detections.json").read_text())
        found[name] = content["annotations"]
        bits = 2 ** int(name.split()[0]) - 1
        assert content["info"]["run"]["value_range"] == (None if name == "8 bits.png" else [0, bits])
        first = next((data / "images").glob("0.*"))
        with Image.open(first) as image:
            opened = loaded.detect(image, 0.06)
        assert loaded.detect(first, 0.06).boxes.equal(opened.boxes)
        assert opened.boxes.equal(loaded.detect(copies["8 bits.png"] / "images" / "0.png", 0.06).boxes)
    assert found["8 bits.png"]
    assert all(one == found["8 bits.png"] for one in found.values())


@pytest.mark.parametrize("name", ["12 bits.tif", "14 bits.tif", "16 bits.png"])
def test_training_on_a_copy_gives_the_same_losses_and_a_model_for_every_copy(
    run: Run, copies: dict[str, Path], tmp_path: Path, name: str
) -> None:
    train(run, copies["8 bits.png"], tmp_path / "8")
    said = train(run, copies[name], tmp_path / "run")
    assert said.count(f"a depth of {name[:2]} bits; read as") == 1
    assert losses(tmp_path / "run") == losses(tmp_path / "8")
    settings = load_model(tmp_path / "run").input_settings
    assert settings.value_range == (0, 2 ** int(name[:2]) - 1)
    assert not settings.is_value_range_stated
    assert load_model(tmp_path / "8").input_settings.value_range is None

    low = ("--score-threshold", "0.001", "--no-images", "--device", "cpu")
    found = []
    for other in ("8 bits.png", "12 bits full.png", "14 bits.tif", "16 bits full.tif"):
        code, _, error = run("detect", tmp_path / "run", copies[other], "--out", tmp_path / other, *low)
        assert code == DONE
        assert ("the model's range, which they do not fit" in error) == (other[:2] not in (name[:2], "8 "))
        found.append(json.loads((tmp_path / other / "detections.json").read_text())["annotations"])
    assert found[0]
    assert all(one == found[0] for one in found)


def test_thermal_values_are_stretched_and_the_model_keeps_its_range(run: Run, tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "thermal", lambda v: 7400 + v * 1200 // 255, ".tif")
    said = train(run, data, tmp_path / "run")
    assert "values 7400..8600, a depth of 14 bits; read as 7400..8600, stretched" in said
    assert load_model(tmp_path / "run").input_settings.value_range == (7400, 8600)
    warmer = write(tmp_path / "warmer", lambda v: 7450 + v * 1200 // 255, ".tif")
    _, said = evaluate(run, tmp_path / "run", warmer, tmp_path / "found.json")
    assert "read as 7400..8600, stretched, the model's range" in said

    # Where the copy of 8 bits has the same values, so do the detections.
    exact = write(tmp_path / "exact", lambda v: 7400 + v * 4, ".tif")
    eight = write(tmp_path / "eight", None, ".png")
    assert evaluate(run, model, exact, tmp_path / "a.json")[0] == evaluate(run, model, eight, tmp_path / "b.json")[0]


def test_a_stated_range_is_taken_everywhere_and_stored(run: Run, copies: dict[str, Path], tmp_path: Path) -> None:
    data = copies["12 bits.tif"]
    said = train(run, data, tmp_path / "run", "--value-range", "16")
    assert "read as 0..65535 (16 bits), as stated; most of it is empty: images are dark" in said
    settings = load_model(tmp_path / "run").input_settings
    assert (settings.value_range, settings.is_value_range_stated) == ((0, 65_535), True)
    assert "value_range = [0, 65535]" in (tmp_path / "run" / "config.toml").read_text()
    _, said = evaluate(run, tmp_path / "run", data, tmp_path / "found.json")
    assert "note: " in said
    assert "as stated when the model was trained" in said
    _, said = evaluate(run, tmp_path / "run", data, tmp_path / "found.json", "--value-range", "0..4095")
    assert "read as 0..4095 (12 bits), as stated" in said
    code, _, said = run("eval", tmp_path / "run", data, "--value-range", "99")
    assert code == USER_ERROR
    assert "takes a bit depth of 8 to 16" in said


def test_a_resumed_run_keeps_its_range(run: Run, copies: dict[str, Path], tmp_path: Path) -> None:
    data = copies["12 bits.tif"]
    train(run, data, tmp_path / "run")
    code, _, error = run("train", data, "--val", data, "--out", tmp_path / "run", "--resume")
    assert code == DONE, error
    assert load_model(tmp_path / "run").input_settings.value_range == (0, 4095)


def test_folders_of_8_and_16_bits_are_read_alike(
    run: Run, model: Path, copies: dict[str, Path], tmp_path: Path
) -> None:
    data = write(tmp_path / "mixed", lambda v: v << 4, ".png", only=(1, 2))
    found, said = evaluate(run, model, data, tmp_path / "found.json")
    assert "2 images of more than 8 bits: values 0..4080" in said
    assert found == evaluate(run, model, copies["8 bits.png"], tmp_path / "want.json")[0]


@pytest.mark.parametrize("name", ["10 bits.png", "12 bits.tif", "14 bits.tif", "16 bits full.tif"])
def test_check_names_the_range_and_advises_to_remove_nothing(run: Run, copies: dict[str, Path], name: str) -> None:
    code, output, _ = run("check", copies[name])
    assert code == DONE
    assert "high-bit-depth" in output
    assert f"read as 0..{2 ** int(name[:2]) - 1}" in output
    assert "remove" not in output
    assert "unusual-pixel-format" not in output


def test_check_finds_duplicates_of_another_depth(run: Run, copies: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "both"
    for split, name in (("train", "8 bits.png"), ("val", "12 bits.tif")):
        (both / split).mkdir(parents=True)
        for file in (copies[name] / "images").iterdir():
            (both / split / file.name).write_bytes(file.read_bytes())
        (both / split / "_annotations.coco.json").write_bytes((copies[name] / "annotations.json").read_bytes())
    code, output, _ = run("check", both)
    assert code == SOME_FAILED
    assert "duplicate-across-splits" in output


def test_a_model_file_from_before_value_ranges_loads(model: Path, tmp_path: Path) -> None:
    with safe_open(str(model), "pt") as file:
        about = json.loads(file.metadata()["gfocal"])
    del about["input"]["value_range"], about["input"]["is_value_range_stated"]
    old = tmp_path / "old.safetensors"
    save_file(load_file(str(model)), old, {"gfocal": json.dumps(about)})
    assert load_model(old).input_settings == load_model(model).input_settings


def test_pages_that_are_not_looked_at_are_said(run: Run, model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "pages", None, ".tif")
    for i in range(3):
        pages = [Image.fromarray(gray(i + k).astype(np.uint8)) for k in range(3)]
        pages[0].save(data / "images" / f"{i}.tif", save_all=True, append_images=pages[1:])
    line = "note: 3 files have several pages or frames: 6 of 9 are not looked at"
    assert line in evaluate(run, model, data, tmp_path / "found.json")[1]
    assert line in run("detect", model, data, "--out", tmp_path / "out", "--device", "cpu")[2]
    assert "8 files" not in (said := train(run, data, tmp_path / "run"))
    assert "several pages or frames: 12 of 18" in said  # of the training and the validation images
    assert "2 of 3 pages or frames are not looked at" in run("check", data)[1]


def test_the_limit_of_megapixels_is_an_option_of_every_command(
    run: Run, model: Path, copies: dict[str, Path], tmp_path: Path
) -> None:
    data, before = copies["12 bits.tif"], max_pixels()
    low = ("--max-megapixels", "0.005")
    for command in (
        ("train", data, "--out", tmp_path / "run", *TINY),
        ("eval", model, data),
        ("detect", model, data, "--out", tmp_path / "out"),
        ("convert", data, "--to", "yolo", "--out", tmp_path / "converted"),
    ):
        code, _, error = run(*command, *low)
        assert code == USER_ERROR
        assert f"{WIDTH}x{HEIGHT} = 0.0 megapixels, more than the limit of 0.0" in error
        assert "--max-megapixels" in error
    assert max_pixels() == before
    code, _, error = run("train", data, "--out", tmp_path / "run", *TINY, "--set", "images.max_megapixels=0.005")
    assert "--max-megapixels" in error
    assert evaluate(run, model, data, tmp_path / "found.json", "--max-megapixels", "0.01")[0]
    code, _, error = run("detect", model, data, "--max-megapixels", "-1")
    assert code == USER_ERROR
    assert "above 0" in error


def test_workers_have_the_limit_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr("gfocal.data.loading.ignore_signals", lambda: None)
    start_worker(0, pixel_limit=77)
    assert max_pixels() == 77

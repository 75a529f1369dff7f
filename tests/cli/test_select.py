"""gfocal select: which images, why, and tasks that labeling tools and gfocal read.

The network is real, but what its outputs are decoded to is made up: the objects of an image are known by its width.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from calibrations import detections
from conftest import OPTIONS
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.data.discovery import read_data
from gfocal.data.identity import digest_image
from gfocal.data.preprocess import InputSettings
from gfocal.errors import DataError
from gfocal.models import predict as predict_module
from gfocal.models.model_file import save_model
from gfocal.models.zoo import create
from gfocal.structures import Detections

Run = Callable[..., tuple[int, str, str]]
HEIGHT, COUNT, NAMES = 96, 12, ("cat", "dog")


def objects_of(width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, scores and labels; wider images have more objects, whose scores are nearer to 0.5."""
    count = (width - 96) // 8
    left = torch.arange(count) * 9.0
    boxes = torch.stack([left, left * 0 + 5.25, left + 20.5, left * 0 + 60], 1)
    scores = torch.linspace(0.9, 0.9 - 0.04 * count, count) if count else torch.zeros(0)
    return boxes, scores, torch.arange(count) % 2


def made_up(*arguments: Any) -> list[Detections]:
    """In place of ``decode``."""
    _, _, _, original_sizes, names, _ = arguments
    found = []
    for height, width in original_sizes.tolist():
        one = detections(*objects_of(width), size=(height, width))
        found.append(Detections(**{**vars(one), "names": names}))
    return found


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(predict_module, "decode", made_up)
    torch.manual_seed(0)
    one = create("gfl_light_fpn", 2, names=NAMES, pretrained=False, **OPTIONS)
    one.input_settings = InputSettings(short_side=64, long_side=160)
    path = tmp_path / "model.safetensors"
    save_model(one.eval(), path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of 0 to 11 objects, in two folders that share a name."""
    folder = tmp_path / "photos"
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        place = folder / ("b" if number % 2 else "a")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((96 + 8 * number, HEIGHT), Image.Resampling.NEAREST).save(
            place / f"{number // 2}.png"
        )
    return folder


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "selected.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number_of(path: str) -> int:
    """By which an image is known."""
    return (Image.open(path).width - 96) // 8


def test_the_most_uncertain_and_why(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _ = run("select", model, photos, "--number", 4, "--strategy", "uncertainty", "--out", out)
    assert code == DONE
    rows = read_table(out)
    assert [number_of(row["file"]) for row in rows] == [11, 10, 9, 8]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["nearest"] == rows[0]["distance"] == ""
    assert {row["nearest"] for row in rows[1:]} <= {row["file"] for row in rows}
    for row in rows:
        assert float(row["uncertainty"]) == pytest.approx(
            float(row["score_uncertainty"]) + float(row["edge_uncertainty"]), abs=2e-3
        )
        assert int(row["width"]) == 96 + 8 * number_of(row["file"])
    assert (out / "selected.txt").read_text().splitlines() == [row["file"] for row in rows]
    assert "4 of 12 images chosen by uncertainty" in printed


def test_the_same_command_chooses_the_same_whatever_the_batches(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    for name, size in (("one", 1), ("five", 5)):
        run(
            "select", model, photos, "--number", 6, "--out", tmp_path / name, "--batch-size", size, "--num-workers", 0
        )
    assert (tmp_path / "one/selected.csv").read_text() == (tmp_path / "five/selected.csv").read_text()


def test_labeled_images_are_left_out_wherever_their_copies_are(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    run("select", model, photos, "--number", 5, "--out", tmp_path / "first")
    first = [row["file"] for row in read_table(tmp_path / "first")]
    copy = photos / "copy of a chosen one.png"
    copy.write_bytes(Path(first[0]).read_bytes())
    listed = f"@{tmp_path / 'first/selected.txt'}"
    code, _, err = run("select", model, photos, "--number", 99, "--out", tmp_path / "second", "--already", listed)
    assert code == DONE
    second = [row["file"] for row in read_table(tmp_path / "second")]
    assert len(second) == COUNT - 5
    assert not {*first, str(copy)} & set(second)
    assert read_table(tmp_path / "second")[0]["nearest"] in first
    assert "6 images left out" in err
    assert "only 7 images to choose from" in err


def test_the_images_of_the_run_are_left_out(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    digests = [digest_image(path) for path in photos.rglob("a/*.png")]
    (tmp_path / "training_images.json").write_text(json.dumps({"digests": digests}))
    code, _, err = run("select", model, photos, "--out", tmp_path / "out")
    assert code == DONE
    assert {Path(row["file"]).parent.name for row in read_table(tmp_path / "out")} == {"b"}
    assert "6 images left out" in err
    assert "--already DATA" in err


def test_an_annotated_dataset_is_labeled_already(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    rows = [f"a/{i}.png,100,96,cat,1,1,50,50" for i in range(3)]
    (photos / "annotations.csv").write_text("\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]))
    code, *_ = run("select", model, photos, "--out", tmp_path / "out", "--already", photos)
    assert code == DONE
    chosen = {row["file"] for row in read_table(tmp_path / "out")}
    assert chosen == {str(path) for path in photos.rglob("*.png")} - {str(photos / f"a/{i}.png") for i in range(3)}


def test_broken_files_are_reported_and_left_out(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_text("no image")
    code, _, err = run("select", model, photos, "absent.jpg", "--number", 20, "--out", tmp_path / "out")
    assert code == SOME_FAILED
    assert "failed: " in err
    assert "broken.jpg" in err
    assert len(read_table(tmp_path / "out")) == COUNT


def test_tasks_of_label_studio(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, *_ = run("select", model, photos, "--number", 5, "--out", out, "--to", "label-studio")
    assert code == DONE
    folder, rows = out / "label-studio", read_table(out)
    tasks = json.loads((folder / "tasks.json").read_text())
    assert [task["data"]["rank"] for task in tasks] == [1, 2, 3, 4, 5]
    for task, row in zip(tasks, rows, strict=True):
        file = folder / task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert file.read_bytes() == Path(row["file"]).read_bytes()
        assert task["data"]["uncertainty"] == pytest.approx(float(row["uncertainty"]), abs=1e-3)
        (prediction,) = task["predictions"]
        _, scores, _ = objects_of(int(row["width"]))
        wanted = [float(score) for score in scores if score > 0.3]
        assert [one["score"] for one in prediction["result"]] == pytest.approx(wanted, abs=1e-4)
        assert int(row["objects"]) == len(wanted)
        assert prediction["model_version"] == str(model)
    # Predictions are no annotations: gfocal says so, and reads them once they are accepted.
    with pytest.raises(DataError, match="predictions of a model"):
        read_data(folder)
    for task in tasks:
        task["annotations"] = [{"result": one["result"]} for one in task["predictions"]]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    assert_objects_are_read(folder, rows)


@pytest.mark.parametrize("copying", ["--copy", "--link"])
def test_tasks_of_cvat(run: Run, model: Path, photos: Path, tmp_path: Path, copying: str) -> None:
    out = tmp_path / "out"
    code, _, err = run("select", model, photos, "--number", 5, "--out", out, "--to", "cvat", copying)
    assert code == DONE
    assert "5 tasks with" in err
    assert_objects_are_read(out / "cvat", read_table(out))


def assert_objects_are_read(folder: Path, rows: list[dict[str, str]]) -> None:
    """gfocal reads the objects of the images that were chosen."""
    data = read_data(folder, None)
    assert data.names == NAMES
    assert sorted(sample.size[1] for sample in data.samples if sample.size) == sorted(
        int(row["width"]) for row in rows
    )
    for sample in data.samples:
        assert sample.size is not None
        boxes, scores, labels = objects_of(sample.size[1])
        assert torch.allclose(sample.boxes, boxes[scores > 0.3], atol=1e-3)
        assert torch.equal(sample.labels, labels[scores > 0.3])


def test_tasks_without_images(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    for tool in ("cvat", "label-studio"):
        code, *_ = run("select", model, photos, "--number", 2, "--out", tmp_path / tool, "--to", tool, "--no-images")
        assert code == DONE
        assert not list((tmp_path / tool).rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.safetensors", "absent/"], "absent"),
        (["absent.safetensors", "photos"], "absent.safetensors"),
        (["model.safetensors"], "name a MODEL and images: gfocal select"),
        (["photos/a/0.png", "photos"], "gfocal select MODEL IMAGE"),
        (["model.safetensors", "photos", "--out", "photos"], "not empty"),
        (["model.safetensors", "photos", "--already", "absent"], "absent"),
        (["model.safetensors", "photos", "--already", "@photos.txt"], "all of 12 images are labeled already"),
        (["model.safetensors", "photos", "--number", "0"], "at least 1"),
        (["model.safetensors", "photos", "--strategy", "best"], "uncertainty"),
    ],
)
def test_errors(
    run: Run,
    model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.txt").write_text("photos\n")
    code, _, err = run("select", *arguments)
    assert code == USER_ERROR
    assert message in err
    assert not (tmp_path / "selected").exists()


def test_classes_that_a_tool_cannot_store_are_refused_before_detecting(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    one = create("gfl_light_fpn", 2, names=("cat", " cat"), pretrained=False, **OPTIONS)
    save_model(one.eval(), tmp_path / "odd.safetensors")
    code, _, err = run("select", tmp_path / "odd.safetensors", photos, "--out", tmp_path / "out", "--to", "cvat")
    assert code == USER_ERROR
    assert "rename the class" in err
    assert "detecting" not in err


def test_a_model_that_sees_nothing_chooses_by_diversity(
    run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "decode", lambda *arguments: [one[:0] for one in made_up(*arguments)])
    code, _, err = run("select", model, photos, "--number", 3, "--out", tmp_path / "out", "--to", "label-studio")
    assert code == DONE
    assert "by diversity alone" in err
    rows = read_table(tmp_path / "out")
    assert len({row["file"] for row in rows}) == 3
    assert {row["objects"] for row in rows} == {"0"}

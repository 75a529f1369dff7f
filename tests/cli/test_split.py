"""gfocal split and the images that gfocal train holds out, as users see them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from gfocal.cli import DONE, USER_ERROR
from gfocal.data.discovery import list_splits, read_data
from gfocal.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
SCENES, FRAMES = 8, 6
GROUPS = re.compile(
    r"(\d+) groups? of several images, (\d+) images in all; the largest has (\d+), which are in (\w+): (\w+\.png), .*"
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video in slow motion, as frame_000001.png and on, with cuts: YOLO, without splits.

    The moving object is a cat in the scenes of even number, a dog in the others; every other frame has a second one.
    """
    root = tmp_path_factory.mktemp("frames")
    for part in ("images", "labels"):
        (root / part).mkdir()
    rng = np.random.default_rng(0)
    for number in range(SCENES * FRAMES):
        scene, frame = divmod(number, FRAMES)
        if not frame:
            small = rng.integers(0, 255, (7, 9, 3), dtype=np.uint8)
            ground = np.asarray(Image.fromarray(small).resize((120, 80), Image.Resampling.BICUBIC))
        pixels = ground.copy()
        x = 8 + 2 * frame
        pixels[20:60, x : x + 40] = (220, 30 * scene, 30)
        lines = [f"{scene % 2} {(x + 20) / 120} 0.5 {40 / 120} 0.5"]
        if frame % 2:
            pixels[50:75, 80:110] = (20, 220, 30 * scene)
            lines.append(f"{scene % 2} {95 / 120} {62.5 / 80} 0.25 {25 / 80}")
        Image.fromarray(pixels).save(root / "images" / f"frame_{number + 1:06}.png")
        (root / "labels" / f"frame_{number + 1:06}.txt").write_text("\n".join(lines))
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


@pytest.fixture
def data(frames: Path, tmp_path: Path) -> Path:
    shutil.copytree(frames, tmp_path / "data")
    return tmp_path / "data"


def names(folder: Path, split: str) -> list[str]:
    return [sample.path.name for sample in read_data(folder, split).samples if sample.path]


def test_frames_of_a_video(run: Run, data: Path, tmp_path: Path) -> None:
    code, out, err = run("check", data, "--json", tmp_path / "before.json", "--jobs", 1)
    assert "gfocal split" in out
    findings = json.loads((tmp_path / "before.json").read_text())["findings"]
    assert "near-duplicate-image" in {finding["code"] for finding in findings}

    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    for folder in (data, copy):
        code, out, err = run("split", folder, "--val", 0.25, "--test", 0.125, "--jobs", 1)
        assert code == DONE, err
        assert "cut into blocks of consecutive frames" in err
        (line,) = (line for line in err.splitlines() if "of several images" in line)
        groups, together, largest, split, first = GROUPS.fullmatch(line).groups()  # type: ignore[union-attr]
        assert int(largest) <= int(together) <= SCENES * FRAMES
        assert int(groups) <= int(together) / 2
        assert first in names(folder, split)
        assert str(folder / "train.txt") in err.splitlines()[-1]
        assert list_splits(folder) == ["train", "val", "test"]
    assert [names(data, split) for split in ("train", "val", "test")] == [
        names(copy, split) for split in ("train", "val", "test")
    ]

    run("check", data, "--json", tmp_path / "after.json", "--jobs", 1)
    content = json.loads((tmp_path / "after.json").read_text())
    codes = {finding["code"] for finding in content["findings"]}
    assert not {"near-duplicate-across-splits", "duplicate-across-splits", "no-val-split"} & codes
    shares = {
        name: {c: n / own["objects"] for c, n in own["classes"].items()} for name, own in content["splits"].items()
    }
    for own in shares.values():
        for name, share in own.items():
            assert share == pytest.approx(0.5, rel=0.2) or own is shares["test"], (name, shares)


def test_errors_of_users(run: Run, data: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ((tmp_path / "gone",), "no such file or folder"),
        ((data, "--val", 0.6, "--test", 0.4), "nothing is left for train"),
        ((data, "--val", 1.5), "takes a part of the images above 0 and below 1"),
    ):
        code, _, err = run("split", *arguments)
        assert code == USER_ERROR
        assert expected in err.splitlines()[-1]
    code, _, err = run("split", data, "--dry-run", "--jobs", 1)
    assert code == DONE
    assert err.splitlines()[-1] == "nothing is written (--dry-run)"
    assert not (data / "data.yaml").exists()
    assert run("split", data, "--jobs", 1)[0] == DONE
    code, _, err = run("split", data, "--jobs", 1)
    assert code == USER_ERROR
    assert "has the split val of" in err
    assert run("split", data, "--replace", "--seed", 3, "--jobs", 1)[0] == DONE


def test_classes_that_a_split_lacks_are_said(run: Run, data: Path) -> None:
    (data / "classes.txt").write_text("cat\ndog\nrare\n")
    (data / "labels" / "frame_000001.txt").write_text("2 0.5 0.5 0.2 0.2")
    code, out, err = run("split", data, "--jobs", 1)
    assert code == DONE, err
    (line,) = (line for line in err.splitlines() if line.startswith("note: too few objects for one in val"))
    assert "rare (1 object)" in line
    assert "rare" in out
    assert "frame_000001.png" not in names(data, "val")


def test_training_holds_images_out_where_there_is_no_val(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = run("train", data, "--out", folder, *TINY)
    assert code == DONE, err
    assert f"listed in {folder / 'split.json'}" in err
    held = json.loads(RunFolder(folder).split.read_text())["val"]
    about = json.loads(RunFolder(folder).description.read_text())
    assert (about["train_images"], about["val_images"]) == (SCENES * FRAMES - len(held), len(held))
    assert about["selected_on"].endswith("held out as split.json lists them")
    assert f"validation: {about['selected_on']}" in err
    assert RunFolder(folder).best.is_file()
    assert not (data / "data.yaml").exists()  # the data are as they were

    code, _, err = run("train", data, "--out", folder, "--resume")
    assert code == DONE, err
    for split in ((), ("--split", "val")):
        code, _, err = run("eval", folder, data, *split, "--num-workers", 0, "--report", tmp_path / "page.html")
        assert code == DONE, err
        assert f"evaluating {len(held)} images: held out for validation by the run of {folder}" in err
    assert "held out as split.json lists them" in (tmp_path / "page.html").read_text()

    # gfocal split with the same part and seed gives the same images.
    assert run("split", data, "--jobs", 1)[0] == DONE
    assert sorted(names(data, "val")) == sorted(Path(name).name for name in held)
    code, _, err = run("eval", folder, data, "--num-workers", 0)
    assert f"split val of {data}" in err


def test_no_val_and_too_few_images(run: Run, data: Path, tmp_path: Path) -> None:
    code, _, err = run("train", data, "--no-val", "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    assert "no validation data: the weights of the last epoch are the result" in err
    assert not RunFolder(tmp_path / "run").split.exists()
    for image in sorted((data / "images").iterdir())[12:]:
        image.unlink()
    code, _, err = run("train", data, "--out", tmp_path / "few", *TINY)
    assert code == DONE, err
    assert "12 training images: too few to hold some out for validation" in err
    about = json.loads(RunFolder(tmp_path / "few").description.read_text())
    assert about["selected_on"] == "nothing: the weights of the last epoch"


def test_no_epoch_is_selected_on_test(run: Run, data: Path, tmp_path: Path) -> None:
    assert run("split", data, "--test", 0.2, "--jobs", 1)[0] == DONE
    assert list_splits(data) == ["train", "test"]
    code, _, err = run("train", data, "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    assert "split test: evaluated once, after training; no epoch is chosen by it" in err
    number = len(names(data, "test"))
    assert f"test: {number} images, evaluated once with best.safetensors" in err
    result = json.loads(RunFolder(tmp_path / "run").test_result.read_text())
    assert (result["images"], result["model"]) == (number, "best.safetensors")
    held = {Path(name).name for name in json.loads(RunFolder(tmp_path / "run").split.read_text())["val"]}
    assert not held & set(names(data, "test"))
    assert held <= set(names(data, "train"))


def test_a_split_made_again_is_the_same(data: Path, run: Run) -> None:
    assert run("split", data, "--val", 0.25)[0] == DONE
    before = {split: sorted(names(data, split)) for split in ("train", "val")}
    assert run("split", data, "--val", 0.25, "--replace")[0] == DONE
    assert {split: sorted(names(data, split)) for split in ("train", "val")} == before
    assert run("split", data, "--val", 0.25, "--replace", "--seed", 3)[0] == DONE

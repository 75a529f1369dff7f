"""What a first day needs: formats, batches and next commands said, typos understood, models taken by name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import OPTIONS, TINY
from gfocal.cli import DONE, USER_ERROR
from gfocal.config.config import read_config
from gfocal.data.coco_names import COCO_NAMES
from gfocal.data.discovery import read_data
from gfocal.data.preprocess import InputSettings
from gfocal.evaluation.best_result import read_best_result
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.detections import average_precision
from gfocal.interop.weights_cache import model_file_of
from gfocal.models.model_file import save_model
from gfocal.models.published import PUBLISHED
from gfocal.models.zoo import create
from gfocal.reports.runs import read_runs
from gfocal.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
NANO = "nanodet_plus_m_416_coco"
TINY_BATCH = ("--batch-size", "2")
NO_BATCH = [word for word in TINY if word not in TINY_BATCH]  # no other option of TINY takes a 2


def made(folder: Path, **splits: int) -> Path:
    """A dataset of YOLO with so many images in each split, with a cat and a dog each."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / split / f"{split}{number}.png")
            (folder / "labels" / split / f"{split}{number}.txt").write_text("0 .3 .5 .4 .5\n1 .7 .5 .4 .5\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of published weights that the cache has; they are random."""
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    model = create("nanodet_plus_m", 80, names=COCO_NAMES, pretrained=False, auxiliary=False)
    model.provenance = {"name": NANO}
    file = model_file_of(PUBLISHED[NANO])
    file.parent.mkdir(parents=True)
    save_model(model, file)
    return NANO


def test_format_and_next_command(run: Run, tmp_path: Path) -> None:
    data = made(tmp_path / "my photos", train=4, val=2, test=2)
    code, _, err = run("check", data, "--jobs", 1)
    assert err.splitlines().count(f"read as YOLO: {data}") == 1
    code, _, err = run("train", data, "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    assert err.splitlines().count(f"read as YOLO: {data}") == 1
    *_, thresholds, last = err.splitlines()
    assert last == f"next: gfocal eval {tmp_path / 'run'} '{data}' --split test"
    store = f"next: gfocal eval {tmp_path / 'run'} '{data}' --split val --store-thresholds f1"
    assert thresholds == f"{store}  # score thresholds, from validation images"
    assert run(*shlex.split(thresholds, comments=True)[2:], "--num-workers", 0)[0] == DONE
    assert run("eval", tmp_path / "run", data, "--split", "test", "--num-workers", 0)[0] == DONE

    assert run("convert", data, "--to", "coco", "--out", tmp_path / "coco", "--split", "train")[0] == DONE
    code, _, err = run("train", tmp_path / "coco", "--no-val", "--out", tmp_path / "other", *TINY)
    assert code == DONE, err
    assert f"read as COCO json: {tmp_path / 'coco'}" in err.splitlines()
    assert err.splitlines()[-1] == f"next: gfocal detect {tmp_path / 'other'} IMAGE_OR_FOLDER"
    assert err.count("next: ") == 1

    # An existing run and a wrong option are said before the data are read.
    for words, expected in (
        (("--out", tmp_path / "run"), "holds a run already"),
        (("--out", tmp_path / "new", "--set", "model.options.chanels=8"), "did you mean channels?"),
    ):
        code, _, err = run("train", data, *words, *TINY)
        assert code == USER_ERROR
        assert expected in err
        assert "read as" not in err
        assert "report.html" not in err


def test_a_split_of_data_without_splits_says_what_to_do(run: Run, tmp_path: Path) -> None:
    data = made(tmp_path / "photos", train=2)
    assert run("convert", data, "--to", "labelme", "--out", tmp_path / "flat", "--split", "train")[0] == DONE
    for file in (tmp_path / "flat").rglob("*.*"):
        file.rename(tmp_path / "flat" / file.name)
    code, _, err = run("train", tmp_path / "flat", "--train-split", "test", *TINY)
    assert code == USER_ERROR
    assert "no split 'test': this dataset of LabelMe has no splits. Leave the split out" in err
    assert f"gfocal split {tmp_path / 'flat'} --val 0.15 --test 0.15, then train again" in err


def test_an_empty_folder_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, err = run("check", tmp_path)
    assert code == USER_ERROR
    assert err.splitlines()[-1] == (
        f"gfocal: {tmp_path}: no annotated images found, the folder is empty; docs/data.md lists the formats"
    )


def test_check_writes_its_files_before_it_prints(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("gfocal.reports.check_tables.print_check", broken)
    data = made(tmp_path / "photos", train=2)
    run("check", data, "--jobs", 1, "--html", tmp_path / "check.html", "--json", tmp_path / "check.json")
    assert (tmp_path / "check.html").is_file()
    assert (tmp_path / "check.json").is_file()


def test_the_table_is_that_of_the_best_epoch(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aps = iter((0.5, 0.25))

    def falling(*args: Any) -> CocoResult:
        return replace(average_precision(*args), ap=next(aps))

    monkeypatch.setattr("gfocal.training.loop.average_precision", falling)
    data, out = made(tmp_path / "photos", train=2, val=2), tmp_path / "run"
    code, printed, err = run("train", data, "--out", out, *TINY, "--epochs", 2, "--set", "run.eval_every=1")
    assert code == DONE, err
    assert "epoch 1, the best (best.safetensors); AP of the last epoch (last.safetensors): 0.250" in err
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["all"])
    assert "0.500" in row.split()
    best = read_best_result(RunFolder(out).best_result)
    assert best is not None
    assert (best.epoch, best.result.ap, list(best.result.per_class)) == (1, 0.5, ["cat", "dog"])
    assert (
        "Validation images after epoch 2; the best weights are those of epoch 1" in (out / "report.html").read_text()
    )
    assert read_runs([out])[0].class_ap == {name: one.ap for name, one in best.result.per_class.items()}
    (tmp_path / "broken.json").write_text("{}")
    assert read_best_result(tmp_path / "broken.json") is None


def test_a_class_that_the_best_epoch_lost_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ap50 = iter(({"cat": 0.9, "dog": 0.0}, {"cat": 0.8, "dog": 0.8}))  # of the best epoch, and of the last one
    aps = iter((0.5, 0.25))

    def measured(*args: Any) -> CocoResult:
        found, of_class = average_precision(*args), next(ap50)
        per_class = {name: one._replace(ap50=of_class[name]) for name, one in found.per_class.items()}
        return replace(found, ap=next(aps), per_class=per_class)

    monkeypatch.setattr("gfocal.training.loop.average_precision", measured)
    data = made(tmp_path / "photos", train=2, val=6)
    code, _, err = run("train", data, "--out", tmp_path / "run", *TINY, "--epochs", 2, "--set", "run.eval_every=1")
    assert code == DONE, err
    lost = "hardly found, while other classes are: dog (AP50 0.00, 6 boxes); 2 steps are few: train for 500 or more"
    assert err.splitlines().count(f"note: {lost}") == 1


def test_a_teacher_is_said(run: Run, tmp_path: Path) -> None:
    data = made(tmp_path / "photos", train=2, val=2)
    assert run("train", data, "--out", tmp_path / "large", *TINY)[0] == DONE
    code, _, err = run("train", data, "--out", tmp_path / "small", "--teacher", tmp_path / "large", *TINY)
    assert code == DONE, err
    assert f"taught where edges lie by {tmp_path / 'large'}" in err.splitlines()


def test_a_format_that_was_not_tried_first_is_the_one_that_is_said(tmp_path: Path) -> None:
    data = made(tmp_path / "data", train=2)
    (data / "data.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert read_data(data).format == "YOLO"


def test_a_batch_of_more_images_than_there_are(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(tmp_path / "data", train=3, val=1)

    def downloads(*_: object) -> None:
        raise AssertionError("before the batch is known to fit")

    monkeypatch.setattr("gfocal.config.start.locate_model", downloads)
    (tmp_path / "own.toml").write_text("[run]\nbatch_size = 4\n")
    for words in (["--batch-size", 4], ["--set", "run.batch_size=4"], ["--batch-size", 4, "--init-from", NANO]):
        code, _, err = run("train", data, "--out", tmp_path / "run", *words)
        assert code == USER_ERROR
        assert "run.batch_size 4 is more than the 3 training images: give --batch-size 3" in err.splitlines()[-1]
    code, _, err = run("train", data, "--out", tmp_path / "run", "--config", tmp_path / "own.toml", *NO_BATCH)
    assert code == USER_ERROR
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()


def test_a_batch_that_nobody_stated_fits_the_images(run: Run, tmp_path: Path) -> None:
    data = made(tmp_path / "data", train=3, val=1)
    words = ["train", data, "--out", tmp_path / "run", *NO_BATCH]
    code, _, err = run(*words)
    assert code == DONE, err
    assert "batch size 3 instead of 8: there are only 3 training images (--batch-size states another)" in err
    assert read_config(RunFolder(tmp_path / "run").config).run.batch_size == 3
    code, _, err = run(*words, "--resume")
    assert code == DONE, err
    assert "instead of" not in err


def test_names_with_typos(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "photos", train=3, val=1)
    (tmp_path / "models").mkdir()
    model = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    save_model(model, tmp_path / "models" / "mine.safetensors")
    mine = "models/mine.safetensors"
    for words, expected in (
        (("check", "photoz/"), "photoz/: no such file or folder; did you mean photos/?"),
        (("train", "fotos/images"), "did you mean photos/images?"),
        (("split", "Photos"), "did you mean photos?"),
        (("convert", "photo", "--to", "coco", "--out", "x"), "did you mean photos?"),
        (("train", "photos", "--val", "photoss"), "did you mean photos?"),
        (("eval", "models/mein.safetensors", "photos"), f"did you mean {mine}?"),
        (("compare", "model/mine.safetensors"), f"did you mean {mine}?"),
        (("check", "photos", "--model", "models/min.safetensors"), f"did you mean {mine}?"),
        (("detect", mine, "photos/images/train/trian1.png"), "did you mean photos/images/train/train1.png?"),
        (("detect", mine, "photos/images/train/train7.png"), "train7.png: no such file or folder"),
        (("eval", mine, "photos", "--split", "vla"), "no split 'vla'; did you mean val? There are: train, val"),
        (("check", "photos", "--splits", "trian"), "did you mean train? There are: train, val"),
        (("train", "photos", "--classes", "dgo", *TINY), "--classes: no class 'dgo'; did you mean 'dog'?"),
        (("train", "photos", "--rename", "cta=tiger", *TINY), "no class 'cta' to rename; did you mean 'cat'?"),
        (("detect", mine, "photos", "--classes", "cet"), "did you mean 'cat'?"),
    ):
        code, _, err = run(*words)
        assert code == USER_ERROR
        assert err.splitlines()[-1].endswith(expected), (words, err)


def test_published_names_wherever_a_model_file_goes(run: Run, tmp_path: Path, published: str) -> None:
    data = made(tmp_path / "data", train=4, val=2)
    code, out, err = run("check", data, "--model", published, "--no-review", "--jobs", 1)
    assert code == DONE, err
    assert f"regression range with {published}: n = reg_max = 7, delta = 1, input 416 x 416;" in out
    code, out, err = run("train", data, "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    page = tmp_path / "page.html"
    code, out, err = run("compare", tmp_path / "run", published, "--out", page)
    assert code == DONE, err
    (row,) = (line for line in out.splitlines() if re.match(rf" *2 +{published} ", line))
    assert row.split("–")[-1].strip() == "published: AP 0.304 on COCO val2017"
    assert re.search(r'model\.preset +"gfl_light_fpn" \(1\), "nanodet_plus_m" \(2\)', out)
    assert "run.epochs" not in out  # of the run alone
    assert "not comparable" not in err
    assert published in page.read_text(encoding="utf-8")
    # A model file in the folder of a run stands for the run; another has its network alone.
    (tmp_path / "alone.safetensors").write_bytes(RunFolder(tmp_path / "run").last.read_bytes())
    code, out, err = run("compare", RunFolder(tmp_path / "run").last, tmp_path / "alone.safetensors")
    assert code == DONE, err
    assert re.search(r"1 +run .* 1 epoch\b", out)
    assert re.search(r"2 +alone.safetensors .* a model file", out)
    assert "model.preset" not in out


def test_the_table_of_models_is_plain(run: Run) -> None:
    code, out, _ = run("models")
    assert code == DONE
    assert "`" not in out
    assert re.search("preset +. network", out)
    assert re.search("config +. use", out)
    assert 'box="deltas"' in out


def test_labels_that_detect_wrote_and_their_images(run: Run, tmp_path: Path) -> None:
    data = made(tmp_path / "data", train=3)
    model = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    save_model(model, tmp_path / "m.safetensors")
    images, found = data / "images" / "train", tmp_path / "found"
    words = ("--format", "yolo", "--score-threshold", 0, "--max-detections", 3)
    assert run("detect", tmp_path / "m.safetensors", images, "--out", found, *words)[0] == DONE
    for given in (found, found / "labels"):
        code, _, err = run("convert", given, "--to", "coco", "--out", tmp_path / "coco")
        assert code == USER_ERROR
        said = err.splitlines()[-1]
        assert said.startswith(
            f"gfocal: {given}: labels of YOLO without their images: link or copy the folder of the"
        )
        assert f"to {found / 'images'} (ln -s $(realpath IMAGES) {found / 'images'}), then give {found};" in said
    (found / "images").symlink_to(images)
    code, _, err = run("convert", found, "--to", "coco", "--out", tmp_path / "coco")
    assert code == DONE, err
    converted = read_data(tmp_path / "coco")
    assert (len(converted), converted.names) == (3, ("cat", "dog"))
    assert 3 <= len(converted.table.boxes) <= 9  # random weights may find some without area, which are dropped

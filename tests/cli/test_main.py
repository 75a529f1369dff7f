"""The command line as users see it: results, files, exit codes and error messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

import gfocal
from conftest import OPTIONS, TINY
from gfocal.cli import DONE, USER_ERROR
from gfocal.cli.main import main
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ModelFileError
from gfocal.interop.coco_results import read_coco_results
from gfocal.interop.published_weights import find_own_file
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

COMMANDS = ("train", "eval", "detect", "demo", "import", "models")


Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images in Pascal VOC's layout: three for training, one for validation."""
    folder = tmp_path_factory.mktemp("voc")
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(("cat", "dog", "cat", "dog")):
        x = 10 + 8 * number
        image = Image.new("RGB", (120, 80), (60, 90, 60))
        ImageDraw.Draw(image).rectangle((x, 20, x + 40, 60), fill=(220, 50 * number, 30))
        image.save(folder / "JPEGImages" / f"{number}.jpg")
        (folder / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename>"
            "<size><width>120</width><height>80</height><depth>3</depth></size>"
            f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>20</ymin>"
            f"<xmax>{x + 40}</xmax><ymax>60</ymax></bndbox></object></annotation>"
        )
    (folder / "ImageSets/Main/train.txt").write_text("0\n1\n2\n")
    (folder / "ImageSets/Main/val.txt").write_text("3\n")
    return folder


def tiny(names: tuple[str, ...]) -> Detector:
    torch.manual_seed(0)
    model = create("gfl_light_fpn", len(names), names=names, pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    return model.eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny(("cat", "dog")), path)
    return path


# Help.


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(run: Run, command: str) -> None:
    code, out, err = run(*command.split(), "--help")
    assert code == 0
    assert out.startswith(f"usage: gfocal {command}".rstrip())
    assert err == ""
    assert max(map(len, out.splitlines())) <= 110


def test_help_knows_every_command_and_exit_code(run: Run) -> None:
    out = run("--help")[1]
    for word in (*COMMANDS, "  0    all done", "  1    some", "  2    an error", "  130  stopped", "143 by SIGTERM"):
        assert word in out


def test_version_and_models(run: Run) -> None:
    from gfocal.config.config import config_names
    from gfocal.models.zoo import PRESETS

    assert run("--version")[1] == f"gfocal {gfocal.__version__}\n"
    code, out, _ = run("models")
    assert code == DONE
    for name in (*PRESETS, *config_names()):
        assert name in out


# Training, evaluation, resuming.


def test_train_eval_and_resume(run: Run, voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, stdout, err = run("train", voc, "--out", out, *TINY)
    assert code == DONE, err
    assert "3 training images, 1 validation image" in err
    assert "AP" in stdout
    assert load_model(out).names == ("cat", "dog")
    for name in ("best.safetensors", "last.safetensors", "metrics.csv", "config.toml", "run.json"):
        assert (out / name).is_file()

    numbers, results = tmp_path / "new" / "numbers.json", tmp_path / "results.json"
    arguments = ("--num-workers", 0, "--out", numbers, "--results", results)
    code, stdout, err = run("eval", out, voc, *arguments)
    assert code == DONE, err
    assert "AP" in stdout
    assert f"evaluating 1 image: split val of {voc}" in err
    assert json.loads((out / "result.json").read_text()).items() <= json.loads(numbers.read_text()).items()
    assert set(read_coco_results(results, (1, 2))) <= {4}  # the running number of the validation image

    code, _, err = run("train", voc, "--out", out, "--resume")
    assert code == DONE, err
    assert "nothing is left to do" in err


def test_a_renamed_class_is_remembered(run: Run, voc: Path, tmp_path: Path) -> None:
    code, _, err = run("train", voc, "--rename", "cat=kitten", "--out", tmp_path, *TINY)
    assert code == DONE, err
    assert load_model(tmp_path).renames == {"cat": "kitten"}
    code, _, err = run("eval", tmp_path, voc, "--num-workers", 0, "--split", "train")
    assert code == DONE, err
    assert "renamed as in the training of the model: cat to kitten" in err


def test_resume_refuses_another_config_and_other_data(run: Run, voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("train", voc, "--out", out, *TINY)[0] == DONE
    before = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
    for arguments, expected in (
        (("--epochs", 7), "which differs in run.epochs"),
        (("--set", "optimizer.lr=9", "--seed", 3), "which differs in run.seed, optimizer.lr"),
        (("--train-split", "val"), "train_images = 3, not 1"),
    ):
        code, _, err = run("train", voc, "--out", out, "--resume", *arguments)
        assert code == USER_ERROR
        assert expected in err.splitlines()[-1]
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before
    # Options with the same values are no difference.
    assert run("train", voc, "--out", out, "--resume", *TINY)[0] == DONE


def test_training_data_without_splits(run: Run, voc: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "flat"
    shutil.copytree(voc / "JPEGImages", folder)
    shutil.copytree(voc / "Annotations", folder, dirs_exist_ok=True)
    code, _, err = run("train", folder, "--out", tmp_path / "run", *TINY)
    assert code == DONE, err
    assert "4 training images, 0 validation images" in err
    assert "no validation data" in err
    code, _, err = run("eval", tmp_path / "run", folder, "--num-workers", 0)
    assert code == DONE, err
    assert f"evaluating 4 images: all of {folder}, which has no split test or val" in err


def test_an_evaluation_without_detections_is_explained(run: Run, voc: Path, tmp_path: Path) -> None:
    model = tiny(("cat", "dog"))
    model.decode_settings = replace(model.decode_settings, score_threshold=0.875)
    save_model(model, tmp_path / "model.safetensors")
    code, _, err = run("eval", tmp_path / "model.safetensors", voc, "--num-workers", 0)
    assert code == DONE, err
    assert "no detections: no score is above the model's threshold of 0.875 (normal in the first epochs; after" in err
    code, _, err = run("eval", tmp_path / "model.safetensors", voc, "--num-workers", 0, "--store-thresholds", "f1")
    assert code == DONE, err
    assert "warning: there are no detections, so no thresholds are written into" in err
    assert load_model(tmp_path / "model.safetensors").class_thresholds is None


def test_the_long_side_is_scaled_with_the_short_side(run: Run, voc: Path, tmp_path: Path) -> None:
    arguments = [a for a in TINY if "long_side" not in a]
    arguments.pop(arguments.index("--set"))
    code, _, err = run("train", voc, "--out", tmp_path / "run", *arguments)
    assert code == DONE, err
    settings = load_model(tmp_path / "run").input_settings
    assert (settings.short_side, settings.long_side) == (64, 85)  # the config has 320 and 427


# Errors of users: exit code 2, the reason in one line, no traceback.


def test_user_errors(run: Run, voc: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.safetensors").write_bytes(model.read_bytes()[:1000])
    gone = tmp_path / "gone"
    train = ("train", voc, "--out", tmp_path / "run", *TINY)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("train", gone, *TINY), f"{gone}: no such file or folder"),
        (("train", voc, "--train-split", "nope", *TINY), "no split 'nope'"),
        (("train", voc, "--val", gone, *TINY), f"{gone}: no such file"),
        ((*train, "--config", "heavy"), "there is no config 'heavy'"),
        ((*train, "--config", gone.with_suffix(".toml")), "there is no config"),
        ((*train, "--preset", "gfl_r51"), "there is no preset 'gfl_r51'; did you mean gfl_r"),
        ((*train, "--set", "run.epochs"), "--set takes KEY=VALUE, not 'run.epochs'"),
        ((*train, "--set", "run.epoch=3"), "unknown key run.epoch; did you mean run.epochs?"),
        ((*train, "--set", "run.epochs=few"), "run.epochs must be a whole number, not 'few'"),
        ((*train, "--set", "run.eval_every=0"), "run.eval_every must be at least 1, not 0"),
        (("train", voc, "--set", "optimizer=adam"), "--set: optimizer is a section, not a value"),
        (("train", voc, "--lr", "0"), "gfocal: options: optimizer.lr must be"),
        (
            (*train, "--set", "augment.short_sides=64"),
            "must be two whole numbers, e.g. [480, 800], or none, not 64",
        ),
        ((*train, "--lr", "0"), "optimizer.lr must be greater than 0"),
        ((*train, "--set", "model.options.chanels=3"), "no option 'chanels'; did you mean channels?"),
        ((*train, "--set", "model.options.channels=wide"), "channels must be a whole number, not 'wide'"),
        ((*train, "--set", "model.options.n=0"), "model.options of gfl_light_fpn: n lies in 1..1024, not 0"),
        ((*train, "--set", "model.options.pretrained=true"), "no option 'pretrained'"),
        ((*train, "--set", "model.options.body=resnet17"), "resnet17"),
        ((*train, "--short-side", "8"), "at a short side of 8 pixels an image is one cell; 33 is the least"),
        ((*train, "--short-side", "200"), "size.long_side 96 is less than short_side 200"),
        ((*train, "--preset", "gfl_r50_fpn"), "gfl_r50_fpn has no option"),
        ((*train, "--seed", 2**32), "run.seed lies in 0..4294967295"),
        ((*train, "--backbone-weights", gone), f"{gone}: there is no such file"),
        (("train", voc, "--out", tmp_path / "file", *TINY), f"{tmp_path / 'file'}: is a file"),
        (("train", voc, "--resume", "--out", gone), f"{gone}: nothing to resume"),
        (("train", "synthetic", *TINY), "size 64 is outside 96..640"),
        (("eval", gone, voc), f"{gone}: no such file or folder"),
        (("eval", tmp_path / "empty", voc), "holds neither best.safetensors nor last.safetensors"),
        (("eval", tmp_path / "file", voc), "not a gfocal model file; give the run's folder or a .safetensors file"),
        (("eval", tmp_path / "torn.safetensors", voc), "not readable as safetensors"),
        (("eval", model, gone), f"{gone}: no such file or folder"),
        (("eval", model, voc, "--out", tmp_path / "empty"), f"{tmp_path / 'empty'}: is a folder"),
        (("eval", model, "synthetic"), "classes differ"),
        (("detect", gone, voc / "JPEGImages"), f"{gone}: no such file or folder"),
        (("detect", model, voc / "JPEGImages", "--out", tmp_path / "file"), "is a file; name a folder"),
        (
            ("detect", model, voc / "JPEGImages", "--out", voc / "JPEGImages"),
            "holds input images, which drawn images could replace",
        ),
        (("demo", "--out", tmp_path / "x", "--seed", 2**32), "run.seed lies in"),
    ]
    for arguments, expected in cases:
        code, out, err = run(*arguments)
        message = err.splitlines()[-1] if err else ""
        assert code == USER_ERROR, (arguments, err)
        assert message.startswith("gfocal: "), (arguments, err)
        assert expected in message, (arguments, err)
        assert "Traceback" not in err + out
        # The rest are notes about the data, each in a line of its own.
        starts, ends = (
            ("gfocal: ", "note: ", "read as ", "3 training images, ", "config light (gfl_light_fpn), as "),
            "report.html: the run as a page, while it trains and after",
        )
        others = [line for line in err.splitlines() if not line.startswith(starts) and not line.endswith(ends)]
        assert others == [], (arguments, err)
    assert not gone.exists()
    assert (tmp_path / "file").read_text() == "x"


def test_folders_without_annotations_are_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    code, _, err = run("train", tmp_path, *TINY)
    assert code == USER_ERROR
    assert "no annotated images found. Looked for" in err
    assert "a.jpg" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "COMMAND"),
        (("trian", "x"), "invalid choice: 'trian'"),
        (("train",), "DATA"),
        (("train", "x", "--epochs", "0"), "--epochs: takes an integer of at least 1, not '0'"),
        (("train", "x", "--epochs", "3.5"), "--epochs: takes an integer of at least 1, not '3.5'"),
        (("train", "x", "--batch-size", "0"), "--batch-size: takes an integer of at least 1"),
        (("train", "x", "--num-workers", "-1"), "--num-workers: "),
        (("train", "x", "--precision", "fp8"), "invalid choice: 'fp8'"),
        (("eval", "m", "x", "--batch-size", "0"), "--batch-size: takes an integer"),
        (("detect", "m"), "IMAGE"),
        (("detect", "m", "x", "--score-threshold", "30"), "--score-threshold: takes a number in 0..1, not '30'"),
        (("detect", "m", "x", "--score-threshold", "nan"), "--score-threshold: takes a number in 0..1"),
        (("detect", "m", "x", "--batch-size", "-2"), "--batch-size: "),
        (("demo", "--epochs", "0"), "--epochs: takes an integer of at least 1"),
    ],
)
def test_invalid_options(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = run(*arguments)
    assert code == USER_ERROR
    assert expected in err.splitlines()[-1]


def test_a_folder_that_holds_a_run_is_not_written_over(run: Run, voc: Path, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_text("a run")
    code, _, err = run("train", voc, "--out", tmp_path, *TINY)
    assert code == USER_ERROR
    assert "holds a run already; continue it with --resume, or name another folder with --out" in err
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_damaged_state_is_reported(run: Run, voc: Path, tmp_path: Path) -> None:
    assert run("train", voc, "--out", tmp_path, *TINY)[0] == DONE
    (tmp_path / "state.pt").write_bytes(b"PK")
    code, _, err = run("train", voc, "--out", tmp_path, "--resume")
    assert code == USER_ERROR
    assert "state.pt: damaged" in err.splitlines()[-1]


def test_where_coco_is_missing_its_downloads_are_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", tmp_path / "coco", "--config", "coco_r50_1x", "--out", tmp_path / "run")
    assert code == USER_ERROR
    assert f"{tmp_path / 'coco'}/annotations/instances_train2017.json" in err
    assert "train2017.zip" in err
    assert "cocodataset.org" in err
    assert len(err.splitlines()) < 24
    code, _, err = run("train", tmp_path / "mine", "--config", "light", "--out", tmp_path / "run")
    assert code == USER_ERROR
    assert "cocodataset.org" not in err  # a dataset of the user is not COCO


def test_traceback_on_demand(run: Run, tmp_path: Path) -> None:
    code, _, err = run("--traceback", "detect", tmp_path / "gone", "x.jpg")
    assert code == USER_ERROR
    assert "Traceback" in err
    assert err.splitlines()[-1] == f"gfocal: {tmp_path / 'gone'}: no such file or folder"


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise AssertionError("a bug")

    monkeypatch.setattr("gfocal.cli.models.run", broken)
    with pytest.raises(AssertionError):
        main(["models"])


def test_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch, voc: Path, tmp_path: Path) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gfocal.run.run_training", stopped)
    code, _, err = run("train", voc, "--out", tmp_path / "run", *TINY)
    assert code == 130
    assert err.splitlines()[-1] == "stopped before a state was saved; start again"

    def stopped_later(*_: object, **__: object) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "state.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("gfocal.run.run_training", stopped_later)
    code, _, err = run("train", voc, "--out", tmp_path / "run", *TINY)
    assert err.splitlines()[-1] == "stopped; --resume continues the run"


@pytest.mark.parametrize("lines", ["", "0 60 40 40 30"])
def test_yolo_labels_without_an_object(run: Run, tmp_path: Path, lines: str) -> None:
    for part in ("images/train", "labels/train"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (120, 80)).save(tmp_path / "data" / "images" / "train" / f"{name}.jpg")
        (tmp_path / "data" / "labels" / "train" / f"{name}.txt").write_text(lines)
    (tmp_path / "data" / "data.yaml").write_text("train: images/train\nval: images/vla\nnames: [cat]\n")
    code, _, err = run("train", tmp_path / "data", "--out", tmp_path / "run", *TINY)
    assert code == USER_ERROR
    message = err.splitlines()[-1]
    assert message.startswith(f"gfocal: {tmp_path / 'data'}: none of 2 training images has an object")
    assert ("are these pixels?" in message) == bool(lines)
    assert "note: 1 x another split that does not exist (skipped), e.g. " in err
    assert "val: images/vla" in err
    code, _, err = run("train", tmp_path / "data", "--val-split", "val", "--out", tmp_path / "run", *TINY)
    assert code == USER_ERROR
    assert "val: images/vla not found below" in err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_objects_so_small_that_they_vanish(run: Run, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    Image.new("RGB", (120, 80)).save(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "labels" / "train" / "a.txt").write_text(f"0 {4 / 120} {4 / 80} {4 / 120} {4 / 80}")
    (tmp_path / "classes.txt").write_text("cat")
    options = [*TINY, "--set", "augment.crop=0", "--batch-size", "1"]
    code, _, err = run("train", tmp_path, "--out", tmp_path / "run", *options)
    assert code == USER_ERROR
    assert "no object was large enough to be assigned to a point of the detector" in err


def test_without_a_network_the_alternatives_are_named(voc: Path, tmp_path: Path) -> None:
    """In a process of its own: the hub's settings are read once."""
    source = str(Path(gfocal.__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": source, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    arguments = [
        "train",
        str(voc),
        "--preset",
        "gfl_r18_fpn",
        "--num-workers",
        "0",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.run(
        [sys.executable, "-m", "gfocal.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == USER_ERROR
    message = process.stderr.splitlines()[-1]
    assert message.startswith("gfocal: the ImageNet weights of resnet18.tv_in1k could not be fetched")
    assert "\nImageNet weights: from the Hugging Face hub" in process.stderr
    assert "--no-pretrained" in message
    assert "--backbone-weights" in message
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


def test_the_hub_is_quiet_unless_the_user_sets_its_verbosity(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, wanted in ((None, "error"), ("debug", "debug")):
        monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
        if said:
            monkeypatch.setenv("HF_HUB_VERBOSITY", said)
        assert run("models")[0] == DONE
        assert os.environ["HF_HUB_VERBOSITY"] == wanted


def test_synthetic_images_are_a_dataset_like_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(tiny(SyntheticScenes.names), path)
    real: Any = SyntheticScenes

    def few(num_scenes: int, *rest: Any) -> SyntheticScenes:
        return real(min(num_scenes, 4), *rest)

    few.names = SyntheticScenes.names  # type: ignore[attr-defined]
    monkeypatch.setattr("gfocal.data.synthetic.scenes.SyntheticScenes", few)
    code, out, err = run("eval", path, "synthetic", "--num-workers", 0)
    assert code == DONE, err
    assert "AP" in out


def test_an_import_does_not_overwrite_its_checkpoint(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "gfl.pth"
    checkpoint.write_bytes(b"precious")
    code, _, err = run("import", checkpoint, "--out", checkpoint)
    assert code == USER_ERROR
    assert "give another --out" in err
    assert checkpoint.read_bytes() == b"precious"


def test_exported_files_keep_their_settings(run: Run, voc: Path, tmp_path: Path) -> None:
    for options in (("--store-thresholds", "f1"), ("--store-nms",)):
        code, _, err = run("eval", tmp_path / "model.onnx", voc, *options)
        assert code == USER_ERROR, options
        assert "model.onnx" in err
    with pytest.raises(ModelFileError, match="store them in the model file, and export it again"):
        find_own_file(tmp_path / "model.onnx")
    (tmp_path / "model.xml").write_text("")
    code, _, err = run("compare", tmp_path / "model.xml")
    assert code == USER_ERROR
    assert "model.xml: an exported file; give the run or the model file that it was made of" in err

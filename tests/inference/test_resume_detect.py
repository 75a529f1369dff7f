"""gfocal detect over many files: killed runs resume, and the formats agree."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import tiny_detector
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.data.readers.voc import read_voc
from gfocal.inference.files import detect_files
from gfocal.models import predict as predict_module
from gfocal.models.model_file import load_model, save_model

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
COUNT = 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny_detector(), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        Image.effect_noise((60, 40 + number), 60).convert("RGB").save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def undisturbed(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run without interruption."""
    out = tmp_path_factory.mktemp("whole")
    assert detect_files(load_model(model), [photos], out, score_threshold=0.0105, formats=FORMATS.split(",")) == 0
    assert len(json.loads((out / "detections.json").read_text())["annotations"]) > COUNT
    return out


FORMATS = "coco,yolo,voc,csv"
OPTIONS = ("--score-threshold", 0.0105, "--format", FORMATS)

HAS_RAY = all(map(find_spec, ("ray", "pyarrow")))


def content(folder: Path) -> dict[str, bytes]:
    """Everything that was written."""
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_killed_run_resumes(run: Run, model: Path, photos: Path, undisturbed: Path, tmp_path: Path) -> None:
    """After kill -9 of a real process in the middle of its images."""
    out = tmp_path / "out"
    slow = (
        "import sys, time; from gfocal.models import predict; real = predict.predict_batch\n"
        "predict.predict_batch = lambda *a: (time.sleep(0.3), real(*a))[1]\n"
        "from gfocal.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", slow, "detect", str(model), str(photos), "--out", str(out), *map(str, OPTIONS)]
    # One thread, as in this process: with another number the last digits differ.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=one_thread)
    journal = out / "detections.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n") - 1
    assert 2 <= done < COUNT
    assert not (out / "detections.json").exists()
    with journal.open("ab") as file:
        file.write(b'{"index": 4, "file": "half a li')  # as if it had been writing
    drawn = {file: file.stat().st_mtime_ns for file in out.glob("*.jpg")}

    code, _, err = run("detect", model, photos, "--out", out, *OPTIONS, "--resume")
    assert code == DONE, err
    assert err.splitlines()[0] == f"note: {done} images done before, in {journal}"
    assert len(err.splitlines()) == 1 + COUNT - done + 2  # with a note on objects with two names, and the results
    assert content(out) == content(undisturbed)
    kept = [file for file, when in drawn.items() if file.stat().st_mtime_ns == when]
    assert len(kept) >= done  # not drawn again

    code, _, err = run("detect", model, photos, "--out", out, *OPTIONS, "--resume")
    assert (code, err) == (DONE, f"{out}: all {COUNT} images are done already\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("num_workers", [0, 3])
def test_signals_write_the_results_so_far(
    run: Run, model: Path, photos: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: int, num_workers: int,
) -> None:  # fmt: skip
    real: Any = predict_module.predict_batch
    batches: list[object] = []

    def stopped(*arguments: object) -> object:
        batches.append(arguments)
        if len(batches) == 3:
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(predict_module, "predict_batch", stopped)
    command = ("detect", model, photos, "--out", tmp_path / "out", *OPTIONS, "--num-workers", num_workers)
    code, _, err = run(*command)
    assert code == 128 + number
    assert err.splitlines()[-1].startswith("stopped after 2 of 7 images; the results so far are in ")
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 2
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 2
    monkeypatch.setattr(predict_module, "predict_batch", real)
    assert run(*command, "--resume")[0] == DONE
    assert content(tmp_path / "out") == content(undisturbed)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = predict_module.predict_batch
    batches: list[object] = []

    def stopped(*arguments: object) -> object:
        batches.append(arguments)
        if len(batches) > count:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(predict_module, "predict_batch", stopped)


def test_a_full_disk_leaves_what_is_done(
    run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        code, _, err = run("detect", model, photos, "--out", tmp_path)
    assert code == USER_ERROR
    assert err.splitlines()[-2:] == [
        f"note: 3 images done so far, in {tmp_path / 'detections.jsonl'}; --resume continues from there",
        "gfocal: [Errno 28] No space left on device",
    ]
    assert run("detect", model, photos, "--out", tmp_path, "--resume")[0] == DONE


def test_only_the_same_run_resumes(
    run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        run("detect", model, photos, "--out", tmp_path, "--score-threshold", 0.5)
    other = load_model(model)
    next(other.parameters()).data.add_(1e-3)
    save_model(other, tmp_path / "other.safetensors")
    for command, why in (
        ((model, "--score-threshold", 0.4), "score_threshold was 0.5 and is 0.4"),
        ((model,), "score_threshold was 0.5 and is 0.3"),
        ((tmp_path / "other.safetensors", "--score-threshold", 0.5), 'model was "'),
        ((model, "--score-threshold", 0.5, "--no-images"), "draw was true and is false"),
        ((model, "--score-threshold", 0.5, "--edges", "std"), 'edges was "none" and is "std"'),
    ):
        code, _, err = run("detect", command[0], photos, "--out", tmp_path, "--resume", *command[1:])
        assert code == USER_ERROR
        assert why in err.splitlines()[-1]
        assert "resume with the same ones" in err.splitlines()[-1]
    code, _, err = run("detect", model, photos, "--out", tmp_path, "--score-threshold", 0.5)
    assert code == USER_ERROR
    assert "a run was stopped here after 3 images" in err
    assert (
        run("detect", model, photos, "--out", tmp_path, "--score-threshold", 0.5, "--resume", "--batch-size", 3)[0]
        == DONE
    )


def test_failed_and_new_images_are_processed_when_resuming(
    run: Run, model: Path, photos: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in photos.iterdir():
        (folder / file.name).write_bytes(file.read_bytes() if file.stem in "0246" else b"broken")
    (folder / "5.png").unlink()
    assert run("detect", model, folder, "--out", tmp_path / "out")[0] == SOME_FAILED
    assert (tmp_path / "out" / "detections.jsonl").exists()
    for stem in "1357":
        if (photos / f"{stem}.png").exists():
            (folder / f"{stem}.png").write_bytes((photos / f"{stem}.png").read_bytes())
    code, _, err = run("detect", model, folder, "--out", tmp_path / "out", "--resume")
    assert code == DONE
    assert "4 images done before" in err
    assert len([line for line in err.splitlines() if not line.startswith("note: nothing found")]) == 1 + 3 + 1
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == COUNT
    assert not (tmp_path / "out" / "detections.jsonl").exists()


def test_new_images_get_names_that_are_not_in_use(
    run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/1.png", "c/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes((photos / Path(name).name).read_bytes())
    command = ("detect", model, tmp_path / "a", tmp_path / "b", tmp_path / "c", "--out", tmp_path / "out")
    (tmp_path / "a").mkdir()
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert run(*command)[0] == USER_ERROR
    drawn = (tmp_path / "out" / "1.jpg").read_bytes()
    (tmp_path / "a" / "1.png").write_bytes((photos / "5.png").read_bytes())  # comes first in the list of all
    assert run(*command, "--resume")[0] == DONE
    assert (tmp_path / "out" / "1.jpg").read_bytes() == drawn
    images = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert {i["file_name"]: i["image"] for i in images} == {
        str(tmp_path / "a" / "1.png"): "1_2.jpg",
        str(tmp_path / "b" / "1.png"): "1.jpg",
        str(tmp_path / "c" / "2.png"): "2.jpg",
    }


def test_a_run_that_ended_is_replaced_by_a_new_one(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run("detect", model, photos, tmp_path / "no.jpg", "--out", tmp_path / "out")[0] == SOME_FAILED


def test_launched_processes_are_refused(
    run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun sets the environment: it ends the others when the first fails, before they say the same."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        code, _, err = run("detect", model, photos, "--out", tmp_path / "out")
        assert code == USER_ERROR
        assert "launched as 2 processes" in err
        assert "--engine ray" in err
        assert len(waits) == rank
    assert not (tmp_path / "out").exists()


def test_formats_agree(model: Path, undisturbed: Path, photos: Path) -> None:
    found = json.loads((undisturbed / "detections.json").read_text())
    by_image: dict[str, list[dict[str, Any]]] = {Path(i["file_name"]).stem: [] for i in found["images"]}
    sizes = {Path(i["file_name"]).stem: (i["width"], i["height"]) for i in found["images"]}
    names = {i["id"]: Path(i["file_name"]).stem for i in found["images"]}
    for annotation in found["annotations"]:
        by_image[names[annotation["image_id"]]].append(annotation)
    assert (undisturbed / "classes.txt").read_text() == "cat\ndog\n"
    with (undisturbed / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["annotations"])
    for row, annotation in zip(rows, found["annotations"], strict=True):
        x, y, w, h = annotation["bbox"]
        assert row["file"] == found["images"][annotation["image_id"] - 1]["file_name"]
        assert row["class"] == ("cat", "dog")[annotation["category_id"] - 1]
        assert [float(row[k]) for k in ("x1", "y1", "x2", "y2")] == pytest.approx([x, y, x + w, y + h], abs=0.011)
        assert float(row["score"]) == pytest.approx(annotation["score"], abs=1e-5)
        stds = [float(row[f"std_{side}"]) for side in ("left", "top", "right", "bottom")]
        assert stds == pytest.approx(annotation["edge_std"], abs=0.011)
    for stem, own in by_image.items():
        width, height = sizes[stem]
        lines = (undisturbed / "labels" / f"{stem}.txt").read_text().splitlines()
        for line, annotation in zip(lines, own, strict=True):
            label, cx, cy, w, h, score = map(float, line.split())
            box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
            assert box == pytest.approx(annotation["bbox"], abs=0.011)
            assert label + 1 == annotation["category_id"]
            assert score == pytest.approx(annotation["score"], abs=1e-5)
        text = (undisturbed / "Annotations" / f"{stem}.xml").read_text()
        assert text.count("<score>") == text.count("<edge_std>") == len(own)
        assert f"<path>{photos / stem}.png</path>" in text


def test_xml_reads_as_voc(undisturbed: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").symlink_to(photos)
    (tmp_path / "Annotations").symlink_to(undisturbed / "Annotations")
    data = read_voc(tmp_path, names=("cat", "dog"))
    assert len(data) == COUNT
    assert sum(len(s.boxes) for s in data.samples) > COUNT


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 4])
def test_reading_ahead_changes_nothing(
    run: Run, model: Path, photos: Path, tmp_path: Path, batch_size: int, num_workers: int
) -> None:
    """Against one image after the other by the detector itself."""
    options = ("--score-threshold", 0.0105, "--batch-size", batch_size, "--num-workers", num_workers)
    assert run("detect", model, photos, "--out", tmp_path, *options)[0] == DONE
    found = json.loads((tmp_path / "detections.json").read_text())
    assert [Path(i["file_name"]).stem for i in found["images"]] == [str(n) for n in range(COUNT)]
    detector = load_model(model)
    for image in found["images"]:
        one = detector.detect(image["file_name"], score_threshold=0.0105)
        scores = [a["score"] for a in found["annotations"] if a["image_id"] == image["id"]]
        assert scores == pytest.approx(one.scores.tolist(), abs=2e-5)  # type: ignore[union-attr]
        assert (tmp_path / image["image"]).is_file()


def test_class_thresholds_of_the_model_are_the_default(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    detector = load_model(model)
    detector.class_thresholds = (0.0105, 0.9)
    save_model(detector, tmp_path / "own.safetensors")
    everything = ("--no-images", "--out")
    code, _, err = run("detect", tmp_path / "own.safetensors", photos, *everything, tmp_path / "own")
    assert code == DONE
    assert err.splitlines()[-1].endswith(
        "; scores above the model's own threshold of each class, 0.01 to 0.90 (--score-threshold for another)"
    )
    assert run("detect", model, photos, *everything, tmp_path / "all", "--score-threshold", 0.0105)[0] == DONE
    own, other = (json.loads((tmp_path / name / "detections.json").read_text()) for name in ("own", "all"))
    assert {a["category_id"] for a in other["annotations"]} == {1, 2}
    expected = [a["score"] for a in other["annotations"] if a["category_id"] == 1]
    assert [a["score"] for a in own["annotations"]] == expected
    assert {a["category_id"] for a in own["annotations"]} == {1}
    err = run("detect", model, photos, *everything, tmp_path / "default")[2]
    assert err.splitlines()[-1].endswith("; scores above 0.3 (--score-threshold)")
    err = run(
        "detect", tmp_path / "own.safetensors", photos, *everything, tmp_path / "said", "--score-threshold", 0.0105
    )[2]
    assert err.splitlines()[-1].endswith("; scores above 0.0105 (--score-threshold)")


def test_user_errors_end_in_one_line(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    for command, message in (
        ((), "name a MODEL and images"),
        ((model,), "name a MODEL and images"),
        ((model, photos, "--merge", tmp_path), "takes no MODEL"),
        ((model, photos, "--format", "coco,pascal"), "takes some of coco, yolo, voc, csv"),
        (("--merge", tmp_path), "has no results of --engine ray" if HAS_RAY else "pip install 'gfocal[ray]'"),
        ((model, "--list", tmp_path / "no.txt"), "the list of images cannot be read"),
    ):
        code, _, err = run("detect", *command)
        assert code == USER_ERROR
        assert message in err.splitlines()[-1]

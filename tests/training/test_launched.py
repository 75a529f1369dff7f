"""``gfocal train`` as people start it: launched several times, stopped, killed, with images that vanish."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import gfocal
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models.model_file import load_model, save_model
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics

HERE = Path(__file__).parent
SOURCE = str(Path(gfocal.__file__).resolve().parents[1])
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs signals")]

CONFIG = """
[model]
preset = "gfl_light_fpn"
pretrained = false
options = { body = "mobilenetv4_conv_small_035", channels = 32, num_convs = 1 }
[size]
short_side = 64
long_side = 64
[optimizer]
kind = "adamw"
lr = 0.001
lr_batch = 2
[schedule]
kind = "cosine"
warmup_steps = 2
[run]
epochs = 3
batch_size = 1
num_workers = 0
save_every_minutes = 1e-6
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a config."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "tiny.toml").write_text(CONFIG)
    for split, count in (("train", 7), ("val", 2)):
        data = SyntheticScenes(count, size=96, purpose=split)
        (folder / "scenes" / split).mkdir(parents=True)
        records: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
        for i in range(count):
            image, sample = data.read(i)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "scenes" / split / f"{i}.png")
            records["images"].append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 96})
            for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
                box = [x1, y1, x2 - x1, y2 - y1]
                record = {"id": len(records["annotations"]) + 1, "image_id": i, "category_id": label + 1, "bbox": box}
                records["annotations"].append(record | {"area": box[2] * box[3], "iscrowd": 0})
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(data.names)]
        path = folder / "scenes" / split / "_annotations.coco.json"
        path.write_text(json.dumps({**records, "categories": categories}))
    return folder


def environment() -> dict[str, str]:
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""}  # two processes would want two
    return os.environ | no_gpu | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def torchrun(
    place: Path, what: str, out: Path, *more: str, train: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Two processes, of which the second has a fault; ``more`` are options of torchrun, ``train`` of gfocal."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *more]
    command += [str(HERE / "launched_run.py"), what, "train", "scenes", "--config", "tiny.toml"]
    command += ["--out", str(out), "--auto-resume", *train]
    return subprocess.run(
        command, cwd=place, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A run of two processes that nothing disturbed."""
    ended = torchrun(place, "nothing", place / "whole")
    assert ended.returncode == 0, ended.stderr
    return place / "whole"


@pytest.mark.parametrize("what", ["SIGKILL", "SIGTERM"])
def test_two_processes_of_which_one_is_killed_or_stopped_come_back_to_the_same_run(
    place: Path, whole: Path, tmp_path: Path, what: str
) -> None:
    ended = torchrun(place, what, tmp_path / "run", "--max-restarts", "2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("resuming after epoch 1 of 3 and ") == 1  # one process speaks
    assert ended.stderr.count("2 processes, 2 images a step\n") == 2  # at the start and at the restart
    # Both stop at the same step though one was asked; a killed one leaves no time to.
    assert ended.stderr.count("stopped in epoch 2, after ") == (what == "SIGTERM")
    for name in ("last.safetensors", "best.safetensors", "result.json"):
        assert (whole / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    rows = [read_metrics(RunFolder(folder).metrics) for folder in (whole, tmp_path / "run")]
    assert [{**row, "seconds": ""} for row in rows[0]] == [{**row, "seconds": ""} for row in rows[1]]
    assert [row["step"] for row in rows[0]] == ["4", "8", "12"]  # 7 images an epoch, two to a step
    assert json.loads(RunFolder(whole).description.read_text())["processes"] == 2


def test_two_processes_evaluate_a_model_as_one_does(place: Path, whole: Path, tmp_path: Path) -> None:
    model = load_model(whole)
    model.decode_settings = replace(model.decode_settings, score_threshold=0.0)
    save_model(model, tmp_path / "model.safetensors")
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    for name, start in (("one", [sys.executable]), ("two", two)):
        command = [*start, "-m", "gfocal", "eval", str(tmp_path / "model.safetensors"), "scenes", "--split", "train"]
        command += ["--batch-size", "2", "--num-workers", "0"]
        command += ["--results", str(tmp_path / name / "found.json"), "--out", str(tmp_path / name / "numbers.json")]
        ended = subprocess.run(
            command, cwd=place, env=environment(), capture_output=True, text=True, timeout=900, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("evaluating 7 images") == 1
        assert ended.stdout.count("AP  AP50") == 1, ended.stdout
        assert ended.stderr.count("can be trusted is measured by a single process") == (name == "two")
    assert (tmp_path / "one" / "found.json").read_bytes() == (tmp_path / "two" / "found.json").read_bytes()
    one, two = (json.loads((tmp_path / name / "numbers.json").read_text()) for name in ("one", "two"))
    one.pop("trust")  # of distributions, which processes do not exchange
    assert one == two
    records = json.loads((tmp_path / "one" / "found.json").read_text())
    assert len({record["image_id"] for record in records}) == 7
    assert all("edge_std" in record for record in records)


def test_balanced_epochs_and_an_early_end_are_the_same_for_both(place: Path, tmp_path: Path) -> None:
    """Where AP stays as it is, both processes know of the end at the same epoch, and neither waits for the other."""
    more = ("--patience", "1", "--repeat-threshold", "1", "--epochs", "6")
    ended = torchrun(place, "flat", tmp_path / "run", train=more)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("stopped early: no better AP than 0.500 of epoch 1 in 1 evaluation") == 1
    (shown,) = re.findall(r"an epoch shows (\d+) images, 7 of them different", ended.stderr)
    steps = [int(row["step"]) for row in read_metrics(RunFolder(tmp_path / "run").metrics)]
    assert int(shown) > 7
    assert steps == [-(-int(shown) // 2), 2 * -(-int(shown) // 2)]


def test_two_processes_agree_on_how_many_steps_end_in_time(place: Path, tmp_path: Path) -> None:
    ended = torchrun(place, "clocks", tmp_path / "run", train=["--time", "12s"])
    assert ended.returncode == 0, ended.stderr
    rates = dict(re.findall(r"rates (\d): (\[.*?\])", ended.stdout))
    assert rates["0"] == rates["1"]
    rows = read_metrics(RunFolder(tmp_path / "run").metrics)
    assert len(json.loads(rates["0"])) == int(rows[-1]["step"]) > 4
    assert json.loads(rates["0"])[-1] < 0.5 * max(json.loads(rates["0"]))
    assert re.search(r"took \d+ s of 12 s: ", ended.stderr)


def test_a_fault_in_one_process_ends_both_with_its_reason(place: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    ended = torchrun(place, "data", tmp_path / "data")
    assert ended.returncode != 0
    assert "gfocal: 20 images in a row cannot be read; the last one: image " in ended.stderr
    assert "/cli.py" not in ended.stderr  # no traceback of ours
    assert not RunFolder(tmp_path / "data").state.exists()
    assert time.monotonic() - started < 600


def test_a_loss_that_is_not_finite_in_one_process_is_found_by_both_at_once(place: Path, tmp_path: Path) -> None:
    ended = torchrun(place, "nan", tmp_path / "nan")
    assert ended.returncode != 0
    told = [line for line in ended.stderr.splitlines() if "the loss is not finite at step" in line]
    assert len(told) == 2
    assert told[0] == told[1]
    assert "(cls nan, box " in told[0]
    ids = told[0].partition("image ids ")[2].partition(".")[0].split(", ")
    assert len(ids) == 2  # those of both processes
    state = torch.load(RunFolder(tmp_path / "nan").state, weights_only=True)
    assert state["progress"]["batches"] == 2  # none was saved after it


class Alone:
    """A run by itself, with two processes that load images, in a process group as a terminal makes it."""

    def __init__(self, place: Path, out: Path, *more: str) -> None:
        words = ["train", "scenes", "--config", "tiny.toml", "--out", str(out), "--epochs", "500"]
        # A step of several batches needs the loading processes after the signal too.
        settings = ("run.num_workers=2", "run.grad_accum_steps=4", "run.save_every_minutes=0")
        self.command = ["gfocal", *words, *(word for setting in settings for word in ("--set", setting)), *more]
        self.log = (out.parent / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.command],
            cwd=place,
            env=environment() | {"PYTHONWARNINGS": "default"},
            stderr=self.log,
            stdout=self.log,
            start_new_session=True,
        )
        self.out = out

    def wait_for(self, epochs: int) -> None:
        deadline = time.monotonic() + 600
        while not RunFolder(self.out).metrics.exists() or len(read_metrics(RunFolder(self.out).metrics)) < epochs:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()] if path.exists() else []

    def ended(self) -> int:
        return self.process.wait(timeout=300)

    def said(self) -> str:
        return Path(self.log.name).read_text()


@pytest.fixture
def started() -> Iterator[list[Alone]]:
    runs: list[Alone] = []
    yield runs
    for run in runs:
        run.process.kill()
        run.log.close()


def test_ctrl_c_of_a_terminal_saves_and_says_how_to_go_on(place: Path, tmp_path: Path, started: list[Alone]) -> None:
    run = Alone(place, tmp_path / "run")
    started.append(run)
    run.wait_for(2)
    os.killpg(run.process.pid, signal.SIGINT)  # it goes to the loading processes too
    assert run.ended() == 130, run.said()
    *_, last = run.said().splitlines()
    assert last.startswith("stopped in epoch ")
    assert last.endswith(f"the state is saved; continue with: {' '.join(run.command)} --resume")
    assert "Traceback" not in run.said()
    assert not list((tmp_path / "run").glob("*.tmp"))

    again = Alone(place, tmp_path / "run", "--resume")
    started.append(again)
    again.wait_for(4)
    os.killpg(again.process.pid, signal.SIGTERM)  # as a container's manager may
    assert again.ended() == 143, again.said()
    first, *_ = [line for line in again.said().splitlines() if line.startswith("resuming")]
    assert first.split()[3] == str(int(last.split()[3].rstrip(",")) - 1)  # in the epoch that it stopped in


def test_a_loading_process_that_is_killed_and_a_image_that_vanishes(
    place: Path, tmp_path: Path, started: list[Alone]
) -> None:
    run = Alone(place, tmp_path / "run")
    started.append(run)
    run.wait_for(1)
    image = place / "scenes" / "train" / "3.png"
    moved = image.rename(tmp_path / "3.png")
    try:
        done = len(read_metrics(RunFolder(tmp_path / "run").metrics))
        run.wait_for(done + 3)
        assert str(Path("scenes") / "train" / "3.png") in run.said()
        assert "the next image takes its place" in run.said()
        children = run.children()
        if not children:
            pytest.skip("the children of a process are not told here")
        os.kill(children[-1], signal.SIGKILL)
        assert run.ended() == 2
    finally:
        moved.rename(image)
    # The other loading process may have something to say after it.
    (told,) = [line for line in run.said().splitlines() if line.startswith("gfocal: ")]
    assert told.startswith("gfocal: a process that loads images ")
    assert "most likely because memory ran out" in told
    assert "continue with --resume" in told
    assert "/cli.py" not in run.said()  # no traceback of the run itself
    torch.load(RunFolder(tmp_path / "run").state, weights_only=True)

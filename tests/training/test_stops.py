"""A run that is stopped at any moment resumes bit for bit: after signals, kills, a full disk."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from gfocal.atomic import atomic_write
from gfocal.data.augmentation.pipeline import AugmentSettings
from gfocal.data.dataset import Sample
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import RunWriteError
from gfocal.models.zoo import create
from gfocal.run_folder import RunFolder
from gfocal.training import checkpoints, loop
from gfocal.training import stopping as signals
from gfocal.training.checkpoints import Progress
from gfocal.training.loop import train
from gfocal.training.metrics_log import read_metrics
from gfocal.training.optim import OptimizerSettings, ScheduleSettings
from gfocal.training.settings import RunSettings
from gfocal.training.stopping import TrainingInterrupt, catch_stop_signals
from gfocal.training.trackers import Trackers

# Five batches of one image an epoch, in steps of two: an epoch ends with a step of one batch.
TINY = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
RUN = RunSettings(
    epochs=2,
    batch_size=1,
    grad_accum_steps=2,
    num_workers=0,
    ema_decay=0.9,
    eval_batch_size=1,
    cpu=True,
    save_every_minutes=0,
)
READS = 2 * (5 + 2)  # training and validation images of both epochs


class Killed(BaseException):
    """The end of the process, so far as a test can have it: nothing catches this."""


@dataclass(frozen=True)
class Scenes:
    """Synthetic images that do something when the n-th image of a run is read."""

    scenes: SyntheticScenes
    at: int = 0
    what: Callable[[], object] = lambda: None
    seen: list[int] = field(default_factory=list)
    names = SyntheticScenes.names
    category_ids = SyntheticScenes.category_ids
    files = None

    def __len__(self) -> int:
        return len(self.scenes)

    def at_epoch(self, epoch: int) -> Scenes:
        return replace(self, scenes=self.scenes.at_epoch(epoch))

    def sample(self, index: int) -> Sample:
        return self.scenes.sample(index)

    def read(self, index: int) -> tuple[Tensor, Sample]:
        self.seen.append(index)
        if len(self.seen) == self.at:
            self.what()
        return self.scenes.read(index)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def go(
    folder: Path, at: int = 0, what: Callable[[], object] = lambda: None, resume: bool = False, run: RunSettings = RUN
) -> str:
    """Train, or resume; returns what was printed."""
    torch.manual_seed(0)
    model = create("gfl_light_fpn", 5, names=SyntheticScenes.names, pretrained=False, **TINY)
    model.input_settings = InputSettings(short_side=64, long_side=64)
    data = Scenes(SyntheticScenes(5, size=96), at, what)
    val = replace(data, scenes=SyntheticScenes(2, size=96, purpose="val"))
    said = io.StringIO()
    try:
        train(
            model,
            data,
            val,
            folder,
            run=run,
            augment=AugmentSettings(flip=0.5, color=0.5, crop=0.5),
            optimizer_settings=OptimizerSettings("adamw", lr=1e-3, lr_batch=2, clip_norm=10.0),
            schedule=ScheduleSettings("cosine", warmup_steps=2),
            resume=resume,
            console=Console(file=said, width=300),
        )
    finally:
        (folder / "said").write_text(said.getvalue())
    return said.getvalue()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    go(folder)
    return folder


def same(one: Path, two: Path) -> None:
    """The runs in two folders are the same, bit for bit."""
    for name in ("best.safetensors", "last.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    rows = [read_metrics(RunFolder(folder).metrics) for folder in (one, two)]
    for before, after in zip(*rows, strict=True):
        assert {**before, "seconds": ""} == {**after, "seconds": ""}
    states = [torch.load(RunFolder(folder).state, weights_only=True) for folder in (one, two)]
    for part in ("model", "average"):
        assert all(torch.equal(value, states[1][part][key]) for key, value in states[0][part].items())
    for state in states:
        state["progress"].pop("seconds")
    assert states[0]["progress"] == states[1]["progress"]


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def progress_of(folder: Path) -> Progress:
    return Progress(**torch.load(RunFolder(folder).state, weights_only=True)["progress"])


# Reads of the run: 1-5 train, 6-7 evaluate, 8-12 train, 13-14 evaluate.
@pytest.mark.parametrize(
    ("at", "epoch", "batches"), [(1, 0, 2), (3, 0, 4), (5, 0, 5), (6, 0, 5), (9, 1, 2), (14, 1, 5)]
)
def test_a_signal_saves_the_step_and_the_run_resumes_bit_for_bit(
    tmp_path: Path, undisturbed: Path, at: int, epoch: int, batches: int
) -> None:
    with pytest.raises(TrainingInterrupt) as stop:
        go(tmp_path, at, send(signal.SIGTERM))
    assert stop.value.code == 143
    assert str(stop.value) == f"stopped in epoch {epoch + 1}, after {batches} of its 5 batches; the state is saved"
    progress = progress_of(tmp_path)
    assert (progress.epoch, progress.batches) == (epoch, batches)
    assert f"resuming after epoch {epoch} of 2 and {batches} of 5 batches" in go(tmp_path, resume=True)
    same(undisturbed, tmp_path)


@pytest.mark.parametrize("stopped", [True, False])
def test_trackers_are_closed_as_failed_at_an_early_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(Trackers, "close", lambda self, failed: closed.append(failed))

    def fail() -> None:
        raise RuntimeError("no such thing")

    with pytest.raises(TrainingInterrupt if stopped else RuntimeError):
        go(tmp_path, 3, send(signal.SIGTERM) if stopped else fail)
    assert closed == [True]
    closed.clear()
    go(tmp_path / "whole")
    assert closed == [False]


def test_stops_again_and_again(tmp_path: Path, undisturbed: Path) -> None:
    for turn in range(4):
        with pytest.raises(TrainingInterrupt):
            go(tmp_path, 1, send(signal.SIGINT), resume=turn > 0)
    go(tmp_path, resume=True)
    same(undisturbed, tmp_path)


@pytest.mark.parametrize(("at", "batches"), [(2, None), (4, 2), (5, 4), (7, 5), (10, 2), (13, 5)])
def test_a_kill_loses_what_came_after_the_last_state(
    tmp_path: Path, undisturbed: Path, at: int, batches: int | None
) -> None:
    """States are as dense as they can be: after every step."""

    def kill() -> None:
        raise Killed

    run = replace(RUN, save_every_minutes=1e-9)
    with pytest.raises(Killed):
        go(tmp_path, at, kill, run=run)
    if batches is not None:
        assert progress_of(tmp_path).batches == batches
    go(tmp_path, resume=batches is not None, run=run)
    same(undisturbed, tmp_path)


def test_without_minutes_there_are_states_of_whole_epochs_only(tmp_path: Path, undisturbed: Path) -> None:
    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        go(tmp_path, 11, kill)
    assert (progress_of(tmp_path).epoch, progress_of(tmp_path).batches) == (1, 0)
    go(tmp_path, resume=True)
    same(undisturbed, tmp_path)


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(TrainingInterrupt):
        go(tmp_path, 9, send(signal.SIGTERM))
    path = RunFolder(tmp_path).state
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # torch would not notice
    path.write_bytes(content)
    said = go(tmp_path, resume=True)
    assert f"warning: {path}: damaged (the checksum of" in said
    assert "state-previous.pt, the one before, is used" in said
    assert "resuming after epoch 1 of 2\n" in said
    same(undisturbed, tmp_path)


def test_a_second_signal_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_SIGNAL_SECONDS", -1.0)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt, match="at once") as stop:
        go(tmp_path, 9, twice)
    assert not isinstance(stop.value, TrainingInterrupt)
    assert progress_of(tmp_path).epoch == 1


def test_signals_that_a_launcher_passes_on_count_once(capfd: pytest.CaptureFixture[str]) -> None:
    with catch_stop_signals("stopping") as stop:
        assert not stop.is_made
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert capfd.readouterr().err == "\nstopping\n"
    with pytest.raises(KeyboardInterrupt):  # as before
        os.kill(os.getpid(), signal.SIGINT)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_made
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_leftovers_of_a_kill_go_with_the_next_start(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupt):
        go(tmp_path, 3, send(signal.SIGTERM))
    for name in ("state.pt.01ab23cd.tmp", "best.safetensors.ffffffff.tmp", "notes.tmp", "x.0123.tmp"):
        (tmp_path / name).write_text("half")
    go(tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.glob("*.tmp")) == ["notes.tmp", "x.0123.tmp"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A disk that is full at chosen attempts to write a state, counted from 1; the list is to be filled."""
    attempts: list[int] = []
    full_at: list[int] = []

    def writing(path: Path) -> Any:
        if path.name == "state.pt":
            attempts.append(len(attempts) + 1)
            if attempts[-1] in full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
        return atomic_write(path)

    monkeypatch.setattr(checkpoints, "atomic_write", writing)
    yield full_at
    assert attempts


def test_a_disk_that_is_full_for_a_moment_gives_a_warning(tmp_path: Path, undisturbed: Path, full: list[int]) -> None:
    full.append(1)
    said = go(tmp_path)
    assert f"warning: {tmp_path}: cannot be written to (No space left on device; " in said
    assert " MB are free); the run continues" in said
    same(undisturbed, tmp_path)


def test_a_disk_that_stays_full_ends_the_run_and_the_state_before_is_whole(
    tmp_path: Path, undisturbed: Path, full: list[int]
) -> None:
    full += [3, 4]
    run = replace(RUN, save_every_minutes=1e-9)
    with pytest.raises(
        RunWriteError, match=r"No space left on device; \d+ MB are free\).*free some space.*--resume"
    ) as error:
        go(tmp_path, run=run)
    assert len(str(error.value).splitlines()) == 1
    assert progress_of(tmp_path).batches == 4
    assert not list(tmp_path.glob("*.tmp"))
    go(tmp_path, resume=True, run=run)
    same(undisturbed, tmp_path)


@pytest.mark.parametrize("last", [True, False])
def test_a_full_disk_where_nothing_would_be_saved_later_is_an_error_at_once(
    tmp_path: Path, full: list[int], last: bool
) -> None:
    """After the last epoch, and when the run is asked to stop."""
    full.append(2)
    with pytest.raises(RunWriteError):
        go(tmp_path) if last else go(tmp_path, 9, send(signal.SIGTERM))
    assert (progress_of(tmp_path).epoch, progress_of(tmp_path).batches) == (1, 0)


def test_a_full_disk_when_the_weights_are_written_is_the_same(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop.save_model, []

    def writing(model: Any, path: Path) -> None:
        calls.append(path.name)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(model, path)

    monkeypatch.setattr(loop, "save_model", writing)
    assert "cannot be written to" in go(tmp_path)
    assert calls == ["last.safetensors", "last.safetensors", "best.safetensors"]  # what was not written is no best
    assert (tmp_path / "last.safetensors").read_bytes() == (undisturbed / "last.safetensors").read_bytes()


def test_a_disk_that_is_really_full(tmp_path: Path, undisturbed: Path) -> None:
    """It has room for the files of one epoch and not for what is written beside them before it takes their place."""
    needed = sum((undisturbed / name).stat().st_size for name in ("last.safetensors", "best.safetensors", "state.pt"))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={needed + 1_000_000}", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by the superuser only")
    try:
        with pytest.raises(RunWriteError, match=r"No space left on device; [01] MB are free"):
            go(disk)
        assert not list(disk.glob("*.tmp"))
        assert progress_of(disk).epoch == 1
        subprocess.run(["mount", "-o", f"remount,size={4 * needed}", str(disk)], check=True)
        go(disk, resume=True)
        same(undisturbed, disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)

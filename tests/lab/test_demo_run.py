"""The demo from nothing to a report; stopped and started again; and what it refuses."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gfocal.cli import MISTAKE
from gfocal.cli.main import main
from gfocal.config.config import read_config, with_changes, write_config
from gfocal.errors import ResumeError
from gfocal.lab import demo_run as demo_room
from gfocal.lab.demo_run import REPORT_FILE, demo
from gfocal.run import CONFIG_FILE, RESULT_FILE
from gfocal.training.checkpoints import STATE_FILE
from gfocal.training.metrics_log import METRICS_FILE, read_metrics


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_room, "TRAIN_SCENES_PER_EPOCH", 8)
    monkeypatch.setattr(demo_room, "UNSEEN_SCENES", 4)
    config = with_changes(
        read_config("demo"),
        {"size.short_side": 96, "size.long_side": 96, "run.num_workers": 0, "model.options.channels": 32},
    )
    monkeypatch.setattr(demo_room, "read_config", lambda name: config)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def shown(folder: Path, **more: int) -> str:
    said = io.StringIO()
    result = demo(folder, console=Console(file=said, width=200), **more)
    assert result.num_images == 4
    assert json.loads((folder / RESULT_FILE).read_text()) == result.to_json()
    return said.getvalue()


def test_a_demo_and_the_same_command_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(tmp_path, epochs=1)
    assert str(tmp_path / REPORT_FILE) in said
    assert "1 epoch of 8 new scenes each on 1 thread;" in said
    page = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    for part in ("gfocal demo", "Unseen images", "How it learned", "random weights", "4 images"):
        assert part in page
    assert page.count("<figure>") >= 4
    assert str(tmp_path) not in page

    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(ResumeError) as error:
        demo(tmp_path, epochs=1)
    told = str(error.value)
    assert "finished demo" in told
    assert str(tmp_path / REPORT_FILE) in told
    assert "--out" in told
    assert main(["demo", "--out", str(tmp_path), "--epochs", "1"]) == MISTAKE
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_an_unfinished_demo_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    shown(whole, epochs=2)

    from gfocal.training import loop

    real: Any = vars(loop)["save_state"]
    epochs: list[object] = []

    def stop_after_one(*arguments: object) -> None:
        real(*arguments)
        epochs.append(arguments)
        if len(epochs) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        demo(stopped, epochs=2, console=Console(file=io.StringIO()))
    assert not (stopped / REPORT_FILE).exists()
    assert len(read_metrics(stopped / METRICS_FILE)) == 1

    with pytest.raises(ResumeError, match="another seed or number of epochs"):
        demo(stopped, epochs=3)
    with pytest.raises(ResumeError, match="another seed or number of epochs"):
        demo(stopped, seed=1)
    assert "resuming after epoch 1 of 2" in shown(stopped)  # without epochs: its own
    assert (stopped / REPORT_FILE).exists()
    assert (stopped / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def test_a_demo_stopped_before_its_report_gets_it(tmp_path: Path) -> None:
    shown(tmp_path, epochs=1)
    (tmp_path / REPORT_FILE).unlink()
    weights = (tmp_path / "last.safetensors").read_bytes()
    assert "nothing is left to do" in shown(tmp_path)
    assert (tmp_path / REPORT_FILE).exists()
    assert (tmp_path / "last.safetensors").read_bytes() == weights


def test_a_run_of_the_users_own_is_never_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text("hours of work")
    (tmp_path / CONFIG_FILE).write_text(write_config(read_config("light")))
    with pytest.raises(ResumeError, match="holds another run"):
        demo(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [CONFIG_FILE, STATE_FILE]
    assert (tmp_path / STATE_FILE).read_text() == "hours of work"

"""The demo from nothing to a report; stopped and started again; and what it refuses."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gfocal.cli import USER_ERROR
from gfocal.cli.main import main
from gfocal.config.config import read_config, with_changes, write_config
from gfocal.errors import ResumeError
from gfocal.lab import demo_run
from gfocal.lab.demo_run import REPORT_FILE, run_demo
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run, "TRAIN_IMAGES_PER_EPOCH", 8)
    monkeypatch.setattr(demo_run, "TEST_IMAGES", 4)
    config = with_changes(
        read_config("demo"),
        {"size.short_side": 96, "size.long_side": 96, "run.num_workers": 0, "model.options.channels": 32},
    )
    monkeypatch.setattr(demo_run, "read_config", lambda name: config)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def shown(folder: Path, **more: int) -> str:
    output = io.StringIO()
    result = run_demo(folder, console=Console(file=output, width=200), **more)
    assert result.num_images == 4
    assert json.loads(RunFolder(folder).result.read_text()) == result.to_json()
    return output.getvalue()


def test_a_demo_and_the_same_command_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(tmp_path, epochs=1)
    assert str(tmp_path / REPORT_FILE) in output
    assert "1 epoch of 8 new synthetic images each on 1 thread;" in output
    page = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    for part in ("gfocal demo", "Test images", "Training curves", "random weights", "4 images"):
        assert part in page
    assert page.count("<figure>") >= 4
    assert str(tmp_path) not in page

    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(ResumeError) as error:
        run_demo(tmp_path, epochs=1)
    message = str(error.value)
    assert "finished demo" in message
    assert str(tmp_path / REPORT_FILE) in message
    assert "--out" in message
    assert main(["demo", "--out", str(tmp_path), "--epochs", "1"]) == USER_ERROR
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_an_unfinished_demo_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        run_demo(stopped, epochs=2, console=Console(file=io.StringIO()))
    assert not (stopped / REPORT_FILE).exists()
    assert len(read_metrics(RunFolder(stopped).metrics)) == 1

    with pytest.raises(ResumeError, match="another seed or number of epochs"):
        run_demo(stopped, epochs=3)
    with pytest.raises(ResumeError, match="another seed or number of epochs"):
        run_demo(stopped, seed=1)
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


def test_another_run_is_never_resumed(tmp_path: Path) -> None:
    RunFolder(tmp_path).state.write_text("hours of work")
    RunFolder(tmp_path).config.write_text(write_config(read_config("light")))
    with pytest.raises(ResumeError, match="holds another run"):
        run_demo(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.toml", "state.pt"]
    assert RunFolder(tmp_path).state.read_text() == "hours of work"

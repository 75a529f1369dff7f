"""The state of a run: whole, or the one before, or refused in one line."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gfocal.errors import ResumeError
from gfocal.run_folder import RunFolder
from gfocal.training.checkpoints import Progress, TrainingState, load_state, save_state
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage


class Scale(Devices):
    """Devices of fp16, of which a state needs the loss scale alone."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale = state["scale"]


def begin(width: int = 4, seed: int = 0, share: float = 0.0) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return TrainingState(model, optimizer, WeightAverage(model, 0.9, share=share), Scale())


def learn(state: TrainingState, steps: int = 3) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        state.model(torch.randn(5, 3)).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        assert state.average is not None
        state.average.update(state.model)


def saved(folder: Path, share: float = 0.0) -> TrainingState:
    state = replace(begin(share=share), progress=Progress(2, 3, 0.5, 1, 12.5), devices=Scale(2.0))
    learn(state)
    save_state(RunFolder(folder), state)
    return state


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_loaded_state_learns_as_the_one_that_was_saved(tmp_path: Path, share: float) -> None:
    state = saved(tmp_path, share)
    again = begin(seed=99, share=share)
    assert load_state(RunFolder(tmp_path), again) == ""
    assert again.progress == Progress(2, 3, 0.5, 1, 12.5)
    assert again.devices.state_dict() == {"scale": 2.0}
    assert state.average is not None
    assert again.average is not None
    assert again.average.updates == 3
    for one in (state, again):
        learn(one)
    for a, b in ((state.model, again.model), (state.average.model, again.average.model)):
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key]), key


def test_without_an_average(tmp_path: Path) -> None:
    save_state(RunFolder(tmp_path), replace(begin(), average=None))
    again = replace(begin(seed=1), average=None)
    assert load_state(RunFolder(tmp_path), again) == ""
    assert again.progress == Progress()
    with pytest.raises(ResumeError, match="another model or optimizer"):
        load_state(RunFolder(tmp_path), begin())


def refused(folder: Path, state: TrainingState) -> str:
    with pytest.raises(ResumeError) as error:
        load_state(RunFolder(folder), state)
    message = str(error.value)
    assert str(folder) in message
    assert len(message.splitlines()) == 1
    return message


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert "nothing to resume" in refused(tmp_path, begin())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_state_is_refused(tmp_path: Path, share: float) -> None:
    saved(tmp_path)
    path = RunFolder(tmp_path).state
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refused(tmp_path, begin())


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    assert "another model or optimizer" in refused(tmp_path, begin(width=5))
    model = nn.Linear(3, 4)
    assert "another model" in refused(
        tmp_path, TrainingState(model, torch.optim.AdamW(model.parameters()), None, Scale())
    )


@pytest.mark.parametrize("content", [{"model": 1}, [1, 2], {}, {"progress": {}}])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, RunFolder(tmp_path).state)
    refused(tmp_path, begin())


def test_code_in_a_state_is_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    for content in (Path("x"), Harm()):  # any object beyond tensors and numbers
        torch.save({"model": content}, RunFolder(tmp_path).state)
        assert "more than tensors, numbers and text, which is never read" in refused(tmp_path, begin())
        RunFolder(tmp_path).state.write_bytes(pickle.dumps(content))  # and no zip file at all
        refused(tmp_path, begin())
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("links", [True, False])
def test_the_state_before_is_kept_and_there_is_a_state_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuses(*_: object) -> None:
        raise OSError("Operation not permitted")

    if not links:  # as on a stick
        monkeypatch.setattr(os, "link", refuses)
    state = saved(tmp_path)
    first = RunFolder(tmp_path).state.read_bytes()
    real, states = os.replace, []

    def counting(source: Path, target: Path) -> None:
        real(source, target)
        states.append(RunFolder(tmp_path).has_state)

    monkeypatch.setattr(os, "replace", counting)
    for step in (4, 5):
        before = RunFolder(tmp_path).state.read_bytes()
        save_state(RunFolder(tmp_path), replace(state, progress=Progress(2, step)))
        assert RunFolder(tmp_path).previous_state.read_bytes() == before
    assert before != first
    assert states == [True] * 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state-previous.pt", "state.pt"]


def test_without_a_last_state_the_previous_one_is_used(tmp_path: Path) -> None:
    """A kill in the one moment in which a disk without links has no last state."""
    saved(tmp_path)
    RunFolder(tmp_path).state.rename(RunFolder(tmp_path).previous_state)
    again = begin(seed=5)
    assert "state-previous.pt, the one before, is used" in load_state(RunFolder(tmp_path), again)
    assert again.progress.step == 3


def test_a_write_that_fails_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = saved(tmp_path)
    before = RunFolder(tmp_path).state.read_bytes()

    def half(state: object, stream: io.BytesIO) -> None:
        stream.write(b"PK half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        save_state(RunFolder(tmp_path), replace(state, progress=Progress(3, 4)))
    assert RunFolder(tmp_path).state.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_a_damaged_state_falls_back_on_the_one_before(tmp_path: Path) -> None:
    state = saved(tmp_path)
    weights = {key: value.clone() for key, value in state.model.state_dict().items()}
    learn(state)
    save_state(RunFolder(tmp_path), replace(state, progress=Progress(3, 6)))
    path = RunFolder(tmp_path).state
    path.write_bytes(path.read_bytes()[:1000])
    again = begin(seed=5)
    warning = load_state(RunFolder(tmp_path), again)
    assert again.progress == Progress(2, 3, 0.5, 1, 12.5)
    assert all(torch.equal(value, weights[key]) for key, value in again.model.state_dict().items())
    assert str(path) in warning
    assert "before" in warning

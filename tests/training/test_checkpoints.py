"""The state of a run: whole, or the one before, or refused in one line."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gfocal.errors import ResumeError
from gfocal.training.checkpoints import PREVIOUS_FILE, STATE_FILE, Progress, has_state, load_state, save_state
from gfocal.training.ema import WeightAverage

Parts = tuple[nn.Module, torch.optim.Optimizer, WeightAverage]


def run(width: int = 4, seed: int = 0, kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> Parts:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    optimizer = kind(model.parameters(), lr=0.1)  # type: ignore[call-arg]
    return model, optimizer, WeightAverage(model, 0.9)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, steps: int = 3) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)


def saved(folder: Path) -> Parts:
    parts = run()
    learn(*parts)
    save_state(folder, *parts, Progress(2, 3, 0.5, 1, 12.5), {"scaler": {"scale": 2.0}})
    return parts


def test_a_run_that_is_put_back_learns_as_the_one_that_was_saved(tmp_path: Path) -> None:
    model, optimizer, average = saved(tmp_path)
    again, its_optimizer, its_average = run(seed=99)
    progress, extra, told = load_state(tmp_path, again, its_optimizer, its_average)
    assert told == ""
    assert progress == Progress(2, 3, 0.5, 1, 12.5)
    assert extra == {"scaler": {"scale": 2.0}}
    assert its_average.updates == 3
    for parts in ((model, optimizer, average), (again, its_optimizer, its_average)):
        learn(*parts)
    for one, two in ((model, again), (average.model, its_average.model)):
        for key, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[key]), key


def test_without_an_average(tmp_path: Path) -> None:
    model, optimizer, _ = run()
    save_state(tmp_path, model, optimizer, None, Progress(), {})
    assert load_state(tmp_path, *run(seed=1)[:2], None) == (Progress(), {}, "")
    with pytest.raises(ResumeError, match="another model or optimizer"):
        load_state(tmp_path, *run())


def refused(folder: Path, parts: Any) -> str:
    with pytest.raises(ResumeError) as error:
        load_state(folder, *parts)
    message = str(error.value)
    assert str(folder) in message
    assert len(message.splitlines()) == 1
    return message


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert "nothing to resume" in refused(tmp_path, run())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_state_is_told(tmp_path: Path, share: float) -> None:
    saved(tmp_path)
    path = tmp_path / STATE_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refused(tmp_path, run())


def test_a_state_of_another_model_is_told(tmp_path: Path) -> None:
    saved(tmp_path)
    assert "another model or optimizer" in refused(tmp_path, run(width=5))
    model = nn.Linear(3, 4)
    assert "another model" in refused(tmp_path, (model, torch.optim.AdamW(model.parameters()), None))


@pytest.mark.parametrize("content", [{"model": 1}, [1, 2], {}, {"progress": {}}])
def test_a_file_that_is_no_state_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / STATE_FILE)
    refused(tmp_path, run())


def test_code_in_a_state_is_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    for content in (Path("x"), Harm()):  # any object beyond tensors and numbers
        torch.save({"model": content}, tmp_path / STATE_FILE)
        assert "more than tensors, numbers and text, which is never read" in refused(tmp_path, run())
        (tmp_path / STATE_FILE).write_bytes(pickle.dumps(content))  # and no zip file at all
        refused(tmp_path, run())
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("links", [True, False])
def test_the_state_before_is_kept_and_there_is_a_state_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuses(*_: object) -> None:
        raise OSError("Operation not permitted")

    if not links:  # as on a stick
        monkeypatch.setattr(os, "link", refuses)
    parts = saved(tmp_path)
    first = (tmp_path / STATE_FILE).read_bytes()
    real, states = os.replace, []

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        states.append(has_state(tmp_path))

    monkeypatch.setattr(os, "replace", replace)
    for step in (4, 5):
        before = (tmp_path / STATE_FILE).read_bytes()
        save_state(tmp_path, *parts, Progress(2, step), {})
        assert (tmp_path / PREVIOUS_FILE).read_bytes() == before
    assert before != first
    assert states == [True] * 4
    assert sorted(file.name for file in tmp_path.iterdir()) == [PREVIOUS_FILE, STATE_FILE]


def test_between_two_names_the_state_before_is_taken(tmp_path: Path) -> None:
    """A kill in the one moment in which a disk without links has no last state."""
    saved(tmp_path)
    (tmp_path / STATE_FILE).rename(tmp_path / PREVIOUS_FILE)
    progress, _, told = load_state(tmp_path, *run(seed=5))
    assert progress.step == 3
    assert f"{PREVIOUS_FILE}, the one before, is taken" in told


def test_a_write_that_fails_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = saved(tmp_path)
    before = (tmp_path / STATE_FILE).read_bytes()

    def half(state: object, stream: io.BytesIO) -> None:
        stream.write(b"PK half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        save_state(tmp_path, *parts, Progress(3, 4), {})
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [STATE_FILE]


def test_a_damaged_state_falls_back_on_the_one_before(tmp_path: Path) -> None:
    parts = saved(tmp_path)
    weights = {key: value.clone() for key, value in parts[0].state_dict().items()}
    learn(*parts)
    save_state(tmp_path, *parts, Progress(3, 6), {})
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:1000])
    again = run(seed=5)
    progress, _, told = load_state(tmp_path, *again)
    assert progress == Progress(2, 3, 0.5, 1, 12.5)
    assert all(torch.equal(value, weights[key]) for key, value in again[0].state_dict().items())
    assert str(path) in told
    assert "before" in told

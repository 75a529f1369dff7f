"""The state of a run, so that a killed run goes on as if nothing had happened: written whole, read with care.

``state.pt`` is the last state and ``state-previous.pt`` the one before, which is taken if the last is damaged.
"""

# FOLDED training.saving: When a run saves its state, and what becomes of it when the disk takes nothing more.
from __future__ import annotations

import io
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from gfocal.atomic import atomic_write
from gfocal.console import warn
from gfocal.errors import ResumeError, RunWriteError
from gfocal.training.ema import WeightAverage

STATE_FILE = "state.pt"
PREVIOUS_FILE = "state-previous.pt"


@dataclass
class Progress:
    """How far a run is. A step of the optimizer is whole wherever a state is saved."""

    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps done
    best_ap: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0  # spent training, over every stretch of the run
    batches: int = 0  # done of the epoch that is not done yet
    sums: dict[str, Tensor] = field(default_factory=dict)  # of its losses and positives, over these batches


def has_state(folder: Path) -> bool:
    """Whether there is a run in a folder that can be gone on with."""
    return any((folder / name).is_file() for name in (STATE_FILE, PREVIOUS_FILE))


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    progress: Progress,
    extra: Mapping[str, Any],
) -> None:
    """Write everything that the next step depends on, atomically; the state before stays as the previous one."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else average.model.state_dict(),
        "average_updates": 0 if average is None else average.updates,
        "progress": vars(progress),
        "extra": dict(extra),
    }
    content = io.BytesIO()  # first into memory: a full disk is then an OSError as any other
    torch.save(state, content)
    path = folder / STATE_FILE
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        if path.exists():
            _keep(path, folder / PREVIOUS_FILE)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, in place of the one that had it, without a moment in which it has none."""
    second = previous.with_name(f"{previous.name}.{os.getpid():08x}.tmp")
    try:
        second.unlink(missing_ok=True)
        os.link(path, second)
    except OSError:  # a disk without links: for a moment there is only the previous one
        second = path
    os.replace(second, previous)


def load_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> tuple[Progress, dict[str, Any], str]:
    """Put a saved state back.

    Returns:
        The progress, what was saved beside it, and a line about a damaged state if the one before had to be taken.

    Raises:
        ResumeError: there is nothing to resume, or it is damaged, or it is of another model.
    """
    if not has_state(folder):
        raise ResumeError(f"{folder}: nothing to resume, there is no {STATE_FILE}; start without --resume")
    path, note = folder / STATE_FILE, ""
    state, damage = _read(path)
    if state is None:
        path = folder / PREVIOUS_FILE
        state, more = _read(path)
        if state is None:
            raise ResumeError(
                f"{folder / STATE_FILE}: damaged ({damage}), and {PREVIOUS_FILE} is no help ({more}); "
                "start again in another folder"
            )
        note = f"{folder / STATE_FILE}: damaged ({damage}); {PREVIOUS_FILE}, the one before, is taken"
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.model.load_state_dict(state["average"])
            average.updates = state["average_updates"]
        return Progress(**state["progress"]), state["extra"], note
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ResumeError(f"{path}: was saved by a run with another model or optimizer ({reason})") from error


def _read(path: Path) -> tuple[Any, str]:
    """The content of a state file, or None and why not. Nothing but tensors, numbers and text is ever made of it."""
    if not path.is_file():
        return None, "there is none"
    try:
        with zipfile.ZipFile(path) as file:  # torch does not look at the check sums that it writes
            if (broken := file.testzip()) is not None:
                return None, f"the check sum of {Path(broken).name} is wrong"
        return torch.load(path, map_location="cpu", weights_only=True), ""
    except pickle.UnpicklingError:
        return None, "it holds more than tensors, numbers and text, which is never read"
    except Exception as error:
        return None, type(error).__name__


PATIENCE = 2  # failures to write in a row that end a run: what is computed on meanwhile would be lost


@dataclass
class StateKeeper:
    """Saves the state of a run: every few minutes, at the end of an epoch, and when the run is stopped."""

    folder: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    progress: Progress
    extra: Callable[[], Mapping[str, Any]]
    minutes: float  # between two states in the middle of an epoch; 0: there are none
    is_main: bool
    console: Console
    failures: int = 0  # in a row
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether so many minutes have passed."""
        return self.is_main and 0 < 60 * self.minutes <= time.monotonic() - self.saved_at

    def save(self, must: bool = False) -> None:
        """Write the state, in the main process.

        ``must``: there will be no other occasion.

        Raises:
            RunWriteError: it could not be written, and must be; or for the second time in a row.
        """
        if self.is_main:
            with self.writing(must):
                save_state(self.folder, self.model, self.optimizer, self.average, self.progress, self.extra())

    @contextmanager
    def writing(self, must: bool) -> Iterator[None]:
        """Around what writes: a disk that takes nothing is told, and ends the run only if it stays so."""
        self.saved_at = time.monotonic()
        try:
            yield
            self.failures = 0
        except OSError as error:
            self.failures += 1
            free = shutil.disk_usage(self.folder).free / 1e6
            what = f"{self.folder}: cannot be written to ({error.strerror or error}; {free:.0f} MB are free)"
            if must or self.failures >= PATIENCE:
                raise RunWriteError(
                    f"{what}. The state that was saved before is whole: make room, and go on with --resume"
                ) from error
            warn(self.console, f"{what}; the run goes on, and stops if the next state cannot be saved either")

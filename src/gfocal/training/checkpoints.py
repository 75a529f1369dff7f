"""The state of a run, so that a killed run continues as if nothing had happened: written whole, read with care.

``state.pt`` is the last state and ``state-previous.pt`` the one before, which is used if the last is damaged. The
state is saved every few minutes, at the end of an epoch and when the run is stopped; a full disk ends the run only if
it stays full.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Iterator
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
from gfocal.models.description import describe
from gfocal.models.detector import Detector
from gfocal.run_folder import RunFolder
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage
from gfocal.training.time_plan import TimePlan

MOST_WRITE_FAILURES = 2  # in a row; then the run ends, because what is computed on meanwhile would be lost


@dataclass
class Progress:
    """How far a run is. The state is saved between optimizer steps only."""

    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps done
    best_ap: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0  # spent training, also before the run was resumed
    batches: int = 0  # done in the epoch under way
    sums: dict[str, Tensor] = field(default_factory=dict)  # of its losses and positives, over these batches


@dataclass
class TrainingState:
    """All that the next step depends on, besides settings and data."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    devices: Devices  # has the loss scale of fp16
    progress: Progress = field(default_factory=Progress)
    config: dict[str, Any] = field(default_factory=dict)  # what the run was started with, by dotted keys
    plan: TimePlan | None = None  # of a run that is to end at a time


@dataclass(frozen=True)
class SavedFacts:
    """What a saved state tells about its run besides numbers."""

    config: dict[str, Any] | None = None  # None: of a run without a config, or the state cannot be read
    description: dict[str, Any] | None = None  # of the network, see ``gfocal.models.description``


def save_state(folder: RunFolder, state: TrainingState) -> None:
    """Write a state, atomically; the one before stays as the previous one."""
    average = state.average
    content = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if average is None else average.model.state_dict(),
        "average_updates": 0 if average is None else average.updates,
        "progress": vars(state.progress),
        "extra": state.devices.state_dict(),
        "config": state.config,
        "plan": None if state.plan is None else state.plan.state_dict(),
        "description": json.dumps(describe(state.model)) if isinstance(state.model, Detector) else "",
    }
    stream = io.BytesIO()  # first into memory: a full disk is then an OSError, as for any other file
    torch.save(content, stream)
    with atomic_write(folder.state) as temporary:
        temporary.write_bytes(stream.getbuffer())
        if folder.state.exists():
            _keep_as_previous(folder)


def _keep_as_previous(folder: RunFolder) -> None:
    """Make the state the previous one, without a moment in which there is none."""
    link = folder.path / f"{folder.previous_state.name}.{os.getpid():08x}.tmp"
    try:
        link.unlink(missing_ok=True)
        os.link(folder.state, link)
    except OSError:  # a disk without links: for a moment there is only the previous state
        link = folder.state
    os.replace(link, folder.previous_state)


def load_state(folder: RunFolder, state: TrainingState) -> str:
    """Load the saved state of a folder into ``state``, which holds a new model and optimizer.

    Returns:
        A warning if the last state is damaged and the one before was used, else an empty text.

    Raises:
        ResumeError: there is no state, or it is damaged, or it is of another model or optimizer.
    """
    if not folder.has_state:
        raise ResumeError(
            f"{folder.path}: nothing to resume, there is no {folder.state.name}; start without --resume"
        )
    path, warning = folder.state, ""
    content, damage = _read(path)
    if content is None:
        path = folder.previous_state
        content, previous_damage = _read(path)
        if content is None:
            raise ResumeError(
                f"{folder.state}: damaged ({damage}), and {path.name} cannot be used either ({previous_damage}); "
                "start again in another folder"
            )
        warning = f"{folder.state}: damaged ({damage}); {path.name}, the one before, is used"
    try:
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        if state.average is not None:
            state.average.model.load_state_dict(content["average"])
            state.average.updates = content["average_updates"]
        state.progress = Progress(**content["progress"])
        state.devices.load_state_dict(content["extra"])
        if state.plan is not None:
            state.plan.load_state_dict(content["plan"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ResumeError(f"{path}: was saved by a run with another model or optimizer ({reason})") from error
    return warning


def read_facts(folder: RunFolder) -> SavedFacts:
    """Config and network that the saved state of a run belongs to, read without its tensors."""
    for path in (folder.state, folder.previous_state):
        content, _ = _read(path, with_tensors=False)
        if not isinstance(content, dict):
            continue
        config, text = content.get("config"), content.get("description")
        try:
            description = json.loads(text) if isinstance(text, str) and text else None
        except (ValueError, RecursionError):
            description = None
        return SavedFacts(
            config if isinstance(config, dict) and config else None,
            description if isinstance(description, dict) else None,
        )
    return SavedFacts()


def _read(path: Path, with_tensors: bool = True) -> tuple[Any, str]:
    """The content of a state file, or None and why not. Only tensors, numbers and text are ever created from it.

    Without tensors these are mapped from the disk: they are not to be used.
    """
    if not path.is_file():
        return None, "there is none"
    try:
        with zipfile.ZipFile(path) as file:  # torch writes checksums and does not check them
            if (broken := file.testzip()) is not None:
                return None, f"the checksum of {Path(broken).name} is wrong"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=not with_tensors), ""
    except pickle.UnpicklingError:
        return None, "it holds more than tensors, numbers and text, which is never read"
    except Exception as error:
        return None, type(error).__name__


@dataclass
class Checkpointer:
    """Saves the state of a run from time to time, in the main process."""

    folder: RunFolder
    state: TrainingState
    minutes: float  # between two states within an epoch; 0: there are none
    console: Console
    failures: int = 0  # in a row
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether the minutes have passed; False in all but the main process."""
        return self.state.devices.is_main and 0 < 60 * self.minutes <= time.monotonic() - self.saved_at

    def save(self, is_last: bool = False) -> None:
        """Write the state.

        ``is_last``: the process ends afterwards, so that a failure cannot be made up for later.

        Raises:
            RunWriteError: it could not be written, and ``is_last``; or for the second time in a row.
        """
        if self.state.devices.is_main:
            with self.tolerate_write_failure(is_last):
                save_state(self.folder, self.state)

    @contextmanager
    def tolerate_write_failure(self, is_last: bool) -> Iterator[None]:
        """Around what writes: warn of a disk that does not take it; RunWriteError if it stays so, or ``is_last``."""
        self.saved_at = time.monotonic()
        try:
            yield
            self.failures = 0
        except OSError as error:
            self.failures += 1
            free = shutil.disk_usage(self.folder.path).free / 1e6
            problem = f"{self.folder.path}: cannot be written to ({error.strerror or error}; {free:.0f} MB are free)"
            if is_last or self.failures >= MOST_WRITE_FAILURES:
                raise RunWriteError(
                    f"{problem}. The state saved before is whole: free some space, and continue with --resume"
                ) from error
            warn(self.console, f"{problem}; the run continues, and stops if the next state cannot be saved either")

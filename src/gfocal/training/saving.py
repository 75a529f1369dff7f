"""When a run saves its state, and what becomes of it when the disk takes nothing more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from gfocal.training.checkpoints import Progress, save_state
from gfocal.training.ema import WeightAverage

PATIENCE = 2  # failures to write in a row that end a run: what is computed on meanwhile would be lost


class NoRoom(OSError):  # noqa: N818
    """What a run leaves could not be written; the message says what there is, and how to go on."""


@dataclass
class StateKeeper:
    """Saves the state of a run: every few minutes, at the end of an epoch, and when the run is stopped."""

    folder: Path
    model: nn.Module
    optimiser: torch.optim.Optimizer
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
            NoRoom: it could not be written, and must be; or for the second time in a row.
        """
        if self.is_main:
            with self.writing(must):
                save_state(self.folder, self.model, self.optimiser, self.average, self.progress, self.extra())

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
                raise NoRoom(
                    f"{what}. The state that was saved before is whole: make room, and go on with --resume"
                ) from error
            self.console.print(
                f"warning: {what}; the run goes on, and stops if the next state cannot be saved either",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

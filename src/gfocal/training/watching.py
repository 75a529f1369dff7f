"""What a run shows of itself while it trains: a view for whoever wants to draw it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gfocal.data.dataset import ImageData
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes
from gfocal.run_folder import RunFolder
from gfocal.training.checkpoints import Progress, TrainingState
from gfocal.training.pace import Pace, count_evaluations
from gfocal.training.settings import RunSettings

SECONDS_BETWEEN_VIEWS = 20  # within an epoch

Phase = Literal["running", "finished", "stopped"]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the validation images."""

    result: CocoResult
    detections: Mapping[int, ScoredBoxes]  # by image id


@dataclass(frozen=True)
class RunView:
    """A run at one moment."""

    folder: RunFolder
    phase: Phase
    message: str  # why it ended, if not as planned
    epoch: int  # epochs done
    epochs: int  # planned
    batches: int  # done in the epoch under way
    batches_per_epoch: int
    seconds: float  # spent training
    seconds_left: float | None  # with the evaluations to come; None while unknown
    eval_every: int  # epochs between evaluations
    best_epoch: int  # 0: none yet
    best_ap: float
    rows: Sequence[Mapping[str, Any]]  # of metrics.csv
    val_data: ImageData | None
    evaluated: Evaluated | None  # by the epoch just done


RunWatcher = Callable[[RunView], object]


@dataclass(kw_only=True)
class Watch:
    """Shows a run to a watcher after every epoch, at its end, and now and then in between."""

    watcher: RunWatcher | None  # None: of a process that is not the main one, or nobody asked
    folder: RunFolder
    settings: RunSettings
    state: TrainingState
    batches_per_epoch: int
    val_data: ImageData | None
    rows: Sequence[Mapping[str, Any]] = ()
    pace: Pace = field(default_factory=Pace)
    shown_at: float = 0.0

    def seconds_left(self) -> float | None:
        """Time that the rest of the run will take, with its evaluations; None before an epoch is done."""
        progress, settings = self.state.progress, self.settings
        if (plan := self.state.plan) is not None:
            return max(0.0, plan.seconds - plan.spent) if progress.epoch < settings.epochs else 0.0
        epochs = settings.epochs - progress.epoch - progress.batches / self.batches_per_epoch
        assert settings.eval_every is not None
        more = 0 if self.val_data is None else count_evaluations(progress.epoch, settings.epochs, settings.eval_every)
        return self.pace.seconds_left(epochs, more)

    def show(self, phase: Phase = "running", message: str = "", evaluated: Evaluated | None = None) -> None:
        """Show the run as it is now."""
        if self.watcher is None:
            return
        progress: Progress = self.state.progress
        assert self.settings.eval_every is not None
        self.shown_at = time.monotonic()
        self.watcher(
            RunView(
                folder=self.folder,
                phase=phase,
                message=message,
                epoch=progress.epoch,
                epochs=self.settings.epochs,
                batches=progress.batches,
                batches_per_epoch=self.batches_per_epoch,
                seconds=progress.seconds,
                seconds_left=self.seconds_left(),
                eval_every=self.settings.eval_every,
                best_epoch=progress.best_epoch,
                best_ap=progress.best_ap,
                rows=self.rows,
                val_data=self.val_data,
                evaluated=evaluated,
            )
        )

    def show_now_and_then(self) -> None:
        """Show the run, unless it was shown a moment ago."""
        if self.watcher is not None and time.monotonic() - self.shown_at > SECONDS_BETWEEN_VIEWS:
            self.show()

"""When a run stops before its last epoch: no better AP for a while."""

from __future__ import annotations

from gfocal.training.checkpoints import Progress
from gfocal.training.settings import RunSettings
from gfocal.words import counted


def evaluations_without_better(progress: Progress, eval_every: int) -> int:
    """Evaluations since the one with the best AP, by the epochs alone: a resumed run counts on."""
    return progress.epoch // eval_every - progress.best_epoch // eval_every


def has_run_dry(progress: Progress, run: RunSettings) -> bool:
    """Whether ``run.patience`` evaluations in a row brought no better AP. Not before one is above 0."""
    if not run.patience or progress.best_ap <= 0:
        return False
    return evaluations_without_better(progress, run.eval_every) >= run.patience


def why_stopped(progress: Progress, run: RunSettings) -> str:
    """A line that says so."""
    number = counted(evaluations_without_better(progress, run.eval_every), "evaluation")
    return (
        f"stopped early: no better AP than {progress.best_ap:.3f} of epoch {progress.best_epoch} in {number} "
        f"(run.patience = {run.patience})"
    )

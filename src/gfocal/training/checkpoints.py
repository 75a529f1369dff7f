"""The state of a run between two epochs, so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfocal.atomic import atomic_write
from gfocal.training.ema import WeightAverage

STATE_FILE = "state.pt"


class ResumeError(ValueError):
    """A run that cannot be gone on with; the message says why and what to do."""


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0  # epochs done
    step: int = 0  # optimiser steps done
    best_ap: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0  # spent training, over every stretch of the run


def save_state(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None,
    progress: Progress,
    extra: Mapping[str, Any],
) -> None:
    """Write everything that the next epoch depends on, atomically."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": None if average is None else average.model.state_dict(),
        "average_updates": 0 if average is None else average.updates,
        "progress": vars(progress),
        "extra": dict(extra),
    }
    with atomic_write(folder / STATE_FILE) as temporary:
        torch.save(state, temporary)


def load_state(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> tuple[Progress, dict[str, Any]]:
    """Put a saved state back; returns the progress and what was saved beside it.

    Raises:
        ResumeError: there is nothing to resume, or it is damaged, or it is of another model.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise ResumeError(f"{folder}: nothing to resume, there is no {STATE_FILE}; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ResumeError(f"{path}: damaged ({type(error).__name__}); start again in another folder") from error
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if average is not None:
            average.model.load_state_dict(state["average"])
            average.updates = state["average_updates"]
        return Progress(**state["progress"]), state["extra"]
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ResumeError(f"{path}: was saved by a run with another model or optimiser ({reason})") from error

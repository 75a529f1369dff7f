"""Runs that are not made: what a run leaves behind, without training; and the size of those that are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gfocal.config.config import Config
from gfocal.data.dataset import ImageData
from gfocal.run_folder import RunFolder

TINY = {
    "size.short_side": 96,
    "size.long_side": 96,
    "model.options.body": "resnet18.tv_in1k",
    "model.options.channels": 32,
    "model.options.num_convs": 1,
    "run.num_workers": 0,
    "run.epochs": 2,
    "run.batch_size": 2,
    "run.cpu": True,
    "run.ema_decay": 0.0,
}


class Runs:
    """In place of run_training: notes what it is asked for, and leaves what a run leaves."""

    def __init__(self) -> None:
        self.asked: list[tuple[Config, ImageData, Path, bool]] = []
        self.failing: set[str] = set()
        self.stop_at = 99

    def __call__(
        self, config: Config, train_data: ImageData, val_data: ImageData, folder: Path, *, resume: bool, **_: Any
    ) -> tuple[None, str]:
        self.asked.append((config, train_data, folder, resume))
        if config.method.quality in self.failing:
            raise ValueError("this cannot be built\nmore")
        folder.mkdir(parents=True, exist_ok=True)
        if len(self.asked) == self.stop_at:
            RunFolder(folder).state.write_text("half a run")
            raise KeyboardInterrupt
        leave_run(folder, ap=0.5 + 0.01 * config.run.seed)
        return None, "a result"


def leave_run(folder: Path, ap: float, seconds: float = 60.0) -> None:
    """The files of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = ("ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    RunFolder(folder).result.write_text(json.dumps({"ap": ap, **dict.fromkeys(rest, ap + 0.1)}))
    RunFolder(folder).description.write_text(json.dumps({"threads": 2, "gfocal": "9.9", "torch": "8.8", "gpu": None}))
    RunFolder(folder).metrics.write_text(f"epoch,seconds\n1,1.0\n2,{seconds}\n")

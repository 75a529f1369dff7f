"""The auxiliary part of NanoDet-Plus trains the rest of the network in the first epochs only, resumed or not."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gfocal.config.config import Config, with_changes
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models import nanodet
from gfocal.run import run_training
from gfocal.structures import Losses
from gfocal.training.step import training_step

TINY = with_changes(
    Config(),
    {
        "model.preset": "nanodet_plus_m",
        "model.pretrained": False,
        "model.options": {"channels": 16},
        "size.short_side": 96,
        "size.long_side": 96,
        "optimizer.lr": 0.001,
        "optimizer.clip_norm": 10.0,
        "run.epochs": 2,
        "run.batch_size": 2,
        "run.num_workers": 0,
        "run.cpu": True,
    },
)


def test_it_is_detached_from_its_epoch_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(nanodet, "PUBLISHED", replace(nanodet.PUBLISHED, detach_epoch=1))
    seen: list[bool] = []
    step = training_step

    def watched(network: Any, *arguments: Any) -> Losses:
        seen.append(network.neck.detach_auxiliary)
        if len(seen) == 2:
            raise RuntimeError("the power fails")
        return step(network, *arguments)

    monkeypatch.setattr("gfocal.training.epoch.training_step", watched)
    data, console = SyntheticScenes(2, size=96), Console(file=io.StringIO())
    with pytest.raises(RuntimeError, match="the power fails"):
        run_training(TINY, data, None, tmp_path / "run", console=console)
    assert seen == [False, True]
    run_training(TINY, data, None, tmp_path / "run", console=console, resume=True)
    assert seen == [False, True, True]

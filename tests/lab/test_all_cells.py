"""Every cell of every study builds from the lab's choices, trains 50 steps, and is evaluated."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.config.config import read_config, with_changes
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.lab.results_json import RUNS_FOLDER
from gfocal.lab.running import plan_runs, train_run
from gfocal.lab.setup import LabSetup
from gfocal.lab.studies import STUDIES, Cell, Study
from gfocal.models import ssd
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics

STEPS = 50
TINY = {
    "model.options.channels": 32,
    "model.options.num_convs": 1,
    "size.short_side": 96,
    "size.long_side": 96,
    "schedule.warmup_steps": 10,
    "run.epochs": 1,
    "run.batch_size": 1,
    "run.num_workers": 0,
    "run.ema_decay": 0.0,
    "run.cpu": True,
}
# Cells that make the same choices are one run, and one test.
CELLS: dict[str, Cell] = {}
for _study in STUDIES.values():
    for _cell in _study.cells:
        CELLS.setdefault(str(sorted(_cell.changes.items())), _cell)
IDS = [f"{cell.column}-{cell.name}" for cell in CELLS.values()]


class SevenMaps(nn.Module):
    """Maps of the shapes of SSD's, as VGG-16 takes seconds per step."""

    def __init__(self, pretrained: bool, weights: object) -> None:
        super().__init__()
        self.outs = nn.ModuleList(nn.Conv2d(3, channels, 1) for channels in ssd.CHANNELS)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [out(F.avg_pool2d(images, s)) for s, out in zip(ssd.STRIDES, self.outs, strict=True)]

    def parts(self) -> list[list[nn.Module]]:
        return [[out] for out in self.outs]

    def freeze_settings(self) -> dict[str, object]:
        return {}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(ssd, "VGG16", SevenMaps)


@pytest.mark.parametrize("cell", CELLS.values(), ids=IDS)
def test_a_cell_trains(cell: Cell, tmp_path: Path) -> None:
    config = with_changes(read_config("lab_synthetic"), TINY)
    setting = LabSetup("small", "synthetic", "lab_synthetic", config, "tiny")
    (one,) = plan_runs([Study("one", "", "", (cell,))], setting, [0], cell.column)
    train, val = SyntheticScenes(STEPS, 96, 0, "train"), SyntheticScenes(2, 96, 0, "test")
    train_run(one, train, val, tmp_path, "synthetic", Console(file=io.StringIO()))
    folder = tmp_path / RUNS_FOLDER / one.outcome.run
    (row,) = read_metrics(RunFolder(folder).metrics)
    assert int(row["step"]) == STEPS
    assert float(row["positives"]) > 0
    assert float(row["loss_cls"]) > 0
    assert float(row["loss_box"]) != 0
    assert (float(row["loss_dfl"]) > 0) == bool(config_says(cell, "method.dfl") or is_of_gfl(cell))
    assert bool(float(row.get("loss_quality") or 0)) == (config_says(cell, "method.quality") == "branch")
    assert RunFolder(folder).result.is_file()


def config_says(cell: Cell, key: str) -> object:
    return cell.changes.get(key)


def is_of_gfl(cell: Cell) -> bool:
    """Whether its preset is published with DFL."""
    return str(config_says(cell, "model.preset")).startswith("gfl")


def test_every_cell_is_one_of_these_runs() -> None:
    assert sum(len(study.cells) for study in STUDIES.values()) == 74
    assert len(CELLS) == 52

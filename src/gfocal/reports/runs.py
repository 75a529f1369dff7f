"""Runs side by side: what they were made of, what came of them, and how far seeds alone take them apart."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.config.config import Config, flat
from gfocal.config.values import as_toml, toml_reader
from gfocal.errors import CompareError
from gfocal.run import CONFIG_FILE, RESULT_FILE, RUN_FILE
from gfocal.text import counted
from gfocal.training.metrics_log import METRICS_FILE, read_metrics

SEED = "run.seed"
FIGURES = ("ap", "ap50", "ap75")
# What of a run's circumstances makes its numbers another measurement.
JUDGED_ON = ("data", "val_images", "classes")
SETTING = ("gfocal", "torch", "machine", "gpu", "data", "train_images", "val_images", "classes")


@dataclass(frozen=True)
class ComparedRun:
    """One run, as far as it has come."""

    name: str
    settings: Mapping[str, Any]  # every value of the config, by its key
    about: Mapping[str, Any]  # of run.json; empty where there is none
    rows: tuple[Mapping[str, str], ...]  # of metrics.csv
    result: Mapping[str, Any] | None  # the COCO numbers of the last evaluation; None while the run goes on

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end, the planned one or an early one."""
        return self.result is not None or self.epochs >= self.settings["run.epochs"]

    @property
    def state(self) -> str:
        """How far it is, in words."""
        planned = self.settings["run.epochs"]
        if self.epochs >= planned:
            return counted(planned, "epoch")
        return (
            f"{self.epochs} of {counted(planned, 'epoch')}, {'stopped early' if self.is_finished else 'unfinished'}"
        )

    @property
    def seconds(self) -> float | None:
        """Time spent training."""
        return float(self.rows[-1]["seconds"]) if self.rows else None

    @property
    def best(self) -> Mapping[str, float]:
        """``epoch``, ``ap``, ``ap50`` and ``ap75`` of the evaluation with the best AP; empty before there was one."""
        evaluation = [row for row in self.rows if row.get("ap")]
        if not evaluation:
            return {}
        row = max(evaluation, key=lambda row: float(row["ap"]))
        return {name: float(row[name]) for name in ("epoch", *FIGURES)}

    @property
    def class_ap(self) -> Mapping[str, float | None]:
        """AP of each class at the last evaluation."""
        return {name: figures["ap"] for name, figures in (self.result or {}).get("per_class", {}).items()}


@dataclass(frozen=True)
class Spread:
    """A figure of runs that differ in their seed alone."""

    places: tuple[int, ...]  # of the runs in the list compared, from 0
    mean: Mapping[str, float]
    std: Mapping[str, float]  # of a sample: the sum of squares is divided by one less than their number


def read_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """The runs of some folders, by the shortest names that tell them apart.

    Raises:
        CompareError: a folder holds no run, or its files are damaged.
    """
    folders = list({folder.resolve(): folder for folder in folders}.values())  # each once
    names = short_names(folders)
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> ComparedRun:
    config = folder / CONFIG_FILE
    if not config.is_file():
        raise CompareError(
            f"{folder}: holds no run, there is no {CONFIG_FILE}; give folders that 'gfocal train' wrote"
        )
    settings = flat(Config())  # of a run of an older gfocal, which did not have every key
    try:
        for section, entries in toml_reader().loads(config.read_text(encoding="utf-8")).items():
            settings |= {f"{section}.{key}": value for key, value in entries.items()}
        about = _json(folder / RUN_FILE) or {}
        options = settings.pop("model.options") | about.get("model", {}).get("options", {})  # those not given too
        settings |= {f"model.options.{key}": value for key, value in options.items()}
        metrics = folder / METRICS_FILE
        return ComparedRun(
            name,
            settings,
            about,
            tuple(read_metrics(metrics)) if metrics.is_file() else (),
            _json(folder / RESULT_FILE),
        )
    except (ValueError, AttributeError) as error:
        raise CompareError(f"{folder}: its files are damaged ({error})") from error


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """The config's keys in which runs differ, and what each run has there, as TOML."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    found = {key: [_shown(run.settings.get(key)) for run in runs] for key in keys}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def differing_circumstances(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Versions, machine and data, as far as runs differ there."""
    found = {key: [_shown(run.about.get(key)) for run in runs] for key in SETTING}
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def is_same_test(runs: Sequence[ComparedRun]) -> bool:
    """Whether all runs were evaluated on the same data, as far as they say."""
    return not set(JUDGED_ON) & set(differing_circumstances([run for run in runs if run.about]))


def spreads(runs: Sequence[ComparedRun]) -> list[Spread]:
    """Mean and spread of the best AP of finished runs that differ in their seed alone, two at least."""
    groups: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        if run.is_finished and run.best:
            rest = {key: _shown(value) for key, value in run.settings.items() if key != SEED}
            rest |= {key: _shown(run.about.get(key)) for key in SETTING}
            groups.setdefault(json.dumps(rest, sort_keys=True), []).append(place)
    return [
        Spread(
            tuple(group),
            {name: statistics.mean(runs[k].best[name] for k in group) for name in FIGURES},
            {name: statistics.stdev(runs[k].best[name] for k in group) for name in FIGURES},
        )
        for group in groups.values()
        if len({runs[k].settings[SEED] for k in group}) == len(group) > 1
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"{len(value)} entries: {as_toml(value[0])} ..."
    return as_toml(value)


def duration(seconds: float | None) -> str:
    """A time in words: 12 s, 3.5 min, 2.4 h."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

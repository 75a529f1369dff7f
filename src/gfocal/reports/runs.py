"""What ``gfocal compare`` compares: configs, environments and results of runs, and the spread over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.config.config import Config, flatten
from gfocal.config.values import format_toml, parse_toml
from gfocal.errors import CompareError
from gfocal.evaluation.bootstrap import APDifference, MatchTable, difference_of_ap, read_matches
from gfocal.interop.published_weights import locate_model
from gfocal.models.model_file import read_description
from gfocal.models.published import PUBLISHED
from gfocal.run_folder import RunFolder
from gfocal.text import pluralize
from gfocal.training.metrics_log import read_metrics

SEED = "run.seed"
METRICS = ("ap", "ap50", "ap75")
# Keys of run.json; runs that differ in one of the first were not evaluated on the same data.
EVALUATION_KEYS = ("data", "val_images", "classes")
ENVIRONMENT_KEYS = (
    *("gfocal", "torch", "machine", "gpu", "data", "train_images", "val_images", "selected_on", "classes"),
)


@dataclass(frozen=True)
class ComparedRun:
    """One run, finished or not."""

    name: str
    settings: Mapping[str, Any]  # every value of the config, by its key
    about: Mapping[str, Any]  # of run.json; empty where there is none
    rows: tuple[Mapping[str, str], ...]  # of metrics.csv
    result: Mapping[str, Any] | None  # the COCO numbers of the last evaluation; None of an unfinished run
    matches: MatchTable | None = None  # of the evaluation with the best AP; None of a run by an older gfocal
    best_result: Mapping[str, Any] | None = None  # the COCO numbers of that evaluation; None as before
    is_model_alone: bool = False  # a model file without its run, of which the network and its input are known

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, as planned or early."""
        return self.result is not None or self.epochs >= self._epochs_planned

    @property
    def _epochs_planned(self) -> float:
        """Infinite where the config does not say: of a run that ends at a time."""
        return math.inf if self.settings.get("run.time_minutes") else self.settings.get("run.epochs", math.inf)

    @property
    def state(self) -> str:
        """Progress in words; of a model alone what it is."""
        if self.is_model_alone:
            return str(self.about["model"])
        planned = self._epochs_planned
        if planned == math.inf:
            done = f"{pluralize(self.epochs, 'epoch')} of {self.settings['run.time_minutes']:g} min"
            return done if self.is_finished else f"{done}, unfinished"
        if self.epochs >= planned:
            return pluralize(int(planned), "epoch")
        how = "stopped early" if self.is_finished else "unfinished"
        return f"{self.epochs} of {pluralize(int(planned), 'epoch')}, {how}"

    @property
    def seconds(self) -> float | None:
        """Time spent training."""
        return float(self.rows[-1]["seconds"]) if self.rows else None

    @property
    def best(self) -> Mapping[str, float]:
        """``epoch``, ``ap``, ``ap50`` and ``ap75`` of the evaluation with the best AP; empty before there was one."""
        evaluations = [row for row in self.rows if row.get("ap")]
        if not evaluations:
            return {}
        row = max(evaluations, key=lambda row: float(row["ap"]))
        return {name: float(row[name]) for name in ("epoch", *METRICS)}

    @property
    def class_ap(self) -> Mapping[str, float | None]:
        """AP of each class at the evaluation with the best AP; of a run by an older gfocal at the last one."""
        numbers = self.best_result or self.result or {}
        return {name: one["ap"] for name, one in numbers.get("per_class", {}).items()}


@dataclass(frozen=True)
class SeedSpread:
    """Mean and standard deviation of the best AP of runs that differ in their seed alone."""

    indices: tuple[int, ...]  # of the runs in the list compared
    mean: Mapping[str, float]
    std: Mapping[str, float]  # with N - 1


@dataclass(frozen=True)
class RunDifference:
    """How much higher AP of one run is than that of the first one, on the same images."""

    index: int  # of the run in the list compared
    difference: APDifference

    def describe(self) -> str:
        """``AP +0.031, 95 % interval +0.012 to +0.050``, and whether that may be chance."""
        one = self.difference
        words = "" if one.is_clear else ": may be chance"
        low, high = one.ap_interval
        return f"AP {one.ap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}{words}"


def read_runs(models: Sequence[str | Path]) -> list[ComparedRun]:
    """The runs in some folders or of some model files, each under the shortest name that is unique.

    A model file without its run, also that of published weights by name, has its network and input alone.

    Raises:
        CompareError: a folder holds no run, or damaged files.
        ModelFileError: a file is none of a model, or there is nothing of a name.
        DownloadError: published weights that cannot be downloaded.
    """
    found = [find_run(model) or str(model) for model in models]
    found = list({one.resolve() if isinstance(one, Path) else one: one for one in found}.values())  # each once
    names = short_names([Path(one) for one in found])
    return [
        _read(one, name) if isinstance(one, Path) else _read_model(one, name)
        for one, name in zip(found, names, strict=True)
    ]


def find_run(model: str | Path) -> Path | None:
    """The folder of a run, also that of a model file in it; None for a model without its run."""
    path = Path(model)
    if path.is_dir():
        return None if RunFolder(path).model_files and not RunFolder(path).config.is_file() else path
    folder = RunFolder(path.parent)
    return folder.path if path in folder.model_files and folder.config.is_file() else None


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as make the names unique."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> ComparedRun:
    config = RunFolder(folder).config
    if not config.is_file():
        raise CompareError(
            f"{folder}: holds no run, there is no {config.name}; give folders that 'gfocal train' wrote"
        )
    settings = flatten(Config())  # defaults, as a run of an older gfocal does not have every key
    try:
        for section, entries in parse_toml(config.read_text(encoding="utf-8")).items():
            settings |= {f"{section}.{key}": value for key, value in entries.items()}
        about = _json(RunFolder(folder).description) or {}
        options = settings.pop("model.options") | about.get("model", {}).get(
            "options", {}
        )  # with those left at their defaults
        settings |= {f"model.options.{key}": value for key, value in options.items()}
        metrics = RunFolder(folder).metrics
        return ComparedRun(
            name,
            settings,
            about,
            tuple(read_metrics(metrics)) if metrics.is_file() else (),
            _json(RunFolder(folder).result),
            read_matches(matches) if (matches := RunFolder(folder).matches).is_file() else None,
            _json(RunFolder(folder).best_result),
        )
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CompareError(f"{folder}: its files are damaged ({error})") from error


def _read_model(model: str, name: str) -> ComparedRun:
    """What a model file says by itself: its network, and the size of its input."""
    about = read_description(locate_model(model))
    size = {key: about["input"].get(key) for key in ("short_side", "long_side", "antialias", "stretch")}
    settings = {"model.preset": about["preset"]}
    settings |= {f"model.options.{key}": value for key, value in about["options"].items()}
    settings |= {f"size.{key}": value for key, value in size.items()}
    weights = PUBLISHED.get(str(about.get("provenance", {}).get("name")))
    what = "a model file" if weights is None else f"published: AP {weights.ap / 100:.3f} on COCO val2017"
    return ComparedRun(name, settings, {"model": what}, (), None, is_model_alone=True)


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def config_differences(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """The config keys in which runs differ -> the value of each run, as TOML."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    known = {key: [run for run in runs if key in run.settings or not run.is_model_alone] for key in keys}
    return {
        key: [_as_text(run.settings.get(key)) for run in runs]
        for key in keys
        if len({_as_text(run.settings.get(key)) for run in known[key]}) > 1
    }


def describe_selection(runs: Sequence[ComparedRun]) -> str:
    """What the best epoch of each run was selected on, once for all that agree; empty for runs that do not say it."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if selected_on := run.about.get("selected_on"):
            found.setdefault(str(selected_on), []).append(run.name)
    if len(found) == 1:
        return f"best epoch selected on: {next(iter(found))}"
    return "; ".join(f"best epoch of {', '.join(names)} selected on: {text}" for text, names in found.items())


def environment_differences(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """The same for versions, machine and data."""
    trained = [run for run in runs if not run.is_model_alone]
    return {
        key: [_as_text(run.about.get(key)) for run in runs]
        for key in ENVIRONMENT_KEYS
        if len({_as_text(run.about.get(key)) for run in trained}) > 1
    }


def have_same_evaluation_data(runs: Sequence[ComparedRun]) -> bool:
    """Whether all runs were evaluated on the same data, as far as is known."""
    return not set(EVALUATION_KEYS) & set(environment_differences([run for run in runs if run.about]))


def ap_differences(runs: Sequence[ComparedRun]) -> list[RunDifference]:
    """Differences of the best AP of each run from that of the first one, by a paired bootstrap over the images.

    Of runs that were evaluated on the same images with the same objects; others are left out.
    """
    first = runs[0].matches
    found = []
    for index, run in enumerate(runs[1:], 1):
        if first is None or run.matches is None or not first.has_same_ground_truth(run.matches):
            continue
        if (difference := difference_of_ap(first, run.matches)) is not None:
            found.append(RunDifference(index, difference))
    return found


def seed_spreads(runs: Sequence[ComparedRun]) -> list[SeedSpread]:
    """The groups of at least two finished runs that differ in their seed alone."""
    groups: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        if run.is_finished and run.best:
            rest = {key: _as_text(value) for key, value in run.settings.items() if key != SEED}
            rest |= {key: _as_text(run.about.get(key)) for key in ENVIRONMENT_KEYS}
            groups.setdefault(json.dumps(rest, sort_keys=True), []).append(index)
    return [
        SeedSpread(
            tuple(group),
            {name: statistics.mean(runs[k].best[name] for k in group) for name in METRICS},
            {name: statistics.stdev(runs[k].best[name] for k in group) for name in METRICS},
        )
        for group in groups.values()
        if len({runs[k].settings[SEED] for k in group}) == len(group) > 1
    ]


def _as_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"{len(value)} entries: {format_toml(value[0])} ..."
    return format_toml(value)

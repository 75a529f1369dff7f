"""Training the runs of studies: every cell with every seed once, seed by seed."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gfocal.atomic import atomic_write
from gfocal.config.config import Config, flatten, with_changes, write_config
from gfocal.console import fail, note, say
from gfocal.data.dataset import ImageData
from gfocal.errors import LabError, RunFolderInUseError
from gfocal.lab.results_json import (
    RUNS_FOLDER,
    Outcome,
    Results,
    gather_results,
    is_finished,
    merge_plan,
    read_results,
    write_results,
)
from gfocal.lab.setup import Fact, LabSetup, load_lab_data
from gfocal.lab.studies import STUDIES, Study, resolve
from gfocal.run import run_training
from gfocal.run_folder import RunFolder

CONFIGS_FOLDER = "configs"
COMMANDS_FILE = "commands.sh"


@dataclass(frozen=True)
class PlannedRun:
    """A cell with a seed, and the config of its run."""

    outcome: Outcome
    config: Config

    @property
    def title(self) -> str:
        """Study, column and row, to be printed."""
        return f"{self.outcome.study} {self.outcome.column}, {self.outcome.cell}"


def plan_runs(
    studies: Iterable[Study],
    setup: LabSetup,
    seeds: Sequence[int],
    column: str | None = None,
    console: Console | None = None,
) -> list[PlannedRun]:
    """All cells with all seeds, seed by seed.

    Cells with equal configs share a run, whose name is a hash of config and data. A small lab omits slow cells,
    unless their column is asked for, and among several studies those that need a value that is not set.

    Raises:
        LabError: there is no such column; or a study needs a value that is not set.
        ConfigError: a cell's changes do not fit the base config.
    """
    chosen = [
        (study, cell)
        for study in select_complete(tuple(studies), setup.config, console)
        for cell in study.cells
        if column in (None, cell.column)
    ]
    if not chosen:
        raise LabError(f"none of these studies has a column {column!r}: see gfocal lab list")
    paper_size = setup.budget == "paper"
    chosen = [(study, cell) for study, cell in chosen if paper_size or column or not cell.slow]
    configs = [resolve(base_of(setup.config, study), cell, paper_size) for study, cell in chosen]
    planned = []
    for seed in seeds:
        for (study, cell), config in zip(chosen, configs, strict=True):
            name = run_name(config, setup.data_description, seed)
            outcome = Outcome(study.name, cell.column, cell.name, seed, name)
            planned.append(PlannedRun(outcome, with_changes(config, {"run.seed": seed})))
    return planned


def select_complete(studies: Sequence[Study], config: Config, console: Console | None = None) -> list[Study]:
    """Those of the studies whose needs are set, the others said in a note; LabError if it is one alone."""
    values, complete = flatten(config), []
    for study in studies:
        if not study.needs or values[study.needs] is not None:
            complete.append(study)
            continue
        line = f"study {study.name} needs a value: --set {study.needs}=...; see docs/lab.md"
        if len(studies) == 1:
            raise LabError(line)
        note(console or Console(stderr=True), f"{line}; it is left out")
    return complete


def require_shared_values(studies: Iterable[Study], keys: Iterable[str], column: str | None = None) -> None:
    """Refuse keys that cannot be set for all rows.

    Raises:
        LabError: rows of these studies have such a key themselves, so that the others alone would change, under
            their old names; it is for other studies; or it is the seed.
    """
    studies = tuple(studies)
    cells = [(study, cell) for study in studies for cell in study.cells if column in (None, cell.column)]
    for key in keys:
        if key == "run.seed":
            raise LabError("run.seed: each row is run with seeds 0, 1, ...; their number is that of --seeds")
        if key in {study.needs for study in STUDIES.values()}:
            if not any(study.needs == key for study in studies):
                takers = ", ".join(study.name for study in STUDIES.values() if study.needs == key)
                raise LabError(f"{key}: is for the study {takers} alone; leave it out")
            continue
        rows = list(dict.fromkeys(f"{cell.column} {cell.name!r}" for _, cell in cells if key in cell.changes))
        if rows:
            names = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
            raise LabError(
                f"{key}: rows have a value of their own, which --set does not change ({names}); leave it out"
            )


def base_of(config: Config, study: Study) -> Config:
    """The config that the rows of a study change, without what other studies need."""
    return with_changes(config, {one.needs: None for one in STUDIES.values() if one.needs not in ("", study.needs)})


def run_name(config: Config, data_description: str, seed: int) -> str:
    """Equal for equal configs on the same data: preset, eight digits of a hash, seed."""
    text = write_config(with_changes(config, {"run.seed": 0})) + data_description
    return f"{config.model.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-seed{seed}"


def update_results(planned: Sequence[PlannedRun], setup: LabSetup, out: Path) -> Results:
    """Write results.json with the planned runs and the results of those that are finished.

    Raises:
        LabError: the folder holds the results of another setup.
    """
    if out.exists() and not out.is_dir():
        raise LabError(f"{out}: is a file; name a folder for the lab with --out")
    facts = describe_setup(setup)
    results = read_results(out) or Results(facts)
    differing = sorted(key for key in {*facts, *results.setup} if facts.get(key) != results.setup.get(key))
    if differing:
        raise LabError(
            f"{out}: holds results of another setup, which differs in {', '.join(differing)} "
            f"({results.setup.get(differing[0])!r}, not {facts.get(differing[0])!r}); name another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    results = gather_results(merge_plan(results, [one.outcome for one in planned]), out)
    write_results(out, results)
    return results


def describe_setup(setup: LabSetup) -> dict[str, Fact]:
    """What all runs share, for results.json; a preset may have another input size."""
    config = setup.config
    facts: dict[str, Fact] = {
        "budget": setup.budget,
        "config": setup.config_name,
        "data": setup.data_description,
        "input": f"{config.size.short_side} x {config.size.long_side}",
        "network": ", ".join(f"{key} {value}" for key, value in config.model.options.items()) or "as published",
        "epochs": config.run.epochs,
        "batch_size": config.run.batch_size,
    }
    return facts | ({"changes": setup.changes} if setup.changes else {})


def run_planned(planned: Sequence[PlannedRun], setup: LabSetup, out: Path, console: Console) -> dict[str, str]:
    """Train every run that is not finished, one after the other, and write the results after each.

    A run that was stopped is resumed. If one fails, the error is printed and the next one starts.

    Returns the names and errors of failed runs.

    Raises:
        LabError: the folder holds the results of another setup.
        DataError: there is no dataset.
    """
    results = update_results(planned, setup, out)
    runs = {one.outcome.run: one for one in reversed(planned)}  # the first of those that share a run
    waiting = [one for one in planned if runs[one.outcome.run] is one and not is_finished(_folder(out, one))]
    say(console, f"{len(planned)} rows of tables are {len(runs)} runs; {len(runs) - len(waiting)} are finished")
    failed: dict[str, str] = {}
    if not waiting:
        return failed
    data = load_lab_data(setup, console)
    for number, one in enumerate(waiting, 1):
        say(console, f"run {number} of {len(waiting)}: {one.title}, seed {one.outcome.seed} -> {_folder(out, one)}")
        try:
            train_run(one, data.train(one.outcome.seed), data.val, out, setup.data, console)
        except RunFolderInUseError:  # by another lab
            raise
        except Exception as error:
            failed[one.outcome.run] = f"{type(error).__name__}: {error}".splitlines()[0]
            fail(console, failed[one.outcome.run])
        results = gather_results(results, out, failed)
        write_results(out, results)
    return failed


def train_run(
    one: PlannedRun, train_data: ImageData, val_data: ImageData, out: Path, data_name: str, console: Console
) -> None:
    """Train one run, or resume it, until it has a result."""
    folder = _folder(out, one)
    resume = RunFolder(folder).has_state
    run_training(one.config, train_data, val_data, folder, resume=resume, data_name=data_name, console=console)


def write_commands(planned: Sequence[PlannedRun], setup: LabSetup, out: Path, processes: int = 8) -> Path:
    """Write the config of every run, and a file of commands that train them; returns that file.

    Raises:
        LabError: the folder holds the results of another setup.
    """
    update_results(planned, setup, out)
    (out / CONFIGS_FOLDER).mkdir(exist_ok=True)
    lines = {}
    for one in planned:
        config = out / CONFIGS_FOLDER / f"{one.outcome.run}.toml"
        train = [
            "gfocal",
            "train",
            setup.data,
            "--config",
            str(config),
            "--out",
            str(_folder(out, one)),
            "--auto-resume",
        ]
        command = shlex.join(["accelerate", "launch", "--num_processes", str(processes), "-m", *train])
        if one.outcome.run not in lines:
            _write(config, f"# {command}\n#\n# {one.title}, seed {one.outcome.seed}\n\n{write_config(one.config)}")
            lines[one.outcome.run] = f"# {one.title}, seed {one.outcome.seed}\n{command}\n"
    _write(out / COMMANDS_FILE, "#!/bin/sh\nset -e\n\n" + "\n".join(lines.values()))
    return out / COMMANDS_FILE


def _folder(out: Path, one: PlannedRun) -> Path:
    return out / RUNS_FOLDER / one.outcome.run


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

"""Running studies: every cell with every seed once, in an order in which a stopped lab has whole seeds."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gfocal.atomic import atomic_write
from gfocal.config.config import Config, with_changes, write_config
from gfocal.console import fail, say
from gfocal.data.dataset import ImageData
from gfocal.errors import LabError, RunFolderInUseError
from gfocal.lab.results_json import (
    RUNS_FOLDER,
    Outcome,
    Results,
    gathered,
    is_finished,
    read_results,
    with_plan,
    write_results,
)
from gfocal.lab.setup import Fact, LabSetting, lab_data
from gfocal.lab.studies import Study, resolved
from gfocal.run import run_config
from gfocal.training.checkpoints import has_state

CONFIGS_FOLDER = "configs"
COMMANDS_FILE = "commands.sh"


@dataclass(frozen=True)
class Planned:
    """A cell with a seed, and the run that it asks for."""

    outcome: Outcome
    config: Config

    @property
    def title(self) -> str:
        """For people: study, column and row."""
        return f"{self.outcome.study} {self.outcome.column}, {self.outcome.cell}"


def plan(
    studies: Iterable[Study], setting: LabSetting, seeds: Sequence[int], column: str | None = None
) -> list[Planned]:
    """All cells with all seeds, whole seeds one after the other.

    Cells that make the same choices name the same run: its name is drawn from the resolved config and the data.
    Slow cells have no part in a small lab, unless they stand in the one column asked for.

    Raises:
        LabError: no cell stands in that column.
        ConfigError: a cell's changes do not fit the base config.
    """
    chosen = [(study, cell) for study in studies for cell in study.cells if column in (None, cell.column)]
    if not chosen:
        raise LabError(f"none of these studies has a column {column!r}: see gfocal lab list")
    paper_size = setting.budget == "paper"
    chosen = [(study, cell) for study, cell in chosen if paper_size or column or not cell.slow]
    configs = [resolved(setting.config, cell, paper_size) for _, cell in chosen]
    planned = []
    for seed in seeds:
        for (study, cell), config in zip(chosen, configs, strict=True):
            name = run_name(config, setting.data_text, seed)
            outcome = Outcome(study.name, cell.column, cell.name, seed, name)
            planned.append(Planned(outcome, with_changes(config, {"run.seed": seed})))
    return planned


def run_name(config: Config, data_text: str, seed: int) -> str:
    """The same for the same choices on the same data: detector, the choices as eight letters, seed."""
    text = write_config(with_changes(config, {"run.seed": 0})) + data_text
    return f"{config.model.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-seed{seed}"


def prepare(planned: Sequence[Planned], setting: LabSetting, out: Path) -> Results:
    """The plan and what is known of it, written to the lab's results.json.

    Raises:
        LabError: the folder holds the results of another setting.
    """
    if out.exists() and not out.is_dir():
        raise LabError(f"{out}: is a file; name a folder for the lab with --out")
    facts = setting_facts(setting)
    results = read_results(out) or Results(facts)
    differing = sorted(key for key in {*facts, *results.setting} if facts.get(key) != results.setting.get(key))
    if differing:
        raise LabError(
            f"{out}: holds results with another {', '.join(differing)} ({results.setting.get(differing[0])!r}, "
            f"not {facts.get(differing[0])!r}); name another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    results = gathered(with_plan(results, [one.outcome for one in planned]), out)
    write_results(out, results)
    return results


def setting_facts(setting: LabSetting) -> dict[str, Fact]:
    """What results.json says of all runs; detectors may have an input size of their own."""
    config = setting.config
    return {
        "budget": setting.budget,
        "config": setting.config_name,
        "data": setting.data_text,
        "input": f"{config.size.short_side} x {config.size.long_side}",
        "network": ", ".join(f"{key} {value}" for key, value in config.model.options.items()) or "as published",
        "epochs": config.run.epochs,
        "batch_size": config.run.batch_size,
    }


def run_all(planned: Sequence[Planned], setting: LabSetting, out: Path, console: Console) -> dict[str, str]:
    """Make every run that is not finished, one at a time, and gather the results after each.

    A run that was stopped goes on. One that fails is told and left; the others follow.

    Returns names and errors of the runs that failed.

    Raises:
        LabError: the folder holds the results of another setting.
        DataError: there is no dataset.
    """
    results = prepare(planned, setting, out)
    runs = {one.outcome.run: one for one in reversed(planned)}  # of equal ones the first
    waiting = [one for one in planned if runs[one.outcome.run] is one and not is_finished(_folder(out, one))]
    say(console, f"{len(planned)} rows of tables ask for {len(runs)} runs; {len(runs) - len(waiting)} are done")
    failed: dict[str, str] = {}
    if not waiting:
        return failed
    data = lab_data(setting, console)
    for number, one in enumerate(waiting, 1):
        say(console, f"run {number} of {len(waiting)}: {one.title}, seed {one.outcome.seed} -> {_folder(out, one)}")
        try:
            make_run(one, data.train(one.outcome.seed), data.val, out, setting.data, console)
        except RunFolderInUseError:  # another lab is at work in this folder
            raise
        except Exception as error:
            failed[one.outcome.run] = f"{type(error).__name__}: {error}".splitlines()[0]
            fail(console, failed[one.outcome.run])
        results = gathered(results, out, failed)
        write_results(out, results)
    return failed


def make_run(
    one: Planned, train_data: ImageData, val_data: ImageData, out: Path, data_name: str, console: Console
) -> None:
    """One run from where it is to its result."""
    folder = _folder(out, one)
    resume = has_state(folder)
    run_config(one.config, train_data, val_data, folder, resume=resume, data_name=data_name, console=console)


def write_commands(planned: Sequence[Planned], setting: LabSetting, out: Path, processes: int = 8) -> Path:
    """Write the config of every run, and the file of commands that make them; returns that file.

    Raises:
        LabError: the folder holds the results of another setting.
    """
    prepare(planned, setting, out)
    (out / CONFIGS_FOLDER).mkdir(exist_ok=True)
    lines = {}
    for one in planned:
        config = out / CONFIGS_FOLDER / f"{one.outcome.run}.toml"
        train = [
            "gfocal",
            "train",
            setting.data,
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


def _folder(out: Path, one: Planned) -> Path:
    return out / RUNS_FOLDER / one.outcome.run


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

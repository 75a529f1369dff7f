"""results.json: the results of all runs of a lab, one row for each cell and seed.

Rows are written when runs are planned, and filled when they finish. A filled row stays when the folder of its run is
removed, so the file is enough to write the report.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.errors import LabError
from gfocal.lab.setup import Fact
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import read_metrics

RESULTS_FILE = "results.json"
RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Outcome:
    """The result of a cell of a study with one seed; AP in 0..1, None before the run has finished."""

    study: str
    column: str
    cell: str
    seed: int
    run: str  # name of its folder; cells with equal configs share a run
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    seconds: float | None = None  # of training
    epochs: int | None = None
    threads: int | None = None
    device: str | None = None
    gfocal: str | None = None  # version
    torch: str | None = None  # version
    failed: str | None = None  # why there is no result

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies the row."""
        return self.study, self.column, self.cell, self.seed


@dataclass(frozen=True)
class Results:
    """All rows of a lab, and what its runs share."""

    setup: Mapping[str, Fact]
    outcomes: tuple[Outcome, ...] = ()


def read_results(folder: Path) -> Results | None:
    """The results of a lab folder; None where it has none.

    Raises:
        LabError: the file is damaged, or not the results of a lab.
    """
    path = folder / RESULTS_FILE
    if not path.exists():
        return None
    known = {field.name for field in fields(Outcome)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Outcome(**{key: value for key, value in row.items() if key in known}) for row in content["rows"]]
        return Results(dict(content["setup"]), tuple(rows))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path}: not the results of a lab ({type(error).__name__}: {error}); move it away") from error


def write_results(folder: Path, results: Results) -> None:
    """Write results.json, whole or not at all: a row per line, without keys that are None."""
    rows = [{k: v for k, v in asdict(outcome).items() if v is not None} for outcome in results.outcomes]
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    setup = json.dumps(dict(results.setup), ensure_ascii=False)
    text = f'{{\n "setup": {setup},\n "rows": [\n  {lines}\n ]\n}}\n'
    with atomic_write(folder / RESULTS_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def merge_plan(results: Results, planned: Iterable[Outcome]) -> Results:
    """The results with planned rows added; a row whose run has changed loses its numbers."""
    rows = {outcome.key: outcome for outcome in results.outcomes}
    for outcome in planned:
        if outcome.key not in rows or rows[outcome.key].run != outcome.run:
            rows[outcome.key] = outcome
    return replace(results, outcomes=tuple(rows.values()))


def gather_results(results: Results, folder: Path, failed: Mapping[str, str] | None = None) -> Results:
    """The results with the rows of finished runs filled in; ``failed`` maps runs to the reason of their failure."""
    done: dict[str, dict[str, Any]] = {}
    rows = []
    for outcome in results.outcomes:
        run = folder / RUNS_FOLDER / outcome.run
        if is_finished(run):
            if outcome.run not in done:
                done[outcome.run] = _read_run(run)
            outcome = replace(outcome, failed=None, **done[outcome.run])
        elif outcome.ap is None and outcome.run in (failed or {}):
            outcome = replace(outcome, failed=(failed or {})[outcome.run])
        rows.append(outcome)
    return replace(results, outcomes=tuple(rows))


def is_finished(run: Path) -> bool:
    """Whether the run in a folder has a result."""
    return RunFolder(run).result.is_file()


def _read_run(run: Path) -> dict[str, Any]:
    """The row of a finished run, from its files."""
    try:
        result = json.loads(RunFolder(run).result.read_text(encoding="utf-8"))
        about = json.loads(RunFolder(run).description.read_text(encoding="utf-8"))
        last = read_metrics(RunFolder(run).metrics)[-1]
        return {
            **{name: result[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")},
            "seconds": float(last["seconds"]),
            "epochs": int(float(last["epoch"])),
            "threads": about["threads"],
            "device": about.get("gpu") or "cpu",
            "gfocal": about["gfocal"],
            "torch": about["torch"],
        }
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise LabError(
            f"{run}: damaged files of a run ({type(error).__name__}: {error}); "
            "remove the folder and repeat the command"
        ) from error

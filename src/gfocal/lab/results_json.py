"""results.json: what every run of a lab gave, in one file that says it all without the runs.

The file is a list of rows, one for each cell and seed. Rows are planned first and filled when their run is done; a
filled row stays as it is when the folder of its run is gone, so that the file can be kept without the runs.
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
from gfocal.run import RESULT_FILE, RUN_FILE
from gfocal.training.metrics_log import METRICS_FILE, read_metrics

RESULTS_FILE = "results.json"
RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Outcome:
    """What a cell of a study gave with one seed; ``ap`` and so on in 0..1, or None where there is none (yet)."""

    study: str
    column: str
    cell: str
    seed: int
    run: str  # folder of the run; cells that make the same choices name the same one
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
    failed: str | None = None  # why there is nothing

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Which row this is."""
        return self.study, self.column, self.cell, self.seed


@dataclass(frozen=True)
class Results:
    """All rows of a lab, and what all of its runs have in common."""

    setting: Mapping[str, Fact]
    outcomes: tuple[Outcome, ...] = ()


def read_results(folder: Path) -> Results | None:
    """The results of a lab folder; None where it has none.

    Raises:
        LabError: the file is damaged, or of another make.
    """
    path = folder / RESULTS_FILE
    if not path.exists():
        return None
    known = {field.name for field in fields(Outcome)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Outcome(**{key: value for key, value in row.items() if key in known}) for row in content["rows"]]
        return Results(dict(content["setting"]), tuple(rows))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path}: not the results of a lab ({type(error).__name__}: {error}); move it away") from error


def write_results(folder: Path, results: Results) -> None:
    """Write results.json, whole or not at all; a row is a line, without what is not known."""
    rows = [{k: v for k, v in asdict(outcome).items() if v is not None} for outcome in results.outcomes]
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    setting = json.dumps(dict(results.setting), ensure_ascii=False)
    text = f'{{\n "setting": {setting},\n "rows": [\n  {lines}\n ]\n}}\n'
    with atomic_write(folder / RESULTS_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_plan(results: Results, planned: Iterable[Outcome]) -> Results:
    """The results with the rows that are planned; one whose run is another now loses its numbers."""
    rows = {outcome.place: outcome for outcome in results.outcomes}
    for outcome in planned:
        if outcome.place not in rows or rows[outcome.place].run != outcome.run:
            rows[outcome.place] = outcome
    return replace(results, outcomes=tuple(rows.values()))


def gathered(results: Results, folder: Path, failed: Mapping[str, str] | None = None) -> Results:
    """The results with the rows filled whose runs are done; ``failed`` says of runs why they are not."""
    done: dict[str, dict[str, Any]] = {}
    rows = []
    for outcome in results.outcomes:
        run = folder / RUNS_FOLDER / outcome.run
        if is_finished(run):
            if outcome.run not in done:
                done[outcome.run] = _numbers(run)
            outcome = replace(outcome, failed=None, **done[outcome.run])
        elif outcome.ap is None and outcome.run in (failed or {}):
            outcome = replace(outcome, failed=(failed or {})[outcome.run])
        rows.append(outcome)
    return replace(results, outcomes=tuple(rows))


def is_finished(run: Path) -> bool:
    """Whether the run in a folder has its result."""
    return (run / RESULT_FILE).is_file()


def _numbers(run: Path) -> dict[str, Any]:
    """What the files of a finished run say of it."""
    try:
        result = json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))
        about = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        last = read_metrics(run / METRICS_FILE)[-1]
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
            f"{run}: a run with damaged files ({type(error).__name__}: {error}); "
            "remove the folder, and the same command makes the run again"
        ) from error

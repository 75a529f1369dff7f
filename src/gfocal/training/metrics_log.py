"""metrics.csv: one row per epoch, which experiment trackers get too."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gfocal.atomic import atomic_write, set_aside
from gfocal.text import one_line
from gfocal.training.pace import format_duration
from gfocal.training.trackers import Trackers

COLUMNS = (
    "epoch",
    "step",
    "images",
    "seconds",
    "lr",
    "loss",
    "loss_cls",
    "loss_box",
    "loss_dfl",
    "loss_quality",  # of detectors with a quality branch
    "loss_distill",  # of runs with a teacher
    "positives",
    "ap",
    "ap50",
    "ap75",
)


class MetricsLog:
    """Writes metrics.csv of a run, and passes its rows on to the trackers. As a context manager it closes them.

    The file is written whole, atomically, at each row: a run that is killed leaves a whole file, and one that is
    resumed drops the rows of epochs that it trains again.

    Args:
        path: of metrics.csv.
        keep_epochs: epochs of an earlier part of the run whose rows are kept.
        trackers: closed with the log.
    """

    def __init__(self, path: Path, keep_epochs: int = 0, trackers: Trackers | None = None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if keep_epochs and path.is_file():
            self.rows = [row for row in read_metrics(path) if float(row["epoch"]) <= keep_epochs]
        self.trackers = trackers

    def add(self, row: Mapping[str, Any]) -> None:
        """Write the row of an epoch."""
        self.rows.append(dict(row))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        if self.trackers is not None:
            self.trackers.add(row)

    def close(self, failed: bool = False) -> None:
        """Close the trackers. ``failed``: the run did not come to its end."""
        if self.trackers is not None:
            self.trackers.close(failed)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)


def format_epoch(
    epoch: int, epochs: int, row: Mapping[str, Any], seconds: float, seconds_left: float | None = None
) -> str:
    """The line printed after an epoch, in 80 columns; metrics.csv has the rest.

    ``seconds`` are those of the epoch, with its evaluation; ``seconds_left`` those until the end of the run.
    """
    ap = f"  AP {row['ap']:.3f}" if "ap" in row else ""
    left = f", {format_duration(seconds_left)} left" if seconds_left is not None and epoch < epochs else ""
    number = f"{epoch:>{len(str(epochs))}}/{epochs}"
    return f"epoch {number}  loss {row['loss']:.3f}{ap}  took {format_duration(seconds)}{left}"


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, values as text.

    Raises:
        ValueError: it is not as ``MetricsLog`` writes it, e.g. saved again by a spreadsheet with other separators.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"no table: {error}") from error
    if rows and "epoch" not in rows[0]:
        raise ValueError("it has no column epoch; is it separated by commas?")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has another number of cells than the first line")
        for column in COLUMNS:
            _require_number(row, column, number)
    return rows


def _require_number(row: Mapping[str, str], column: str, number: int) -> None:
    text = row.get(column, "")
    try:
        float(text or ("" if column == "epoch" else "0"))
    except ValueError as error:
        raise ValueError(f"{column} of row {number} is no number: {one_line(text, 40)!r}") from error


def set_aside_unusable_metrics(path: Path) -> str:
    """Rename a metrics.csv that rows cannot be added to; returns a line about it, empty if there is none."""
    if not path.is_file():
        return ""
    try:
        if rows := read_metrics(path):
            _require_known(rows[0])
    except ValueError as error:
        aside = set_aside(path)
        return (
            f"{path}: not as gfocal wrote it ({error}); it is now {aside.name}, and further rows are in "
            f"a new {path.name}"
        )
    return ""


def _require_known(row: Mapping[str, str]) -> None:
    if unknown := [column for column in row if column not in COLUMNS]:
        raise ValueError(f"it has an unknown column {one_line(unknown[0], 40)!r}")

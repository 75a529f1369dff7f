"""metrics.csv: one row per epoch, which experiment trackers get too."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gfocal.atomic import atomic_write
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


def format_epoch(epoch: int, epochs: int, row: Mapping[str, Any], seconds: float) -> str:
    """The line printed after an epoch, in 80 columns; metrics.csv has the rest."""
    ap = f"  AP {row['ap']:.3f}" if "ap" in row else ""
    terms = " ".join(f"{name} {row[f'loss_{name}']:.3f}" for name in ("cls", "box", "dfl"))
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.3f} ({terms}){ap}  {seconds:.0f} s"


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, values as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

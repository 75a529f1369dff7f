"""What a run says while it runs: a progress bar, a line an epoch, metrics.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.training.trackers import Trackers

METRICS_FILE = "metrics.csv"
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


def epoch_line(epoch: int, epochs: int, row: Mapping[str, Any], seconds: float) -> str:
    """What is said of an epoch, in 80 columns; metrics.csv has the rest."""
    ap = f"  AP {row['ap']:.3f}" if "ap" in row else ""
    terms = " ".join(f"{name} {row[f'loss_{name}']:.3f}" for name in ("cls", "box", "dfl"))
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.3f} ({terms}){ap}  {seconds:.0f} s"


class MetricsLog:
    """metrics.csv of a run, whose rows go to its trackers too.

    The file is written anew, atomically, at each row: a run that is killed leaves a whole file, and one that
    is resumed drops the rows of epochs that it does again.
    """

    def __init__(self, folder: Path, keep_epochs: int = 0, trackers: Trackers | None = None) -> None:
        self.path = folder / METRICS_FILE
        self.rows: list[dict[str, Any]] = []
        if keep_epochs and self.path.is_file():
            self.rows = [row for row in read_metrics(self.path) if float(row["epoch"]) <= keep_epochs]
        self.trackers = trackers

    def add(self, row: Mapping[str, Any]) -> None:
        """One row, an epoch."""
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
        """Tell the trackers that the run is over, by its end or before."""
        if self.trackers is not None:
            self.trackers.close(failed)


@contextmanager
def closed_at_end(log: MetricsLog | None) -> Iterator[None]:
    """Whatever ends a run, its trackers are told, and whether it went well."""
    try:
        yield
    except BaseException:
        if log is not None:
            log.close(failed=True)
        raise
    if log is not None:
        log.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, values as text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, 0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0

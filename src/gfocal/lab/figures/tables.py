"""The data of a figure as csv: columns of equal length, numbers so that they read back as they were."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gfocal.atomic import atomic_write

Table = Mapping[str, Sequence[Any] | Tensor]


def write_table(path: Path, table: Table) -> None:
    """Write columns as csv with a head, atomically. Floats keep all their digits.

    Raises:
        ValueError: the columns differ in length.
    """
    columns = {name: c.tolist() if isinstance(c, Tensor) else list(c) for name, c in table.items()}
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"{path}: columns of different length: { {n: len(c) for n, c in columns.items()} }")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_table(path: Path) -> dict[str, list[Any]]:
    """The columns of a csv that ``write_table`` wrote; what reads as a number is one."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    return {name: [_value(row[i]) for row in rows] for i, name in enumerate(head)}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

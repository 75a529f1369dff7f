"""The sheets that charts are drawn on, and the data of figures as csv.

The one place that imports matplotlib, and only when a figure is drawn; its global state (``pyplot``) is not used.
matplotlib is an extra: ``pip install 'gfocal[lab]'``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gfocal.atomic import atomic_write
from gfocal.errors import MissingExtraError
from gfocal.visualize.charts import GRAY

Sheet = Any  # matplotlib.figure.Figure
Axes = Any  # matplotlib.axes.Axes

DPI = 120
WIDTH = 7.6  # inches: 912 pixels
INK = "#2b2f36"
LIGHT = "#d9dde2"


def require_matplotlib() -> Any:
    """``matplotlib.figure.Figure``. Called first, so that nothing is computed in vain.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"figures need matplotlib, which is not installed ({error}): pip install 'gfocal[lab]'"
        ) from error
    return Figure


def sheet(
    rows: int = 1, columns: int = 1, *, height: float, share_x: bool = False, share_y: bool = False
) -> tuple[Sheet, list[Axes]]:
    """An empty sheet, 912 pixels wide, and its axes from left to right, then down.

    ``height`` is in inches of 120 pixels; shared axes have the same limits.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = require_matplotlib()(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09, wspace=0.03, hspace=0.03)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).flatten().tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(GRAY)
        one.tick_params(colors=INK, labelsize=8.5, color=GRAY)
        one.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, title: str, x_label: str = "", y_label: str = "", *, grid: bool = True) -> None:
    """Title (left, above the axes) and axis labels; a pale grid if values are to be read off."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    if grid:
        axes.grid(True, color=LIGHT, linewidth=0.6)


def legend(axes: Axes, title: str | None = None, *, outside: bool = False) -> None:
    """A legend without a frame, at the upper left or to the right of the axes."""
    location = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if outside else {"loc": "upper left"}
    axes.legend(title=title, frameon=False, fontsize=8.5, title_fontsize=8.5, labelcolor=INK, **location)


def heading(figure: Sheet, text: str) -> None:
    """A title over all axes of a sheet."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=11, color=INK)


def save(figure: Sheet, path: Path) -> None:
    """Write a sheet as PNG, atomically; the same sheet gives the same bytes."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None}, facecolor="white")


Table = Mapping[str, Sequence[Any] | Tensor]


def write_table(path: Path, table: Table) -> None:
    """Write columns of equal length as csv, atomically. Floats keep all their digits.

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
    """The columns of a csv written by ``write_table``; numbers where they can be read as such."""
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

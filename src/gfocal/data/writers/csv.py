"""Writer of CSV tables: datasets and detections."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import format_decimal
from gfocal.data.writers.placement import Part, Placement, check_names, stated_areas

IMAGES = "images"
TABLE = "annotations.csv"
COLUMNS = (
    *("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"),
    *("crowd", "area", "image_id", "split"),
)
_SIDES = ("left", "top", "right", "bottom")


def write_csv(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``annotations.csv``, a row for each object, for images below ``images/``.

    Returns what the table cannot store (order and ids of the classes, and those without objects), and notes for the
    user. File names are relative to the table's folder. An image without objects has a row without class and box; an
    image in several splits has its rows once for each. Corners have the fewest digits that keep the float32.
    """
    check_names(placement.names, "CSV")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        file.write(_line(COLUMNS))
        for part in placement.parts:
            file.writelines(map(_line, _rows(part, placement.names)))
    return Sidecar(placement.names, placement.category_ids), []


def _rows(part: Part, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for sample, name in zip(part.data.samples, part.files, strict=True):
        assert sample.size is not None, "samples of files have a size"
        height, width = sample.size
        start = (f"{IMAGES}/{name}", width, height)
        end = (sample.image_id, part.split)
        if not len(sample.boxes):
            yield (*start, *[""] * 7, *end)
        rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
        for box, label, crowd, area in zip(*(row.tolist() for row in rows), strict=True):
            stated = "" if math.isnan(area) else repr(area)
            yield (*start, names[label], *map(format_decimal, box), int(crowd), stated, *end)


def format_csv_header(calibrated: bool = False) -> str:
    """The header of a table of detections; with the columns of a calibrated model."""
    columns = ["file", "class", "score", "x1", "y1", "x2", "y2", *(f"std_{side}" for side in _SIDES)]
    if calibrated:
        columns += [f"{end}_{side}" for side in _SIDES for end in ("lowest", "highest")] + ["calibrated_score"]
    return _line(columns)


def format_csv_rows(record: Mapping[str, Any], names: Sequence[str], calibrated: bool = False) -> str:
    """A line for each object detected in an image.

    ``record`` has ``file``, ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and optionally ``edge_std``,
    ``edge_intervals`` and ``calibrated_scores``, whose columns are empty otherwise.
    """
    count = len(record["labels"])
    stds = record.get("edge_std") or [("",) * 4] * count
    intervals = record.get("edge_intervals") or [[("", "")] * 4] * count
    better = record.get("calibrated_scores") or [""] * count
    rows = zip(record["labels"], record["scores"], record["boxes"], stds, intervals, better, strict=True)
    lines = []
    for label, score, box, std, interval, calibrated_score in rows:
        cells = [record["file"], names[label], f"{score:.5f}", *(f"{v:.2f}" for v in box), *map(_short, std)]
        if calibrated:
            cells += [_short(end) for pair in interval for end in pair]
            cells.append(calibrated_score if calibrated_score == "" else f"{calibrated_score:.5f}")
        lines.append(_line(cells))
    return "".join(lines)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace").decode("utf-8")

"""CSV tables, out: datasets, and what a detector found."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import plain
from gfocal.data.writers.placing import Part, Placing, refuse_names, stated_areas

IMAGES = "images"
TABLE = "annotations.csv"
COLUMNS = (
    *("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"),
    *("crowd", "area", "image_id", "split"),
)
_SIDES = ("left", "top", "right", "bottom")


def write_csv(placing: Placing, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``annotations.csv``, a row for each object, for images below ``images/``.

    Returns what the table has no place for (order and ids of the classes, and those without objects), and notes for
    the user. File names start at the table's folder. An image without objects has a row without class and box; one
    that several splits share has its rows for each of them. Corners have the fewest digits that keep the float32.
    """
    refuse_names(placing.names, "CSV")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        file.write(_line(COLUMNS))
        for part in placing.parts:
            file.writelines(map(_line, _rows(part, placing.names)))
    return Sidecar(placing.names, placing.category_ids), []


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
            yield (*start, names[label], *map(plain, box), int(crowd), stated, *end)


def found_header() -> str:
    """The first line of a table of detections."""
    return _line(["file", "class", "score", "x1", "y1", "x2", "y2", *(f"std_{side}" for side in _SIDES)])


def found_rows(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """A line for each object found in an image; none where nothing was found.

    ``record`` has ``file``, ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and maybe ``edge_std``, whose columns
    are else empty.
    """
    stds = record.get("edge_std") or [("",) * 4] * len(record["labels"])
    rows = zip(record["labels"], record["scores"], record["boxes"], stds, strict=True)
    return "".join(
        _line([record["file"], names[label], f"{score:.5f}", *(f"{v:.2f}" for v in box), *map(_short, std)])
        for label, score, box, std in rows
    )


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace").decode("utf-8")

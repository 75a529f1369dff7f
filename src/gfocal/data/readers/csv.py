"""Reader of CSV tables of boxes, as written by TensorFlow's and RetinaNet's tools and in Kaggle's competitions."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gfocal.data.box_layouts import Layout
from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.locate import ImageLocator, find_images
from gfocal.data.paths import (
    category_ids_by_label,
    class_mismatch,
    find_split,
    find_split_folders,
    list_images,
    pick_split,
    sort_splits,
    split_name,
)
from gfocal.data.readers.csv_columns import (
    CORNERS,
    SIDES,
    Table,
    is_true,
    looks_like_table,
    parse_integer,
    parse_number,
    read_table,
)
from gfocal.data.readers.csv_lists import is_missing, is_nothing
from gfocal.data.readers.fields import FLAG, FLAG_NUMBER, NO, YES
from gfocal.data.sidecar import read_sidecar
from gfocal.data.validation import (
    MALFORMED,
    NO_ROW,
    UNKNOWN_CLASS,
    validate_records,
)
from gfocal.errors import DataError

CLASS_LISTS = ("classes.csv", "_classes.csv")  # a class and its number in each line, as in RetinaNet's tools
_KNOWN_FLAGS = NO | YES
NO_FILE = "row without a file name"
NO_SPLIT = "row without a split"
CELLS = "row with too few or too many cells"
IDS = "image ids are not one integer for each image"
FRACTIONS = "all numbers are in 0..1: interpreted as fractions of the image"


def read_csv(path: str | Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read tables of boxes: a ``.csv`` file, or a folder of them.

    A table has a row for each object: file name, class and box in pixels, in the columns named by its header
    (``gfocal.data.readers.csv_columns``); without a header, in those of TensorFlow or RetinaNet. A row without class
    and box is an image without objects, also where the class says so (``No finding``). Images may be named by ids
    without a suffix, and cells may hold several numbers (``gfocal.data.readers.csv_lists``). Further columns may mark
    a box as crowd, difficult or ignored, and give the area of an outline, the image id and the split. If all numbers
    are in 0..1, they are fractions of the image.

    With a single table, splits are the values of its column ``split``; else a folder has a table for each split,
    named after it or in a subfolder named after it. Images are beside the table, or in the usual folders, as for
    COCO.

    Classes are those listed in ``classes.csv``, then the sorted names in all tables of the folder, so that the labels
    of all splits agree; or ``names``, in that order, which must contain them. Category ids are 1..C; image ids those
    of the table, else 1, 2, ... in the order of file names.

    Problems of single rows are reported in ``problems`` (see ``gfocal.data.validation``). Raises DataError if a table
    is broken or lacks a column, the split does not exist, no image is usable, or a class is not among ``names``.
    """
    path = Path(path)
    source = _open(path)
    table, value = source.select(path, split)
    home = path if path.is_dir() else path.parent
    sidecar = read_sidecar(home)
    found = _order_classes(source.tables, [*(sidecar.names or ()), *_listed_classes(home)])
    if names is not None and not set(found) <= set(names):
        raise class_mismatch(found, names, path)
    names = list(names) if names is not None else found
    if not names:
        raise DataError(f"{path}: no row has a class and a box")
    labels = {name: label for label, name in enumerate(names)}

    problems = list(table.notes)
    locator = find_images(table.file, list(dict.fromkeys(_file_names(table, value))))
    images, image_ids = _images(table, value, locator, labels, problems)
    _report_images_without_rows(images, locator, source.tables, problems)
    for image, image_id in zip(images, _assign_ids(table, image_ids, problems), strict=True):
        image.image_id = image_id
    images.sort(key=lambda image: image.image_id)
    ids = dict(zip(sidecar.names or (), sidecar.category_ids or (), strict=False))
    known = [name for name in ids if name in labels]
    numbers = category_ids_by_label([labels[name] for name in known], [ids[name] for name in known], len(names))
    layout: Layout = "xywh" if table.columns.box == SIDES else "xyxy"
    return validate_records(images, names, numbers, problems, where=path, layout=layout, in_pixels=True)


def csv_splits(path: Path) -> list[str]:
    """Names of the splits of a table or folder; empty for a table without splits, and if there is no table."""
    if path.is_dir() and not _files(path):
        return []
    files = _files(path) if path.is_dir() else {path.stem: path}
    if len(files) > 1:
        return list(files)
    source = _open(path, is_whole=False)
    return list(source.parts) if path.is_dir() or source.by_column else []


def is_csv(path: Path) -> bool:
    """Whether a path is a table, or a folder that contains tables of boxes."""
    return bool(_files(path)) if path.is_dir() else path.suffix.lower() in (".csv", ".tsv")


@dataclass
class _Source:
    """The tables of a dataset."""

    parts: dict[
        str, tuple[Table, str | None]
    ]  # split -> its table, and its value in the column ``split`` if there is one
    tables: list[Table]  # of all splits, including those beside the given table
    by_column: bool

    def select(self, path: Path, split: str | None) -> tuple[Table, str | None]:
        """The table of a split. Raises DataError if there is none."""
        if path.is_dir() or self.by_column:
            return pick_split(self.parts, split, path)
        own = find_split(path.stem)
        if split is not None and own is not None and split_name(split) not in (None, own):
            raise DataError(f"{path}: this file is of split {own!r}, not {split!r}; give its folder to choose")
        return next(iter(self.parts.values()))


def _open(path: Path, is_whole: bool = True) -> _Source:
    """The tables at a path; for the names of splits alone, not whole."""
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = _files(path) if path.is_dir() else {path.stem: path}
    if not files:
        raise DataError(f"{path}: no .csv file with columns such as filename,class,xmin,ymin,xmax,ymax")
    tables = {name: read_table(file, is_whole) for name, file in files.items()}
    if len(tables) == 1:
        (only,) = tables.values()
        values = {value for _, row in only.rows if (value := _split_of(only, row))}
        if values:
            return _Source({value: (only, value) for value in sort_splits(values)}, [only], True)
        return _Source(
            dict.fromkeys(tables, (only, None)), [only, *(_siblings(only.file) if is_whole else ())], False
        )
    return _Source({name: (table, None) for name, table in tables.items()}, list(tables.values()), False)


def _files(folder: Path) -> dict[str, Path]:
    """Split -> table; a table without a split in its name is a split of its own, named by its stem."""
    found: dict[str, Path] = {}
    for name, sub in find_split_folders(folder).items():
        inner = _tables_in(sub)
        if len(inner) == 1:
            found[name] = inner[0]
    for place in (folder / "annotations", folder):
        for file in reversed(_tables_in(place) if not found or place == folder else ()):
            own = find_split(file.stem)
            found.setdefault(own if own is not None and own not in found else file.stem, file)
    return {name: found[name] for name in sort_splits(found)}


def _tables_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".csv", ".tsv") and not f.name.startswith("."))
    return [file for file in files if file.is_file() and looks_like_table(file)]


def _siblings(file: Path) -> Iterator[Table]:
    """The tables of the other splits, if the file or its folder is named after a split: for their classes."""
    home = file.absolute().parent
    folder = home if find_split(file.stem) else home.parent if split_name(home.name) else None
    others = _files(folder) if folder is not None else {}
    if file.absolute() in others.values():
        yield from (read_table(other) for other in others.values() if other != file.absolute())


def _listed_classes(folder: Path) -> list[str]:
    """The classes in classes.csv in the order of their numbers; none if there is no such file."""
    file = next((folder / name for name in CLASS_LISTS if (folder / name).is_file()), None)
    if file is None:
        return []
    try:
        rows = [row for row in csv.reader(file.read_text("utf-8-sig", errors="replace").splitlines()) if row]
    except csv.Error:
        return []
    numbered = [(parse_integer(row[1].strip()), row[0].strip()) for row in rows if len(row) == 2]
    return [name for key, name in sorted((k, n) for k, n in numbered if k is not None and n)]


def _order_classes(tables: Sequence[Table], listed: Sequence[str]) -> list[str]:
    """The listed classes, then all others with objects, numbers before words."""
    found = {table.columns.cell(row, "class") for table in tables for _, row in table.rows if _has_box(table, row)}
    keys = {name: (parse_number(name) is None, parse_number(name) or 0.0, name) for name in found - {""}}
    return list(dict.fromkeys([*listed, *sorted(keys, key=keys.__getitem__)]))


def _has_box(table: Table, row: Sequence[str]) -> bool:
    columns = table.columns
    return _fits(table, row) and not all(is_missing(columns.cell(row, what)) for what in columns.box)


def _fits(table: Table, row: Sequence[str]) -> bool:
    """Whether a row has as many cells as the header, and is not a repeated header, as in concatenated files."""
    count = table.columns.count
    fits = len(row) == count or (len(row) > count and not any(map(str.strip, row[count:])))
    return fits and row != table.columns.header


def _split_of(table: Table, row: Sequence[str]) -> str:
    if "split" not in table.columns.index:
        return ""
    return _own_split(table.columns.cell(row, "split")) if _fits(table, row) else ""


@lru_cache(1000)
def _own_split(value: str) -> str:
    return split_name(value) or value


def _file_names(table: Table, value: str | None) -> Iterator[str]:
    """The file names in the rows of one split, or of all."""
    for _, row in table.rows:
        if _fits(table, row) and value in (None, _split_of(table, row)) and (name := table.columns.cell(row, "file")):
            yield name


def _images(
    table: Table, value: str | None, locator: ImageLocator, labels: Mapping[str, int], problems: list[Problem]
) -> tuple[list[ImageRecord], list[set[int | None]]]:
    """The images of a table in the order of their paths, and the image ids in their rows."""
    columns, file = table.columns, str(table.file)
    images: dict[str, tuple[ImageRecord, set[int | None]] | None] = {}
    file_names = list(dict.fromkeys(_file_names(table, value)))
    located = dict(zip(file_names, locator.locate_all(file_names), strict=True))
    relative = not read_sidecar(table.file.parent).is_converted and _is_relative(
        table
    )  # gfocal convert writes pixels
    if relative:
        problems.append(Problem(file, "all rows", FRACTIONS, "kept"))
    keys = {name: str(found.path or found.expected or name) for name, found in located.items()}
    for line, row in table.rows:
        reason = "" if _fits(table, row) else CELLS
        if not reason and value is not None and (own := _split_of(table, row)) != value:
            if own:
                continue
            reason = NO_SPLIT
        name = columns.cell(row, "file") if not reason else ""
        if not name:
            if row != columns.header:
                record = f"line {line}: {','.join(row)[:80]}"
                problems.append(Problem(file, record, reason or NO_FILE, "dropped"))
            continue
        found, key = located[name], keys[name]
        if key not in images:
            path = locator.take(found, file, f"line {line}: {name}", problems)
            stated = tuple(parse_integer(columns.cell(row, side)) for side in ("height", "width"))
            size = (stated[0], stated[1]) if stated[0] and stated[1] else None
            images[key] = None if path is None else (ImageRecord(file, path, 0, size, relative), set())
        entry = images[key]
        if entry is not None:
            entry[1].add(parse_integer(columns.cell(row, "image_id")))
            _add_box(entry[0], table, row, line, labels, problems)
    placed = [entry for _, entry in sorted(images.items()) if entry is not None]
    return [image for image, _ in placed], [ids for _, ids in placed]


def _add_box(
    image: ImageRecord, table: Table, row: list[str], line: int, labels: Mapping[str, int], problems: list[Problem]
) -> None:
    """Add the object in a row, if there is one."""
    columns, index = table.columns, table.columns.index
    cells, name = [row[index[what]].strip() for what in columns.box], row[index["class"]].strip()
    numbers = [parse_number(cell, table.decimal_comma) for cell in cells]
    found = [value for value in numbers if value is not None]
    if not name or len(found) < len(numbers) or not all(map(math.isfinite, found)):
        if all(map(is_missing, cells)) and (is_missing(name) or is_nothing(name)):
            return  # an image without objects
        if not name or len(found) < len(numbers):
            record = f"line {line}: {','.join(row)[:80]}"
            problems.append(Problem(image.file, record, MALFORMED if name else UNKNOWN_CLASS, "dropped"))
            image.num_lost += 1
            return
    x1, y1, x2, y2 = found
    if columns.box != CORNERS:
        x2, y2 = x1 + x2, y1 + y2
    area = parse_number(row[index["area"]], table.decimal_comma) if "area" in index else None
    is_stated = area is not None and math.isfinite(area) and area > 0
    for i in columns.flags:
        if row[i].strip().lower() not in _KNOWN_FLAGS:
            reason = FLAG_NUMBER if is_true(row[i]) else FLAG
            problems.append(Problem(image.file, f"line {line}: {columns.names[i]} {row[i]!r:.80}", reason, "kept"))
    crowd = any(is_true(row[i]) for i in columns.flags)
    image.add((x1, y1, x2, y2), labels[name], crowd, f"line {line}", area if is_stated and area else math.nan)


def _is_relative(table: Table) -> bool:
    """Whether all numbers of all boxes are in 0..1, and not all are integers."""
    columns, some = table.columns, False
    for _, row in table.rows:
        for what in columns.box if _has_box(table, row) else ():
            value = parse_number(columns.cell(row, what), table.decimal_comma)
            if value is not None and not 0 <= value <= 1:
                return False
            some = some or (value is not None and 0 < value < 1)
    return some


def _assign_ids(table: Table, stated: Sequence[set[int | None]], problems: list[Problem]) -> Sequence[int]:
    """An id for each image: those of the table if they are integers and unique, else 1, 2, ..."""
    running = range(1, len(stated) + 1)
    if "image_id" not in table.columns.index:
        return running
    found = [next(iter(ids)) if len(ids) == 1 else None for ids in stated]
    whole = [image_id for image_id in found if image_id is not None]
    if len(set(whole)) < len(stated):
        problems.append(Problem(str(table.file), "column image_id", IDS, "skipped"))
        return running
    return whole


def _report_images_without_rows(
    images: Sequence[ImageRecord], locator: ImageLocator, tables: Sequence[Table], problems: list[Problem]
) -> None:
    """Images without a row are left out with a problem: they may have no objects or may not be annotated yet."""
    names = dict.fromkeys(name for table in tables for name in _file_names(table, None))
    named = {str(found.path) for found in map(locator.locate, names)}
    for place in sorted({image.path.parent for image in images if os.path.isdir(image.path.parent)}):
        for path in list_images(place):
            if str(path) not in named:
                problems.append(Problem(str(path), "whole image", NO_ROW, "dropped"))

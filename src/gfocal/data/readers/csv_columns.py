"""Columns of CSV tables of boxes: the header names that tools and people use, and the values of cells."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from gfocal.data.dataset import Problem
from gfocal.data.images import image_size
from gfocal.data.locate import ImageLocator, find_images
from gfocal.data.paths import SUFFIXES
from gfocal.data.readers.csv_lists import (
    ONE_CLASS,
    ORDER_FITS,
    ListColumn,
    ListedImage,
    choose_order,
    find_list_column,
    is_missing,
    parse_cell,
    to_corners,
)
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

# Content of a column -> possible header names, the most common first, compared by letters and digits alone.
SPELLINGS = {
    "file": "filename file filepath path imagepath imagefile imagename image img imgpath".split(),  # noqa: SIM905
    "class": [
        "class",
        "label",
        "classname",
        "labelname",
        "category",
        "categoryname",
        "name",
        "classid",
        "categoryid",
    ],
    "x1": ["xmin", "x1", "left", "xmin1", "bboxxmin", "bboxx1"],
    "y1": ["ymin", "y1", "top", "bboxymin", "bboxy1"],
    "x2": ["xmax", "x2", "right", "bboxxmax", "bboxx2"],
    "y2": ["ymax", "y2", "bottom", "bboxymax", "bboxy2"],
    "x": ["x", "bboxx", "boxx", "bboxleft"],
    "y": ["y", "bboxy", "boxy", "bboxtop"],
    "w": ["w", "bboxwidth", "boxwidth", "bboxw"],
    "h": ["h", "bboxheight", "boxheight", "bboxh"],
    "width": ["width", "imagewidth", "imgwidth", "imwidth"],
    "height": ["height", "imageheight", "imgheight", "imheight"],
    "area": ["area"],
    "image_id": ["imageid", "imgid", "patientid"],
    "split": ["split", "set", "subset", "partition"],
}
FLAGS = ["crowd", "iscrowd", "difficult", "isdifficult", "ignore", "ignored", "iscrowdregion", "isgroupof"]
CORNERS = ("x1", "y1", "x2", "y2")
SIDES = ("x", "y", "w", "h")
ANGLES = "column of angles is not read: boxes are used as if they were not rotated"
SCORES = "column of scores is not read: is this the output of a model?"
UNREAD = {"angle": ANGLES, "rotation": ANGLES, "theta": ANGLES, "score": SCORES, "confidence": SCORES, "conf": SCORES}
NO_CLASSES = "table has no column of classes: all objects are of one class"
# Columns of tables without a header: TensorFlow's and RetinaNet's.
HEADERLESS = {
    8: ["file", "width", "height", "class", "x1", "y1", "x2", "y2"],
    6: ["file", "x1", "y1", "x2", "y2", "class"],
}
_PROBED = 50  # rows that are searched for one that fits if there is no header
_HEAD = 65536  # bytes that are read to recognize a table


@dataclass(frozen=True)
class Columns:
    """The columns of a table."""

    index: dict[str, int]  # key of SPELLINGS -> index in a row
    flags: tuple[int, ...]  # columns that mark an ignored region
    box: tuple[str, ...]  # CORNERS or SIDES
    count: int  # number of cells in a row
    header: list[str] | None  # as in the file, None if there is none
    listed: ListColumn | None = None  # a column with several numbers in a cell, in place of those of the box
    names: Sequence[str] = ()  # of the columns, for problems

    def cell(self, row: Sequence[str], what: str) -> str:
        """The stripped content of a cell; empty if there is no such column."""
        return row[self.index[what]].strip() if what in self.index else ""


@dataclass(frozen=True)
class Table:
    """One file: columns, and rows with their line numbers; with ``decimal_comma`` 1,5 is a number."""

    file: Path
    columns: Columns
    rows: list[tuple[int, list[str]]]
    decimal_comma: bool
    notes: list[Problem] = field(default_factory=list)


def read_table(file: Path, is_whole: bool = True) -> Table:
    """Read a table. Raises DataError for missing columns or a broken file.

    Without ``is_whole`` cells that hold several numbers are not read: the rows are for the names of splits.
    """
    try:
        text = _decode(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    try:
        separator = _separator(text)
        rows = list(_rows(text, separator))
    except csv.Error as error:
        raise DataError(f"{file}: broken csv: {one_line(str(error))}") from error
    if not rows:
        raise DataError(f"{file}: empty table")
    columns = _columns(rows, file)
    table = Table(file, columns, rows[columns.header is not None :], separator == ";")
    if not is_whole:
        return table
    unread = list(_unread_columns(table))
    if columns.listed is not None:
        table = _expand_lists(table, columns.listed)
    table = replace(table, notes=[*table.notes, *unread])
    return table if "class" in table.columns.index else _with_one_class(table)


def _unread_columns(table: Table) -> Iterator[Problem]:
    """A problem for each column that is not read and changes what a box is."""
    for i, name in enumerate(table.columns.header or ()):
        reason = UNREAD.get(re.sub("[^a-z]", "", name.lower()))
        if reason is None:
            continue
        usual = (None, 0.0, 1.0) if reason == SCORES else (None, 0.0)
        lines = [line for line, row in table.rows if len(row) > i and parse_number(row[i]) not in usual]
        if lines:
            record = f"column {name!r}: {pluralize(len(lines), 'row')}, first line {lines[0]}"
            yield Problem(str(table.file), record, reason, "kept")


def looks_like_table(file: Path) -> bool:
    """Whether the first rows of a file are a table of boxes; folders may contain other tables."""
    try:
        with file.open("rb") as stream:
            text = _decode(stream.read(_HEAD))
        rows = list(itertools.islice(_rows(text, _separator(text)), _PROBED))
        return bool(rows and _columns(rows, file))
    except (OSError, csv.Error, DataError):
        return False


def _expand_lists(table: Table, listed: ListColumn) -> Table:
    """A table with a row for each object in the cells of a column of lists, and one for each empty cell."""
    columns = table.columns
    videos = _video_columns(columns.header or [])
    images: list[ListedImage] = []
    sides = [columns.index[side] for side in ("height", "width") if side in columns.index]
    for _, row in table.rows:
        is_whole = len(row) >= columns.count
        size = None
        if is_whole and len(sides) == 2:
            height, width = (parse_integer(row[side].strip()) for side in sides)
            size = (height, width) if height and width else None
        name = columns.cell(row, "file") if is_whole else ""
        name = "video_{}/{}".format(*(row[i].strip() for i in videos)) if videos and name else name
        objects = parse_cell(row[listed.index], listed, SPELLINGS) if is_whole else []
        images.append(ListedImage(name, size, objects))
    names = list(dict.fromkeys(image.file for image in images if image.file))
    order, is_concluded = choose_order(images, _find_sizes(table.file, names), str(table.file))
    header = columns.header or []
    kept = [what for what in columns.index if columns.index[what] != listed.index and what not in (*SIDES, *CORNERS)]
    layout = list(dict.fromkeys(["file", "class", *CORNERS, *(what for what in kept if what != "class")]))
    is_alone = columns.index.get("class", listed.index) == listed.index  # no class beside the list
    places = [*(columns.index[what] for what in layout[6:]), *columns.flags]
    rows: list[tuple[int, list[str]]] = []
    for (line, row), image in zip(table.rows, images, strict=True):
        if len(row) < columns.count or row == columns.header:
            rows.append((line, row[:1]))  # is reported as a row of too few cells
            continue
        own = "" if is_alone else columns.cell(row, "class")
        rest = [row[i].strip() for i in places]
        for one in image.objects:
            name = one.name or own or (ONE_CLASS if is_alone else "")
            rows.append((line, [image.file, name, *to_corners(one, order), *rest]))
        if not image.objects:
            rows.append((line, [image.file, "" if listed.kind != "bbox" else own, "", "", "", "", *rest]))
    count = len(layout) + len(columns.flags)
    index = {what: i for i, what in enumerate(layout)}
    flags = tuple(range(len(layout), count))
    labels = [*layout, *(header[i] for i in columns.flags)]
    notes = [Problem(str(table.file), f"column {header[listed.index]}: {order}", ORDER_FITS, "kept")]
    has_names = not is_alone or any(one.name for image in images for one in image.objects)
    notes = notes * is_concluded + [Problem(str(table.file), f"class {ONE_CLASS!r}", NO_CLASSES, "kept")] * (
        not has_names
    )
    return Table(table.file, Columns(index, flags, CORNERS, count, None, names=labels), rows, False, notes)


def _video_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The columns of video and frame, which name the image in tables of videos: video_0/16.jpg."""
    names = [name.strip().lower() for name in header]
    return (
        (names.index("video_id"), names.index("video_frame")) if {"video_id", "video_frame"} <= set(names) else None
    )


def _find_sizes(file: Path, names: Sequence[str]) -> Callable[[str], tuple[int, int] | None]:
    """A function from the name of an image to its height and width, None if there is none; looks when called."""
    locators: list[ImageLocator] = []

    def find_size(name: str) -> tuple[int, int] | None:
        try:
            if not locators:
                locators.append(find_images(file, names))
            path = locators[0].locate(name).path
            return image_size(path) if path is not None else None
        except DataError:
            return None

    return find_size


def _with_one_class(table: Table) -> Table:
    """A table without a column of classes, whose objects are all of one class."""
    columns = table.columns
    count = columns.count
    rows = []
    for line, row in table.rows:
        has_box = len(row) >= count and not all(is_missing(columns.cell(row, what)) for what in columns.box)
        is_row = len(row) >= count and row != columns.header
        rows.append((line, [*row[:count], ONE_CLASS if has_box else ""] if is_row else row[:1]))
    header = None if columns.header is None else [*columns.header, "class"]
    columns = replace(columns, index=columns.index | {"class": count}, count=count + 1, header=header)
    note = Problem(str(table.file), f"class {ONE_CLASS!r}", NO_CLASSES, "kept")
    return replace(table, columns=columns, rows=rows, notes=[*table.notes, note])


def _decode(content: bytes) -> str:
    """Decode UTF-8, or the UTF-16 of spreadsheets."""
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if is_utf16 else "utf-8", errors="replace").removeprefix("\ufeff")


def _separator(text: str) -> str:
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")  # \r ends lines too
    return max(",;\t", key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the number of its last line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    for row in reader:
        if any(map(str.strip, row)):
            yield reader.line_num, row


def _columns(rows: Sequence[tuple[int, list[str]]], file: Path) -> Columns:
    header = rows[0][1]
    words = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in header]
    index: dict[str, int] = {}
    for what, spellings in SPELLINGS.items():
        found = [words.index(spelling) for spelling in spellings if spelling in words]
        index |= {what: found[0]} if found else {}
    if "file" not in index and "image_id" not in index and (named := _find_file_names(rows)) is not None:
        index["file"] = named
    label = index.get("class")
    is_id = "file" not in index and "image_id" in index
    if is_id:
        index["file"] = index.pop("image_id")
    missing = [what for what in ("file", "class") if what not in index]
    box = CORNERS
    if not set(CORNERS) <= set(index):
        if not {"x", "y"} <= set(index) and {"x1", "y1", "w", "h"} <= set(index):
            index["x"], index["y"] = index["x1"], index["y1"]
        # With x and y, width and height may be those of the box.
        for side, other in (("w", "width"), ("h", "height")):
            if side not in index and {"x", "y"} <= set(index) and other in index:
                index[side] = index.pop(other)
        box = SIDES
        if not set(SIDES) <= set(index):
            missing.append("xmin, ymin, xmax, ymax")
    flags = tuple(i for i, word in enumerate(words) if word in FLAGS)
    listed = find_list_column(words, label, [row for _, row in rows[1:_PROBED]]) if missing else None
    if listed is not None and "file" in index and missing[-1:] == ["xmin, ymin, xmax, ymax"]:
        return Columns(index, flags, box, len(header), header, listed, header)
    if not missing or (is_id and missing == ["class"]):
        return Columns(index, flags, box, len(header), header, names=header)
    for count, layout in HEADERLESS.items():
        bare = Columns({what: i for i, what in enumerate(layout)}, (), CORNERS, count, None)
        if any(_fits(row, bare) for _, row in rows[:_PROBED]):
            return bare
    shown = one_line(", ".join(one_line(cell, 40) for cell in header[:12]) + ", ..." * (len(header) > 12))
    raise DataError(
        f"{file}: not a table of boxes: its first line ({shown}) has no {' and no '.join(missing)}; write a header "
        "such as filename,class,xmin,ymin,xmax,ymax"
    )


def _find_file_names(rows: Sequence[tuple[int, list[str]]]) -> int | None:
    """The first column whose cells are names of image files, such as ``frame``; None if there is none."""
    cells = [row for _, row in rows[1:_PROBED]]
    for i in range(min(map(len, cells), default=0)):
        if all(os.path.splitext(row[i].strip())[1].lower() in SUFFIXES for row in cells):
            return i
    return None


def _fits(row: Sequence[str], bare: Columns) -> bool:
    if len(row) != bare.count or not bare.cell(row, "class") or parse_number(bare.cell(row, "class")) is not None:
        return False
    return all(parse_number(bare.cell(row, what)) is not None for what in bare.index if what not in ("file", "class"))


def parse_number(text: str, decimal_comma: bool = False) -> float | None:
    """The number in a cell, None if there is none. NaN and infinities are numbers here."""
    try:
        return float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None


@lru_cache(10_000)  # columns of sizes and ids repeat their values
def parse_integer(text: str) -> int | None:
    """The 64-bit integer in a cell, also if written as 12.0, as spreadsheets do; else None."""
    if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        return int(text) if -(2**63) <= int(text) < 2**63 else None
    value = parse_number(text)
    exact = value is not None and math.isfinite(value) and value.is_integer() and abs(value) < 2**53
    return int(value) if exact and value is not None else None


def is_true(text: str) -> bool:
    """Whether a flag is set: 1, true, yes, or any number but 0."""
    return text.strip().lower() in ("true", "yes", "t", "y") or bool(parse_number(text) or 0.0)

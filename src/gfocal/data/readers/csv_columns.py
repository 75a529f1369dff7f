"""Columns of CSV tables of boxes: the header names that tools and people use, and the values of cells."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfocal.errors import DataError
from gfocal.text import one_line

# Content of a column -> possible header names, the most common first, compared by letters and digits alone.
SPELLINGS = {
    "file": "filename file filepath path imagepath imagefile imagename image img imgpath".split(),  # noqa: SIM905
    "class": ["class", "label", "classname", "labelname", "category", "categoryname", "name"],
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
    "image_id": ["imageid"],
    "split": ["split", "set", "subset", "partition"],
}
FLAGS = ["crowd", "iscrowd", "difficult", "isdifficult", "ignore", "ignored", "iscrowdregion", "isgroupof"]
CORNERS = ("x1", "y1", "x2", "y2")
SIDES = ("x", "y", "w", "h")
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


def read_table(file: Path) -> Table:
    """Read a table. Raises DataError for missing columns or a broken file."""
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
    return Table(file, columns, rows[columns.header is not None :], separator == ";")


def looks_like_table(file: Path) -> bool:
    """Whether the first rows of a file are a table of boxes; folders may contain other tables."""
    try:
        with file.open("rb") as stream:
            text = _decode(stream.read(_HEAD))
        rows = list(itertools.islice(_rows(text, _separator(text)), _PROBED))
        return bool(rows and _columns(rows, file))
    except (OSError, csv.Error, DataError):
        return False


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
        if any(cell.strip() for cell in row):
            yield reader.line_num, row


def _columns(rows: Sequence[tuple[int, list[str]]], file: Path) -> Columns:
    header = rows[0][1]
    words = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in header]
    index: dict[str, int] = {}
    for what, spellings in SPELLINGS.items():
        found = [words.index(spelling) for spelling in spellings if spelling in words]
        index |= {what: found[0]} if found else {}
    missing = [what for what in ("file", "class") if what not in index]
    box = CORNERS
    if not set(CORNERS) <= set(index):
        # With x and y, width and height may be those of the box.
        for side, other in (("w", "width"), ("h", "height")):
            if side not in index and {"x", "y"} <= set(index) and other in index:
                index[side] = index.pop(other)
        box = SIDES
        if not set(SIDES) <= set(index):
            missing.append("xmin, ymin, xmax, ymax")
    if not missing:
        flags = tuple(i for i, word in enumerate(words) if word in FLAGS)
        return Columns(index, flags, box, len(header), header)
    for count, layout in HEADERLESS.items():
        bare = Columns({what: i for i, what in enumerate(layout)}, (), CORNERS, count, None)
        if any(_fits(row, bare) for _, row in rows[:_PROBED]):
            return bare
    shown = one_line(", ".join(one_line(cell, 40) for cell in header[:12]) + ", ..." * (len(header) > 12))
    raise DataError(
        f"{file}: not a table of boxes: its first line ({shown}) has no {' and no '.join(missing)}; write a header "
        "such as filename,class,xmin,ymin,xmax,ymax"
    )


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

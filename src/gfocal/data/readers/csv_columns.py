"""What the columns of a CSV table of boxes are called, in the tables that tools and people write."""

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

# What a column holds -> how its header may be spelled, likeliest first; letters and digits alone count.
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
# Tables without a header: TensorFlow's and RetinaNet's.
BARE = {8: ["file", "width", "height", "class", "x1", "y1", "x2", "y2"], 6: ["file", "x1", "y1", "x2", "y2", "class"]}
_TRIED = 50  # rows of a table without a header that are looked at
_HEAD = 65536  # bytes by which a table is known


@dataclass(frozen=True)
class Columns:
    """Where in a row things stand."""

    place: dict[str, int]  # of what SPELLINGS has
    flags: tuple[int, ...]  # columns that mark a region to be ignored
    box: tuple[str, ...]  # CORNERS or SIDES
    count: int  # of cells in a row
    header: list[str] | None  # as it stands, None where there is none

    def cell(self, row: Sequence[str], what: str) -> str:
        """The stripped content of a cell; empty where there is no such column."""
        return row[self.place[what]].strip() if what in self.place else ""


@dataclass(frozen=True)
class Table:
    """One file: its columns, and its rows with their line numbers; ``decimal_comma`` where 1,5 is a number."""

    file: Path
    columns: Columns
    rows: list[tuple[int, list[str]]]
    decimal_comma: bool


def read_table(file: Path) -> Table:
    """Read a table whole. Raises DataError that says which columns are lacking, or what is broken."""
    try:
        text = _decoded(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    try:
        separator = _separator(text)
        rows = list(_rows(text, separator))
    except csv.Error as error:
        raise DataError(f"{file}: broken csv: {one_line(str(error))}") from error
    if not rows:
        raise DataError(f"{file}: an empty table")
    columns = _columns(rows, file)
    return Table(file, columns, rows[columns.header is not None :], separator == ";")


def looks_like_table(file: Path) -> bool:
    """Whether a file begins as a table of boxes; others lie about as well."""
    try:
        with file.open("rb") as stream:
            text = _decoded(stream.read(_HEAD))
        rows = list(itertools.islice(_rows(text, _separator(text)), _TRIED))
        return bool(rows and _columns(rows, file))
    except (OSError, csv.Error, DataError):
        return False


def _decoded(content: bytes) -> str:
    """Text of UTF-8, or of the UTF-16 that spreadsheets save."""
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if is_utf16 else "utf-8", errors="replace").removeprefix("\ufeff")


def _separator(text: str) -> str:
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")  # \r ends lines too
    return max(",;\t", key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, each with the number of its last line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num, row


def _columns(rows: Sequence[tuple[int, list[str]]], file: Path) -> Columns:
    header = rows[0][1]
    words = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in header]
    place: dict[str, int] = {}
    for what, spellings in SPELLINGS.items():
        found = [words.index(spelling) for spelling in spellings if spelling in words]
        place |= {what: found[0]} if found else {}
    lacking = [what for what in ("file", "class") if what not in place]
    box = CORNERS
    if not set(CORNERS) <= set(place):
        # With x and y, width and height may be those of the box.
        for side, other in (("w", "width"), ("h", "height")):
            if side not in place and {"x", "y"} <= set(place) and other in place:
                place[side] = place.pop(other)
        box = SIDES
        if not set(SIDES) <= set(place):
            lacking.append("xmin, ymin, xmax, ymax")
    if not lacking:
        flags = tuple(i for i, word in enumerate(words) if word in FLAGS)
        return Columns(place, flags, box, len(header), header)
    for count, layout in BARE.items():
        bare = Columns({what: i for i, what in enumerate(layout)}, (), CORNERS, count, None)
        if any(_fits(row, bare) for _, row in rows[:_TRIED]):
            return bare
    told = one_line(", ".join(one_line(cell, 40) for cell in header[:12]) + ", ..." * (len(header) > 12))
    raise DataError(
        f"{file}: not a table of boxes: its first line ({told}) names no {' and no '.join(lacking)}; write a header "
        "such as filename,class,xmin,ymin,xmax,ymax"
    )


def _fits(row: Sequence[str], bare: Columns) -> bool:
    if len(row) != bare.count or not bare.cell(row, "class") or number(bare.cell(row, "class")) is not None:
        return False
    return all(number(bare.cell(row, what)) is not None for what in bare.place if what not in ("file", "class"))


def number(text: str, decimal_comma: bool = False) -> float | None:
    """The number that a cell holds; None where it holds none. NaN and infinities are numbers here."""
    try:
        return float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None


def whole_number(text: str) -> int | None:
    """The whole number of 64 bits that a cell holds, 12.0 too, as spreadsheets like to write; else None."""
    if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        return int(text) if -(2**63) <= int(text) < 2**63 else None
    value = number(text)
    exact = value is not None and math.isfinite(value) and value.is_integer() and abs(value) < 2**53
    return int(value) if exact and value is not None else None


def is_set(text: str) -> bool:
    """Whether a flag is set: 1, true, yes, or any number but 0."""
    return text.strip().lower() in ("true", "yes", "t", "y") or bool(number(text) or 0.0)

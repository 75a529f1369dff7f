"""Reader of Open Images: ``<split>-annotations-bbox.csv``, boxes as XMin, XMax, YMin, YMax in fractions."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.annotated import (
    NOT_ANNOTATED,
    WHOLE,
    AnnotatedBox,
    AnnotatedImage,
    AnnotationFormat,
    Parsed,
)
from gfocal.data.dataset import Problem
from gfocal.data.paths import find_split, find_split_folders, list_images
from gfocal.data.readers.fields import read_flag
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS
from gfocal.data.validation import MALFORMED
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

UNVERIFIED = "images are labeled for some classes alone: objects of other classes may be unlabeled, as background"
UNKNOWN_GROUP = "IsGroupOf is neither 0 nor 1: read as a single object"
NO_NAME = "class without a name in the class descriptions"
_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_PLACES = ("", "annotations", "labels", "csv", "metadata")
_HEAD = 4096


@dataclass(frozen=True)
class _Source:
    table: Path
    descriptions: Path | None
    images: Path | None = None  # the folder of the split, whose images without a row are left out with a note
    folders: tuple[str, ...] = ()  # the same, below the folder of the dataset


def find_openimages(path: Path) -> Mapping[str, _Source] | None:
    """The tables of boxes, by split."""
    if path.is_file():
        home = path.parent
        return {WHOLE: _Source(path, _descriptions(home))} if _is_table(path) else None
    found: dict[str, _Source] = {}
    homes = [(None, path), *find_split_folders(path).items()]
    for split, home in homes:
        tables = [file for place in _PLACES for file in _csv_in(home / place) if _is_table(file)]
        for table in tables:
            name = split or find_split(table.stem) or table.stem
            places = (home / "data", home / "images") if split else (path / "images" / name, path / name)
            images = next((place for place in places if place.is_dir()), None)
            folders = (images.relative_to(path).as_posix(),) if images is not None else ()
            found.setdefault(name, _Source(table, _descriptions(home) or _descriptions(path), images, folders))
    return found or None


def _csv_in(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.glob("*.csv") if not f.name.startswith(".")) if folder.is_dir() else []
    return [file for file in files if file.is_file()]  # no pipes


def _is_table(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            head = stream.readline(_HEAD)
    except OSError:
        return False
    return set(_COLUMNS) <= {word.strip() for word in head.split(",")}


def _descriptions(home: Path) -> Path | None:
    files = [file for place in _PLACES for file in _csv_in(home / place)]
    named = [file for file in files if "class-descriptions" in file.name]
    return next(
        iter(named), next((f for f in files if f.name == "classes.csv" and f.parent.name == "metadata"), None)
    )


def parse_openimages(source: _Source) -> Parsed:
    """The images of a table.

    Boxes that stand for a group of objects (IsGroupOf) are ignored regions; occluded, truncated, depicted and inside
    ones are objects. An image without a row is left out: what it shows is unknown.
    """
    names = _read_names(source.descriptions) if source.descriptions is not None else {}
    parsed = Parsed([])
    file = str(source.table)
    images: dict[str, AnnotatedImage] = {}
    unnamed: set[str] = set()
    unknown: list[int] = []  # lines
    for line, row in _rows(source.table):
        image_id, label = row["ImageID"].strip(), row["LabelName"].strip()
        record = f"line {line}: {','.join(row.values())[:80]}"
        if not image_id:
            raise DataError(f"{file}, line {line}: no ImageID")
        if image_id not in images:
            images[image_id] = AnnotatedImage(image_id, file, relative=True, folders=source.folders)
        image = images[image_id]
        try:
            x1, x2, y1, y2 = (float(row[name]) for name in _COLUMNS[2:])
        except ValueError:
            x1 = x2 = y1 = y2 = math.nan
        if not label or math.isnan(x1 + x2 + y1 + y2):
            parsed.problems.append(Problem(file, record, MALFORMED, "dropped"))
            image.left_out = UNREADABLE_OBJECTS
            continue
        if names and label not in names:
            unnamed.add(label)
        flag = row.get("IsGroupOf", "").strip()
        if read_flag(flag) is None:
            unknown.append(line)
        ignored = read_flag(flag) is True
        image.boxes.append(AnnotatedBox((x1, y1, x2, y2), names.get(label, label), f"line {line}", ignored))
    parsed.images = list(images.values())
    parsed.problems += [Problem(file, label, NO_NAME, "kept") for label in sorted(unnamed)]
    parsed.problems.append(Problem(file, "all images", UNVERIFIED, "kept"))
    if unknown:
        record = f"{pluralize(len(unknown), 'row')}, first line {unknown[0]}"
        parsed.problems.append(Problem(file, record, UNKNOWN_GROUP, "kept"))
    for path in list_images(source.images) if source.images is not None else ():
        if path.stem not in images:
            parsed.images.append(AnnotatedImage(os.path.abspath(path), str(path), left_out=NOT_ANNOTATED))
    return parsed


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with all cells, as text, each with the number of its line."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.reader(stream)
            header = [word.strip() for word in next(reader, [])]
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
                    raise DataError(f"{file}, line {reader.line_num}: {len(row)} cells, the header has {len(header)}")
                yield reader.line_num, dict(zip(header, row, strict=False))
    except (OSError, csv.Error) as error:
        raise DataError(f"{file}: broken csv: {one_line(str(error))}") from error


def _read_names(file: Path) -> dict[str, str]:
    """Name of each class by its label such as /m/01g317; with or without a header."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            rows = [row for row in csv.reader(stream) if len(row) >= 2]
    except (OSError, csv.Error) as error:
        raise DataError(f"{file}: broken csv: {one_line(str(error))}") from error
    names = {row[0].strip(): row[1].strip() for row in rows if row[1].strip()}
    if len(set(names.values())) < len(names):  # one name for several labels: told apart by the label
        count: dict[str, int] = {}
        for name in names.values():
            count[name] = count.get(name, 0) + 1
        names = {label: name if count[name] == 1 else f"{name} ({label})" for label, name in names.items()}
    return names


OPENIMAGES = AnnotationFormat(
    "Open Images",
    "<split>-annotations-bbox.csv with columns ImageID,LabelName,XMin,XMax,YMin,YMax, here or in annotations/",
    find_openimages,
    parse_openimages,
    ("images", "data"),
)

"""Reader of Darknet's YOLO, CVAT's "YOLO 1.1": obj.data, obj.names, lists of images, label files beside the images.

CVAT writes names as ``data/obj_train_data/a.jpg``, where data/ is the folder of obj.data itself. Rotated boxes are
stored unrotated, which the files do not tell.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gfocal.data.annotated import NOT_ANNOTATED, WHOLE, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.locate import clean_name
from gfocal.data.paths import SUFFIXES, resolve_inside, sort_splits, split_name
from gfocal.data.readers.label_lines import read_label_lines
from gfocal.data.readers.reading import Reading
from gfocal.errors import DataError
from gfocal.text import one_line

COUNT_DIFFERS = "classes is not the number of names"
LIST_MISSING = "list of images that does not exist"

_SPLIT_KEYS = ("train", "valid", "val", "test")


@dataclass(frozen=True)
class _List:
    """One split: its list of images, and the class names."""

    data: Path  # obj.data, beside which names start
    names: Path
    images: Path
    classes: str  # the stated number of them
    missing: tuple[str, ...]  # entries of other splits that do not exist


def _find(path: Path) -> Mapping[str, _List] | None:
    files = sorted(path.glob("*.data")) if path.is_dir() else [path] if path.suffix.lower() == ".data" else []
    for file in filter(Path.is_file, files):
        entries = _read_entries(file)
        names = _resolve(file.parent, entries.get("names", ""))
        if names is None:
            continue
        found = {_split(key): _resolve(file.parent, entries[key]) for key in _SPLIT_KEYS if key in entries}
        missing = tuple(f"{key} = {entries[key]}" for key in _SPLIT_KEYS if key in entries and not found[_split(key)])
        lists = {
            split: _List(file, names, images, entries.get("classes", ""), missing)
            for split, images in found.items()
            if images is not None
        }
        if lists:
            return {split: lists[split] for split in sort_splits(lists)}
    names, images = path / "obj.names", path / "images.txt"  # FiftyOne's, without obj.data
    return {WHOLE: _List(names, names, images, "", ())} if names.is_file() and images.is_file() else None


def _split(key: str) -> str:
    return split_name(key) or key


def _read_entries(file: Path) -> dict[str, str]:
    """key = value of each line; none for a file that is no text."""
    try:
        with file.open("rb") as stream:
            text = stream.read(1 << 16).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split("#")[0].partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _resolve(root: Path, name: str) -> Path | None:
    """A file that obj.data names: without data/, or by its last part beside obj.data."""
    text = clean_name(name)
    for place in (text, text.removeprefix("data/"), posixpath.basename(text)):
        path = resolve_inside(root, place) if place and "\0" not in place else None
        if path is not None and os.path.isfile(path):
            return path
    return None


def _parse(source: _List) -> Parsed:
    root = source.data.parent
    names = [line.strip() for line in _read_text(source.names).rstrip().splitlines()]
    if not names or not all(names):
        raise DataError(f"{source.names}: each line must be the name of a class")
    reading = Reading(str(source.images))
    if source.classes and source.classes != str(len(names)):
        reading.note(COUNT_DIFFERS, f"names, classes = {one_line(source.classes, max_length=40)}")
    for entry in source.missing:
        reading.note(LIST_MISSING, one_line(entry, max_length=100), "skipped")
    prefix = "" if (root / "data").is_dir() else "data/"
    classes = dict(enumerate(names))
    for line in filter(None, map(str.strip, _read_text(source.images).splitlines())):
        name = clean_name(line).removeprefix("./").removeprefix(prefix)
        labels = _label_file(root, name)
        image = AnnotatedImage(name, str(source.images if labels is None else labels), relative=True)
        reading.images.append(image)
        if labels is None:
            image.left_out, image.left_out_for = NOT_ANNOTATED, "no label file"
        else:
            read_label_lines(labels, image, classes, reading)
    reading.report_shifted_ids(classes)
    return reading.parsed(names, {name: number for number, name in enumerate(names)} if _are_unique(names) else None)


def _are_unique(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _label_file(root: Path, name: str) -> Path | None:
    """The label file of a listed image: beside it, or in labels/ for images/; by its last parts, as the image."""
    path = PurePosixPath(name)
    if not path.name:  # "." or "/"
        return None
    text = str(path.with_suffix(".txt") if path.suffix.lower() in SUFFIXES else path.with_name(f"{path.name}.txt"))
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    tails = ["/".join(parts[-count:]) for count in range(len(parts), 0, -1)]
    for tail in tails:
        for place in (tail, re.sub(r"(^|/)(images|JPEGImages)/", r"\1labels/", tail)):
            found = resolve_inside(root, place) if "\0" not in place else None
            if found is not None and os.path.isfile(found):
                return found
    return None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


DARKNET = AnnotationFormat(
    "Darknet YOLO",
    "obj.data with names = obj.names and train = train.txt, as CVAT's YOLO 1.1; obj.names with images.txt",
    _find,
    _parse,
    ("", "obj_train_data", "obj_valid_data", "images"),
    "cxcywh",
)

"""Reader of Apple Create ML json: a list of images, each with boxes by their centers, in pixels.

Center, pixels and an origin at the top left are Create ML's defaults; other conventions of its API are not marked in
the file. A file in which no number exceeds 1 is read as fractions; one whose boxes begin outside the image, as they
do if the numbers are those of corners, gets a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfocal.data.annotated import AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.outlines import Corners
from gfocal.data.readers.json_files import SplitFile, find_by_split, read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    BROKEN_IMAGE,
    Reading,
    describe_type,
    leave_out,
    to_class,
    to_numbers,
)
from gfocal.errors import DataError

FRACTIONS = "no coordinate exceeds 1: read as fractions of the image, not as pixels"
CORNERS = "boxes begin left of or above the image: are x and y those of the top left corner, not of the center?"

_IMAGE_KEYS = ("image", "imagefilename", "imageFilename", "filename")
_LIST_KEYS = ("annotations", "annotation")
_SUSPICIOUS = 0.05  # share of boxes that begin outside the image from which on a note is due
_ROUNDING = 0.5  # pixels


def _is_createml(ends: bytes) -> bool:
    image = b"|".join(key.encode() for key in _IMAGE_KEYS)
    return bool(
        ends.lstrip().startswith(b"[")
        and re.search(rb'"(%s)"\s*:\s*"' % image, ends)
        and re.search(rb'"annotations?"\s*:\s*\[', ends)
        and re.search(rb'"coordinates"\s*:\s*\{|"annotations?"\s*:\s*\[\s*\]', ends)
    )


def _find(path: Path) -> Mapping[str, SplitFile] | None:
    return find_by_split(path, _is_createml)


def _parse(source: SplitFile) -> Parsed:
    file = source.file
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(f"{file}: not a Create ML file: it must be a list of images, not {describe_type(content)}")
    reading = Reading(str(file))
    for number, entry in enumerate(content, 1):
        name = _first(entry, _IMAGE_KEYS)
        objects = _first(entry, _LIST_KEYS)
        if not isinstance(name, str) or not name or not isinstance(objects, list):
            reading.problems.append(Problem(str(file), f"entry {number}", BROKEN_IMAGE, "dropped"))
            continue
        image = AnnotatedImage(name, str(file), folders=source.folders)
        reading.images.append(image)
        for at, one in enumerate(objects, 1):
            _add_object(reading, image, one, f"annotation {at}")
    if not reading.images:
        raise DataError(f"{file}: not a Create ML file, or one without images")
    boxes = [box.box for image in reading.images for box in image.boxes]
    if boxes and max(max(box) for box in boxes) <= 1:
        for image in reading.images:
            image.relative = True
        reading.note(FRACTIONS, "file")
    elif sum(min(box[:2]) < -_ROUNDING for box in boxes) > _SUSPICIOUS * len(boxes):
        for box in boxes:
            if min(box[:2]) < -_ROUNDING:
                reading.note(CORNERS, f"of {len(boxes):,} boxes")
    return reading.parsed()


def _add_object(reading: Reading, image: AnnotatedImage, entry: Any, record: str) -> None:
    if not isinstance(entry, dict):
        leave_out(image, BROKEN_BOX, record)
        return
    box = _from_center(to_numbers(entry.get("coordinates"), ("x", "y", "width", "height")))
    reading.add(
        image, box, to_class(entry.get("label")), record, reading.is_ignored(entry, f"{image.name}, {record}")
    )


def _from_center(numbers: tuple[float, ...] | None) -> Corners | None:
    if numbers is None:
        return None
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _first(entry: Any, keys: tuple[str, ...]) -> Any:
    """The value of the first key that an entry has."""
    return next((entry[key] for key in keys if key in entry), None) if isinstance(entry, dict) else None


CREATEML = AnnotationFormat(
    title="Create ML",
    looked_for='a .json list of {"image", "annotations": [{"label", "coordinates"}]} beside images, or in <split>/',
    find=_find,
    parse=_parse,
)

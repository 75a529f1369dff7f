"""Reader of CrowdHuman: ``annotation_<split>.odgt``, a json object in each line, with ``Images/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gfocal.data.annotated import (
    NOT_ANNOTATED,
    OBJECTS_WITHOUT_BOX,
    WHOLE,
    AnnotatedBox,
    AnnotatedImage,
    AnnotationFormat,
    Parsed,
)
from gfocal.data.dataset import Problem
from gfocal.data.paths import find_split
from gfocal.data.readers.fields import doubt_flag, read_flag
from gfocal.data.readers.label_files import read_lines
from gfocal.data.validation import MALFORMED
from gfocal.errors import DataError

Box = Literal["full", "visible", "head"]
_KEYS: dict[Box, str] = {"full": "fbox", "visible": "vbox", "head": "hbox"}
_PERSON, _MASK, _HEAD = "person", "mask", "head"


def find_crowdhuman(path: Path) -> Mapping[str, Path] | None:
    """The .odgt files of a folder, by split."""
    if path.is_file():
        return {WHOLE: path} if path.suffix.lower() == ".odgt" else None
    found: dict[str, Path] = {}
    places = [folder for folder in (path, path / "annotations") if folder.is_dir()]
    for file in sorted(file for folder in places for file in folder.iterdir() if file.suffix.lower() == ".odgt"):
        split = find_split(file.stem)
        found[split if split and split not in found else file.stem] = file
    return found or None


def parse_crowdhuman(file: Path, boxes: Box = "full") -> Parsed:
    """The images of a file.

    ``boxes`` chooses the box of a person: of the full body, which may lead out of the image, of its visible part, or
    of the head, whose class is then head. What is tagged mask or marked ignore is an ignored region.
    """
    name = _HEAD if boxes == "head" else _PERSON
    parsed = Parsed([], [name])
    for number, line in enumerate(read_lines(file), 1):
        if not line:
            continue
        where = f"line {number}"
        entry = _parse_line(line, file, where)
        image_id = entry.get("ID")
        if not isinstance(image_id, str) or not image_id:
            raise DataError(f"{file}, {where}: no ID, the name of the image")
        image = AnnotatedImage(image_id, str(file))
        parsed.images.append(image)
        objects = entry.get("gtboxes")
        if objects is None:
            image.left_out = NOT_ANNOTATED
            continue
        if not isinstance(objects, list):
            raise DataError(f"{file}, {where}: gtboxes is not a list")
        for index, one in enumerate(objects, 1):
            _add(image, one, boxes, f"{where}, object {index}", parsed)
    return parsed


def _parse_line(line: str, file: Path, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}, {where}: broken json: {str(error)[:100]}; each line holds an image") from error
    if not isinstance(entry, dict):
        raise DataError(f"{file}, {where}: not a json object with ID and gtboxes")
    return entry


def _add(image: AnnotatedImage, one: Any, boxes: Box, where: str, parsed: Parsed) -> None:
    """Add one object of an image; where it has no box, the image is left out."""
    tag = one.get("tag") if isinstance(one, dict) else None
    value = one.get(_KEYS[boxes]) if isinstance(one, dict) else None
    ignored = tag == _MASK
    for mark in (
        (one.get("extra"), one.get("head_attr") if boxes == "head" else None) if isinstance(one, dict) else ()
    ):
        flag = mark.get("ignore") if isinstance(mark, dict) else None
        ignored = ignored or read_flag(flag) is True
        if reason := doubt_flag(flag):
            record = f"{image.name}, {where}: ignore {flag!r:.80}"
            parsed.problems.append(Problem(image.file, record, reason, "kept"))
    if boxes == "head" and ignored and (not isinstance(value, list) or not any(value)):
        value = one.get(_KEYS["full"])  # a mask has no head: whatever is in it is ignored
    box = value if isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)) else None
    if box is None or not isinstance(tag, str):
        parsed.problems.append(Problem(image.file, f"{image.name}, {where}", MALFORMED, "dropped"))
        image.left_out = OBJECTS_WITHOUT_BOX
        return
    x, y, width, height = map(float, box)
    name = _HEAD if boxes == "head" else _PERSON if tag in (_MASK, _PERSON) else tag
    image.boxes.append(AnnotatedBox((x, y, x + width, y + height), name, where, ignored))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def crowdhuman_format(boxes: Box = "full") -> AnnotationFormat:
    """The format with the full, visible or head boxes, for ``gfocal.data.annotated.read_annotated``."""
    return AnnotationFormat(
        "CrowdHuman",
        "annotation_<split>.odgt with Images/",
        find_crowdhuman,
        partial(parse_crowdhuman, boxes=boxes),
        ("Images", "images"),
    )


CROWDHUMAN = crowdhuman_format()

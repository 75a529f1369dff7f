"""Reader of FiftyOne's own detection format: ``data/`` with the images, and ``labels.json``.

Images are named by their paths below ``data/`` without suffix; ``data.json`` in place of the folder maps these names
to paths. Boxes are left, top, width, height in fractions of the image. An image whose entry is null, or that has
none, was not annotated; an empty list is background. The other formats that FiftyOne exports (COCO, VOC, YOLO, KITTI,
CVAT, BDD100K, also with ``data/``) are read by their own readers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.annotated import (
    EVERY_CLASS,
    NOT_ANNOTATED,
    OBJECTS_WITHOUT_BOX,
    AnnotatedImage,
    AnnotationFormat,
    Parsed,
)
from gfocal.data.dataset import Problem
from gfocal.data.paths import list_images
from gfocal.data.readers.json_files import SplitFile, find_by_split, read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    SCORED,
    Reading,
    describe_type,
    from_xywh,
    leave_out,
    to_class,
    to_numbers,
)
from gfocal.errors import DataError
from gfocal.text import one_line

DATA = "data"


def _is_fiftyone(ends: bytes) -> bool:
    return bool(re.match(rb'\s*\{\s*"classes"\s*:\s*(null|\[)', ends) and re.search(rb'"labels"\s*:\s*\{', ends))


def _find(path: Path) -> Mapping[str, SplitFile] | None:
    return find_by_split(path, _is_fiftyone, homes=("",))


def _parse(source: SplitFile) -> Parsed:
    file = source.file
    content = read_json(file)
    labels = content.get("labels") if isinstance(content, dict) else None
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        raise DataError(f"{file}: not a FiftyOne file: 'labels' must be an object, 'classes' a list or null")
    names = [to_class(name) for name in classes] if classes is not None else None
    if names is not None and not all(names):
        raise DataError(f"{file}: classes, entry {names.index('') + 1}: not a name")
    reading = Reading(str(file))
    paths = _paths(file)
    for key, objects in labels.items():
        image = AnnotatedImage(paths.pop(key, key), str(file), relative=True, folders=source.folders)
        reading.images.append(image)
        if objects is None:
            image.left_out = NOT_ANNOTATED
        elif not isinstance(objects, list):
            leave_out(image, OBJECTS_WITHOUT_BOX, f"{describe_type(objects)} in place of a list of objects")
        else:
            for number, entry in enumerate(objects, 1):
                _add_object(reading, image, entry, names, f"{key}: object {number}")
    for name in paths.values():
        reading.problems.append(Problem(str(file), name, NOT_ANNOTATED, "left out"))
    used = {box.name for image in reading.images for box in image.boxes} - {EVERY_CLASS}
    return reading.parsed(names if names is None or used <= set(names) else [*names, *sorted(used - set(names))])


def _add_object(
    reading: Reading, image: AnnotatedImage, entry: Any, names: Sequence[str] | None, record: str
) -> None:
    if not isinstance(entry, dict):
        leave_out(image, BROKEN_BOX, record)
        return
    label = entry.get("label")
    name = to_class(label)
    if isinstance(label, int) and not isinstance(label, bool):
        if names is None or not 0 <= label < len(names):
            known = f"{len(names)} classes" if names else "no classes"
            where, shown = one_line(record, max_length=100), one_line(str(label), max_length=40)
            raise DataError(f"{reading.file}: {where}: label {shown} is the index of a class; the file has {known}")
        name = names[label]
    if entry.get("confidence") is not None:
        reading.note(SCORED, "objects")
    box = from_xywh(to_numbers(entry.get("bounding_box"), range(4)))
    flags = [reading.is_ignored(given, record) for given in (entry.get("attributes"), entry)]
    reading.add(image, box, name, record, any(flags))


def _paths(file: Path) -> dict[str, str]:
    """Name of an image in the labels -> its path: below ``data/``, or as ``data.json`` states it."""
    listed = file.with_name("data.json")
    if listed.is_file():
        content = read_json(listed)
        if not isinstance(content, dict):
            raise DataError(f"{listed}: must be an object of names and paths, not {describe_type(content)}")
        return {key: path for key, path in content.items() if isinstance(path, str) and path}
    home = file.parent / DATA
    if not home.is_dir():
        return {}
    paths: dict[str, str] = {}
    for image in list_images(home, deep=True):
        below = image.relative_to(home)
        paths.setdefault(below.with_suffix("").as_posix(), below.as_posix())
    return paths


FIFTYONE = AnnotationFormat(
    title="FiftyOne",
    looked_for="labels.json with FiftyOne's classes and labels beside data/, here or in <split>/",
    find=_find,
    parse=_parse,
    image_folders=(DATA,),
    layout="xywh",
)

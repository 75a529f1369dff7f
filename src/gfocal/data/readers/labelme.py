"""Reader of LabelMe's json: a file for each image, beside it or in a folder of its own.

Points are edges in pixels of the upright image; the two points of a mask are pixels, the last one included.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gfocal.data.annotated import (
    EVERY_CLASS,
    NOT_ANNOTATED,
    WHOLE,
    AnnotatedBox,
    AnnotatedImage,
    AnnotationFormat,
    Parsed,
)
from gfocal.data.outlines import OUTLINE, ROTATED, Corners, hull
from gfocal.data.paths import find_split_folders, list_images
from gfocal.data.readers.json_files import read_ends, read_json
from gfocal.data.readers.reading import (
    BROKEN_IMAGE,
    Reading,
    describe_type,
    leave_out,
    to_class,
    to_numbers,
)
from gfocal.data.readers.unboxed import Unboxed
from gfocal.data.sidecar import SIDECAR
from gfocal.errors import DataError

GROUPED = "shapes of one class and group_id: read as one object"
UNKNOWN_SHAPE = "image has a shape of an unknown kind: neither ground truth nor background"
NOT_LABELME = "json is not of LabelMe"

IGNORE, BACKGROUND = "__ignore__", "_background_"  # the first lines of labels.txt
_HOMES = ("", "annotations", "labels", "json", "jsons", "annotations/json")
_OUTLINES = ("polygon", "circle", "mask", "ellipse")
_ROTATED = ("oriented_rectangle", "rotation")
_WITHOUT_BOX = ("point", "points", "line", "linestrip", "cuboid")
_MOST_PROBED = 20  # so many json files of a folder are opened to recognize the format


@dataclass(frozen=True)
class _Source:
    """The json files of one split."""

    root: Path
    files: tuple[Path, ...]
    folders: tuple[str, ...]  # in which images may be, below the root


def _find(path: Path) -> Mapping[str, _Source] | None:
    if path.is_file():
        own = path.suffix.lower() == ".json" and _is_own(path)
        return {WHOLE: _Source(path.parent, (path,), ())} if own else None
    for home in _HOMES:
        if files := _own_files(path / home):
            return {WHOLE: _Source(path, files, ())}
    found: dict[str, _Source] = {}
    for parent in (path, *(path / home for home in _HOMES[1:])):
        for split, folder in find_split_folders(parent).items() if parent.is_dir() else ():
            for home in _HOMES:
                if split not in found and (files := _own_files(folder / home)):
                    found[split] = _Source(path, files, _image_folders(path, folder.name))
    return found or None


def _image_folders(root: Path, name: str) -> tuple[str, ...]:
    places = (f"{name}/images", name, f"images/{name}")
    return tuple(place for place in places if (root / place).is_dir())


def _own_files(folder: Path) -> tuple[Path, ...]:
    """All json files of a folder if one of the first is of LabelMe."""
    if not folder.is_dir():
        return ()
    files = [f for f in folder.glob("*.json") if not f.name.startswith(".") and f.name != SIDECAR and f.is_file()]
    files.sort(key=lambda file: file.name)
    return tuple(files) if any(_is_own(file) for file in files[:_MOST_PROBED]) else ()


def _is_own(file: Path) -> bool:
    content = read_ends(file)
    if re.match(rb"\s*\{", content) is None or re.search(rb'"shapes"\s*:\s*\[', content) is None:
        return False
    return b'"imagePath"' in content or b'"imageData"' in content or b'"imageHeight"' in content


def _parse(source: _Source) -> Parsed:
    first = source.files[0]
    reading, unboxed = Reading(str(first if len(source.files) == 1 else first.parent)), Unboxed()
    for file in source.files:
        content = read_json(file) if len(source.files) == 1 else _read(file, reading)
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            reading.images.append(_add_image(content, file, source, reading, unboxed))
        elif len(source.files) == 1:
            raise DataError(f"{file}: not a file of LabelMe: it has no list 'shapes'")
        elif content is not None:
            reading.note(NOT_LABELME, "files", "skipped")
    unboxed.leave_out_images(reading)
    if len(source.files) > 1:
        reading.images += _unannotated(source, reading.images)
    return reading.parsed(_listed_classes(source.root, reading.images))


def _read(file: Path, reading: Reading) -> Any:
    """The content of one of many files; None and an image that is left out for a broken one."""
    try:
        return read_json(file)
    except DataError as error:
        reason = str(error).removeprefix(f"{file}: ")
        reading.images.append(AnnotatedImage(file.stem, str(file), left_out=BROKEN_IMAGE, left_out_for=reason))
        return None


def _add_image(
    content: dict[str, Any], file: Path, source: _Source, reading: Reading, unboxed: Unboxed
) -> AnnotatedImage:
    home = Path(os.path.relpath(file.parent, source.root)).as_posix()
    stated = content.get("imagePath")
    name = stated.replace("\\", "/") if isinstance(stated, str) and stated else file.stem
    beside = posixpath.normpath(posixpath.join(home, name))  # ../images/a.jpg, from the folder of the json
    if "\0" not in beside and not beside.startswith("..") and os.path.isfile(source.root / beside):
        name = beside
    size = to_numbers(content, ("imageHeight", "imageWidth"))
    stated_size = None if size is None else (int(size[0]), int(size[1]))
    image = AnnotatedImage(name, str(file), stated_size, folders=tuple(dict.fromkeys((home, *source.folders))))
    groups: dict[tuple[str, Any], list[Corners]] = {}
    for number, shape in enumerate(content["shapes"], 1):
        record = f"shape {number}"
        if not isinstance(shape, dict):
            leave_out(image, UNKNOWN_SHAPE, f"{record} is {describe_type(shape)}")
            continue
        kind, label = str(shape.get("shape_type") or "polygon"), to_class(shape.get("label"))
        if kind in _WITHOUT_BOX:
            unboxed.add(image, label, f"{record}: {kind} {label!r:.60}")
        elif kind not in ("rectangle", *_OUTLINES, *_ROTATED):
            leave_out(image, UNKNOWN_SHAPE, f"{record}: {kind!r:.60}")
        else:
            _add_shape(image, shape, kind, label, record, groups, reading)
    return image


def _add_shape(
    image: AnnotatedImage,
    shape: dict[str, Any],
    kind: str,
    label: str,
    record: str,
    groups: dict[tuple[str, Any], list[Corners]],
    reading: Reading,
) -> None:
    """Add the box of a shape. Outlines of one group are parts of one object, as in LabelMe's own conversions."""
    box = _box(shape, kind)
    stated = (shape.get("flags"), shape.get("attributes"), "difficult" in shape and {"difficult": shape["difficult"]})
    marks = [reading.is_ignored(flags, f"{image.name}, {record}") for flags in stated if flags]
    is_region = any(marks)  # each of them is checked
    if label == BACKGROUND:
        reading.note("shapes of the class _background_: no objects", "shapes", "skipped")
        return
    if kind in _OUTLINES:
        reading.note(OUTLINE, f"of type {kind}")
    elif kind in _ROTATED or (kind == "rectangle" and box is not None and not _is_upright(shape)):
        reading.note(ROTATED, "shapes")
    group = shape.get("group_id")
    key = (label, group if isinstance(group, int | str) else None)
    if kind in _OUTLINES and key[1] is not None and box is not None:
        parts = groups.setdefault(key, [])
        parts.append(box)
        if len(parts) > 1:
            reading.note(GROUPED, "shapes")
            whole = hull(corner for part in parts for corner in (part[:2], part[2:]))
            number = next(i for i, one in enumerate(image.boxes) if one.record.endswith(_group_record(key)))
            old = image.boxes[number]
            assert whole is not None, "boxes are finite"
            image.boxes[number] = replace(old, box=whole, ignored=old.ignored or is_region)
            return
        record += _group_record(key)
    name = EVERY_CLASS if label == IGNORE else label
    if label == IGNORE and box is not None:
        image.boxes.append(AnnotatedBox(box, name, record, True))
        return
    reading.add(image, box, name, record, is_region)


def _group_record(key: tuple[str, Any]) -> str:
    return f", group {key[1]} of {key[0]!r:.60}"


def _is_upright(shape: dict[str, Any]) -> bool:
    """Whether the corners of a rectangle, two or four of them, are those of an upright one."""
    points = [tuple(point[:2]) for point in shape["points"]]
    xs, ys = {x for x, _ in points}, {y for _, y in points}
    return len(points) == 2 or (len(xs) <= 2 and len(ys) <= 2)


def _box(shape: dict[str, Any], kind: str) -> Corners | None:
    points = shape.get("points")
    given = [to_numbers(point, (0, 1)) for point in points] if isinstance(points, list) else []
    pairs = [(pair[0], pair[1]) for pair in given if pair is not None]
    wanted = {"rectangle": (2, 4), "circle": (2,), "mask": (2,), "oriented_rectangle": (4,), "rotation": (4,)}
    if len(pairs) < len(given) or len(pairs) not in wanted.get(kind, range(3, len(given) + 1)):
        return None
    if kind == "circle":
        (x, y), (edge_x, edge_y) = pairs
        radius = math.hypot(edge_x - x, edge_y - y)
        return x - radius, y - radius, x + radius, y + radius
    box = hull(pairs)
    if kind == "mask" and box is not None:
        return box[0], box[1], box[2] + 1, box[3] + 1
    return box


def _listed_classes(root: Path, images: Iterable[AnnotatedImage]) -> list[str] | None:
    """The classes in labels.txt, the file for LabelMe's option --labels, if it has all of them."""
    file = root / "labels.txt"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    listed = dict.fromkeys(line.strip() for line in lines if line.strip() not in ("", IGNORE, BACKGROUND))
    used = {box.name for image in images for box in image.boxes} - {EVERY_CLASS}
    return list(listed) if used <= set(listed) else None


def _unannotated(source: _Source, images: Iterable[AnnotatedImage]) -> list[AnnotatedImage]:
    """The images beside the json files, or in the folders of their split, that have none: left out."""
    stems = {posixpath.splitext(posixpath.basename(image.name))[0] for image in images}
    places = {file.parent for file in source.files} | {source.root / folder for folder in source.folders}
    places |= {source.root / "images"} if not source.folders and (source.root / "images").is_dir() else set()
    return [
        AnnotatedImage(os.path.relpath(path, source.root), str(path), left_out=NOT_ANNOTATED)
        for place in sorted(places)
        for path in list_images(place)
        if path.stem not in stems
    ]


LABELME = AnnotationFormat(
    "LabelMe",
    "a .json with shapes for each image, beside it, in annotations/ or labels/, or in <split>/",
    _find,
    _parse,
)

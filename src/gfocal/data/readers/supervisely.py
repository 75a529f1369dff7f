"""Reader of Supervisely projects: ``meta.json``, and ``ann/`` and ``img/`` in the folder of each dataset.

Corners are pixel indices, the last ones included, as in Supervisely's own library: a box from 10 to 19 is 10 wide.
Datasets whose names are splits (train, val) are splits; all others are read together.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.annotated import NOT_ANNOTATED, WHOLE, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.outlines import OUTLINE, ROTATED, Corners, hull, hull_of_rotated
from gfocal.data.paths import SUFFIXES, list_images, split_name
from gfocal.data.readers.json_files import read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    SCORED,
    Reading,
    describe_type,
    leave_out,
    to_class,
    to_number,
    to_numbers,
)
from gfocal.data.readers.unboxed import Unboxed
from gfocal.errors import DataError

META, ANNOTATIONS, IMAGES, NESTED = "meta.json", "ann", "img", "datasets"
MAX_DEPTH = 8  # of datasets in datasets
MAX_MASK = 1 << 26  # bytes of an unpacked mask, and pixels of it

_POINTS = ("point", "graph", "cuboid_2d", "cuboid", "point_3d")  # without a box that Supervisely would give them
_OUTLINES = ("polygon", "line", "polyline")
_SCORES = ("confidence", "conf", "score")


@dataclass(frozen=True)
class _Project:
    root: Path  # that of the dataset, below which images are named
    meta: Path
    datasets: tuple[Path, ...]


def _find(path: Path) -> Mapping[str, _Project] | None:
    if not path.is_dir():
        return None
    if _is_dataset(path):
        return {WHOLE: _Project(path, path.parent / META, (path,))}
    datasets = _list_datasets(path)
    names = {folder: split_name(folder.name) for folder in datasets}
    if not any(names.values()):
        return {WHOLE: _Project(path, path / META, tuple(datasets))} if datasets else None
    found: dict[str, _Project] = {}
    for folder in datasets:
        key = names[folder] or folder.relative_to(path).as_posix()
        known = found[key].datasets if key in found else ()
        found[key] = _Project(path, path / META, (*known, folder))
    return found


def _is_dataset(folder: Path) -> bool:
    home = folder / ANNOTATIONS
    if not home.is_dir() or not (folder / IMAGES).is_dir():
        return False
    return any(entry.name.endswith(".json") for entry in os.scandir(home))


def _list_datasets(folder: Path, depth: int = 0) -> list[Path]:
    """The datasets of a project, and those that are nested in them."""
    found: list[Path] = []
    for sub in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        found += [sub] * _is_dataset(sub)
        if (sub / NESTED).is_dir() and depth < MAX_DEPTH:
            found += _list_datasets(sub / NESTED, depth + 1)
    return found


def _parse(project: _Project) -> Parsed:
    reading = Reading(str(project.root))
    unboxed = Unboxed()
    classes, category_ids = _read_meta(project.meta)
    for dataset in project.datasets:
        images = {path.name: path for path in list_images(dataset / IMAGES)}
        by_stem = {path.stem: path for path in images.values()}
        files = sorted(f for f in (dataset / ANNOTATIONS).iterdir() if f.name.endswith(".json") and f.is_file())
        for file in (file for file in files if not file.name.startswith(".")):
            name = file.name.removesuffix(".json")  # a.jpg.json; in old projects a.json
            path = images.pop(name, None)
            if path is None and Path(name).suffix.lower() not in SUFFIXES and name in by_stem:
                path = images.pop(by_stem[name].name, None)
            path = path or dataset / IMAGES / name
            image = AnnotatedImage(path.relative_to(project.root).as_posix(), str(file))
            reading.images.append(image)
            _read_annotation(reading, unboxed, image, file)
        for path in images.values():
            reading.problems.append(Problem(str(path), "whole image", NOT_ANNOTATED, "left out"))
    unboxed.leave_out_images(reading)
    reading.note_empty_images()
    return reading.parsed(classes, category_ids)


def _read_meta(file: Path) -> tuple[list[str] | None, dict[str, int]]:
    """The classes of a project in its order, and their ids; None without meta.json."""
    if not file.is_file():
        return None, {}
    content = read_json(file)
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{file}: not the meta.json of a Supervisely project: it has no list 'classes'")
    named = [(to_class(entry.get("title")), entry.get("id")) for entry in entries if isinstance(entry, dict)]
    if len(named) < len(entries) or not all(name for name, _ in named):
        raise DataError(f"{file}: every entry of 'classes' needs a 'title'")
    ids = {name: number for name, number in named if type(number) is int and 0 <= number < 2**53}
    return [name for name, _ in named], ids


def _read_annotation(reading: Reading, unboxed: Unboxed, image: AnnotatedImage, file: Path) -> None:
    content = read_json(file)
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        raise DataError(f"{file}: not an annotation of Supervisely: {describe_type(content)} without list 'objects'")
    size = to_numbers(content.get("size"), ("height", "width"))
    if size is not None and all(0 < value < 2**31 for value in size):
        image.size = (int(size[0]), int(size[1]))
    for number, entry in enumerate(objects, 1):
        _add_object(reading, unboxed, image, entry, f"object {number}")


def _add_object(reading: Reading, unboxed: Unboxed, image: AnnotatedImage, entry: Any, record: str) -> None:
    if not isinstance(entry, dict):
        leave_out(image, BROKEN_BOX, record)
        return
    kind = entry.get("geometryType") or entry.get("shape") or "rectangle"
    record = f"{record}, {kind}"
    if kind in _POINTS:
        unboxed.add(image, to_class(entry.get("classTitle")), record)
        return
    geometry = entry["geometry"] if isinstance(entry.get("geometry"), dict) else entry  # as in videos
    box = _box(geometry, kind)
    if kind == "oriented_bbox" and box is not None and to_number(geometry.get("angle", 0)):
        reading.note(ROTATED, "objects")
    elif kind not in ("rectangle", "oriented_bbox") and box is not None:
        reading.note(OUTLINE, str(kind))
    tags = _tags(entry.get("tags"))
    if any(name in tags for name in _SCORES):
        reading.note(SCORED, "objects")
    reading.add(
        image, box, to_class(entry.get("classTitle")), record, reading.is_ignored(tags, f"{image.name}, {record}")
    )


def _tags(entries: Any) -> dict[str, Any]:
    """Name -> value of an object's tags; True for tags without a value."""
    tags = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(name := entry.get("name"), str):
            value = entry.get("value")
            tags[name] = True if value is None else value
    return tags


def _box(geometry: Mapping[str, Any], kind: str) -> Corners | None:
    """xyxy of an object; None where its geometry is not known, or is broken."""
    if kind in ("bitmap", "alpha_mask"):
        return _mask_box(geometry.get("bitmap"))
    points = geometry.get("points")
    exterior = points.get("exterior") if isinstance(points, dict) else None
    if kind not in ("rectangle", "oriented_bbox", *_OUTLINES) or not isinstance(exterior, list):
        return None
    points = [to_numbers(point, range(2)) or (math.nan, math.nan) for point in exterior]
    if len(points) < 2 or (kind in ("rectangle", "oriented_bbox") and len(points) > 2):
        return None
    left, top, right, bottom = hull((x, y) for x, y in points)
    box = (left, top, right + 1, bottom + 1)  # the last pixels belong to the object
    if kind == "oriented_bbox":
        return hull_of_rotated(box, math.degrees(to_number(geometry.get("angle") or 0)))
    return box


def _mask_box(bitmap: Any) -> Corners | None:
    """xyxy of the pixels of a mask: a base64 of a png, compressed or not, at its origin in the image."""
    from PIL import Image

    origin = to_numbers(bitmap.get("origin"), range(2)) if isinstance(bitmap, dict) else None
    data = bitmap.get("data") if isinstance(bitmap, dict) else None
    if origin is None or not isinstance(data, str):
        return None
    try:
        raw = base64.b64decode(data)
        if not raw.startswith(b"\x89PNG"):
            raw = zlib.decompressobj().decompress(raw, MAX_MASK)
        with Image.open(io.BytesIO(raw), formats=("PNG",)) as mask:
            if mask.width * mask.height > MAX_MASK:
                return None
            if mask.mode == "P":  # of two colors, the first of which is the background
                inside = mask.point(lambda value: 255 * bool(value), "L").getbbox()
            else:
                inside = (mask.getchannel("A") if "A" in mask.getbands() else mask.convert("L")).getbbox()
    except (ValueError, OSError, SyntaxError, zlib.error, binascii.Error, Image.DecompressionBombError):
        return None
    if inside is None:
        return None
    x, y = origin
    return x + inside[0], y + inside[1], x + inside[2], y + inside[3]


SUPERVISELY = AnnotationFormat(
    title="Supervisely",
    looked_for="meta.json with <dataset>/ann/*.json and <dataset>/img/, or the folder of one dataset",
    find=_find,
    parse=_parse,
    image_folders=(IMAGES,),
)

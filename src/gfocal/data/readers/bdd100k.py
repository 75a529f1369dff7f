"""Reader of BDD100K (Scalabel) json: one list of images for each split, and the older file for each image.

Corners are pixel indices, the last ones included, as Scalabel's own conversion to COCO takes them: x1 = 10, x2 = 19
is 10 wide. FiftyOne's export (``labels.json`` beside ``data/``) has edges in their place and is read so, with a note.
``crowd`` and ``ignored`` objects, and the categories that the benchmark ignores, are ignored regions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfocal.data.annotated import EVERY_CLASS, OBJECTS_WITHOUT_BOX, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.masks import MASK_SIZE, box_around_outline, mask_size
from gfocal.data.outlines import OUTLINE, Corners, hull
from gfocal.data.paths import find_split_folders
from gfocal.data.readers.json_files import WHOLE, SplitFile, find_by_split, image_folders, read_ends, read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    BROKEN_IMAGE,
    SCORED,
    Reading,
    leave_out,
    to_class,
    to_numbers,
)
from gfocal.errors import DataError

EDGES = "corners are edges, as FiftyOne writes them, not the pixel indices of BDD100K"
AREAS = "areas and lanes, which are no objects of the detection task"
BENCHMARK_IGNORES = "categories that the benchmark ignores are ignored regions of a class"
NO_LABELS = "images without the list of labels are background, as in the files of 2020"
SEVERAL_FRAMES = "image has objects of several frames: neither ground truth nor background"

# The ten classes of the detection task in the order of their ids 1 to 10, and the regions that its evaluation ignores
# with the class to which they belong (bdd100k/configs/det.toml).
CLASSES = (
    "pedestrian",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "traffic light",
    "traffic sign",
)
IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}

_HOMES = ("labels/det_20", "labels", "annotations", "", "bdd100k/labels/det_20", "bdd100k/labels")
_IMAGE_HOMES = ("labels/100k", "labels", "100k", "", "bdd100k/labels/100k")


def _is_list(ends: bytes) -> bool:
    start = rb'\s*(\[|\{\s*"(frames|groups|config)")'
    return bool(re.match(start, ends)) and _has(ends, b"name", b"category") and _has_shape(ends)


def _is_image(ends: bytes) -> bool:
    return ends.lstrip().startswith(b"{") and _has(ends, b"name", b"frames", b"objects")


def _has(ends: bytes, *keys: bytes) -> bool:
    return all(re.search(rb'"%s"\s*:' % key, ends) for key in keys)


def _has_shape(ends: bytes) -> bool:
    return _has(ends, b"box2d") or _has(ends, b"poly2d")


def _find(path: Path) -> Mapping[str, SplitFile] | None:
    found = find_by_split(path, _is_list, _HOMES)
    if found or path.is_file():
        return found or ({WHOLE: SplitFile(path, path.parent)} if _is_image_file(path) else None)
    for home in _IMAGE_HOMES:
        folder = path / home
        if not folder.is_dir():
            continue
        splits = {name: sub for name, sub in find_split_folders(folder).items() if _has_image_files(sub)}
        if splits:
            places = {
                name: image_folders(path, name, sub.relative_to(path).as_posix()) for name, sub in splits.items()
            }
            return {name: SplitFile(sub, path, places[name]) for name, sub in splits.items()}
        if _has_image_files(folder):
            return {WHOLE: SplitFile(folder, path, image_folders(path, WHOLE, home))}
    return None


def _has_image_files(folder: Path) -> bool:
    first = next((entry for entry in os.scandir(folder) if entry.name.endswith(".json")), None)
    return first is not None and _is_image_file(Path(first.path))


def _is_image_file(file: Path) -> bool:
    return file.suffix.lower() == ".json" and file.is_file() and _is_image(read_ends(file))


def _parse(source: SplitFile) -> Parsed:
    reading = Reading(str(source.file))
    stated: list[str] = []
    if source.file.is_dir():
        for file in sorted(file for file in source.file.iterdir() if file.suffix.lower() == ".json"):
            if not file.name.startswith(".") and file.is_file():
                _add_frame(reading, source, read_json(file), str(file), file.stem)
    else:
        content = read_json(source.file)
        frames = content
        if isinstance(content, dict):  # Scalabel's newer files, or the older file of one image
            frames = content.get("frames") if "name" not in content else [content]
            stated = _stated_classes(content.get("config"))
        if not isinstance(frames, list):
            raise DataError(f"{source.file}: not a BDD100K file: it must be a list of images")
        edges = source.file.name == "labels.json" and source.file.with_name("data").is_dir()
        for number, frame in enumerate(frames, 1):
            _add_frame(reading, source, frame, str(source.file), f"entry {number}", edges)
    if not reading.images:
        raise DataError(f"{source.file}: no image in it has a name and a list of labels")
    used = {box.name for image in reading.images for box in image.boxes} - {EVERY_CLASS}
    if not stated and used <= {*CLASSES, *IGNORED} and used & set(IGNORED):
        _ignore_as_benchmark(reading)
        used -= set(IGNORED)
    ids = dict(zip(CLASSES, range(1, 11), strict=True)) if used <= set(CLASSES) else {}
    return reading.parsed(stated or [name for name in CLASSES if name in used] or None, ids)


def _ignore_as_benchmark(reading: Reading) -> None:
    """Make the categories that the benchmark ignores ignored regions of the classes to which they belong."""
    for image in reading.images:
        for at, box in enumerate(image.boxes):
            if box.name in IGNORED:
                reading.note(BENCHMARK_IGNORES, f"{box.name} (now {IGNORED[box.name]})")
                image.boxes[at] = replace(box, name=IGNORED[box.name], ignored=True)


def _stated_classes(config: Any) -> list[str]:
    """The categories of a Scalabel config, without those that only group others."""
    found: list[str] = []
    entries = config.get("categories") if isinstance(config, dict) else None
    todo = list(reversed(entries)) if isinstance(entries, list) else []
    while todo:
        entry = todo.pop()
        inner = entry.get("subcategories") if isinstance(entry, dict) else None
        if isinstance(inner, list):
            todo += reversed(inner)
        elif isinstance(entry, dict) and to_class(entry.get("name")):
            found.append(to_class(entry["name"]))
    return list(dict.fromkeys(found))


def _add_frame(reading: Reading, source: SplitFile, frame: Any, file: str, record: str, edges: bool = False) -> None:
    name = frame.get("name") if isinstance(frame, dict) else None
    inner = frame.get("frames") if isinstance(frame, dict) else None
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):  # older files: the objects of one frame
        labels = inner[0].get("objects")
    else:
        labels = frame.get("labels") if isinstance(frame, dict) else None
    if labels is None and isinstance(frame, dict):  # det_20 leaves the key out
        reading.note(NO_LABELS, "images")
        labels = []
    if not isinstance(name, str) or not name or not isinstance(labels, list):
        reading.problems.append(Problem(file, record, BROKEN_IMAGE, "dropped"))
        return
    image = AnnotatedImage(name, file, _size(frame), folders=source.folders)
    reading.images.append(image)
    if isinstance(inner, list) and len(inner) > 1:
        leave_out(image, SEVERAL_FRAMES, f"{len(inner)} frames")
    for number, label in enumerate(labels, 1):
        _add_label(reading, image, label, f"label {number}", edges)


def _size(frame: Mapping[str, Any]) -> tuple[int, int] | None:
    size = to_numbers(frame.get("size"), ("height", "width"))
    return (int(size[0]), int(size[1])) if size and all(0 < value < 2**31 for value in size) else None


def _add_label(reading: Reading, image: AnnotatedImage, label: Any, record: str, edges: bool) -> None:
    if not isinstance(label, dict):
        leave_out(image, BROKEN_BOX, record)
        return
    name = to_class(label.get("category"))
    record = f"{record}, {name or 'no category'}"
    box = None
    if label.get("box2d") is not None:
        box = _with_last_pixels(to_numbers(label["box2d"], ("x1", "y1", "x2", "y2")), edges)
    elif name.startswith(("lane", "drivable", "area/")):
        reading.note(AREAS, name, "skipped")
        return
    elif label.get("poly2d"):
        box = _outline(label["poly2d"])
        reading.note(OUTLINE, name)
    elif label.get("rle"):
        mask = mask_size(label["rle"])
        if mask is not None and image.size not in (None, mask):
            leave_out(image, MASK_SIZE, f"{record}: mask of height {mask[0]} and width {mask[1]}")
            return
        box = box_around_outline(label["rle"])
        reading.note(OUTLINE, name)
    else:
        leave_out(image, OBJECTS_WITHOUT_BOX, record)
        return
    if edges:
        reading.note(EDGES, "boxes")
    if label.get("score") is not None:
        reading.note(SCORED, "objects")
    reading.add(image, box, name, record, reading.is_ignored(label.get("attributes"), f"{image.name}, {record}"))


def _with_last_pixels(numbers: tuple[float, ...] | None, edges: bool) -> Corners | None:
    if numbers is None:
        return None
    x1, y1, x2, y2 = numbers
    return (x1, y1, x2, y2) if edges else (x1, y1, x2 + 1, y2 + 1)


def _outline(polygons: Any) -> Corners | None:
    """xyxy around all polygons of an object: lists of vertices, or in the oldest files of [x, y, kind]."""
    points: list[tuple[float, float]] = []
    for one in polygons if isinstance(polygons, list) else ():
        vertices = one.get("vertices") if isinstance(one, dict) else [one]
        for vertex in vertices if isinstance(vertices, list) else ():
            pair = to_numbers(vertex[:2] if isinstance(vertex, list) else None, range(2))
            if pair is None:
                return None
            points.append((pair[0], pair[1]))
    return hull(points) if points else None


BDD100K = AnnotationFormat(
    title="BDD100K",
    looked_for="labels/det_20/det_<split>.json, or labels/100k/<split>/*.json, with images/100k/<split>/",
    find=_find,
    parse=_parse,
    image_folders=("images", "images/100k", "data"),
)

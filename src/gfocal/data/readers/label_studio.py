"""Reader of Label Studio's json: tasks with annotations (its raw export, or one file for each), and JSON_MIN.

Numbers are percent of the image; boxes are rotated about their top left corner. Of several annotations of a task the
one marked as ground truth is read, else the newest that was not skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.annotated import EVERY_CLASS, NOT_ANNOTATED, WHOLE, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.locate import clean_name
from gfocal.data.outlines import OUTLINE, ROTATED, Corners, hull, hull_of_ellipse, hull_of_rotated
from gfocal.data.paths import SUFFIXES
from gfocal.data.readers.json_files import PROBED, find_by_split, read_json
from gfocal.data.readers.label_studio_regions import WHOLE_IMAGE, Region, join_regions
from gfocal.data.readers.reading import (
    BROKEN_IMAGE,
    IGNORING,
    Reading,
    describe_type,
    from_xywh,
    leave_out,
    to_number,
    to_numbers,
)
from gfocal.data.readers.unboxed import Unboxed
from gfocal.data.readers.xml_files import parse_xml
from gfocal.errors import DataError

SKIPPED_TASK = "image was skipped in Label Studio: neither ground truth nor background"
PREDICTIONS = "predictions of a model are not annotations: accept or correct them in Label Studio, and export again"
SEVERAL = "task with several annotations: the one marked as ground truth, else the newest, is read"
SEVERAL_LABELS = "region with several labels: read as one object of each"
SEVERAL_IMAGES = "task with several images, and it is not clear which one a region is on"
TURNED = "image was rotated in Label Studio: its regions are not where they are on the file"
BROKEN_REGION = "image has a region that cannot be read: neither ground truth nor background"
MAYBE_WHOLE = "images without regions are background; JSON_MIN does not tell them from images labeled as a whole"

CONFIG = "label_config.xml"
_BOXED_CONTROLS = ("RectangleLabels", "PolygonLabels", "EllipseLabels", "Labels")
_SHAPES = ("rectangle", "polygon", "ellipse", "brush", "keypoint", "bitmask", "vector")
_IMAGE_KEYS = ("image", "img", "image_url", "url", "photo", "file")


def _is_own(content: bytes) -> bool:
    def has(key: str, opening: str = "") -> bool:
        return re.search(rf'"{key}"\s*:\s*{opening}'.encode(), content) is not None

    is_list = re.match(rb"\s*\[", content) is not None
    if not is_list and (re.match(rb"\s*\{", content) is None or (has("images", r"\[") and has("categories", r"\["))):
        return False
    if has("data", r"\{") and (has("annotations", r"\[") or has("completions", r"\[")):
        return True
    if has("task", r"\{") and has("result", r"\["):  # one file for each annotation
        return True
    return is_list and (has("annotation_id") or has("annotator"))


@dataclass(frozen=True)
class _Tasks:
    """The files of one split."""

    files: tuple[Path, ...]
    config: Path
    folders: tuple[str, ...] = ()


def _find(path: Path) -> Mapping[str, _Tasks] | None:
    if path.is_dir() and (files := _numbered_files(path)):
        return {WHOLE: _Tasks(files, path / CONFIG)}
    config = (path if path.is_dir() else path.parent) / CONFIG
    found = find_by_split(path, _is_own, ("", "annotations")) or {}
    return {split: _Tasks((one.file,), config, one.folders) for split, one in found.items()} or None


def _numbered_files(folder: Path) -> tuple[Path, ...]:
    """The files of a target storage: a task or an annotation in each, named by its number, often without suffix."""
    files = [f for f in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}(\.json)?", f.name) and f.is_file()]
    files.sort(key=lambda file: int(file.stem))
    for file in files[:1]:
        with file.open("rb") as stream:
            start = stream.read(PROBED)
        if re.match(rb"\s*\{", start) and _is_own(start):
            return tuple(files)
    return ()


def _parse(source: _Tasks) -> Parsed:
    first = source.files[0]
    reading, unboxed = Reading(str(first if len(source.files) == 1 else first.parent)), Unboxed()
    for task, file in _read_tasks(source.files, reading):
        _add_task(task, file, source.folders, reading, unboxed)
    unboxed.leave_out_images(reading)
    listed = _classes(source.config)
    used = {box.name for image in reading.images for box in image.boxes} - {EVERY_CLASS}
    return reading.parsed(listed if used <= set(listed) else None)  # it may be that of another project


def _read_tasks(files: Sequence[Path], reading: Reading) -> Iterator[tuple[dict[str, Any], str]]:
    """Each task with the file it is from. Annotations that are records of their own are gathered by their task."""
    gathered: dict[str, tuple[dict[str, Any], str]] = {}
    for file in files:
        content = read_json(file)
        if not isinstance(content, list | dict):
            raise DataError(
                f"{file}: not a file of Label Studio: it is {describe_type(content)}, not a list of tasks"
            )
        for number, entry in enumerate(content if isinstance(content, list) else [content], 1):
            if not isinstance(entry, dict):
                where = f"entry {number} is {describe_type(entry)}"
                reading.images.append(AnnotatedImage("", str(file), left_out=BROKEN_IMAGE, left_out_for=where))
            elif isinstance(entry.get("annotations", entry.get("completions")), list) or _is_unlabeled(entry):
                yield entry, str(file)
            else:
                task, annotation = _split_record(entry, reading)
                key = str(task.get("id", f"entry {number}"))
                whole, _ = gathered.setdefault(key, ({**task, "annotations": []}, str(file)))
                whole["annotations"] += [annotation] if annotation is not None else []
    yield from gathered.values()


def _is_unlabeled(entry: dict[str, Any]) -> bool:
    """Whether an entry is a task without annotations, as those of files to import and with predictions alone."""
    return isinstance(entry.get("data"), dict) and not {"task", "result", "annotation_id"} & set(entry)


def _split_record(entry: dict[str, Any], reading: Reading) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Task and annotation of a file of a target storage, or of a record of JSON_MIN."""
    task = entry.get("task")
    if isinstance(task, dict) and isinstance(entry.get("result"), list):
        return task, entry
    lists = {key: value for key, value in entry.items() if isinstance(value, list) and _are_regions(value)}
    choices = [value for value in entry.values() if isinstance(value, dict) and "choices" in value]
    task = {"id": entry.get("id"), "data": {key: value for key, value in entry.items() if key not in lists}}
    if entry.get("annotation_id") is None and not lists:
        return task, None
    if not lists and not choices:
        reading.note(MAYBE_WHOLE, "images")
    boxes = [{**one, "value": one, "type": _type_of(one), "rotation": 0} for same in lists.values() for one in same]
    whole = [{"type": WHOLE_IMAGE, "value": value} for value in choices]
    return task, {"result": [*boxes, *whole], "created_at": entry.get("created_at")}


def _are_regions(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(one, dict) and "original_width" in one for one in value)


def _type_of(value: dict[str, Any]) -> str:
    return next((key for key in value if key.endswith("labels")), "rectangle" if "width" in value else "broken")


def _classes(config: Path) -> list[str]:
    """Labels of boxes and outlines in the order of the labeling interface; none if there is no such file."""
    if not config.is_file():
        return []
    try:
        root = parse_xml(config)
    except ValueError:
        return []
    labels = (label.get("value") for tag in _BOXED_CONTROLS for control in root.iter(tag) for label in control)
    return list(dict.fromkeys(label.strip() for label in labels if label and label.strip()))


def _add_task(task: dict[str, Any], file: str, folders: tuple[str, ...], reading: Reading, unboxed: Unboxed) -> None:
    where = f"task {task.get('id', 'without id')}"
    stated = task.get("annotations", task.get("completions"))
    annotations = [one for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
    done = [one for one in annotations if not (one.get("was_cancelled") or one.get("skipped"))]
    data = task.get("data")
    names = _image_names(data if isinstance(data, dict) else {})
    if not names and isinstance(task.get("file_upload"), str):
        names = {"": [task["file_upload"]]}
    pages = [(key, page, name) for key, same in names.items() for page, name in enumerate(same)]
    images = [AnnotatedImage(name, file, relative=True, folders=folders) for _, _, name in pages]
    reading.images += images or [
        AnnotatedImage(where, file, left_out=BROKEN_IMAGE, left_out_for="no image in 'data'")
    ]
    if not done:
        if not annotations and task.get("predictions"):
            reading.note(PREDICTIONS, "tasks", "left out")
        for image in images:
            leave_out(image, SKIPPED_TASK if annotations else NOT_ANNOTATED, where)
        return
    if len(done) > 1:
        reading.note(SEVERAL, "tasks")
    chosen = max(done, key=lambda one: (bool(one.get("ground_truth")), str(one.get("created_at") or "")))
    result = chosen.get("result")
    if not isinstance(result, list):
        for image in images:
            leave_out(image, BROKEN_REGION, f"{where}: its result is {describe_type(result)}")
        return
    for region in join_regions(result):
        region.record = f"{where}, {region.record}"
        fits = [i for i, (_, page, _) in enumerate(pages) if page == region.page]
        if len(fits) > 1:
            fits = [i for i in fits if pages[i][0] == region.target]
        if len(fits) == 1:
            _add_region(images[fits[0]], region, reading, unboxed)
            continue
        for image in images:
            leave_out(image, SEVERAL_IMAGES, region.record)


def _image_names(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Key -> names of the images in the data of a task: those with the suffix of an image, else the usual keys."""
    values = {key: [value] if isinstance(value, str) else value for key, value in data.items()}
    lists = {
        key: value
        for key, value in values.items()
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    }
    found = {key: value for key, value in lists.items() if all(map(_has_suffix, value))}
    usual = next((key for key in _IMAGE_KEYS if key in lists), None)
    return found or ({usual: lists[usual]} if usual is not None else {})


def _has_suffix(name: str) -> bool:
    return Path(clean_name(name)).suffix.lower() in SUFFIXES


def _add_region(image: AnnotatedImage, region: Region, reading: Reading, unboxed: Unboxed) -> None:
    image.size = image.size or region.size
    shape = next((shape for shape in _SHAPES if region.type.startswith(shape)), None)
    if region.type == WHOLE_IMAGE:
        for name in region.choices:
            unboxed.add(image, name, f"{region.record}: choice {name!r}")
    elif shape is None:
        leave_out(image, BROKEN_REGION, f"{region.record}: type {region.type!r:.60}")
    elif shape not in ("rectangle", "polygon", "ellipse"):
        for name in region.labels or [""]:
            unboxed.add(image, name, f"{region.record}: {shape}")
    elif region.turned:
        leave_out(image, TURNED, f"{region.record}: {region.turned:g} degrees")
    else:
        box = _box(region, shape, reading)
        is_ignored = any(choice.lower().replace(" ", "_") in IGNORING for choice in region.choices)
        if len(region.labels) > 1:
            reading.note(SEVERAL_LABELS, "regions")
        for name in region.labels or [""]:
            reading.add(image, box, name, region.record, is_ignored)


def _box(region: Region, shape: str, reading: Reading) -> Corners | None:
    """The upright box of a region in fractions of the image, with a note where it has another form."""
    value = region.value
    degrees = to_number(value.get("rotation") or 0) % 360
    if math.isnan(degrees) or (degrees and shape != "polygon" and region.size is None):
        return None  # rotation needs pixels: percent of width and height are different lengths
    height, width = region.size or (100, 100)
    if shape == "rectangle":
        box = from_xywh(to_numbers(value, ("x", "y", "width", "height")))
        if box is None or not degrees:
            return None if box is None else (box[0] / 100, box[1] / 100, box[2] / 100, box[3] / 100)
        reading.note(ROTATED, "regions")
        x1, y1, x2, y2 = (v / 100 * side for v, side in zip(box, (width, height) * 2, strict=True))
        return _to_fractions(hull_of_rotated((x1, y1, x2, y2), degrees, (x1, y1)), width, height)
    reading.note(OUTLINE, f"of type {shape}")
    if shape == "ellipse":
        given = to_numbers(value, ("x", "y", "radiusX", "radiusY"))
        if given is None:
            return None
        x, y, rx, ry = (v / 100 * side for v, side in zip(given, (width, height) * 2, strict=True))
        return _to_fractions(hull_of_ellipse((x, y), (rx, ry), degrees), width, height)
    points = value.get("points")
    pairs = [to_numbers(point, (0, 1)) for point in points] if isinstance(points, list) else [None]
    return _to_fractions(hull((pair[0], pair[1]) if pair else (math.nan, math.nan) for pair in pairs), 100, 100)


def _to_fractions(box: Corners | None, width: float, height: float) -> Corners | None:
    if box is None:
        return None
    x1, y1, x2, y2 = box
    return x1 / width, y1 / height, x2 / width, y2 / height


LABEL_STUDIO = AnnotationFormat(
    "Label Studio",
    "a .json of tasks (raw or JSON_MIN), here or in annotations/; a file for each task, named by its number",
    _find,
    _parse,
)

"""COCO json: images, boxes and crowd regions of an ``instances`` file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from gfocal.data.dataset import FileData, Problem
from gfocal.data.paths import find_images, ids_of_labels, inside, label_order
from gfocal.data.validation import MALFORMED, UNKNOWN_CLASS, UNLISTED, UNSAFE, ImageRecord, checked
from gfocal.errors import DataError
from gfocal.text import one_line

PLACEHOLDER = "category without annotations, which all others have as their supercategory: no class"
AREA_OF_BOX = "area_is_of_box"  # of annotations: nobody stated an area, and the writer put that of the box


def read_coco(
    annotation_file: str | Path,
    image_folder: str | Path | None = None,
    names: Sequence[str] | None = None,
    siblings: Sequence[Path] = (),
) -> FileData:
    """Read a COCO annotation file.

    Labels 0..C-1 follow the category ids in ascending order, or the order of ``names``, which then must contain
    the classes of the file; ``category_ids`` keeps the file's ids. Boxes (x, y, width, height) become xyxy.
    ``iscrowd`` and ``ignore`` are the crowd flag. Images without objects are kept. Samples are sorted by image id.

    A category that no annotation uses and that all others have as their ``supercategory`` is no class, if ``names``
    lacks it: exports put the project's name there. ``siblings`` are the files of other splits, which may use it.

    ``image_folder`` is where the ``file_name`` entries start. Without it the usual places beside the file are
    tried: its own folder, ../<split>, ../images/<split>, ../images, ...

    What is wrong with single records is reported in ``problems`` (see ``gfocal.data.validation``).
    Raises DataError when the file is missing or not COCO json, its images are not found, none is usable,
    or the classes are not ``names``.
    """
    file = Path(annotation_file)
    content = _load(file)
    problems: list[Problem] = []
    category_ids, found = _categories(content, file, names or (), siblings, problems)
    for name, count in Counter(found).items():
        if count > 1:
            problems.append(Problem(str(file), f"categories: {name!r}", "class name stands twice", "kept"))
    order = label_order(found, names, file)
    labels = dict(zip(category_ids, order, strict=True))
    folder = Path(image_folder) if image_folder is not None else find_images(file, _file_names(content["images"]))
    records = _image_records(content["images"], folder, str(file), problems)
    _add_boxes(content["annotations"], records, labels, str(file), problems)
    placed = [listed for listed in records.values() if listed is not None]
    if not all(isinstance(key, int) for key in records):  # ids that are words: running numbers instead
        placed.sort(key=lambda listed: str(listed.path))
        for number, listed in enumerate(placed, 1):
            listed.image_id = number
    placed.sort(key=lambda listed: listed.image_id)
    names = names or found
    content.clear()  # the json of a large set takes more memory than anything else here
    return checked(placed, names, ids_of_labels(order, category_ids, len(names)), problems, where=file)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as json: {error}") from error
    wanted = ("images", "annotations", "categories")
    lacking = [k for k in wanted if not isinstance(content.get(k) if isinstance(content, dict) else None, list)]
    if lacking:
        raise DataError(f"{file}: not a COCO instances file: lists {', '.join(lacking)} are lacking")
    return content


def _categories(
    content: dict[str, Any], file: Path, wanted: Sequence[str], siblings: Sequence[Path], problems: list[Problem]
) -> tuple[list[int], list[str]]:
    """Ids in ascending order, and their names."""
    entries: dict[int, str] = {}
    for number, entry in enumerate(content["categories"], 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not _is_id(key) or not isinstance(entry.get("name"), str):
            raise DataError(f"{file}: category {number}: needs a whole number 'id' and a text 'name'")
        if key in entries:
            two = one_line(f"{entries[key]!r:.100} and {entry['name']!r:.100}")
            raise DataError(f"{file}: category id {key} stands for {two}; give each class an id of its own")
        entries[key] = entry["name"]
    if not entries:
        raise DataError(f"{file}: no categories")
    above = {entry["id"]: entry.get("supercategory") for entry in content["categories"]}
    for key, name in entries.items():
        if len(entries) > 1 and all(above[other] == name for other in entries if other != key):
            if name in wanted or any(key in _used(part) for part in (content, *map(_load, siblings))):
                break
            problems.append(Problem(str(file), f"category {key}: {name!r}", PLACEHOLDER, "passed over"))
            del entries[key]
            break
    ids = sorted(entries)
    return ids, [entries[key] for key in ids]


def _used(content: dict[str, Any]) -> set[Any]:
    """The category ids of all annotations."""
    annotated = (entry.get("category_id") for entry in content["annotations"] if isinstance(entry, dict))
    return {key for key in annotated if _is_id(key)}


def _file_names(images: list[Any]) -> list[str]:
    return [i["file_name"] for i in images if isinstance(i, dict) and isinstance(i.get("file_name"), str)]


def _image_records(
    images: list[Any], folder: Path, file: str, problems: list[Problem]
) -> dict[int | str, ImageRecord | None]:
    """Image id -> image; None for an image that is listed but cannot be used."""
    records: dict[int | str, ImageRecord | None] = {}
    for number, entry in enumerate(images, 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not (_is_id(key) or isinstance(key, str)) or not isinstance(name, str) or not name:
            problems.append(Problem(file, f"images, entry {number}", "no 'id' or no 'file_name'", "dropped"))
            continue
        if key in records:
            problems.append(Problem(file, f"image {key}: {name}", "image id stands twice", "dropped"))
            continue
        path = inside(folder, name)
        if path is None:
            problems.append(Problem(file, f"image {key}: {name}", UNSAFE, "dropped"))
            records[key] = None
            continue
        height, width = entry.get("height"), entry.get("width")
        stated = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        records[key] = ImageRecord(file, path, key if isinstance(key, int) else 0, stated)
    return records


def _add_boxes(
    annotations: list[Any],
    records: dict[int | str, ImageRecord | None],
    labels: dict[int, int],
    file: str,
    problems: list[Problem],
) -> None:
    for number, entry in enumerate(annotations, 1):
        if not isinstance(entry, dict):
            problems.append(Problem(file, f"annotations, entry {number}", "not a record", "dropped"))
            continue
        record = f"annotation {entry.get('id', f'without id, entry {number}')}"
        image, category = entry.get("image_id"), entry.get("category_id")
        if not isinstance(image, (int, str)) or image not in records:
            problems.append(Problem(file, f"{record}: image_id {image!r}", UNLISTED, "dropped"))
        elif not isinstance(category, int) or category not in labels:
            problems.append(Problem(file, f"{record}: category_id {category!r}", UNKNOWN_CLASS, "dropped"))
        elif (listed := records[image]) is not None:
            try:
                box = entry["bbox"]
                x, y, width, height = map(float, box if isinstance(box, list) else ())
            except (KeyError, TypeError, ValueError, OverflowError):
                problems.append(Problem(file, f"{record}: bbox {entry.get('bbox')!r:.80}", MALFORMED, "dropped"))
                continue
            crowd = bool(entry.get("iscrowd") or entry.get("ignore"))
            listed.add((x, y, x + width, y + height), labels[category], crowd, record, _area(entry))


def _area(entry: Mapping[str, Any]) -> float:
    """Area of an object's outline in square pixels; NaN where the file does not state it."""
    area = entry.get("area")
    if entry.get(AREA_OF_BOX) is True:
        return math.nan
    if isinstance(area, int | float) and not isinstance(area, bool) and 0 < area < 1e300:  # no float holds more
        return float(area)
    return math.nan


def _is_id(key: Any) -> TypeGuard[int]:
    """Whether it is a whole number of 64 bits; true and false, which Python counts as numbers, are none."""
    return isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63

"""COCO json: pictures, boxes and crowd regions of an ``instances`` file."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.layouts import inside, label_order, split_name
from gfocal.data.samples import DataError, FileData, Problem
from gfocal.data.validation import MALFORMED, UNKNOWN_CLASS, UNLISTED, UNSAFE, Picture, checked

_PROBED = 20  # how many of the listed pictures are looked for to find their folder


def read_coco(
    annotation_file: str | Path, image_folder: str | Path | None = None, names: Sequence[str] | None = None
) -> FileData:
    """Read a COCO annotation file.

    Labels 0..C-1 follow the category ids in ascending order, or the order of ``names``, which then must be
    the classes of the file; ``category_ids`` keeps the file's ids. Boxes (x, y, width, height) become xyxy.
    ``iscrowd`` is kept as the crowd flag. Pictures without objects are kept. Samples are sorted by image id.

    ``image_folder`` is where the ``file_name`` entries start. Without it the usual places beside the file are
    tried: its own folder, ../<split>, ../images/<split>, ../images, ...

    What is wrong with single records is reported in ``problems`` (see ``gfocal.data.validation``).
    Raises DataError when the file is missing or not COCO json, its pictures are not found, none is usable,
    or the classes are not ``names``.
    """
    file = Path(annotation_file)
    content = _load(file)
    category_ids, found = _categories(content, file)
    problems: list[Problem] = []
    for name, count in Counter(found).items():
        if count > 1:
            problems.append(Problem(str(file), f"categories: {name!r}", "class name stands twice", "kept"))
    order = label_order(found, names, file)
    labels = dict(zip(category_ids, order, strict=True))
    by_label = dict(zip(order, category_ids, strict=True))

    folder = Path(image_folder) if image_folder is not None else _find_images(file, content["images"])
    pictures = _pictures(content["images"], folder, str(file), problems)
    _add_boxes(content["annotations"], pictures, labels, str(file), problems)
    placed = [picture for picture in pictures.values() if picture is not None]
    if not all(isinstance(key, int) for key in pictures):  # ids that are words: running numbers instead
        placed.sort(key=lambda picture: str(picture.path))
        for number, picture in enumerate(placed, 1):
            picture.image_id = number
    placed.sort(key=lambda picture: picture.image_id)
    return checked(placed, names or found, [by_label[label] for label in range(len(found))], problems, where=file)


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


def _categories(content: dict[str, Any], file: Path) -> tuple[list[int], list[str]]:
    """Ids in ascending order, and their names."""
    entries: dict[int, str] = {}
    for number, entry in enumerate(content["categories"], 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int) or not isinstance(entry.get("name"), str):
            raise DataError(f"{file}: category {number}: needs a whole number 'id' and a text 'name'")
        if key in entries:
            raise DataError(f"{file}: category id {key} stands for {entries[key]!r} and {entry['name']!r}")
        entries[key] = entry["name"]
    if not entries:
        raise DataError(f"{file}: no categories")
    ids = sorted(entries)
    return ids, [entries[key] for key in ids]


def _find_images(file: Path, images: list[Any]) -> Path:
    """The folder, of the usual ones, that holds most of the first pictures."""
    names = [i["file_name"] for i in images if isinstance(i, dict) and isinstance(i.get("file_name"), str)]
    names = names[:_PROBED]
    here, root = file.parent, file.parent.parent
    words = [file.stem.split("_", 1)[-1], *re.findall("[A-Za-z]+[0-9]*", file.stem)]
    words += [alias for w in words if (alias := split_name(w)) and alias != w]
    if "val" in words:
        words.append("valid")
    places = [here, *(here / w for w in words), here / "images", *(here / "images" / w for w in words)]
    places += [*(root / w for w in words), *(root / "images" / w for w in words), root / "images", root]
    places += [root / "train2017", root / "val2017", root / "train", root / "JPEGImages"]
    places = list(dict.fromkeys(places))
    hits = [sum((p := inside(place, n)) is not None and os.path.isfile(p) for n in names) for place in places]
    if names and max(hits) == 0:
        raise DataError(
            f"{file}: its pictures are not found; put them into one of the places where {names[0]!r} was looked for: "
            + ", ".join(os.path.relpath(place, here) for place in places)
            + " (relative to the file)"
        )
    return places[hits.index(max(hits))]


def _pictures(images: list[Any], folder: Path, file: str, problems: list[Problem]) -> dict[int | str, Picture | None]:
    """Image id -> picture; None for a picture that is listed but cannot be used."""
    pictures: dict[int | str, Picture | None] = {}
    for number, entry in enumerate(images, 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(key, (int, str)) or not isinstance(name, str) or not name:
            problems.append(Problem(file, f"images, entry {number}", "no 'id' or no 'file_name'", "dropped"))
            continue
        if key in pictures:
            problems.append(Problem(file, f"image {key}: {name}", "image id stands twice", "dropped"))
            continue
        path = inside(folder, name)
        if path is None:
            problems.append(Problem(file, f"image {key}: {name}", UNSAFE, "dropped"))
            pictures[key] = None
            continue
        height, width = entry.get("height"), entry.get("width")
        stated = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        pictures[key] = Picture(file, path, key if isinstance(key, int) else 0, stated)
    return pictures


def _add_boxes(
    annotations: list[Any],
    pictures: dict[int | str, Picture | None],
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
        if not isinstance(image, (int, str)) or image not in pictures:
            problems.append(Problem(file, f"{record}: image_id {image!r}", UNLISTED, "dropped"))
        elif not isinstance(category, int) or category not in labels:
            problems.append(Problem(file, f"{record}: category_id {category!r}", UNKNOWN_CLASS, "dropped"))
        elif (picture := pictures[image]) is not None:
            try:
                x, y, width, height = map(float, entry["bbox"])
            except (KeyError, TypeError, ValueError, OverflowError):
                problems.append(Problem(file, f"{record}: bbox {entry.get('bbox')!r:.80}", MALFORMED, "dropped"))
                continue
            box = (x, y, x + width, y + height)
            picture.add(box, labels[category], bool(entry.get("iscrowd", 0)), record, _area(entry))


def _area(entry: Mapping[str, Any]) -> float:
    """Area of an object's outline in square pixels; NaN where the file does not state it."""
    area = entry.get("area")
    if isinstance(area, int | float) and not isinstance(area, bool) and area > 0:
        return float(area)
    return math.nan

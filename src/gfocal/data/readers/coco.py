"""Reader of COCO json: images, boxes and crowd regions of an ``instances`` file."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from gfocal.data.dataset import FileData, Problem
from gfocal.data.locate import ImageLocator, find_images
from gfocal.data.paths import (
    category_ids_by_label,
    find_split,
    find_split_folders,
    map_labels,
    pick_split,
    sort_splits,
    split_name,
)
from gfocal.data.validation import (
    MALFORMED,
    REPEATED_CLASS,
    REPEATED_ID,
    REPEATED_IMAGE,
    UNKNOWN_CLASS,
    UNLISTED,
    ImageRecord,
    validate_records,
)
from gfocal.errors import DataError, SplitError
from gfocal.text import one_line

PLACEHOLDER = "category without annotations that is the supercategory of all others: not a class"
AREA_OF_BOX = "area_is_of_box"  # key of annotations: the area was not stated, and the writer has put that of the box


def read_coco(
    annotation_file: str | Path,
    image_folder: str | Path | None = None,
    names: Sequence[str] | None = None,
    siblings: Sequence[Path] = (),
) -> FileData:
    """Read a COCO annotation file.

    Labels 0..C-1 follow the category ids in ascending order, or the order of ``names``, which then must contain
    the classes of the file; ``category_ids`` has the ids of the file. Boxes (x, y, width, height) are converted to
    xyxy. ``iscrowd`` and ``ignore`` are the crowd flag. Images without objects are kept. Samples are sorted by image
    id.

    A category that no annotation uses and that is the ``supercategory`` of all others is not a class, unless it is in
    ``names``: exports put the project's name there. ``siblings`` are the files of other splits, which may use it.

    ``image_folder`` is the folder that the ``file_name`` entries are relative to. Without it the usual folders are
    tried: that of the file, ../<split>, ../images/<split>, ../images, ...

    Problems of single records are reported in ``problems`` (see ``gfocal.data.validation``). Raises DataError if the
    file is missing or not COCO json, its images are not found, none is usable, or the classes are not ``names``.
    """
    file = Path(annotation_file)
    content = _load(file)
    problems: list[Problem] = []
    category_ids, found = _categories(content, file, names or (), siblings, problems)
    for name, count in Counter(found).items():
        if count > 1:
            problems.append(Problem(str(file), f"categories: {name!r}", REPEATED_CLASS, "kept"))
    order = map_labels(found, names, file)
    labels = dict(zip(category_ids, order, strict=True))
    file_names = _file_names(content["images"])
    locator = find_images(file, file_names) if image_folder is None else ImageLocator(Path(image_folder))
    records = _image_records(content["images"], locator, str(file), problems)
    _add_boxes(content["annotations"], records, labels, str(file), problems)
    placed = [listed for listed in records.values() if listed is not None]
    if not all(isinstance(key, int) for key in records):  # ids that are strings are replaced by 1, 2, ...
        placed.sort(key=lambda listed: str(listed.path))
        for number, listed in enumerate(placed, 1):
            listed.image_id = number
        for key, record in records.items():
            if record is not None:
                record.stated_id = key
    placed.sort(key=lambda listed: listed.image_id)
    names = names or found
    content.clear()  # the json of a large dataset takes more memory than anything else here
    return validate_records(
        placed, names, category_ids_by_label(order, category_ids, len(names)), problems, where=file
    )


def coco_splits(path: Path) -> list[str]:
    """Names of the splits of a COCO dataset at a path; empty for a single json file, or where there is none."""
    return list(_coco_files(path)) if path.is_dir() else []


def is_coco(path: Path) -> bool:
    """Whether a path is a json file with COCO's lists, or a folder with such files in the usual places."""
    return bool(_coco_files(path)) if path.is_dir() else path.suffix.lower() == ".json" and _looks_like_coco(path)


def read_coco_dataset(path: Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read a COCO json file, or the file of a split in a folder. Raises DataError as ``read_coco``."""
    if path.is_dir():
        files = _coco_files(path)
        file = pick_split(files, split, path)
        return read_coco(file, names=names, siblings=[f for f in files.values() if f != file] or _siblings(file))
    own = find_split(path.stem)
    if split is not None and own is not None and split_name(split) not in (None, own):
        raise SplitError(f"{path}: this file is of split {own!r}, not {split!r}; give its folder to choose")
    return read_coco(path, names=names, siblings=_siblings(path))


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as json: {error}") from error
    wanted = ("images", "annotations", "categories")
    missing = [k for k in wanted if not isinstance(content.get(k) if isinstance(content, dict) else None, list)]
    if missing:
        raise DataError(f"{file}: not a COCO instances file: it has no lists {', '.join(missing)}")
    return content


def _categories(
    content: dict[str, Any], file: Path, wanted: Sequence[str], siblings: Sequence[Path], problems: list[Problem]
) -> tuple[list[int], list[str]]:
    """Ids in ascending order, and their names."""
    entries: dict[int, str] = {}
    for number, entry in enumerate(content["categories"], 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not _is_id(key) or not isinstance(entry.get("name"), str):
            raise DataError(f"{file}: category {number}: needs an integer 'id' and a string 'name'")
        if key in entries:
            two = one_line(f"{entries[key]!r:.100} and {entry['name']!r:.100}")
            raise DataError(f"{file}: category id {key} is that of {two}; give each class its own id")
        entries[key] = entry["name"]
    if not entries:
        raise DataError(f"{file}: no categories")
    above = {entry["id"]: entry.get("supercategory") for entry in content["categories"]}
    for key, name in entries.items():
        if len(entries) > 1 and all(above[other] == name for other in entries if other != key):
            if name in wanted or any(key in _used(part) for part in (content, *map(_load, siblings))):
                break
            problems.append(Problem(str(file), f"category {key}: {name!r}", PLACEHOLDER, "skipped"))
            del entries[key]
            break
    ids = sorted(entries)
    return ids, [entries[key] for key in ids]


def _used(content: dict[str, Any]) -> set[Any]:
    """The category ids in the annotations."""
    annotated = (entry.get("category_id") for entry in content["annotations"] if isinstance(entry, dict))
    return {key for key in annotated if _is_id(key)}


def _file_names(images: list[Any]) -> list[str]:
    return [i["file_name"] for i in images if isinstance(i, dict) and isinstance(i.get("file_name"), str)]


def _image_records(
    images: list[Any], locator: ImageLocator, file: str, problems: list[Problem]
) -> dict[int | str, ImageRecord | None]:
    """Image id -> image; None for a listed image that cannot be used."""
    records: dict[int | str, ImageRecord | None] = {}
    file_names = list(dict.fromkeys(_file_names(images)))
    located = dict(zip(file_names, locator.locate_all(file_names), strict=True))
    used: set[Path] = set()
    for number, entry in enumerate(images, 1):
        key = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not (_is_id(key) or isinstance(key, str)) or not isinstance(name, str) or not name:
            problems.append(Problem(file, f"images, entry {number}", "image without 'id' or 'file_name'", "dropped"))
            continue
        if key in records:
            problems.append(Problem(file, f"image {key}: {name}", REPEATED_ID, "dropped"))
            continue
        path = locator.take(located[name], file, f"image {key}: {name}", problems)
        if path is not None and path in used:  # Label Studio lists an image once for each annotator
            problems.append(Problem(file, f"image {key}: {name}", REPEATED_IMAGE, "dropped"))
            path = None
        if path is None:
            records[key] = None
            continue
        used.add(path)
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
            stated = (x, y, width, height, _stated_area(entry))
            listed.add((x, y, x + width, y + height), labels[category], crowd, record, _area(entry), stated)


def _area(entry: Mapping[str, Any]) -> float:
    """Area of an object's outline in square pixels; NaN if not stated, or if no object has it."""
    area = _stated_area(entry)
    return area if area > 0 else math.nan


def _stated_area(entry: Mapping[str, Any]) -> float:
    """The area in square pixels, even if no object has it; NaN if not stated."""
    area = entry.get("area")
    if entry.get(AREA_OF_BOX) is True or not isinstance(area, int | float) or isinstance(area, bool):
        return math.nan
    return float(area) if -1e300 < area < 1e300 else math.nan  # larger integers are not representable


def _is_id(key: Any) -> TypeGuard[int]:
    """Whether a value is a 64-bit integer and not a bool, which is an ``int`` in Python."""
    return isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63


def _coco_files(folder: Path) -> dict[str, Path]:
    """Split -> json file; a file without a split in its name is a split of its own, named by its stem."""
    home = folder / "annotations"
    found = _instances(home) if home.is_dir() else {}
    if not found:
        for name, sub in find_split_folders(folder).items():
            files = _instances(sub)
            if len(files) == 1:
                found[name] = next(iter(files.values()))
    found = found or _instances(folder)
    return {name: found[name] for name in sort_splits(found)}


def _siblings(file: Path) -> list[Path]:
    """The json files of the other splits, if the file or its folder is named after a split."""
    home = file.absolute().parent
    folder = home if find_split(file.stem) else home.parent if split_name(home.name) else None
    found = [] if folder is None else list(_coco_files(folder).values())
    return [other for other in found if other != file.absolute()] if file.absolute() in found else []


def _instances(folder: Path) -> dict[str, Path]:
    files = sorted(f for f in folder.glob("*.json") if f.is_file() and not f.name.startswith("."))
    files = [f for f in files if f.name.startswith("instances_")] or [f for f in files if _looks_like_coco(f)]
    files = [f for f in files if not f.name.startswith("person_keypoints_")] or files  # CVAT: the only file
    found: dict[str, Path] = {}
    for file in reversed(files):
        own = find_split(file.stem)
        found[own if own is not None and own not in found else file.stem] = file
    return found


def _looks_like_coco(file: Path) -> bool:
    """Whether a file has the three lists of COCO: there may be other json files (LabelMe, notes, captions)."""
    if re.match("captions_|panoptic_|stuff_|image_info_|gfocal.json$", file.name):
        return False
    missing = {f'"{key}"'.encode() for key in ("images", "annotations", "categories")}
    with file.open("rb") as stream:
        tail = b""
        while missing and (block := stream.read(1 << 20)):
            text = tail + block
            missing = {key for key in missing if not re.search(key + rb"\s*:\s*\[", text)}
            tail = text[-64:]
    return not missing

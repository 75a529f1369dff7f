"""Reader of COCO json: images, boxes and crowd regions of an ``instances`` file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
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
from gfocal.data.readers.coco_objects import Id, add_objects, is_empty_name, label_only_categories
from gfocal.data.readers.fields import read_id, read_integer
from gfocal.data.validation import REPEATED_ID, REPEATED_IMAGE, validate_records
from gfocal.errors import DataError, SplitError
from gfocal.text import one_line

PLACEHOLDER = "category without annotations that is the supercategory of all others: not a class"
WRITTEN_BY_GFOCAL = "written by gfocal convert"  # description of a file whose numbers are pixels in any case
EMPTY_CATEGORY = "category that only labels whole images as empty: not a class"


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

    Ids may be text: category ids are then 1..C in the order of the file, image ids 1, 2, ... in the order of paths;
    integers written as decimals or text are integers. An object without a box gets that of its outline; an image with
    an object that has neither is left out, unless its category says that it is empty (``is_empty_name``).

    A category that no annotation uses and that is the ``supercategory`` of all others is not a class, unless it is in
    ``names``: exports put the project's name there. Nor is one that only labels empty images. ``siblings`` are the
    files of other splits, which may use it.

    ``image_folder`` is the folder that the ``file_name`` entries (or the last part of ``coco_url``) are relative to.
    Without it the usual folders are tried: that of the file, ../<split>, ../images/<split>, ../images, ...

    Problems of single records are reported in ``problems`` (see ``gfocal.data.validation``). Raises DataError if the
    file is missing or not COCO json, its images are not found, none is usable, or the classes are not ``names``.
    """
    file = Path(annotation_file)
    content = _load(file)
    problems: list[Problem] = []
    categories, empty = _categories(content, file, names or (), siblings, problems)
    found, category_ids = list(categories.values()), _category_ids(categories)
    order = map_labels(found, names, file)
    labels = dict(zip(categories, order, strict=True))
    file_names = _file_names(content["images"])
    locator = find_images(file, file_names) if image_folder is None else ImageLocator(Path(image_folder))
    records = _image_records(content["images"], locator, str(file), problems)
    add_objects(content["annotations"], records, labels, empty, str(file), problems)
    placed = [listed for listed in records.values() if listed is not None]
    if not all(isinstance(key, int) for key in records):  # ids that are strings are replaced by 1, 2, ...
        placed.sort(key=lambda listed: str(listed.path))
        for number, listed in enumerate(placed, 1):
            listed.image_id = number
        for key, record in records.items():
            if record is not None and record.stated_id is None:
                record.stated_id = key
    placed.sort(key=lambda listed: listed.image_id)
    names = names or found
    is_converted = isinstance(content.get("info"), dict) and content["info"].get("description") == WRITTEN_BY_GFOCAL
    content.clear()  # the json of a large dataset takes more memory than anything else here
    ids = category_ids_by_label(order, category_ids, len(names))
    return validate_records(
        placed, names, ids, problems, file, layout="xywh", flag="crowd (iscrowd)", in_pixels=is_converted
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
) -> tuple[dict[Id, str], set[Id]]:
    """The name of each category id that is a class, ascending by id; and the ids of those that label empty images."""
    entries: dict[Id, str] = {}
    above: dict[Id, Any] = {}
    for number, entry in enumerate(content["categories"], 1):
        key = read_id(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not isinstance(entry.get("name"), str):
            raise DataError(f"{file}: category {number}: needs an 'id' (an integer or text) and a text 'name'")
        if key in entries:
            two = one_line(f"{entries[key]!r:.100} and {entry['name']!r:.100}")
            raise DataError(f"{file}: category id {key!r:.80} is that of {two}; give each class its own id")
        entries[key], above[key] = entry["name"], entry.get("supercategory")
    if not entries:
        raise DataError(f"{file}: no categories")
    names = dict(entries)
    all_above = (n for k, n in names.items() if len(names) > 1 and all(above[o] == n for o in names if o != k))
    doubtful = {next(all_above, None), *filter(is_empty_name, names.values())} - {None, *wanted}
    empty: set[Id] = set()
    if doubtful:
        whole, boxed = _usage(content, siblings)
        for key, name in names.items():
            if name not in doubtful or key in boxed or len(entries) == 1:
                continue
            if key in whole and is_empty_name(name):
                empty.add(key)
                problems.append(Problem(str(file), f"category {key}: {name!r}", EMPTY_CATEGORY, "skipped"))
            elif key not in whole and all(above[other] == name for other in names if other != key):
                problems.append(Problem(str(file), f"category {key}: {name!r}", PLACEHOLDER, "skipped"))
            else:
                continue
            del entries[key]
    if all(isinstance(key, int) for key in entries):
        return dict(sorted(entries.items(), key=lambda item: int(item[0]))), empty
    return entries, empty  # with text ids in the order of the file


def _usage(content: dict[str, Any], siblings: Sequence[Path]) -> tuple[set[Id], set[Id]]:
    """The ids of categories that label whole images, and of those that have boxes, in the files of all splits."""
    whole: set[Id] = set()
    boxed: set[Id] = set()
    for part in (content, *map(_load, siblings)):
        more = label_only_categories(part["annotations"])
        whole |= more[0]
        boxed |= more[1]
    return whole, boxed


def _category_ids(keys: Iterable[Id]) -> list[int]:
    """The ids of the classes as integers: 1, 2, ... where some are text."""
    keys = list(keys)
    numbers = [key for key in keys if isinstance(key, int)]
    return numbers if len(numbers) == len(keys) else list(range(1, len(keys) + 1))


def _file_names(images: list[Any]) -> list[str]:
    return [name for entry in images if (name := _file_name(entry))]


def _file_name(entry: Any) -> str:
    """The name of an image: ``file_name``, or the address that LVIS has in its place; empty if there is none."""
    if not isinstance(entry, dict):
        return ""
    names = (entry.get(key) for key in ("file_name", "coco_url", "flickr_url"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _image_records(
    images: list[Any], locator: ImageLocator, file: str, problems: list[Problem]
) -> dict[Id, ImageRecord | None]:
    """Image id -> image; None for a listed image that cannot be used."""
    records: dict[Id, ImageRecord | None] = {}
    file_names = list(dict.fromkeys(_file_names(images)))
    located = dict(zip(file_names, locator.locate_all(file_names), strict=True))
    used: set[Path] = set()
    for number, entry in enumerate(images, 1):
        key, name = read_id(entry.get("id")) if isinstance(entry, dict) else None, _file_name(entry)
        if key is None or not name:
            missing = "'id'" if key is None else "'file_name' (or 'coco_url')"
            problems.append(Problem(file, f"images, entry {number}", f"image without {missing}", "dropped"))
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
        height, width = read_integer(entry.get("height")), read_integer(entry.get("width"))
        stated = (height, width) if height is not None and width is not None else None
        text = entry["id"] if isinstance(entry["id"], str) else None
        records[key] = ImageRecord(file, path, key if isinstance(key, int) else 0, stated, stated_id=text)
    return records


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

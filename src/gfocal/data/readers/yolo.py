"""Reader of YOLO text files: a data.yaml, images, and one label file of normalized boxes per image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfocal.data.class_ids import report_shift
from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.locate import ImageLocator
from gfocal.data.paths import (
    category_ids_by_label,
    find_split_folders,
    is_image,
    list_images,
    map_labels,
    pick_split,
    resolve_inside,
    sort_splits,
    split_name,
)
from gfocal.data.readers.fields import read_integer
from gfocal.data.readers.label_files import first_lines
from gfocal.data.readers.yolo_labels import add_lines, label_file_of
from gfocal.data.readers.yolo_layout import LineLayout
from gfocal.data.sidecar import Sidecar, read_sidecar
from gfocal.data.validation import REPEATED_IMAGE, UNLISTED, validate_records
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

SPLIT_MOVED = "split is not where the yaml says, but in a folder of the same name beside it"
NO_LABELS = "images without a label file are background, as YOLO has it"
SHARED_LABELS = "label file of several images of one name: each of them has its boxes"
NO_SPLITS = "the yaml lists no splits: those of the folders images/ and labels/ beside it are read"
SPLIT_LOST = "another split that does not exist"
_LINE = re.compile(r"\d{1,6}(\s+(0?\.\d+|[01](\.\d*)?)){4,}\s*", re.ASCII)  # a class and fractions of the image
_MOST_PROBED = 100  # images of which one has labels beside it
_NOT_LABELS = ("classes.txt", "obj.names", "labels.txt", "notes.txt")


def read_yolo(folder_or_yaml: str | Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read a YOLO dataset: a ``data.yaml``, or a folder with one.

    The yaml has ``names`` (list, or index -> name) and for each split a folder, a list of folders or images, or a
    text file that lists images, below ``path:`` (itself relative to the yaml). A folder without yaml needs
    ``images/<split>`` or ``<split>/images``, or the labels beside the images, here or in ``<split>/``; and
    ``classes.txt`` or the argument ``names``.

    The labels of ``.../images/a.jpg`` are in ``.../labels/a.txt``, else beside the image; an empty or missing file
    means an image without objects. A line is ``class cx cy width height`` in fractions of the upright image (of the
    stored pixels with ``"boxes_on_stored_pixels": true`` in gfocal.json), also with a confidence or track id behind
    it, or with keypoints where the yaml has ``kpt_shape``; or a polygon ``class x1 y1 x2 y2 x3 y3 ...``, of which the
    bounding box is taken (``gfocal.data.readers.yolo_layout``).

    Labels 0..C-1 follow the class indices, or ``names``, which must contain the classes; category ids are the
    indices of the files. Image ids are 1, 2, ... in the order of paths.

    Problems of single lines are reported in ``problems`` (see ``gfocal.data.validation``), and so are other splits of
    the yaml that do not exist. Raises DataError for a broken yaml, an unknown or missing split (``split`` None is
    train, or the only one), no usable image, no label file, or classes that are not among ``names``.
    """
    source = _open(Path(folder_or_yaml), names)
    asked = "train" if split is None else split_name(split) or split
    if asked in source.missing:
        raise DataError(
            f"{source.file}: {asked}: {one_line(', '.join(source.missing[asked]))} not found below "
            f"{one_line(str(source.root), max_length=400)}; fix the entry or 'path:'"
        )
    entries = pick_split(source.splits, split, source.file)
    key = asked if asked in source.splits else next(iter(source.splits))
    order = map_labels(list(source.names.values()), names, source.file)
    labels = dict(zip(source.names, order, strict=True))

    problems = list(source.problems)
    listed = _listed_images(source.root, entries, key, problems)
    layout = LineLayout(source.keypoints, source.is_polygons)
    images, label_files = _describe_images(source, key, listed, labels, layout, problems)
    if images and not label_files:
        raise DataError(
            f"{source.file}: none of {len(images)} images has a label file, such as "
            + one_line(images[0].file, max_length=400)
        )
    layout.finish(str(source.file), problems)
    num_unknown = sum(number for index, number in layout.ids.items() if index not in source.names)
    problems += report_shift(layout.ids, list(source.names), num_unknown, str(source.file))
    _report_orphans(label_files, {Path(image.file) for image in images}, entries, problems)
    ids = list(source.names)
    if (stated := source.sidecar.category_ids) is not None and ids == list(range(len(stated))):
        ids = list(stated)
    images.sort(key=lambda image: image.image_id)
    names = names or list(source.names.values())
    numbers = category_ids_by_label(order, ids, len(names))
    data = validate_records(images, names, numbers, problems, where=source.file, layout="cxcywh")
    usable = set(data.table.image_ids.tolist())
    without = [i for i in images if i.image_id in usable and Path(i.file) not in label_files]
    if without:
        record = f"{len(without)} of {pluralize(len(usable), 'image')}, e.g. {without[0].path.name}"
        data.problems.append(Problem(str(source.file), record, NO_LABELS, "kept"))
    return data


def _describe_images(
    source: _Source,
    split: str,
    listed: set[Path],
    labels: dict[int, int],
    layout: LineLayout,
    problems: list[Problem],
) -> tuple[list[ImageRecord], set[Path]]:
    """The images of a split in the order of their paths, with their boxes; and the label files that exist."""
    images: list[ImageRecord] = []
    label_files: set[Path] = set()
    free = source.sidecar.free_ids(split)
    for path in sorted(listed):
        extra = source.sidecar.image(split, Path(os.path.relpath(path, source.root)).as_posix())
        label_file = label_file_of(path)
        image_id = next(free) if extra.image_id is None else extra.image_id
        image = ImageRecord(str(label_file), path, image_id, extra.stated_size, relative=True)
        image.on_stored_pixels = source.sidecar.boxes_on_stored_pixels
        if os.path.isfile(label_file):
            if label_file in label_files:
                problems.append(Problem(str(label_file), path.name, SHARED_LABELS, "kept"))
            label_files.add(label_file)
            add_lines(image, label_file, labels, extra, layout, problems)
        images.append(image)
    return images, label_files


def yolo_splits(path: Path) -> list[str]:
    """Names of the splits of a YOLO dataset (yaml or folder); empty if it is not one."""
    try:
        return sort_splits(_open(path, ["?"]).splits)
    except DataError:
        if path.is_file() or find_yaml(path):
            raise
        return []


def is_yolo(path: Path) -> bool:
    """Whether a path is a yaml file, or a folder with one or with images and labels of a split."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return find_yaml(path) is not None or bool(yolo_splits(path))


def find_yaml(folder: Path) -> Path | None:
    """The data.yaml of a folder, else its first yaml with ``names``."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".yaml", ".yml") and f.is_file())
    named = [f for f in files if f.stem.lower() in ("data", "dataset")]
    named = named or [f for f in files if re.search("^names:", f.read_text("utf-8", errors="replace"), re.M)]
    return named[0] if named else None


@dataclass
class _Source:
    """The parts of a YOLO dataset."""

    file: Path  # the yaml, or the folder without one
    root: Path  # folder of all images
    names: dict[int, str]  # class index -> name, ascending
    splits: dict[str, list[Path]]  # folders, or text files that list images
    missing: dict[str, list[str]]  # entries of the yaml for a split that do not exist
    problems: list[Problem]
    sidecar: Sidecar = field(default_factory=Sidecar)
    keypoints: tuple[int, int] | None = None  # see ``LineLayout``
    is_polygons: bool = False


def _open(path: Path, names: Sequence[str] | None) -> _Source:
    if path.is_dir():
        found = find_yaml(path)
        return _from_yaml(found) if found is not None else _from_folder(path, names)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return _from_yaml(path)


def _load(file: Path) -> dict[Any, Any]:
    import yaml

    aliases = False
    try:
        text = file.read_text(encoding="utf-8-sig")
        # A few lines of anchors and aliases can stand for billions of values.
        aliases = "*" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.BaseLoader)
        )
        # All values as text: classes may be called yes, no, null or 007.
        content = None if aliases else yaml.load(text, yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise DataError(f"{file}: broken yaml{place}: {one_line(str(error.problem))}") from error
    except Exception as error:  # PyYAML raises nearly anything for tags that do not match their value
        reason = one_line(f"{type(error).__name__}: {error}")
        raise DataError(f"{file}: cannot be read as yaml: {reason}") from error
    if aliases:
        raise DataError(f"{file}: aliases (*name) are not supported: write out their values")
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a YOLO data file: it needs 'names' and 'train'")
    return content


def _from_yaml(file: Path) -> _Source:
    content = _load(file)
    names = _names(content.get("names"), file)
    problems = []
    if (stated := content.get("nc")) and read_integer(stated) != len(names):
        record = f"nc {stated}, {len(names)} names"
        problems.append(Problem(str(file), record, "nc is not the number of names", "kept"))
    roots = [file.parent]
    if _is_set(content.get("path")):
        given = _normalize(file.parent / str(content["path"]))
        if os.path.dirname(os.path.abspath(given)) != os.path.abspath(given):  # a whole disk would be searched
            roots.insert(0, given)
    sidecar = read_sidecar(file.parent)  # it may have splits of other names
    keys = {k: v for k, v in content.items() if _is_set(v) and (split_name(k) or k in sidecar.splits)}
    root = next((r for r in roots if any(_resolve(r, v)[0] for v in keys.values())), roots[0])
    splits: dict[str, list[Path]] = {}
    missing: dict[str, list[str]] = {}
    if not keys and (found_folders := _split_folders(file.parent)):  # written by tools that ask for each folder
        splits = found_folders
        shown = ", ".join(folder.relative_to(file.parent).as_posix() for same in splits.values() for folder in same)
        problems.append(Problem(str(file), shown, NO_SPLITS, "kept"))
    for key, value in keys.items():
        found, lost, moved = _resolve(root, value)
        problems += [Problem(str(file), f"{key}: {entry}", SPLIT_MOVED, "kept") for entry in moved]
        splits |= {split_name(key) or key: found} if found else {}
        missing |= {split_name(key) or key: lost} if lost else {}
    if not splits:
        stated = one_line(", ".join(f"{key}: {value}" for key, value in keys.items()), max_length=200)
        stated = stated or "no train, val or test"
        tried = " or ".join(one_line(str(r), max_length=200) for r in roots)
        raise DataError(f"{file}: none of its splits ({stated}) found below {tried}; fix 'path:'")
    problems += [
        Problem(str(file), f"{name}: {', '.join(lost)}", SPLIT_LOST, "skipped") for name, lost in missing.items()
    ]
    splits = {name: splits[name] for name in sort_splits(splits)}
    keypoints = _keypoints(content, file)
    is_polygons = str(content.get("task")).lower() in ("segment", "obb")
    return _Source(file, root, names, splits, missing, problems, sidecar, keypoints, is_polygons)


def _normalize(path: Path) -> Path:
    """A path without x/.., where that is the same folder; it is not if x is a link."""
    plain = Path(os.path.normpath(path))
    try:
        return plain if os.path.samefile(plain, path) else path
    except (OSError, ValueError):
        return path


def _is_set(value: Any) -> bool:
    """Whether a value of a yaml that was read as text is not empty."""
    return bool(value) and not (isinstance(value, str) and value.lower() in ("null", "~"))


def _keypoints(content: dict[Any, Any], file: Path) -> tuple[int, int] | None:
    """``kpt_shape``. Raises DataError where it is broken, or missing although other keys say that there are poses."""
    shape = content.get("kpt_shape")
    says_pose = [key for key in ("flip_idx", "kpt_names") if _is_set(content.get(key))]
    says_pose += ["task: pose"] if str(content.get("task")).lower() == "pose" else []
    if not _is_set(shape):
        if says_pose:
            raise DataError(
                f"{file}: {says_pose[0]} says that the labels are poses; add kpt_shape: [K, D], the number of "
                "keypoints and 2 or 3 numbers for each"
            )
        return None
    numbers = [read_integer(value) for value in shape] if isinstance(shape, list) else []
    count, dims = numbers if len(numbers) == 2 else (None, None)
    if count is None or dims not in (2, 3) or not 0 < count <= 10_000:
        shown = one_line(str(shape))
        raise DataError(f"{file}: kpt_shape {shown} is not [number of keypoints, 2 or 3]")
    return count, dims


def _names(value: Any, file: Path) -> dict[int, str]:
    pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    try:
        names = {int(key): str(name) for key, name in pairs}
    except (TypeError, ValueError, OverflowError):
        names = {}
    if not names or len(names) < len(value):
        raise DataError(f"{file}: 'names' must be a list of class names or a map of index to name, each index once")
    return dict(sorted(names.items()))


def _resolve(root: Path, value: Any) -> tuple[list[Path], list[str], list[str]]:
    """Of the entries of a split: existing folders and lists below the root, missing entries, and moved ones."""
    found, missing, moved = [], [], []
    for entry in map(str, value if isinstance(value, list) else [value]):
        parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        path = root if entry in (".", "./") else resolve_inside(root, entry)
        # Exports have ../train/images for train/images beside the yaml; others have the path on another machine.
        tails = ["/".join(parts[-count:]) for count in (len(parts), 2, 1)] if path is None else []
        places = [path, *(resolve_inside(root, tail) for tail in tails)]
        place = next((p for p in places if p is not None and (os.path.isdir(p) or os.path.isfile(p))), None)
        if place is None:  # pipes and devices do not count
            missing.append(entry)
        else:
            found.append(place)
            moved += [entry] if place not in places[:2] else []
    return found, missing, moved


def _split_folders(folder: Path) -> dict[str, list[Path]]:
    """The splits of a folder without a yaml that lists them: images/ with labels/, here or in or for each split."""
    splits: dict[str, list[Path]] = {}
    if (folder / "images").is_dir():
        places = find_split_folders(folder / "images")
        splits = {name: [sub] for name, sub in places.items() if _has_labels(folder, sub)}
        if not splits and (folder / "labels").is_dir():
            splits = {"all": [folder / "images"]}
    for name, sub in find_split_folders(folder).items():
        if (sub / "images").is_dir() and (sub / "labels").is_dir():
            splits.setdefault(name, [sub / "images"])
    if not splits:  # LabelImg's: the labels beside the images
        splits = {name: [sub] for name, sub in find_split_folders(folder).items() if _has_labels_beside(sub)}
    return splits or ({"all": [folder]} if _has_labels_beside(folder) else {})


def _has_labels_beside(folder: Path) -> bool:
    """Whether a folder has images with text files of the same names, whose lines are YOLO's."""
    if not any(os.path.isfile(image.with_suffix(".txt")) for image in list_images(folder)[:_MOST_PROBED]):
        return False
    lines = first_lines(folder)
    fitting = sum(_LINE.fullmatch(line) is not None for line in lines)
    return fitting >= max(1, len(lines) - 1)  # classes.txt may be one of them


def _from_folder(folder: Path, names: Sequence[str] | None) -> _Source:
    splits = _split_folders(folder)
    if not splits:
        raise DataError(f"{folder}: no data.yaml, no images/<split>, no <split>/images with <split>/labels")
    beside = [place / "classes.txt" for same in splits.values() for place in same]
    lists = [f for f in (folder / "classes.txt", folder / "labels" / "classes.txt", *beside) if f.is_file()]
    if lists:
        lines = lists[0].read_text(encoding="utf-8-sig", errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{folder}: no class names: add a classes.txt with one name per line, or a data.yaml")
    return _Source(folder, folder, dict(enumerate(names)), splits, {}, [], read_sidecar(folder))


def _has_labels(folder: Path, images: Path) -> bool:
    """Whether label files may belong to a folder of images: labels/ or text files beside them."""
    return (folder / "labels").is_dir() or any(f.suffix == ".txt" for f in images.iterdir())


def _listed_images(root: Path, entries: list[Path], split: str, problems: list[Problem]) -> set[Path]:
    found: set[Path] = set()
    for entry in entries:
        if entry.is_dir():
            found.update(list_images(entry, deep=True))
            continue
        if is_image(entry):
            found.add(entry)
            continue
        text = entry.read_text(encoding="utf-8-sig", errors="replace")
        lines = [(number, line) for number, line in enumerate(map(str.strip, text.splitlines()), 1) if line]
        beside = Path(os.path.relpath(entry.parent.absolute(), root.absolute()))
        locator = ImageLocator(root, [root / beside] if ".." not in beside.parts else [], split)
        located = locator.locate_all(line for _, line in lines)
        for (number, line), one in zip(lines, located, strict=True):
            path = locator.take(one, str(entry), f"line {number}: {line}", problems)
            if path is not None and path in found:
                problems.append(Problem(str(entry), f"line {number}: {line}", REPEATED_IMAGE, "dropped"))
            elif path is not None:
                found.add(path)
    return found


def _report_orphans(used: set[Path], expected: set[Path], entries: list[Path], problems: list[Problem]) -> None:
    """Report label files without an image if whole folders were read (a list may name only some images)."""
    if not all(entry.is_dir() for entry in entries):
        return
    for folder in sorted({file.parent for file in used}):
        for file in sorted(folder.glob("*.txt")):
            if file not in expected and file.name not in _NOT_LABELS:
                problems.append(Problem(str(file), "whole file", UNLISTED, "dropped"))

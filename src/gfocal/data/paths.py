"""Names of splits, lists of image files, paths that stay inside their folder, and the order of classes."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gfocal.errors import ClassMismatchError, DataError, SplitError
from gfocal.text import one_line, pluralize, similar

T = TypeVar("T")
SOME_NAMES = 8  # of classes, in a message
MAX_LISTED = 2000  # entries of a folder that are compared with a name that is not there

# Of the formats that gfocal.data.images reads.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".jp2"))

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_CANONICAL = {alias: split for split, aliases in SPLITS.items() for alias in aliases}


def split_name(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for any of their spellings (valid, Validation, train2017), else None."""
    return _CANONICAL.get(word.lower().rstrip("0123456789"))


def find_split(text: str) -> str | None:
    """The split that a file name contains: ``val`` for instances_val2017; None if there is none."""
    return next((split for word in re.findall("[A-Za-z]+", text) if (split := split_name(word))), None)


def pick_split(available: Mapping[str, T], split: str | None, where: str | Path) -> T:
    """The entry of a split; with ``split`` None that of the only split.

    Raises DataError, which lists the available splits.
    """
    if split is not None and not any(available):
        raise no_splits(where, split, "this dataset has no splits")
    known = one_line(", ".join(sort_splits(available)), max_length=1000) or "none"
    near = similar(split or "", available)
    there_are = f"did you mean {one_line(near[0])}? There are" if near else "there are"
    if split is None:
        if len(available) == 1:
            return next(iter(available.values()))
        raise SplitError(f"{where}: several splits, choose one; there are: {known}")
    for name in (split, split_name(split)):
        if name is not None and name in available:
            return available[name]
    raise SplitError(f"{where}: no split {split!r}; {there_are}: {known}")


def no_splits(where: str | Path, split: str, why: str) -> SplitError:
    """The error for a split of a dataset that has none; ``why`` is a clause on the dataset."""
    command = shlex.join(["gfocal", "split", str(where), "--val", "0.15", "--test", "0.15"])
    return SplitError(
        f"{where}: no split {split!r}: {why}. Leave the split out: 'gfocal eval' then takes the images that the run "
        f"held out, where it held some out. For a test split: {command}, then train again, as a model must not have "
        "seen its test images"
    )


def no_such_path(path: str | Path) -> str:
    """``photoz/: no such file or folder; did you mean photos/?``."""
    text = f"{path}: no such file or folder"
    near = similar_path(Path(path))
    end = "/" if str(path).endswith("/") else ""
    return text if near is None else f"{text}; did you mean {one_line(str(near))}{end}?"


def similar_path(path: Path) -> Path | None:
    """An existing path for which one with a typo may stand; None if there is none. Names differ in letters alone."""
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    if folder is None:
        return None
    name, *rest = path.parts[len(folder.parts) :]
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(folder), MAX_LISTED)]
    except OSError:
        return None
    digits = re.findall("[0-9]+", name)  # one frame of a sequence does not stand for another
    fitting = [other for other in names if other[0] != "." and re.findall("[0-9]+", other) == digits]
    for other in similar(name, fitting, 3):
        if similar(Path(name).stem, [Path(other).stem]) and (found := folder.joinpath(other, *rest)).exists():
            return found
    return None


def sort_splits(names: Iterable[str]) -> list[str]:
    """train, val and test first, then the others by name."""
    order = list(SPLITS)
    return sorted(set(names), key=lambda name: (order.index(name) if name in order else len(order), name))


def find_split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders whose names are splits, by split; none of what is no folder."""
    if not os.path.isdir(folder):
        return {}
    found = {split_name(f.name): f for f in sorted(folder.iterdir(), reverse=True) if f.is_dir()}
    return {name: found[name] for name in sort_splits(n for n in found if n is not None)}


def list_images(folder: Path, deep: bool = False) -> list[Path]:
    """The image files of a folder (and of its subfolders if ``deep``), by suffix; sorted, without hidden files."""
    return [file for file in list_visible(folder, deep) if is_image(file)]


def is_image(file: Path) -> bool:
    """Whether a file has the suffix of an image format."""
    return file.suffix.lower() in SUFFIXES


def list_visible(folder: Path, deep: bool = False) -> list[Path]:
    """Files and folders in a folder (and in its subfolders if ``deep``), sorted, without hidden files."""
    entries = folder.rglob("*") if deep else folder.iterdir()
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def resolve_inside(folder: str | Path, name: str) -> Path | None:
    """The path of a file that an annotation names, or None if it is outside ``folder``.

    Annotations are untrusted, so no absolute name and no ``..`` may lead out of the folder. Symbolic links are
    followed: the owner of the disk has created them.
    """
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    return Path(folder, os.path.relpath(path, root)) if path.startswith(root.rstrip(os.sep) + os.sep) else None


def map_labels(found: Sequence[str], wanted: Sequence[str] | None, where: str | Path) -> list[int]:
    """Label of each class of a dataset: its index in ``found``, or in ``wanted`` if that is given.

    Raises DataError, which shows both lists, if ``wanted`` lacks a class.
    """
    if wanted is None:
        return list(range(len(found)))
    require_distinct(found, where)
    require_distinct(wanted, f"{where}: of the expected classes")
    if not set(found) <= set(wanted):
        raise class_mismatch(found, wanted, where)
    return [list(wanted).index(name) for name in found]


def require_distinct(names: Sequence[str], where: str | Path) -> None:
    """Raise DataError if a class name occurs twice."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 1)
    if count > 1:
        shown = one_line(name, max_length=100)
        raise DataError(
            f"{where}: {count} classes are named {shown!r}: give each a name of its own, or make them one class "
            f"with --rename '{shown}={shown}'"
        )


def category_ids_by_label(order: Sequence[int], ids: Sequence[int], count: int) -> list[int]:
    """Category id of each of ``count`` labels, from the label and id of each class of the data.

    Labels that the data lack get unused ids.
    """
    by_label = dict(zip(order, ids, strict=True))
    free = (number for number in range(1, count + len(by_label) + 1) if number not in set(ids))
    return [by_label[label] if label in by_label else next(free) for label in range(count)]


def no_class_in_common(found: Sequence[str], wanted: Sequence[str], where: str | Path) -> ClassMismatchError:
    """The error for data of which a model knows no class; of many names the first ones are enough."""
    ours, known = (", ".join(names[:SOME_NAMES]) + ", ..." * (len(names) > SOME_NAMES) for names in (found, wanted))
    return ClassMismatchError(
        f"{where}: classes differ: the model knows none of your {pluralize(len(found), 'class', 'classes')} "
        f"({ours}), but {len(wanted):,} others ({known}); train it on your data with --init-from, or, if "
        "names alone differ, rename them with --rename OLD=NEW"
    )


def class_mismatch(found: Sequence[str], wanted: Sequence[str], where: str | Path) -> ClassMismatchError:
    """The error for data whose classes are not the expected ones."""
    extra = [name for name in found if name not in wanted]
    lacking = [name for name in wanted if name not in found]
    return ClassMismatchError(
        f"{where}: classes differ: found {list(found)}, expected {list(wanted)}"
        + (f"; not expected: {extra}" if extra else "")
        + (f"; not in the data: {lacking}" if lacking else "")
        + ("; --rename OLD=NEW renames a class of the data" if extra and lacking else "")
        + (
            "; a model cannot be evaluated on classes that it was not trained on: leave them out with --classes"
            if extra and not lacking
            else ""
        )
    )

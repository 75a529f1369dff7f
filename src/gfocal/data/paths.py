"""How datasets lie on disk: names of splits, lists of images, paths that stay inside their folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gfocal.data.images import SUFFIXES
from gfocal.errors import DataError
from gfocal.text import one_line

T = TypeVar("T")
_PROBED = 20  # how many of the listed images are looked for to find their folder

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_CANONICAL = {alias: split for split, aliases in SPLITS.items() for alias in aliases}


def split_name(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for any of their spellings (valid, Validation, train2017); else None."""
    return _CANONICAL.get(word.lower().rstrip("0123456789"))


def split_in(text: str) -> str | None:
    """The first word of a file's name that is a split: ``val`` for instances_val2017; else None."""
    return next((split for word in re.findall("[A-Za-z]+", text) if (split := split_name(word))), None)


def pick_split(available: Mapping[str, T], split: str | None, where: str | Path) -> T:
    """The entry of one split; the only one there is when ``split`` is None.

    Raises DataError that lists the splits there are.
    """
    known = one_line(", ".join(in_split_order(available)), most=1000) or "none"
    if split is None:
        if len(available) == 1:
            return next(iter(available.values()))
        raise DataError(f"{where}: name the split to read; there are: {known}")
    for name in (split, split_name(split)):
        if name is not None and name in available:
            return available[name]
    raise DataError(f"{where}: no split {split!r}; there are: {known}")


def in_split_order(names: Iterable[str]) -> list[str]:
    """train, val, test first, then the others by name."""
    order = list(SPLITS)
    return sorted(set(names), key=lambda name: (order.index(name) if name in order else len(order), name))


def split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders that are named like splits."""
    found = {split_name(f.name): f for f in sorted(folder.iterdir(), reverse=True) if f.is_dir()}
    return {name: found[name] for name in in_split_order(n for n in found if n is not None)}


def images_in(folder: Path, deep: bool = False) -> list[Path]:
    """Image files of a folder (with its subfolders when ``deep``), known by suffix, sorted, none hidden."""
    return [file for file in visible_in(folder, deep) if is_image(file)]


def is_image(file: Path) -> bool:
    """Whether a file is named like an image."""
    return file.suffix.lower() in SUFFIXES


def visible_in(folder: Path, deep: bool = False) -> list[Path]:
    """What lies in a folder (and in its subfolders when ``deep``), sorted, nothing hidden; folders too."""
    entries = folder.rglob("*") if deep else folder.iterdir()
    return sorted(entry for entry in entries if not entry.name.startswith("."))


def inside(folder: str | Path, name: str) -> Path | None:
    """The path of a file that an annotation names, or None when it would lie outside ``folder``.

    Datasets are downloaded from strangers, so no name may lead away by being absolute or by ``..``.
    Symbolic links are followed: the owner of the disk has set them.
    """
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    return Path(folder, os.path.relpath(path, root)) if path.startswith(root.rstrip(os.sep) + os.sep) else None


def find_images(file: Path, names: Sequence[str]) -> Path:
    """The folder, of the usual ones around an annotation file, that holds most of the first images it names.

    Raises DataError that says where they were looked for when none of them is anywhere.
    """
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
            f"{file}: its images are not found; put them into one of the places where {names[0]!r} was looked for: "
            + ", ".join(os.path.relpath(place, here) for place in places)
            + " (relative to the file)"
        )
    return places[hits.index(max(hits))]


def label_order(found: Sequence[str], wanted: Sequence[str] | None, where: str | Path) -> list[int]:
    """Label of each class of a dataset: its place in ``found``, or in ``wanted`` where that is given.

    Raises DataError that names both lists when a class is not wanted.
    """
    if wanted is None:
        return list(range(len(found)))
    if not set(found) <= set(wanted) or len(set(wanted)) != len(wanted):
        raise mismatch(found, wanted, where)
    return [list(wanted).index(name) for name in found]


def ids_of_labels(order: Sequence[int], ids: Sequence[int], count: int) -> list[int]:
    """Category id of each of ``count`` labels, from the label and id of each class of the data.

    Classes that the data lack get ids that are free.
    """
    by_label = dict(zip(order, ids, strict=True))
    free = (number for number in range(1, count + len(by_label) + 1) if number not in set(ids))
    return [by_label[label] if label in by_label else next(free) for label in range(count)]


def mismatch(found: Sequence[str], wanted: Sequence[str], where: str | Path) -> DataError:
    """The error for classes that are not the expected ones."""
    extra = [name for name in found if name not in wanted]
    lacking = [name for name in wanted if name not in found]
    return DataError(
        f"{where}: classes differ. The data has {list(found)}, expected were {list(wanted)}"
        + (f"; not expected: {extra}" if extra else "")
        + (f"; not in the data: {lacking}" if lacking else "")
        + ("; --rename OLD=NEW calls a class of the data by the expected name" if extra and lacking else "")
        + (
            "; a model evaluates no class that it does not know: take data without them"
            if extra and not lacking
            else ""
        )
    )

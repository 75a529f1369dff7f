"""File names of the images in a converted dataset: colliding names, images that several splits share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from gfocal.data.dataset import FileData, Sample
from gfocal.errors import DataError

Images = Literal["copy", "link", "none"]
# All images in one folder, as in VOC; a folder for each split; or that, with the subfolders of the source.
Layout = Literal["flat", "splits", "tree"]
_NAN = -1.0  # replaces NaN, "not stated", for the comparison of areas


@dataclass(frozen=True)
class Part:
    """One split, and the file name of each of its images below the image folder."""

    split: str
    data: FileData
    files: tuple[str, ...]  # with forward slashes

    @property
    def has_own_folder(self) -> bool:
        """Whether all its images are in a folder named after the split."""
        return all(file.startswith(f"{self.split}/") for file in self.files)


@dataclass(frozen=True)
class Placement:
    """The file names of all images of a dataset."""

    parts: tuple[Part, ...]
    sources: Mapping[str, Path]  # new file name -> path of the image
    renamed: Mapping[str, str]  # new file name -> original name, if they differ

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, the same in all splits."""
        return self.parts[0].data.names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Of the classes, the same in all splits."""
        return self.parts[0].data.category_ids


def place_images(
    splits: Mapping[str, FileData],
    *,
    layout: Layout = "tree",
    inner: str = "",
    unique_stems: bool = False,
    is_shared: bool = True,
    known_names: Mapping[Path, str] | None = None,
) -> Placement:
    """Choose the file name of every image.

    Args:
        splits: name -> data, all of the same classes.
        layout: see ``Layout``.
        inner: a folder in that of each split which has the images.
        unique_stems: the ground truth of an image is in a file with the same stem, so that no two names may have the
            same stem, and splits share an image only if its ground truth is the same in both.
        is_shared: an image of several splits is stored once, if the layout allows it; else once for each.
        known_names: absolute path -> name of the image before an earlier conversion renamed it.
    """
    known_names = known_names or {}
    sources: dict[str, Path] = {}
    renamed: dict[str, str] = {}
    placed: dict[Path, list[tuple[str, Sample]]] = {}
    names_of = {split: _names(data, known_names) for split, data in splits.items()}
    taken: set[str] = set()
    # An image keeps its name if no earlier image has it, so the first image of each name is found beforehand.
    firsts: dict[str, tuple[str, int]] = {}
    homes = {split: "" if layout == "flat" else f"{split}/{inner}/" if inner else f"{split}/" for split in splits}
    for split, names in names_of.items():
        home = homes[split]
        for i, name in enumerate(names):
            firsts.setdefault(_key(_preferred_name(home, name, layout), unique_stems), (split, i))
    parts = []
    for split, data in splits.items():
        files, home = [], homes[split]
        placed = placed if is_shared else {}
        for i, (sample, name) in enumerate(zip(data.samples, names_of[split], strict=True)):
            assert sample.path is not None, "images of files have a path"
            same = placed.setdefault(sample.path, [])
            file = next((f for f, other in same if not unique_stems or have_same_ground_truth(sample, other)), None)
            if file is None:
                preferred = _preferred_name(home, name, layout)
                file, number = preferred, 1
                while (key := _key(file, unique_stems)) in taken or firsts.get(key, (split, i)) != (split, i):
                    number += 1
                    file = str(PurePosixPath(preferred).with_stem(f"{PurePosixPath(preferred).stem}_{number}"))
                taken.add(key)
                sources[file] = sample.path
                if file.removeprefix(home) != name:
                    renamed[file] = name
                same.append((file, sample))
            files.append(file)
        parts.append(Part(split, data, tuple(files)))
    return Placement(tuple(parts), sources, renamed)


def _names(data: FileData, known_names: Mapping[Path, str]) -> list[str]:
    """The names of the images relative to their common folder."""
    paths = [sample.path for sample in data.samples if sample.path is not None]
    home = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    whole = [Path(os.path.abspath(path)) for path in paths]
    return [known_names.get(path) or Path(os.path.relpath(path, home)).as_posix() for path in whole]


def _preferred_name(home: str, name: str, layout: Layout) -> str:
    """The name that an image gets unless it is taken."""
    if layout == "tree":
        return home + "/".join(make_writable(part) for part in PurePosixPath(name).parts)
    return home + make_writable(PurePosixPath(name).name)


def make_writable(name: str) -> str:
    """A file name that lists and xml files can store, and that is not hidden."""
    text = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" and c not in "/\\" else "_" for c in name)
    text = text.strip()
    return f"_{text.lstrip('.')}" if text.startswith(".") or not text else text


def _key(file: str, unique_stems: bool) -> str:
    """What two names must not have in common; on some file systems a.jpg and A.jpg are one file."""
    return (str(PurePosixPath(file).with_suffix("")) if unique_stems else file).casefold()


def have_same_ground_truth(one: Sample, other: Sample) -> bool:
    """Whether two samples have equal ground truth, ids aside."""
    return one is other or (
        one.size == other.size
        and torch.equal(one.boxes, other.boxes)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.crowd, other.crowd)
        and torch.equal(stated_areas(one).nan_to_num(_NAN), stated_areas(other).nan_to_num(_NAN))
    )


def stated_areas(sample: Sample) -> torch.Tensor:
    """Areas of the objects, NaN if not stated. (G,) float64"""
    if sample.areas is None:
        return torch.full((len(sample.boxes),), torch.nan, dtype=torch.float64)
    return sample.areas


def store_images(placement: Placement, folder: Path, images: Images) -> None:
    """Copy or link the images to their new names below a folder."""
    for file, source in placement.sources.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if images == "copy":
            shutil.copyfile(source, target)
        elif images == "link":
            link(source, target)


def link(source: Path, target: Path) -> None:
    """Create a hard link, or a symbolic one to another disk."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        os.symlink(real, target)


def check_names(names: Sequence[str], kind: str) -> None:
    """Raise DataError for class names that a format cannot distinguish or store."""
    for name in names:
        if not name or name != name.strip() or not name.isprintable():
            raise DataError(f"class name {name!r}: {kind} cannot store it; rename the class to plain text")
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise DataError(f"class name {repeated[0]!r} occurs twice: {kind} cannot distinguish them; rename one")

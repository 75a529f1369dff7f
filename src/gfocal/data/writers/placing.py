"""Where the images of a dataset come to lie in another format: colliding names, images that splits share."""

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
_NAN = -1.0  # stands for "not stated" where areas are compared


@dataclass(frozen=True)
class Part:
    """One split, and the place of each of its images below the folder of images."""

    split: str
    data: FileData
    files: tuple[str, ...]  # with slashes

    @property
    def has_own_folder(self) -> bool:
        """Whether all its images lie in a folder of its name."""
        return all(file.startswith(f"{self.split}/") for file in self.files)


@dataclass(frozen=True)
class Placing:
    """All splits with their places."""

    parts: tuple[Part, ...]
    sources: Mapping[str, Path]  # place -> the image that comes there
    renamed: Mapping[str, str]  # place -> the name it had, where that is another

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, the same in every split."""
        return self.parts[0].data.names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Of the classes, the same in every split."""
        return self.parts[0].data.category_ids


def place(
    splits: Mapping[str, FileData],
    *,
    flat: bool = False,
    one_stem_each: bool = False,
    known_names: Mapping[Path, str] | None = None,
) -> Placing:
    """A place for every image.

    Args:
        splits: name -> data, all of the same classes.
        flat: all images lie in one folder (VOC's); else in one for each split, with their subfolders.
        one_stem_each: the ground truth lies in a file that is called as the image is, but for the ending: no two names
            may differ in it alone, and splits share an image only where they say the same about it.
        known_names: absolute path -> what the image was called before an earlier conversion gave it another name.
    """
    known_names = known_names or {}
    sources: dict[str, Path] = {}
    renamed: dict[str, str] = {}
    placed: dict[Path, list[tuple[str, Sample]]] = {}
    wishes = {split: _names(data, known_names) for split, data in splits.items()}
    taken: set[str] = set()
    # Who does not collide keeps the name, so the first of each name is noted before any other is sought.
    firsts: dict[str, tuple[str, int]] = {}
    for split, names in wishes.items():
        for i, name in enumerate(names):
            firsts.setdefault(_key(_wish(split, name, flat), one_stem_each), (split, i))
    parts = []
    for split, data in splits.items():
        files = []
        for i, (sample, name) in enumerate(zip(data.samples, wishes[split], strict=True)):
            assert sample.path is not None, "images of files have a path"
            same = placed.setdefault(sample.path, [])
            file = next((f for f, other in same if not one_stem_each or same_ground_truth(sample, other)), None)
            if file is None:
                wish = _wish(split, name, flat)
                file, number = wish, 1
                while _key(file, one_stem_each) in taken or firsts.get(_key(file, one_stem_each), (split, i)) != (
                    split,
                    i,
                ):
                    number += 1
                    file = str(PurePosixPath(wish).with_stem(f"{PurePosixPath(wish).stem}_{number}"))
                taken.add(_key(file, one_stem_each))
                sources[file] = sample.path
                if file.removeprefix("" if flat else f"{split}/") != name:
                    renamed[file] = name
                same.append((file, sample))
            files.append(file)
        parts.append(Part(split, data, tuple(files)))
    return Placing(tuple(parts), sources, renamed)


def _names(data: FileData, known_names: Mapping[Path, str]) -> list[str]:
    """The names of images below the folder that holds them all."""
    paths = [sample.path for sample in data.samples if sample.path is not None]
    home = os.path.commonpath([os.path.abspath(path.parent) for path in paths])
    whole = [Path(os.path.abspath(path)) for path in paths]
    return [known_names.get(path) or Path(os.path.relpath(path, home)).as_posix() for path in whole]


def _wish(split: str, name: str, flat: bool) -> str:
    """The place that an image gets if it is free."""
    if flat:
        return writable(PurePosixPath(name).name)
    return f"{split}/" + "/".join(writable(part) for part in PurePosixPath(name).parts)


def writable(name: str) -> str:
    """A file name that every list and xml can hold, and that no reader takes for hidden."""
    text = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" and c not in "/\\" else "_" for c in name)
    text = text.strip()
    return f"_{text.lstrip('.')}" if text.startswith(".") or not text else text


def _key(file: str, one_stem_each: bool) -> str:
    """What two names must not have in common; on many disks a.jpg and A.jpg are one file."""
    return (str(PurePosixPath(file).with_suffix("")) if one_stem_each else file).casefold()


def same_ground_truth(one: Sample, other: Sample) -> bool:
    """Whether two samples say the same about an image; ids aside."""
    return one is other or (
        one.size == other.size
        and torch.equal(one.boxes, other.boxes)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.crowd, other.crowd)
        and torch.equal(stated_areas(one).nan_to_num(_NAN), stated_areas(other).nan_to_num(_NAN))
    )


def stated_areas(sample: Sample) -> torch.Tensor:
    """Areas of the objects, NaN where they are not stated. (G,) float64"""
    if sample.areas is None:
        return torch.full((len(sample.boxes),), torch.nan, dtype=torch.float64)
    return sample.areas


def move_in(placing: Placing, folder: Path, images: Images) -> None:
    """Copy or link the images to their places below a folder."""
    for file, source in placing.sources.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if images == "copy":
            shutil.copyfile(source, target)
        elif images == "link":
            link(source, target)


def link(source: Path, target: Path) -> None:
    """A hard link, or a symbolic one where the disk is another."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        os.symlink(real, target)


def refuse_names(names: Sequence[str], kind: str) -> None:
    """DataError for class names that a format cannot tell apart or hold."""
    for name in names:
        if not name or name != name.strip() or not name.isprintable():
            raise DataError(f"class name {name!r}: {kind} cannot hold it; rename the class to plain text")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"class name {twice[0]!r} stands twice: {kind} cannot tell the two apart; rename one of them")

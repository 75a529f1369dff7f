"""Datasets made from others: several as one, some or one of their classes, only the images with objects."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from gfocal.data.classes import map_classes
from gfocal.data.conventions import MOSTLY_IGNORED
from gfocal.data.dataset import FileData, ImageData, Problem, Sample, SampleTable
from gfocal.data.paths import class_mismatch, no_class_in_common
from gfocal.data.stated import StatedTable, concatenate_stated
from gfocal.data.validation import summarize
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

NEAR_NAMES = "class names that are nearly the same: separate classes unless renamed"
SAME_IMAGE = "the same image in two datasets"
ONE_CLASS = ("object",)  # names of a class-agnostic model, which detects and is evaluated on objects of any class


def concatenate(
    datasets: Sequence[FileData],
    names: Sequence[str] | None = None,
    renames: Mapping[str, str] | None = None,
    where: str = "concatenated data",
) -> FileData:
    """Concatenate datasets.

    Args:
        datasets: read from files of any format.
        names: the expected classes, in the order of the labels; the datasets may lack some. None: all classes of the
            datasets, in the order of their first occurrence.
        renames: old name -> new name, for the classes of all datasets; classes with the same new name are merged.
        where: name of the result in errors and problems.

    Returns:
        The dataset. Category ids are kept if they are unique and the same in all datasets, else they are 1..C; image
        ids are kept if they are unique, else they are 1, 2, ... ``problems`` lists classes whose names differ only in
        case, spaces or punctuation, and images that are in more than one dataset.

    Raises:
        DataError: a class is not among ``names``, or neither the old nor the new name of a renamed class exists.
    """
    if not datasets:
        raise DataError(f"{where}: no datasets to concatenate")
    renames = renames or {}
    own = dict.fromkeys(name for data in datasets for name in data.names)
    map_classes(list(own), renames)
    renamed = [[renames.get(name, name) for name in data.names] for data in datasets]
    found = list(dict.fromkeys(name for own_names in renamed for name in own_names))
    if names is not None and not set(found) <= set(names):
        raise class_mismatch(found, names, where)
    wanted = list(names) if names is not None else found
    place = {name: label for label, name in enumerate(wanted)}
    tables = [data.table for data in datasets]
    tables = [
        table.relabel(torch.tensor([place[name] for name in own_names], dtype=torch.int64))
        for own_names, table in zip(renamed, tables, strict=True)
    ]
    image_ids = torch.cat([table.image_ids for table in tables])
    if len(image_ids.unique()) < len(image_ids):
        image_ids = torch.arange(1, len(image_ids) + 1)
    problems = [problem for data in datasets for problem in data.problems]
    problems += [Problem(where, f"{a!r} and {b!r}", NEAR_NAMES, "kept") for a, b in _similar_names(found)]
    problems += _repeated_images(tables, where)
    stated = {
        pair
        for own_names, data in zip(renamed, datasets, strict=True)
        for pair in zip(own_names, data.category_ids, strict=True)
    }
    ids = _category_ids(stated, wanted)
    untrained = torch.tensor([int(i) in data.untrained for data in datasets for i in data.table.image_ids])
    return FileData(
        tuple(wanted),
        ids,
        _concatenate_tables(tables, image_ids),
        problems,
        untrained=frozenset(image_ids[untrained].tolist()) if untrained.any() else frozenset(),
        format=datasets[0].format if len({data.format for data in datasets}) == 1 else "",
    )


def _concatenate_tables(tables: Sequence[SampleTable], image_ids: Tensor) -> SampleTable:
    """One table of several, with new image ids."""
    areas = [torch.full_like(t.boxes[:, 0], torch.nan) if t.areas is None else t.areas for t in tables]
    return SampleTable.from_arrays(
        image_ids=image_ids.tolist(),
        paths=[table.path(i) for table in tables for i in range(len(table))],
        sizes=[(height, width) for table in tables for height, width in table.sizes.tolist()],
        counts=torch.cat([table.offsets.diff() for table in tables]).tolist(),
        boxes=torch.cat([table.boxes for table in tables]),
        labels=torch.cat([table.labels for table in tables]),
        crowd=torch.cat([table.crowd for table in tables]),
        areas=torch.cat(areas).double() if any(table.areas is not None for table in tables) else None,
        stated=_concatenate_stated(tables),
    )


def _concatenate_stated(tables: Sequence[SampleTable]) -> StatedTable | None:
    stated = [table.stated for table in tables if table.stated is not None]
    return concatenate_stated(stated) if len(stated) == len(tables) else None


def _category_ids(stated: set[tuple[str, int]], wanted: Sequence[str]) -> tuple[int, ...]:
    """The stated ids if classes and ids match one to one, else 1..C; unused numbers for classes without an id."""
    ids = dict(stated)
    if not len(stated) == len(ids) == len(set(ids.values())):
        return tuple(range(1, len(wanted) + 1))
    free = (number for number in range(1, len(wanted) + len(ids) + 1) if number not in set(ids.values()))
    return tuple(ids[name] if name in ids else next(free) for name in wanted)


def _similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in case, spaces and punctuation."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        other = first.setdefault(re.sub(r"[\W_]+", "", name.casefold()) or name, name)
        if other != name:
            pairs.append((other, name))
    return pairs


def _repeated_images(tables: Sequence[SampleTable], where: str) -> list[Problem]:
    """Images that are in more than one dataset: the same file, under any name."""
    first: dict[tuple[int, int], tuple[int, str]] = {}
    problems = []
    for number, table in enumerate(tables):
        for index in range(len(table)):
            path = table.path(index)
            if path is None or not os.path.exists(path):
                continue
            state = os.stat(path)
            other, name = first.setdefault((state.st_dev, state.st_ino), (number, str(path)))
            if other != number:
                problems.append(Problem(where, f"{path}, also {name}", SAME_IMAGE, "kept"))
    return problems


def with_classes(data: FileData, names: Sequence[str]) -> FileData:
    """The same images with the objects of some classes alone, labeled by their place in ``names``.

    Classes keep their category ids; names that the data lack get numbers that no class of the data has.
    """
    place = {name: label for label, name in enumerate(names)}
    table = data.table.relabel(torch.tensor([place.get(name, -1) for name in data.names], dtype=torch.int64))
    ids = dict(zip(data.names, data.category_ids, strict=True))
    free = count(max(data.category_ids, default=0) + 1)
    numbers = tuple(ids[name] if name in ids else next(free) for name in names)
    return replace(data, names=tuple(names), category_ids=numbers, samples=table)


def describe_left_out(data: FileData, names: Sequence[str]) -> str:
    """The classes of the data that are not among some names, with their numbers of objects; empty if all are."""
    counts = data.table.labels.bincount(minlength=len(data.names)).tolist()
    left = [(name, number) for name, number in zip(data.names, counts, strict=True) if name not in names]
    shown = [f"{name} ({pluralize(number, 'object')})" for name, number in left[:10]]
    return one_line(", ".join([*shown, *[f"{len(left) - 10} more"] * (len(left) > 10)]), max_length=1000)


def share_classes(data: FileData, names: Sequence[str], where: str, only_empty: bool = False) -> tuple[FileData, str]:
    """The data with the classes of a model, and what is left out, as ``describe_left_out``.

    Raises ClassMismatchError if they have no class in common; with ``only_empty`` also if a class that would be left
    out has objects.
    """
    extra = torch.tensor([name not in names for name in data.names])
    has_objects = bool(extra[data.table.labels].any())
    if extra.all() and not only_empty:
        raise no_class_in_common(data.names, names, where)
    if extra.all() or (only_empty and has_objects):
        raise class_mismatch(data.names, names, where)
    return with_classes(data, names), describe_left_out(data, names)


def as_one_class(data: ImageData) -> ImageData:
    """The same images and boxes, with every object of the one class "object"."""
    if data.names == ONE_CLASS:
        return data
    files = data.files
    if files is None:
        return OneClass(data)
    table = files.table.relabel(torch.zeros(len(files.names), dtype=torch.int64))
    return replace(files, names=ONE_CLASS, category_ids=(1,), samples=table)


@dataclass
class OneClass:
    """Images that are not files, as an ``ImageData`` of one class."""

    data: ImageData
    names: tuple[str, ...] = ONE_CLASS
    category_ids: tuple[int, ...] = (1,)
    files = None

    def __len__(self) -> int:
        return len(self.data)

    def sample(self, index: int) -> Sample:
        """The ground truth of one image."""
        return _as_one_class(self.data.sample(index))

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One image with its ground truth."""
        image, sample = self.data.read(index)
        return image, _as_one_class(sample)

    def at_epoch(self, epoch: int) -> OneClass:
        """The data of one training epoch."""
        return OneClass(self.data.at_epoch(epoch))


def _as_one_class(sample: Sample) -> Sample:
    return replace(sample, labels=torch.zeros_like(sample.labels))


def ignored_as_objects(data: FileData) -> FileData:
    """The same images, with crowd regions and difficult or ignored objects as ordinary objects."""
    table, stated = data.table, data.table.stated
    stated = None if stated is None else replace(stated, crowd=torch.zeros_like(stated.crowd))
    table = replace(table, crowd=torch.zeros_like(table.crowd), stated=stated)
    return replace(data, samples=table, problems=[p for p in data.problems if p.reason != MOSTLY_IGNORED])


def select_trained(data: ImageData) -> ImageData:
    """Without the images that have lost all of their objects, which would be trained on as background."""
    files = data.files
    if files is None or not files.untrained:
        return data
    return files.select([i for i, key in enumerate(files.table.image_ids.tolist()) if key not in files.untrained])


def select_with_objects(data: ImageData) -> ImageData:
    """The images of a dataset of files with at least one object; any other source as it is."""
    files = data.files
    return data if files is None else files.select(files.table.indices_with_objects())


def require_objects(data: ImageData, data_name: str = "") -> None:
    """Raise DataError if no training image has an object, with the reason why their boxes were dropped."""
    files = data.files
    if files is None or len(files.table.indices_with_objects()):
        return
    where = f"{data_name}: " if data_name else ""
    lost = summarize([problem for problem in files.problems if problem.action == "dropped"])
    said = next((p.record for p in files.problems if p.reason == MOSTLY_IGNORED), "")
    if (ignored := int(files.table.crowd.sum())) and (said or not lost):
        said = said or f"{pluralize(ignored, 'object is', 'objects are')} marked as ignored and not trained"
        raise DataError(
            f"{where}none of {pluralize(len(data), 'training image')} has an object to train on: {said}; clear the "
            "flags, or give --ignored-as-objects to take them as objects"
        )
    reason = f" ({lost[0]})" if lost else ""
    raise DataError(
        f"{where}none of {pluralize(len(data), 'training image')} has an object{reason}; give data with boxes"
    )


@dataclass
class ChangedImages:
    """A dataset (an ``ImageData``) whose images are changed as they are read, and whose annotations are not."""

    data: ImageData
    change: Callable[[Tensor], Tensor]  # of an image, uint8 (3, H, W), to one of the same size
    names: tuple[str, ...] = field(init=False)
    category_ids: tuple[int, ...] = field(init=False)
    files = None  # the changed images are none

    def __post_init__(self) -> None:
        self.names, self.category_ids = self.data.names, self.data.category_ids

    def __len__(self) -> int:
        return len(self.data)

    def sample(self, index: int) -> Sample:
        """As the dataset."""
        return self.data.sample(index)

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """The changed image."""
        image, sample = self.data.read(index)
        return self.change(image), sample

    def at_epoch(self, epoch: int) -> ChangedImages:
        """The same changes of the data of an epoch."""
        return ChangedImages(self.data.at_epoch(epoch), self.change)

"""Several datasets as one: classes by their names, ids that stay unique."""

# FOLDED data.one_class: Class-agnostic data: every object is of one class.
# FOLDED data.learnable: Training images that hold an object to learn.
from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gfocal.data.dataset import FileData, ImageData, Problem, Sample, SampleTable
from gfocal.data.paths import mismatch
from gfocal.data.validation import summary
from gfocal.errors import DataError
from gfocal.text import counted

NEAR_NAMES = "classes of nearly the same name: two classes, if they are not renamed"
SAME_IMAGE = "the same image in two sets"


def joined(
    sets: Sequence[FileData],
    names: Sequence[str] | None = None,
    renames: Mapping[str, str] | None = None,
    where: str = "joined data",
) -> FileData:
    """Datasets one after the other, as one.

    Args:
        sets: of whatever formats.
        names: the classes to expect, in the order of the labels wanted; the sets may lack some. None: all classes of
            the sets, in the order in which they are met.
        renames: old name -> new name, for the classes of all sets; two that get one name become one class.
        where: what the whole is called in errors and notes.

    Returns:
        The dataset. Category ids are kept where no two classes and no two sets disagree about them, else they are
        1..C; image ids are kept where no two images share one, else they are running numbers from 1. Classes that
        differ in case, spaces or signs alone, and images that stand in two sets, are in ``problems``.

    Raises:
        DataError: a class is not among ``names``, or one to be renamed is in no set, nor is its new name.
    """
    if not sets:
        raise DataError(f"{where}: no datasets to join")
    renames = renames or {}
    own = {name for data in sets for name in data.names}
    for old, new in renames.items():
        if old not in own and new not in own:
            near = difflib.get_close_matches(old, own, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(map(repr, sorted(own)))}"
            raise DataError(f"no class {old!r} to rename; {hint}")
    called = [[renames.get(name, name) for name in data.names] for data in sets]
    found = list(dict.fromkeys(name for own_names in called for name in own_names))
    if names is not None and not set(found) <= set(names):
        raise mismatch(found, names, where)
    wanted = list(names) if names is not None else found
    place = {name: label for label, name in enumerate(wanted)}
    tables = [data.table for data in sets]
    labels = [
        torch.tensor([place[name] for name in own_names], dtype=torch.int64)[table.labels]
        for own_names, table in zip(called, tables, strict=True)
    ]
    image_ids = torch.cat([table.image_ids for table in tables])
    if len(image_ids.unique()) < len(image_ids):
        image_ids = torch.arange(1, len(image_ids) + 1)
    problems = [problem for data in sets for problem in data.problems]
    problems += [Problem(where, f"{a!r} and {b!r}", NEAR_NAMES, "kept") for a, b in _nearly_equal(found)]
    problems += _seen_twice(tables, where)
    numbered = [pair for n, data in zip(called, sets, strict=True) for pair in zip(n, data.category_ids, strict=True)]
    ids = _category_ids(set(numbered), wanted)
    return FileData(tuple(wanted), ids, _one_table(tables, image_ids, labels), problems)


def _one_table(tables: Sequence[SampleTable], image_ids: Tensor, labels: Sequence[Tensor]) -> SampleTable:
    """Tables of image files one after the other, with the image ids of all and the labels of each given anew."""
    areas = [torch.full_like(t.boxes[:, 0], torch.nan) if t.areas is None else t.areas for t in tables]
    return SampleTable.of_arrays(
        image_ids=image_ids.tolist(),
        paths=[table.path(i) for table in tables for i in range(len(table))],
        sizes=[(height, width) for table in tables for height, width in table.sizes.tolist()],
        counts=torch.cat([table.offsets.diff() for table in tables]).tolist(),
        boxes=torch.cat([table.boxes for table in tables]),
        labels=torch.cat(list(labels)),
        crowd=torch.cat([table.crowd for table in tables]),
        areas=torch.cat(areas).double() if any(table.areas is not None for table in tables) else None,
    )


def _category_ids(stated: set[tuple[str, int]], wanted: Sequence[str]) -> tuple[int, ...]:
    """The sets' own ids if each is of one class and each class has one, else 1..C; free ones for lacking classes."""
    ids = dict(stated)
    if not len(stated) == len(ids) == len(set(ids.values())):
        return tuple(range(1, len(wanted) + 1))
    free = (number for number in range(1, len(wanted) + len(ids) + 1) if number not in set(ids.values()))
    return tuple(ids[name] if name in ids else next(free) for name in wanted)


def _nearly_equal(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in case, spaces and signs alone."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        other = first.setdefault(re.sub(r"[\W_]+", "", name.casefold()) or name, name)
        if other != name:
            pairs.append((other, name))
    return pairs


def _seen_twice(tables: Sequence[SampleTable], where: str) -> list[Problem]:
    """Images that more than one set has, by the file that they are, whatever its names."""
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


NAMES = ("object",)  # a model with these finds objects of any class, and is evaluated so


def as_one_class(data: ImageData) -> ImageData:
    """The same images and boxes, every class called "object"."""
    if data.names == NAMES:
        return data
    if isinstance(data, FileData):
        table = replace(data.table, labels=torch.zeros_like(data.table.labels))
        return replace(data, names=NAMES, category_ids=(1,), samples=table)
    return OneClass(data)


@dataclass
class OneClass:
    """Drawn images, or others that are not files, as an ``ImageData`` of one class."""

    data: ImageData
    names: tuple[str, ...] = NAMES
    category_ids: tuple[int, ...] = (1,)

    def __len__(self) -> int:
        return len(self.data)

    def sample(self, index: int) -> Sample:
        """The ground truth of one image."""
        return _relabelled(self.data.sample(index))

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """One image with its ground truth."""
        image, sample = self.data.read(index)
        return image, _relabelled(sample)

    def at_epoch(self, epoch: int) -> OneClass:
        """What a training epoch sees."""
        return OneClass(self.data.at_epoch(epoch))


def _relabelled(sample: Sample) -> Sample:
    return replace(sample, labels=torch.zeros_like(sample.labels))


def with_objects(data: ImageData) -> ImageData:
    """The images of a dataset that hold objects to learn from; drawn data as they are."""
    if not isinstance(data, FileData):
        return data
    return data.select(data.table.with_objects())


def check_objects(data: ImageData, data_name: str = "") -> None:
    """DataError for training images of which none holds an object, with what became of their boxes."""
    if not isinstance(data, FileData) or len(data.table.with_objects()):
        return
    where = f"{data_name}: " if data_name else ""
    lost = summary([problem for problem in data.problems if problem.action == "dropped"])
    reason = f" ({lost[0]})" if lost else ""
    raise DataError(
        f"{where}none of {counted(len(data), 'training image')} holds an object to learn{reason}; "
        "give data with boxes"
    )

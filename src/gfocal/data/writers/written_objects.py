"""The objects of an image as the files of a labeling tool store them, and what they cannot store, for gfocal.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfocal.data.annotated import EVERY_CLASS
from gfocal.data.dataset import Sample
from gfocal.data.images import image_size
from gfocal.data.sidecar import Corners, IgnoredRegion, ImageExtra, LineExtra, Sidecar
from gfocal.data.writers.decimals import shorten
from gfocal.data.writers.placement import Part, Placement, stated_areas
from gfocal.text import pluralize


class WrittenObject(NamedTuple):
    """An object that the files of a format store."""

    name: str  # of the class; EVERY_CLASS of an ignored region of all
    box: Corners  # xyxy in pixels, float32
    is_ignored: bool


@dataclass(frozen=True)
class Storage:
    """What the files of a format store of objects."""

    title: str
    # The corners that the format's reader gets from what is written for a box in an image of (height, width), in the
    # unit of the format: pixels or fractions.
    as_read: Callable[[Corners, tuple[int, int]], Corners]
    is_relative: bool = False  # the unit: fractions of the image
    stores_ignored: bool = False  # whether ignored regions are marked; else they are in gfocal.json alone
    stores_every_class: bool = False  # ignored regions are stored if they are of every class, and have no class there


@dataclass(frozen=True)
class StoredSplit:
    """A split as a format stores it: (image file, sample, its objects), and what it cannot store, by image file."""

    name: str
    images: Sequence[tuple[str, Sample, Sequence[WrittenObject]]]
    extras: dict[str, ImageExtra]


def split_objects(placement: Placement, storage: Storage, home: str = "") -> list[StoredSplit]:
    """For each split the objects that the format stores, and the rest for gfocal.json.

    Args:
        placement: the images.
        storage: what the format stores.
        home: the folder of the images, below that of the dataset; names in the result begin with it.
    """
    splits = []
    for part in placement.parts:
        ids = _stated_ids(part, home)
        images, extras = [], {}
        for sample, name, image_id in zip(part.data.samples, part.files, ids, strict=True):
            file = (Path(home) / name).as_posix()
            objects, extra = _split_sample(sample, placement.names, storage, image_id)
            images.append((file, sample, objects))
            extras[file] = extra
        splits.append(StoredSplit(part.split, images, extras))
    return splits


def to_sidecar(placement: Placement, splits: Sequence[StoredSplit]) -> Sidecar:
    """What the files cannot store, order and ids of the classes included."""
    return Sidecar(placement.names, placement.category_ids, {split.name: split.extras for split in splits})


def describe_losses(storage: Storage, splits: Sequence[StoredSplit]) -> list[str]:
    """Notes for the user: what other tools do not get from the files."""
    extras = [extra for split in splits for extra in split.extras.values()]
    notes = []
    if count := sum(len(extra.ignored) for extra in extras):
        notes.append(
            f"{storage.title} cannot store {pluralize(count, 'ignored region')} (crowd, difficult): they are in "
            "gfocal.json alone; other tools treat these regions as background"
        )
    if count := sum(extra.stated_size is not None for extra in extras):
        notes.append(
            f"{pluralize(count, 'image')} annotated without EXIF rotation: gfocal.json records it, other tools may "
            "rotate the images and not the boxes"
        )
    return notes


def _stated_ids(part: Part, home: str) -> list[int | None]:
    """Image ids, or None for each if they are those that a reader would assign: 1, 2, ... in the order of paths."""
    paths = [Path(home, name) for name in part.files]
    numbers = {path: number for number, path in enumerate(sorted(paths), 1)}
    ids = [sample.image_id for sample in part.data.samples]
    return [None] * len(ids) if ids == [numbers[path] for path in paths] else list(ids)


def _split_sample(
    sample: Sample, names: Sequence[str], storage: Storage, image_id: int | None
) -> tuple[list[WrittenObject], ImageExtra]:
    assert sample.size is not None, "samples of files have a size"
    assert sample.path is not None, "samples of files have a path"
    written: list[WrittenObject] = []
    lines: dict[int, LineExtra] = {}
    ignored: list[IgnoredRegion] = []
    rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
    objects = [(tuple(box), *rest) for box, *rest in zip(*(row.tolist() for row in rows), strict=True)]
    number = of_every_class = 0
    for at, (box, label, is_ignored, area) in enumerate(objects):
        every = [(box, other, True) for other in range(len(names))]
        corners = _in_unit(box, sample.size, storage.is_relative)
        if of_every_class:  # which is written
            of_every_class -= 1
        elif storage.stores_every_class and [row[:3] for row in objects[at : at + len(names)]] == every:
            of_every_class = len(names) - 1
            written.append(WrittenObject(EVERY_CLASS, box, True))
        elif is_ignored and not storage.stores_ignored:
            ignored.append(IgnoredRegion(at, label, corners, area))
            continue
        else:
            written.append(WrittenObject(names[label], box, is_ignored))
        number += 1
        if not math.isnan(area) or not _is_exact(box, sample.size, storage):
            lines[number] = LineExtra(names[label], area, corners)
    is_turned = image_size(sample.path) != sample.size
    return written, ImageExtra(image_id, sample.size if is_turned else None, lines, tuple(ignored))


def _in_unit(box: Corners, size: tuple[int, int], is_relative: bool) -> Corners:
    """A box as gfocal.json stores it: fractions of the image, or pixels in few digits."""
    x1, y1, x2, y2 = box
    height, width = size
    if is_relative:
        return x1 / width, y1 / height, x2 / width, y2 / height
    return shorten(x1), shorten(y1), shorten(x2), shorten(y2)


def _is_exact(box: Corners, size: tuple[int, int], storage: Storage) -> bool:
    """Whether the reader gets the same float32 box from the files."""
    height, width = size
    for read, edge, length in zip(storage.as_read(box, size), box, (width, height, width, height), strict=True):
        value = np.float32(read * length if storage.is_relative else read)
        if np.clip(value, np.float32(0), np.float32(length)) != np.float32(edge):
            return False
    return True

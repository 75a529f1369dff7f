"""Conversion between annotation formats, verified by reading the result: ``gfocal convert``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import torch

from gfocal.atomic import atomic_folder
from gfocal.data.dataset import FileData, Problem
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.sidecar import SIDECAR, Sidecar, read_sidecar, to_json
from gfocal.data.validation import DUPLICATE
from gfocal.data.views import concatenate
from gfocal.data.writers import coco, createml, csv, cvat, kitti, label_studio, labelme, via, voc, yolo
from gfocal.data.writers.placement import (
    Images,
    Layout,
    Placement,
    have_same_ground_truth,
    make_writable,
    place_images,
    store_images,
)
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

Target = Literal[
    "coco", "yolo", "voc", "voc-one-based", "csv", "label-studio", "cvat", "labelme", "createml", "via", "kitti"
]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True)
class Writer:
    """How a format is written, and where its images are."""

    # Writes the annotations; returns what they cannot store, and notes for the user.
    write: Callable[[Placement, Path], tuple[Sidecar, list[str]]]
    home: str  # folder of the images
    layout: Layout = "tree"
    inner: str = ""  # folder of the images in that of each split
    unique_stems: bool = False  # the annotation file of an image has its name
    is_shared: bool = True  # splits may share an image file


WRITERS: Mapping[Target, Writer] = {
    "coco": Writer(coco.write_coco, coco.IMAGES),
    "yolo": Writer(yolo.write_yolo, yolo.IMAGES, unique_stems=True),
    "voc": Writer(voc.write_voc, voc.IMAGES, "flat", unique_stems=True),
    "voc-one-based": Writer(partial(voc.write_voc, one_based=True), voc.IMAGES, "flat", unique_stems=True),
    "csv": Writer(csv.write_csv, csv.IMAGES),
    "label-studio": Writer(label_studio.write_label_studio, label_studio.IMAGES),
    "cvat": Writer(cvat.write_cvat, cvat.IMAGES, is_shared=False),
    "labelme": Writer(labelme.write_labelme, labelme.IMAGES, "splits", unique_stems=True, is_shared=False),
    "createml": Writer(createml.write_createml, createml.IMAGES, "splits", is_shared=False),
    "via": Writer(via.write_via, via.IMAGES),
    "kitti": Writer(kitti.write_kitti, kitti.IMAGES, "splits", kitti.INNER, unique_stems=True, is_shared=False),
}


def convert(
    parts: Mapping[str, FileData],
    target: Target,
    folder: Path,
    images: Images = "copy",
    known_names: Mapping[Path, str] | None = None,
) -> list[str]:
    """Write splits of one dataset, by name, in another format; returns notes for the user.

    ``folder`` must be new or empty. The dataset is written to a hidden folder beside it, read back with gfocal's
    readers, compared with ``parts`` and renamed last: if ``folder`` exists, it is complete.

    Args:
        parts: split -> data, all of the same classes.
        target: the format.
        folder: of the new dataset.
        images: copied, linked (hard, or symbolic to another disk), or not stored: then the annotations name the files
            that the images would have.
        known_names: names of images before an earlier conversion renamed them, see ``original_names``.

    Raises:
        DataError: the folder is not empty, a split has no image, the format cannot store a class name or the names
            of the splits, or the written dataset differs from ``parts``.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; choose a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; choose a new folder (existing files are never overwritten)")
    for split in parts:  # files are named after it, and an untrusted table may contain ../../x
        if split != make_writable(split):
            raise DataError(
                f"split {split!r:.100} is not a valid file name: choose it with --split, rename it with --as"
            )
    empty = next((split for split, data in parts.items() if not len(data)), None)
    if empty is not None:
        raise DataError(
            f"split {empty!r}: nothing to convert: it has no image, or all objects of each were dropped while reading"
        )
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as work:
        return _write(parts, target, work, images, known_names)


def _write(
    parts: Mapping[str, FileData],
    target: Target,
    folder: Path,
    images: Images,
    known_names: Mapping[Path, str] | None,
) -> list[str]:
    writer = WRITERS[target]
    placement = place_images(
        parts,
        layout=writer.layout,
        inner=writer.inner,
        unique_stems=writer.unique_stems,
        is_shared=writer.is_shared,
        known_names=known_names,
    )
    home = writer.home
    sidecar, notes = writer.write(placement, folder)
    renamed = {(PurePosixPath(home) / file).as_posix(): name for file, name in placement.renamed.items()}
    content = to_json(replace(sidecar, renamed=renamed))
    if content is not None:
        (folder / SIDECAR).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if placement.renamed:
        first, before = next(iter(placement.renamed.items()))
        first = (PurePosixPath(home) / first).as_posix()
        notes.append(f"{pluralize(len(placement.renamed), 'image')} renamed, e.g. {one_line(before)} to {first}")
    # Images that are not stored are linked while the dataset is read back: readers open them.
    store_images(placement, folder / home, "link" if images == "none" else images)
    _compare(parts, folder)
    if images == "none":
        _remove_images(placement, folder / home)
        notes.append(_describe_places(placement, home))
    return notes


def _describe_places(placement: Placement, home: str) -> str:
    file, source = next(iter(placement.sources.items()))
    file, place = (PurePosixPath(home) / file).as_posix(), f"below {home}/" if home else "there"
    return (
        f"images are not copied; gfocal can read these annotations once the images are {place}, e.g. "
        f"{one_line(str(source), max_length=1000)} as {file} (readers refuse names that lead out of the folder)"
    )


def _remove_images(placement: Placement, home: Path) -> None:
    """Remove the images again, and the folders that have held nothing else."""
    for file in placement.sources:
        (home / file).unlink()
    folders = {home / parent for file in placement.sources for parent in PurePosixPath(file).parents}
    for place in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()


def _compare(parts: Mapping[str, FileData], folder: Path) -> None:
    """Raise DataError if reading the written dataset gives other data than ``parts``."""
    try:
        there = list_splits(folder)
    except DataError:  # not even recognized: there is no split of which the format finds something
        there = []
    if sorted(there) != sorted(parts):
        wrong = sorted(set(parts) - set(there))
        instead = ", ".join(sorted(set(there) - set(parts)))
        raise DataError(
            f"this format cannot store the split name {wrong[0]!r} ("
            + (f"it would be read as {instead}" if instead else "it would not be found")
            + "): convert the split alone with --split and --as, e.g. as train, val or test"
        )
    for split, data in parts.items():
        try:
            written = read_data(folder, split)
        except DataError as error:
            reason = one_line(str(error).replace(str(folder), "..."), max_length=500)
            raise DataError(f"split {split!r} cannot be read back: {reason}; nothing was written") from error
        difference = find_first_difference(data, written)
        if difference is not None:
            raise DataError(f"split {split!r} differs after reading it back: {difference}; nothing was written")


def find_first_difference(one: FileData, other: FileData) -> str | None:
    """The first difference between two datasets, file names and problems aside; None if they are equal."""
    for name in ("names", "category_ids"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} {getattr(one, name)} and {getattr(other, name)}"
    if len(one) != len(other):
        return f"{pluralize(len(one), 'image')} and {pluralize(len(other), 'image')}"
    for i in range(len(one)):
        a, b = one.sample(i), other.sample(i)
        if a.image_id != b.image_id:
            return f"image ids {a.image_id} and {b.image_id}"
        if not have_same_ground_truth(a, b):
            for name in ("size", "boxes", "labels", "crowd", "areas"):
                left, right = getattr(a, name), getattr(b, name)
                left, right = (v.tolist() if isinstance(v, torch.Tensor) else v for v in (left, right))
                if left != right:
                    return f"{name} of {a.path}: {left} and {right}"
            return f"areas of {a.path}"
    return None


def concatenate_splits(
    sets: Sequence[Mapping[str, FileData]], renames: Mapping[str, str] | None = None
) -> dict[str, FileData]:
    """Concatenate datasets split by split, with the classes of all; see ``gfocal.data.views.concatenate``."""
    renames = renames or {}
    if len(sets) == 1 and not renames:
        return dict(sets[0])
    by_split: dict[str, list[FileData]] = {}
    for parts in sets:
        for split, data in parts.items():
            by_split.setdefault(split, []).append(data)
    everything = concatenate([data for same in by_split.values() for data in same], renames=renames)
    names, ids = everything.names, everything.category_ids
    if list(ids) != sorted(ids):  # COCO readers sort classes by id
        ids = tuple(range(1, len(names) + 1))
    whole = {}
    for split, same in by_split.items():
        own = {name for data in same for name in data.names}
        one = concatenate(same, names, {old: new for old, new in renames.items() if old in own}, where=split)
        order = one.table.image_ids.argsort(stable=True).tolist()
        ordered = FileData(names, ids, one.table.select(order), one.problems)
        whole[split] = _drop_duplicates(ordered) if renames else ordered
    return whole


def _drop_duplicates(data: FileData) -> FileData:
    """Without duplicate boxes of classes that were merged, as readers drop them too."""
    samples, problems = [], list(data.problems)
    for sample in data.samples:
        seen: dict[tuple[object, ...], int] = {}
        columns = (sample.boxes.tolist(), sample.labels.tolist(), sample.crowd.tolist())
        for row, (box, label, crowd) in enumerate(zip(*columns, strict=True)):
            seen.setdefault((*box, label, crowd), row)
        if len(seen) < len(sample.boxes):
            keep = list(seen.values())
            problems.append(Problem(str(sample.path), "renamed classes", DUPLICATE, "dropped"))
            areas = None if sample.areas is None else sample.areas[keep]
            sample = replace(
                sample, boxes=sample.boxes[keep], labels=sample.labels[keep], crowd=sample.crowd[keep], areas=areas
            )
        samples.append(sample)
    return FileData(data.names, data.category_ids, samples, problems)


def original_names(path: Path) -> dict[Path, str]:
    """The names of a dataset's images before a conversion renamed them, by their paths."""
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))
    return {folder / file: name for file, name in read_sidecar(folder).renamed.items()}

"""One format of annotated images becomes another, and is read back before it counts: gfocal convert."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch

from gfocal.data.dataset import FileData, Problem
from gfocal.data.discovery import read_data, splits
from gfocal.data.sidecar import SIDECAR, Sidecar, as_json, read_sidecar
from gfocal.data.validation import DUPLICATE
from gfocal.data.views import joined as join
from gfocal.data.writers import coco as coco_json
from gfocal.data.writers import voc as voc_xml
from gfocal.data.writers import yolo as yolo_txt
from gfocal.data.writers.placing import Images, Placing, move_in, place, same_ground_truth, writable
from gfocal.errors import DataError
from gfocal.text import counted

Target = Literal["coco", "yolo", "voc", "csv"]
TARGETS: tuple[Target, ...] = get_args(Target)


def convert(
    parts: Mapping[str, FileData],
    target: Target,
    folder: Path,
    images: Images = "copy",
    known_names: Mapping[Path, str] | None = None,
) -> list[str]:
    """Write splits of one dataset, by name, in another format; returns notes for the user.

    ``folder`` must be new or empty. All is written to a hidden folder beside it, read back with gfocal's readers and
    compared with ``parts``, and takes its place last: a folder that is there is complete.

    Args:
        parts: split -> data, all of the same classes.
        target: the format.
        folder: where the dataset comes to lie.
        images: copied, linked (hard, or symbolic to another disk), or left where they are: then the annotations
            name the places that they would have.
        known_names: what images were called before an earlier conversion renamed them, see ``names_before``.

    Raises:
        DataError: the folder is not empty, the format cannot hold a class name or the names of the splits, or what
            was written reads back differently.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for the dataset")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; name a new folder (nothing that is there is ever written over)")
    for split in parts:  # files are named after it, and a stranger's table may say ../../x
        if split != writable(split):
            raise DataError(f"split {split!r:.100} is no name for a file: choose it with --split, name it with --as")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    work = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(4)}.tmp")
    work.mkdir()
    try:
        notes = _write(parts, target, work, images, known_names)
        if folder.exists():
            folder.rmdir()
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return notes


def _write(
    parts: Mapping[str, FileData],
    target: Target,
    folder: Path,
    images: Images,
    known_names: Mapping[Path, str] | None,
) -> list[str]:
    placing = place(parts, flat=target == "voc", one_stem_each=target in ("yolo", "voc"), known_names=known_names)
    sidecar, notes = Sidecar(), []
    if target == "coco":
        home = coco_json.IMAGES
        notes = coco_json.write_coco(placing, folder)
    elif target == "yolo":
        home = yolo_txt.IMAGES
        sidecar, notes = yolo_txt.write_yolo(placing, folder)
    elif target == "voc":
        home = voc_xml.IMAGES
        sidecar, notes = voc_xml.write_voc(placing, folder)
    else:
        from gfocal.data.writers import csv as csv_table

        home = csv_table.IMAGES
        sidecar, notes = csv_table.write_csv(placing, folder)
    renamed = {f"{home}/{file}": name for file, name in placing.renamed.items()}
    told = as_json(replace(sidecar, renamed=renamed))
    if told is not None:
        (folder / SIDECAR).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if placing.renamed:
        first, before = next(iter(placing.renamed.items()))
        notes.append(f"{counted(len(placing.renamed), 'image')} renamed, e.g. {before} is {home}/{first}")
    # What is not to be kept is there while it is read back: readers look into the images.
    move_in(placing, folder / home, "link" if images == "none" else images)
    _compare(parts, folder)
    if images == "none":
        shutil.rmtree(folder / home)
        notes.append(_where_they_belong(placing, home))
    return notes


def _where_they_belong(placing: Placing, home: str) -> str:
    file, source = next(iter(placing.sources.items()))
    return (
        f"images stay where they are; gfocal reads these annotations once they lie below {home}/, e.g. {source} as "
        f"{home}/{file} (readers refuse names that lead out of the folder)"
    )


def _compare(parts: Mapping[str, FileData], folder: Path) -> None:
    """DataError when what was written does not read back as what was read."""
    there = splits(folder)
    if sorted(there) != sorted(parts):
        wrong = sorted(set(parts) - set(there))
        raise DataError(
            f"split {wrong[0]!r} cannot be told by its name in this format (it would read as "
            f"{', '.join(sorted(set(there) - set(parts)))}): convert it alone with --split and --as"
        )
    for split, data in parts.items():
        difference = first_difference(data, read_data(folder, split))
        if difference is not None:
            raise DataError(f"split {split!r} reads back differently: {difference}; nothing was kept")


def first_difference(one: FileData, other: FileData) -> str | None:
    """In what two datasets differ first, file names and problems aside; None when they are equal."""
    for what in ("names", "category_ids"):
        if getattr(one, what) != getattr(other, what):
            return f"{what} {getattr(one, what)} and {getattr(other, what)}"
    if len(one) != len(other):
        return f"{counted(len(one), 'image')} and {counted(len(other), 'image')}"
    for i in range(len(one)):
        a, b = one.sample(i), other.sample(i)
        if a.image_id != b.image_id:
            return f"image ids {a.image_id} and {b.image_id}"
        if not same_ground_truth(a, b):
            for what in ("size", "boxes", "labels", "crowd", "areas"):
                left, right = getattr(a, what), getattr(b, what)
                left, right = (v.tolist() if isinstance(v, torch.Tensor) else v for v in (left, right))
                if left != right:
                    return f"{what} of {a.path}: {left} and {right}"
            return f"areas of {a.path}"
    return None


def joined(sets: Sequence[Mapping[str, FileData]], renames: Mapping[str, str] | None = None) -> dict[str, FileData]:
    """Several datasets as one, split by split, with the classes of all; see ``gfocal.data.views``."""
    renames = renames or {}
    if len(sets) == 1 and not renames:
        return dict(sets[0])
    found: dict[str, list[FileData]] = {}
    for parts in sets:
        for split, data in parts.items():
            found.setdefault(split, []).append(data)
    everything = join([data for same in found.values() for data in same], renames=renames)
    names, ids = everything.names, everything.category_ids
    if list(ids) != sorted(ids):  # COCO's readers take classes in the order of their ids
        ids = tuple(range(1, len(names) + 1))
    whole = {}
    for split, same in found.items():
        own = {name for data in same for name in data.names}
        one = join(same, names, {old: new for old, new in renames.items() if old in own}, where=split)
        order = one.table.image_ids.argsort(stable=True).tolist()
        ordered = FileData(names, ids, one.table.select(order), one.problems)
        whole[split] = _without_repeats(ordered) if renames else ordered
    return whole


def _without_repeats(data: FileData) -> FileData:
    """Of classes that became one, what they said about the same box counts once, as everywhere in reading."""
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


def names_before(path: Path) -> dict[Path, str]:
    """What the images of a dataset were called before a conversion renamed them."""
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))
    return {folder / file: name for file, name in read_sidecar(folder).renamed.items()}

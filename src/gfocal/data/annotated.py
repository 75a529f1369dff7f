"""From what the files of a labeling tool say to a dataset: images located, classes ordered, boxes validated.

A reader of a tool's format only parses: it describes each image (``AnnotatedImage``) with its boxes by class name.
What all formats share is here: names of another machine are located below the dataset's folder, classes get one order
for all splits, images with objects that have no box are left out, and everything is validated
(``gfocal.data.validation``).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gfocal.data.box_layouts import Layout
from gfocal.data.class_ids import IDS_SHIFTED
from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.locate import ImageLocator, Located, dataset_folder
from gfocal.data.paths import category_ids_by_label, find_split, map_labels, no_splits, pick_split, split_name
from gfocal.data.sidecar import SIDECAR, ImageExtra, Sidecar, read_sidecar
from gfocal.data.validation import MISSING, REPEATED_CLASS, REPEATED_IMAGE, validate_records
from gfocal.errors import DataError
from gfocal.text import one_line

OBJECTS_WITHOUT_BOX = "image has objects without a box: neither ground truth nor background"
NOT_ANNOTATED = "image was not annotated: skipped, failed or without a record"

WHOLE = ""  # the split of a dataset without splits
EVERY_CLASS = ""  # the class of an ignored region in which objects of any class may be
NO_ID = -(2**64)  # no integer of 64 bits
_UNCHANGED = 1e-5  # relative difference of a coordinate up to which a box was not edited after the conversion


@dataclass(frozen=True, slots=True)  # there may be millions
class AnnotatedBox:
    """One object as a format describes it."""

    box: tuple[float, float, float, float]  # xyxy, in pixels or fractions of the image
    name: str  # of the class; EVERY_CLASS of an ignored region that has none
    record: str  # where in the file it is, for problems
    ignored: bool = False  # crowd, difficult, ignored region: neither ground truth nor background
    area: float = math.nan  # square pixels of the outline, NaN where not stated


@dataclass
class AnnotatedImage:
    """One image as a format describes it."""

    name: str  # path, file name or URL as written; looked up below the folder of the dataset
    file: str  # the annotation file, for problems
    size: tuple[int, int] | None = None  # stated height and width
    relative: bool = False  # boxes are fractions of the image's size
    image_id: int | None = None  # None: running numbers
    boxes: list[AnnotatedBox] = field(default_factory=list)
    left_out: str = ""  # why the image takes no part in the dataset, as the reason of a problem; "": it does
    left_out_for: str = ""  # which of its objects is the cause, for the record of that problem
    folders: tuple[str, ...] = ()  # below the dataset's, where the name is looked up first; a split's own folder


@dataclass
class Parsed:
    """What the annotation files of one split say."""

    images: list[AnnotatedImage]
    classes: Sequence[str] | None = None  # in the order that the format states; None: sorted by name
    category_ids: Mapping[str, int] = field(default_factory=dict)  # of classes, where the format has numbers
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class AnnotationFormat:
    """A format that is read by way of ``AnnotatedImage``."""

    title: str  # for messages and tables
    looked_for: str  # one line: which files make a dataset of this format
    # path of a file or folder -> split -> what ``parse`` takes; None where nothing of this format is there.
    find: Callable[[Path], Mapping[str, Any] | None]
    # Raises DataError for a file that is not of this format, or broken.
    parse: Callable[[Any], Parsed]
    # Folders below the dataset's from which names of images may start.
    image_folders: tuple[str, ...] = ("images",)
    layout: Layout = "xyxy"  # what the files state of a box


def read_annotated(
    path: Path, kind: AnnotationFormat, split: str | None = None, names: Sequence[str] | None = None
) -> FileData:
    """Read a dataset of a format.

    Classes are those that the format lists, in its order, else the sorted names of all splits; or ``names``, which
    must contain them. Image ids are those of the format, else 1, 2, ... in the order of paths.

    Raises DataError where the path has nothing of this format, the split does not exist, or no image is usable.
    """
    sources = kind.find(path)
    if not sources:
        raise DataError(f"{path}: no annotations of {kind.title}; looked for {kind.looked_for}")
    if split is not None and set(sources) == {WHOLE}:
        raise no_splits(path, split, f"this dataset of {kind.title} has no splits")
    parsed = {key: kind.parse(source) for key, source in sources.items()}
    chosen = pick_split(parsed, split, path)
    for name, count in Counter(chosen.classes or ()).items():
        if count > 1:
            chosen.problems.append(Problem(str(path), f"{name!r}, {count} times", REPEATED_CLASS, "merged"))
    root = path if path.is_dir() else path.parent
    sidecar = read_sidecar(root)
    classes = list(dict.fromkeys([*(sidecar.names or ()), *_order_classes(parsed.values())]))
    if not classes:
        first = next((str(p) for one in parsed.values() for p in one.problems), "")
        raise DataError(
            f"{path}: no objects in the annotations of {kind.title}" + f"; the first problem: {first}" * bool(first)
        )
    key = next(name for name, one in parsed.items() if one is chosen)
    if key == WHOLE and path.is_file():
        key = find_split(path.stem) or path.stem
    return build_dataset([chosen], classes, root, path, kind.image_folders, names, sidecar, key, kind.layout)


def build_dataset(
    parts: Sequence[Parsed],
    classes: Sequence[str],
    root: Path,
    where: Path,
    image_folders: Sequence[str] = ("images",),
    names: Sequence[str] | None = None,
    sidecar: Sidecar | None = None,
    split: str = WHOLE,
    layout: Layout = "xyxy",
) -> FileData:
    """The dataset of parsed images below the folder ``root``, with the problems of all that is left out.

    ``sidecar`` has what the format could not store when gfocal wrote the files, for the images of ``split``.
    """
    order = map_labels(classes, names, where)
    labels = dict(zip(classes, order, strict=True))
    sidecar = sidecar or Sidecar()
    stated = {name: number for one in parts for name, number in one.category_ids.items()}
    stated |= zip(sidecar.names or (), sidecar.category_ids or (), strict=False)
    numbers = _category_ids(classes, stated)
    problems = [problem for one in parts for problem in one.problems]
    home = dataset_folder(where) if where.is_file() else root  # images/ beside annotations/a.json
    inner = Path(os.path.relpath(root, home))
    bases = [place / folder for place in dict.fromkeys((root, home)) for folder in (*image_folders, "")]
    locator = ImageLocator(home, [base for base in bases if base.is_dir()], split_name(split))
    used = [image for one in parts for image in one.images if not _is_left_out(image, problems)]
    located = locator.locate_all((i.name, tuple((inner / folder).as_posix() for folder in i.folders)) for i in used)
    records: dict[Path, ImageRecord] = {}
    for described, found in zip(used, located, strict=True):
        record = _record(described, found, locator, problems)
        if record is None:
            continue
        if record.path in records:
            problems.append(Problem(described.file, one_line(described.name), REPEATED_IMAGE, "dropped"))
            continue
        extra = sidecar.image(split, Path(os.path.relpath(record.path, root)).as_posix())
        if extra.image_id is not None:
            record.image_id = extra.image_id
        record.stated_size = extra.stated_size or record.stated_size
        for box in _with_extra(_expand(described.boxes, classes), extra, sidecar.names or classes):
            record.add(box.box, labels[box.name], box.ignored, box.record, box.area)
        records[record.path] = record
    if not records and problems:
        cause = one_line(str(_find_cause(problems)), max_length=500)
        raise DataError(f"{where}: no usable image; the first problem: {cause}")
    placed = [records[path] for path in sorted(records)]
    _number(placed, sidecar, split)
    placed.sort(key=lambda image: image.image_id)
    known = list(names) if names is not None else list(classes)
    return validate_records(
        placed,
        known,
        category_ids_by_label(order, numbers, len(known)),
        problems,
        where,
        layout=layout,
        in_pixels=sidecar.names is not None,  # gfocal convert writes the unit of the format
    )


def _find_cause(problems: Sequence[Problem]) -> Problem:
    """The first problem by which an image may have been lost."""
    first = next((problem for problem in problems if problem.action in ("dropped", "left out")), problems[0])
    return next((problem for problem in problems if problem.reason == IDS_SHIFTED), first)


def _is_left_out(image: AnnotatedImage, problems: list[Problem]) -> bool:
    if image.left_out:
        name = one_line(image.name)
        record = f"{name}, {image.left_out_for}" if image.left_out_for else name
        problems.append(Problem(image.file, record, image.left_out, "left out"))
    return bool(image.left_out)


def _record(
    image: AnnotatedImage, found: Located, locator: ImageLocator, problems: list[Problem]
) -> ImageRecord | None:
    """The record of an image without its boxes, or None and a problem."""
    path = locator.take(found, image.file, one_line(image.name), problems)
    if path is not None and found.path is None:
        problems.append(Problem(image.file, one_line(image.name), MISSING, "dropped"))
        return None
    if path is None:
        return None
    number = image.image_id
    number = number if number is not None and -(2**63) <= number < 2**63 else NO_ID
    return ImageRecord(image.file, path, number, image.size, relative=image.relative)


def _expand(boxes: Sequence[AnnotatedBox], classes: Sequence[str]) -> Sequence[AnnotatedBox]:
    """The boxes with one ignored region for each class in place of one of ``EVERY_CLASS``."""
    if all(box.name != EVERY_CLASS for box in boxes):
        return boxes
    named = ([box] if box.name != EVERY_CLASS else [replace(box, name=name) for name in classes] for box in boxes)
    return [box for same in named for box in same]


def _with_extra(boxes: Sequence[AnnotatedBox], extra: ImageExtra, names: Sequence[str]) -> list[AnnotatedBox]:
    """The boxes of an image with what the sidecar knows of them; nothing of a box that was edited since."""
    result = []
    for number, box in enumerate(boxes, 1):
        more = extra.lines.get(number)
        if more is not None and more.text == box.name and more.box is not None:
            pairs = zip(more.box, box.box, strict=True)
            if all(math.isclose(*pair, rel_tol=_UNCHANGED, abs_tol=_UNCHANGED) for pair in pairs):
                box = replace(box, box=more.box, area=box.area if math.isnan(more.area) else more.area)
        result.append(box)
    for one in extra.ignored:
        if one.label < len(names):
            record = f"{SIDECAR}, ignored region {one.at}"
            result.insert(one.at, AnnotatedBox(one.box, names[one.label], record, True, one.area))
    return result


def _number(placed: Sequence[ImageRecord], sidecar: Sidecar, split: str) -> None:
    """Replace the image ids by 1, 2, ... if they are not all there and different.

    If gfocal.json has ids, images that were added since get unused ones.
    """
    if any(image.image_id is not None for image in sidecar.splits.get(split, {}).values()):
        free = sidecar.free_ids(split)
        for image in placed:
            if image.image_id == NO_ID:
                image.image_id = next(free)
    ids = {image.image_id for image in placed}
    if NO_ID in ids or len(ids) < len(placed):
        for number, image in enumerate(placed, 1):
            image.image_id = number


def _order_classes(parts: Iterable[Parsed]) -> list[str]:
    """Class names in the order of the format, then those that only boxes name, sorted."""
    parts = list(parts)
    listed = list(dict.fromkeys(name for one in parts for name in one.classes or ()))
    used = {box.name for one in parts for image in one.images for box in image.boxes}
    return listed + sorted(used - {*listed, EVERY_CLASS})


def _category_ids(classes: Sequence[str], stated: Mapping[str, int]) -> list[int]:
    """The format's number of each class if it has one for each, all different, else 1, 2, ..."""
    numbers = [stated.get(name) for name in classes]
    if None in numbers or len(set(numbers)) < len(numbers):
        return list(range(1, len(classes) + 1))
    return [number for number in numbers if number is not None]

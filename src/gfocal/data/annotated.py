"""From what the files of a labeling tool say to a dataset: images located, classes ordered, boxes validated.

A reader of a tool's format only parses: it describes each image (``AnnotatedImage``) with its boxes by class name.
What all formats share is here: names of another machine are located below the dataset's folder, classes get one order
for all splits, images with objects that have no box are left out, and everything is validated
(``gfocal.data.validation``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfocal.data.dataset import FileData, Problem
from gfocal.data.locate import AMBIGUOUS, FOUND_BY_LAST_PARTS, ImageLocator
from gfocal.data.paths import category_ids_by_label, map_labels, pick_split
from gfocal.data.validation import MISSING, REPEATED_IMAGE, ImageRecord, validate_records
from gfocal.errors import DataError
from gfocal.text import one_line

OBJECTS_WITHOUT_BOX = "image has objects without a box: neither ground truth nor background"
NOT_ANNOTATED = "image was not annotated: skipped, failed or without a record"

WHOLE = ""  # the split of a dataset without splits


@dataclass(frozen=True)
class AnnotatedBox:
    """One object as a format describes it."""

    box: tuple[float, float, float, float]  # xyxy, in pixels or fractions of the image
    name: str  # of the class
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
        raise DataError(f"{path}: no split {split!r}: this dataset of {kind.title} has no splits")
    parsed = {key: kind.parse(source) for key, source in sources.items()}
    chosen = pick_split(parsed, split, path)
    classes = _order_classes(parsed.values())
    if not classes:
        first = next((str(p) for one in parsed.values() for p in one.problems), "")
        raise DataError(
            f"{path}: no objects in the annotations of {kind.title}" + f"; the first problem: {first}" * bool(first)
        )
    root = path if path.is_dir() else path.parent
    return build_dataset([chosen], classes, root, path, kind.image_folders, names)


def build_dataset(
    parts: Sequence[Parsed],
    classes: Sequence[str],
    root: Path,
    where: Path,
    image_folders: Sequence[str] = ("images",),
    names: Sequence[str] | None = None,
) -> FileData:
    """The dataset of parsed images below the folder ``root``, with the problems of all that is left out."""
    order = map_labels(classes, names, where)
    labels = dict(zip(classes, order, strict=True))
    stated = {name: number for one in parts for name, number in one.category_ids.items()}
    numbers = _category_ids(classes, stated)
    problems = [problem for one in parts for problem in one.problems]
    locator = ImageLocator(root, [root / folder for folder in image_folders if (root / folder).is_dir()])
    records: dict[Path, ImageRecord] = {}
    for described in [image for one in parts for image in one.images]:
        record = _locate(described, locator, problems)
        if record is None:
            continue
        if record.path in records:
            problems.append(Problem(described.file, one_line(described.name), REPEATED_IMAGE, "dropped"))
            continue
        for box in described.boxes:
            record.add(box.box, labels[box.name], box.ignored, box.record, box.area)
        records[record.path] = record
    if not records and problems:
        raise DataError(f"{where}: no usable image; the first problem: {one_line(str(problems[0]), max_length=500)}")
    placed = [records[path] for path in sorted(records)]
    if len({image.image_id for image in placed}) < len(placed) or any(image.image_id < 0 for image in placed):
        for number, image in enumerate(placed, 1):
            image.image_id = number
    placed.sort(key=lambda image: image.image_id)
    known = list(names) if names is not None else list(classes)
    return validate_records(placed, known, category_ids_by_label(order, numbers, len(known)), problems, where)


def _locate(image: AnnotatedImage, locator: ImageLocator, problems: list[Problem]) -> ImageRecord | None:
    """The record of an image without its boxes, or None and a problem."""
    name = one_line(image.name)
    if image.left_out:
        problems.append(Problem(image.file, name, image.left_out, "left out"))
        return None
    found = locator.locate(image.name)
    if found.path is None:
        reason = AMBIGUOUS if found.candidates else MISSING
        several = ", ".join(str(path.relative_to(locator.root)) for path in found.candidates)
        problems.append(Problem(image.file, f"{name}{': ' * bool(several)}{several}", reason, "dropped"))
        return None
    if found.by_last_parts:
        record = f"{name} -> {found.path.relative_to(locator.root)}"
        problems.append(Problem(image.file, record, FOUND_BY_LAST_PARTS, "kept"))
    number = -1 if image.image_id is None else image.image_id
    return ImageRecord(image.file, found.path, number, image.size, relative=image.relative)


def _order_classes(parts: Iterable[Parsed]) -> list[str]:
    """Class names in the order of the format, then those that only boxes name, sorted."""
    parts = list(parts)
    listed = list(dict.fromkeys(name for one in parts for name in one.classes or ()))
    used = {box.name for one in parts for image in one.images for box in image.boxes}
    return listed + sorted(used - set(listed))


def _category_ids(classes: Sequence[str], stated: Mapping[str, int]) -> list[int]:
    """The format's number of each class if it has one for each, all different, else 1, 2, ..."""
    numbers = [stated.get(name) for name in classes]
    if None in numbers or len(set(numbers)) < len(numbers):
        return list(range(1, len(classes) + 1))
    return [number for number in numbers if number is not None]

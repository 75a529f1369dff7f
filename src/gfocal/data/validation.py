"""Validation of images and boxes, the same for all formats: what can be wrong, and what is done about it.

| problem | action |
|---|---|
| image missing, unreadable, listed twice, or outside the data folder | image dropped |
| stated size is not that of the image file | kept, the size of the file is used |
| box not finite, inverted, without area, or entirely outside the image | box dropped |
| numbers in a YOLO file that are no fractions of the image (probably pixels) | box dropped |
| same box, class and crowd flag twice in one image | second box dropped |
| IoU of 0.9 or more with another box of the same class | kept |
| box partly outside the image | box clipped |

A box that exceeds the image by half a pixel or less is a rounding error; it is clipped without a problem.
Evaluation reads boxes as they are stated (``gfocal.data.stated``): not clipped, and of COCO files also those that
are dropped for training, as other programs count them.
Readers add problems of their format: unknown classes, annotations without an image, broken records.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gfocal.data.box_layouts import Layout
from gfocal.data.conventions import WHOLE_DATASET, convert_records
from gfocal.data.dataset import FileData, Problem, SampleTable
from gfocal.data.image_record import ImageRecord, Stated, Usable
from gfocal.data.images import size_and_orientation
from gfocal.data.stated import StatedTable, make_offsets
from gfocal.errors import DataError, ImageError
from gfocal.text import one_line

ROUNDING = 0.5  # pixels
NEAR_DUPLICATE_IOU = 0.9  # IoU
MAX_FRACTION = 2.0  # larger numbers are no fractions of the image but some other unit

NOT_FINITE = "box is not finite"
INVERTED = "box is inverted"
NO_AREA = "box has no area"
OUTSIDE = "box is outside the image"
NO_FRACTIONS = "box is not in fractions of the image, as YOLO's are: are these pixels?"
DUPLICATE = "duplicate box of the same class"
NEAR_DUPLICATE = "near-duplicate box of the same class"
BEYOND = "box exceeds the image"
MISSING = "image file is missing"
UNREADABLE = "image is unreadable"
SIZE_DIFFERS = "stated size is not that of the image file"
UNSAFE = "file name leads out of the data folder"
UNKNOWN_CLASS = "unknown class"
UNLISTED = "annotation of an image that is not listed"
MALFORMED = "not a box of finite numbers"
REPEATED_CLASS = "class name occurs twice"
REPEATED_ID = "image id occurs twice"
REPEATED_IMAGE = "image is listed twice"
NO_XML = "image without an xml file"
NO_ROW = "image without a row"
BROKEN_XML = "broken xml"
NOT_VOC = "xml is not a VOC annotation"
OBJECTS_DROPPED = "all objects of the image were dropped: it is evaluated, and not trained on"


def validate_records(
    images: Sequence[ImageRecord],
    names: Sequence[str],
    category_ids: Sequence[int],
    problems: list[Problem],
    where: str | Path,
    *,
    layout: Layout = "xyxy",
    flag: str = "crowd, difficult or ignored",
    in_pixels: bool = False,
) -> FileData:
    """The dataset of all usable images and boxes, with the problems of the others.

    Reads the header of every image file: about 0.1 ms each on a local disk. ``problems`` are those found by the
    reader. ``layout`` says what the files state of a box, ``flag`` how they mark ignored objects, ``in_pixels`` that
    numbers in 0..1 are no fractions, see ``gfocal.data.conventions``. Raises DataError if no image is usable.
    """
    problems = list(problems)
    usable, orientations = _read_sizes(images, problems)
    if not usable:
        first = f"; the first problem: {one_line(str(problems[0]), max_length=500)}" if problems else ""
        raise DataError(f"{where}: no usable image among {len(images)}{first}")
    in_file = [image.stated for image, _ in usable]
    for image, size in convert_records(
        usable, orientations, problems, str(where), layout=layout, flag=flag, in_pixels=in_pixels
    ):
        _report_size(image, size, problems)
    for name, count in Counter(names).items():
        if count > 1:
            problems.append(Problem(str(where), f"{count} classes are named {name!r}", REPEATED_CLASS, "kept"))
    counts = [len(image.labels) for image, _ in usable]
    owner = np.repeat(np.arange(len(usable)), counts)
    given = _given_boxes(usable, owner)
    boxes, keep = _check_boxes(usable, owner, given, problems)
    stated = _stated_objects(usable, owner, given, keep, in_file)
    areas = _concatenate(usable, "areas", np.float64)[keep]
    table = SampleTable.from_arrays(
        image_ids=[image.image_id for image, _ in usable],
        paths=[image.path for image, _ in usable],
        sizes=[size for _, size in usable],
        counts=np.bincount(owner[keep], minlength=len(usable)).tolist(),
        boxes=torch.from_numpy(boxes[keep]),
        labels=torch.from_numpy(_concatenate(usable, "labels", np.int64)[keep]),
        crowd=torch.from_numpy(_concatenate(usable, "crowd", np.bool_)[keep]),
        areas=None if np.isnan(areas).all() else torch.from_numpy(areas),
        stated=stated,
    )
    untrained = _find_untrained(usable, owner, keep, problems)
    return FileData(tuple(names), tuple(category_ids), table, problems, untrained=untrained)


def _find_untrained(
    usable: Sequence[Usable], owner: npt.NDArray[np.intp], keep: npt.NDArray[np.bool_], problems: list[Problem]
) -> frozenset[int]:
    """Ids of the images that have lost all of their objects: in training they would be background."""
    counts = np.bincount(owner[keep], minlength=len(usable)).tolist()
    found = set()
    for (image, _), count in zip(usable, counts, strict=True):
        if not count and (image.boxes or image.num_lost):
            problems.append(Problem(image.file, image.path.name, OBJECTS_DROPPED, "left out of training"))
            found.add(image.image_id)
    return frozenset(found)


def _concatenate(usable: Sequence[Usable], what: str, dtype: type[Any]) -> npt.NDArray[Any]:
    """Labels, flags or areas of the boxes of all images. (N,)"""
    values = (value for image, _ in usable for value in getattr(image, what))
    return np.fromiter(values, dtype=dtype, count=sum(len(image.labels) for image, _ in usable))


def _read_sizes(images: Sequence[ImageRecord], problems: list[Problem]) -> tuple[list[Usable], list[int]]:
    """The images that can be used, with the sizes of their files; and the EXIF orientations that are applied."""
    usable: list[Usable] = []
    orientations = []
    for image in images:
        if image.left_out:
            record = f"{image.path.name}, {image.left_out_for}" if image.left_out_for else image.path.name
            problems.append(Problem(image.file, record, image.left_out, "left out"))
        elif not os.path.isfile(image.path):
            problems.append(Problem(image.file, str(image.path), MISSING, "dropped"))
        else:
            try:
                size, orientation = size_and_orientation(image.path, image.stated_size)
            except ImageError as error:
                problems.append(Problem(image.file, str(error), UNREADABLE, "dropped"))
                continue
            usable.append((image, size))
            orientations.append(orientation)
    return usable, orientations


def _report_size(image: ImageRecord, size: tuple[int, int], problems: list[Problem]) -> None:
    stated = image.stated_size
    if stated is not None:
        record = f"{image.path.name}: stated {stated[1]}x{stated[0]}, file {size[1]}x{size[0]}"
        problems.append(Problem(image.file, record, SIZE_DIFFERS, "kept"))


def _limits(usable: Sequence[Usable], owner: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Width and height of the image of each box, twice. (N, 4)"""
    return np.array([(w, h, w, h) for _, (h, w) in usable], dtype=np.float64)[owner]


def _given_boxes(usable: Sequence[Usable], owner: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Boxes of all images as the readers give them: xyxy, in pixels or fractions of the image. (N, 4)"""
    numbers = (number for image, _ in usable for box in image.boxes for number in box)
    return np.fromiter(numbers, dtype=np.float64, count=4 * len(owner)).reshape(-1, 4)


def _stated_objects(
    usable: Sequence[Usable],
    owner: npt.NDArray[np.intp],
    given: npt.NDArray[np.float64],
    keep: npt.NDArray[np.bool_],
    in_file: Sequence[list[Stated | None]],
) -> StatedTable:
    """The objects for evaluation: those that are kept, and the dropped ones of formats that state them.

    ``in_file`` has what was stated in each image before ``convert_records`` changed it.
    """
    relative = np.array([image.relative for image, _ in usable], dtype=np.bool_)[owner]
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.where(relative[:, None], given * _limits(usable, owner), given)
        boxes[:, 2:] -= boxes[:, :2]
    areas = _concatenate(usable, "areas", np.float64)
    table = np.concatenate((boxes, areas[:, None]), axis=1)  # (N, 5)
    is_stated = _fill_stated(table, [row for image, _ in usable for row in image.stated])
    has_changed = any(image.stated is not before for (image, _), before in zip(usable, in_file, strict=True))
    before = table.copy() if has_changed else None
    if before is not None:
        is_stated = _fill_stated(before, [row for rows in in_file for row in rows])
    counts = np.where(is_stated, np.isfinite(table[:, :4]).all(1), keep)
    return StatedTable(
        image_ids=tuple(image.image_id if image.stated_id is None else image.stated_id for image, _ in usable),
        offsets=make_offsets(torch.from_numpy(np.bincount(owner[counts], minlength=len(usable)))),
        boxes=torch.from_numpy(table[counts, :4]),
        labels=torch.from_numpy(_concatenate(usable, "labels", np.int64)[counts]),
        crowd=torch.from_numpy(_concatenate(usable, "crowd", np.bool_)[counts]),
        areas=torch.from_numpy(table[counts, 4]),
        in_file=None if before is None else torch.from_numpy(before[counts]),
    )


def _fill_stated(table: npt.NDArray[np.float64], rows: Sequence[Stated | None]) -> npt.NDArray[np.bool_]:
    """Put what is stated into the rows of a table (N, 5); returns which rows those are."""
    is_stated = np.fromiter((row is not None for row in rows), dtype=np.bool_, count=len(table))
    numbers = (number for row in rows if row is not None for number in row)
    table[is_stated] = np.fromiter(numbers, dtype=np.float64, count=5 * int(is_stated.sum())).reshape(-1, 5)
    return is_stated


def _check_boxes(
    usable: Sequence[Usable],
    owner: npt.NDArray[np.intp],
    given: npt.NDArray[np.float64],
    problems: list[Problem],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Clipped boxes (N, 4) of all images and which of them to keep (N,); at most one problem per box."""
    limit = _limits(usable, owner)
    relative = np.array([image.relative for image, _ in usable], dtype=np.bool_)[owner]
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.where(relative[:, None], given * limit, given).astype(np.float32)
    x1, y1, x2, y2 = boxes.T
    clipped = np.clip(boxes, np.float32(0), limit.astype(np.float32))
    low, high = clipped[:, :2], clipped[:, 2:]
    reasons = {
        NOT_FINITE: ~np.isfinite(boxes).all(1),
        NO_FRACTIONS: relative & (np.abs(given) > MAX_FRACTION).any(1),
        INVERTED: (x2 < x1) | (y2 < y1),
        NO_AREA: (x2 == x1) | (y2 == y1),
        OUTSIDE: (high <= low).any(1),
    }
    bad = np.logical_or.reduce(list(reasons.values()))
    labels, crowd = _concatenate(usable, "labels", np.int64), _concatenate(usable, "crowd", np.bool_)
    reasons[DUPLICATE], nearly = _find_duplicates(clipped, labels, crowd, owner, ~bad)
    dropped = bad | reasons[DUPLICATE]
    with np.errstate(invalid="ignore"):
        reasons[BEYOND] = (np.abs(clipped - boxes) > ROUNDING).any(1)
    reasons[NEAR_DUPLICATE] = nearly

    first_row = np.searchsorted(owner, np.arange(len(usable)))  # of each image
    for row in np.flatnonzero(np.logical_or.reduce(list(reasons.values()))).tolist():
        place = int(owner[row])
        image, i = usable[place][0], row - int(first_row[place])
        reason = next(reason for reason, rows in reasons.items() if rows[row])
        corners = " ".join(f"{value:g}" for value in boxes[row].tolist())
        record = f"{image.path.name}, {image.records[i]}: {corners}"
        action = {BEYOND: "clipped", NEAR_DUPLICATE: "kept"}.get(reason, "dropped")
        problems.append(Problem(image.file, record, reason, action))
    return clipped, ~dropped


def _find_duplicates(
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    crowd: npt.NDArray[np.bool_],
    owner: npt.NDArray[np.intp],
    alive: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which boxes equal an earlier one of the same image, class and flag, and which nearly do. (N,), (N,)

    Boxes are sorted by their left edge, and each is compared with the next ones as long as an IoU of
    ``NEAR_DUPLICATE_IOU`` is possible: the time grows with the number of boxes, not with that of pairs.
    """
    order = np.flatnonzero(alive)
    order = order[np.lexsort((boxes[order, 0], crowd[order], labels[order], owner[order]))]
    box = boxes[order].astype(np.float64)
    group = np.stack((owner[order], labels[order], crowd[order]), axis=1)
    limit = box[:, 0] + (1 - NEAR_DUPLICATE_IOU) * (box[:, 2] - box[:, 0]) + 1e-3
    area = (box[:, 2:] - box[:, :2]).prod(1)
    equal, near = np.zeros((2, len(boxes)), dtype=np.bool_)
    first, second = np.arange(len(order) - 1), np.arange(1, len(order))
    while len(first):
        close = (group[first] == group[second]).all(1) & (box[second, 0] <= limit[first])
        first, second = first[close], second[close]
        sides = np.minimum(box[first, 2:], box[second, 2:]) - np.maximum(box[first, :2], box[second, :2])
        overlap = sides.clip(min=0).prod(1)
        later = np.maximum(order[first], order[second])
        equal[later[(box[first] == box[second]).all(1)]] = True
        near[later[overlap >= NEAR_DUPLICATE_IOU * (area[first] + area[second] - overlap)]] = True
        follows = second + 1 < len(order)
        first, second = first[follows], second[follows] + 1
    return equal, near & ~crowd


def is_of_dataset(problem: Problem) -> bool:
    """Whether a problem concerns the whole dataset."""
    return problem.reason in WHOLE_DATASET


def summarize(problems: Sequence[Problem]) -> list[str]:
    """One line for each kind of problem, most frequent first: count, reason, action and the first example.

    Before them, a line for each problem that concerns the whole dataset.
    """
    whole = [f"{problem.file}: {problem.record}: {problem.reason}" for problem in problems if is_of_dataset(problem)]
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        if is_of_dataset(problem):
            continue
        groups.setdefault((problem.reason, problem.action), []).append(problem)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return whole + [
        f"{len(group)} x {reason} ({action}), e.g. {group[0].file}: {group[0].record}"
        for (reason, action), group in ranked
    ]

"""What can be wrong with boxes and images of a dataset, and what is done about it, for all formats alike.

| found | done |
|---|---|
| image missing, unreadable, listed twice, or outside the data folder | image dropped |
| size in the annotation is not that of the file | kept, the file's size counts |
| box not finite, inverted, without area, or wholly outside the image | box dropped |
| numbers of YOLO that are no fractions of the image (pixels, most likely) | box dropped |
| same box, class and crowd flag a second time in one image | box dropped |
| box of IoU 0.9 or more with another of its class | kept |
| box partly outside the image | box clipped |

A box that reaches beyond the image by half a pixel or less was rounded; it is clipped without a word.
Readers add what only they can see: unknown classes, annotations of no image, broken records.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gfocal.data.dataset import FileData, Problem, SampleTable
from gfocal.data.images import image_size
from gfocal.errors import DataError, ImageError
from gfocal.text import one_line

ROUNDING = 0.5  # pixels
NEARLY = 0.9  # IoU
MOST_FRACTION = 2.0  # images: a box in fractions that reaches further is in some other unit

NOT_FINITE = "box is not finite"
INVERTED = "box is inverted"
NO_AREA = "box has no area"
OUTSIDE = "box lies outside the image"
NO_FRACTIONS = "box of no fractions: are these pixels? YOLO's numbers are fractions of the image"
DUPLICATE = "same box and class a second time"
NEAR_DUPLICATE = "nearly the same box and class a second time"
BEYOND = "box reaches beyond the image"
MISSING = "image file is missing"
UNREADABLE = "image is unreadable"
SIZE_DIFFERS = "stated size is not that of the file"
UNSAFE = "file name leads out of the data folder"
UNKNOWN_CLASS = "unknown class"
UNLISTED = "annotation of an image that is not listed"
MALFORMED = "not a box of finite numbers"


@dataclass
class ImageRecord:
    """One image as an annotation describes it, nothing checked yet."""

    file: str  # the annotation file, for problems
    path: Path
    image_id: int
    stated_size: tuple[int, int] | None = None  # height, width
    relative: bool = False  # boxes are fractions of the image's size
    boxes: list[Sequence[float]] = field(default_factory=list)  # xyxy
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    records: list[str] = field(default_factory=list)  # how the file names each box
    areas: list[float] = field(default_factory=list)  # of the objects' outlines; NaN where not stated

    def add(self, box: Sequence[float], label: int, crowd: bool, record: str, area: float = math.nan) -> None:
        """Append one box."""
        self.boxes.append(box)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.records.append(record)
        self.areas.append(area)


_Usable = tuple[ImageRecord, tuple[int, int]]  # with the height and width of its file


def checked(
    images: Sequence[ImageRecord],
    names: Sequence[str],
    category_ids: Sequence[int],
    problems: list[Problem],
    where: str | Path,
) -> FileData:
    """A dataset of the images and boxes that can be used, with all problems.

    Opens the header of every image file: about 0.1 ms each on a local disk. ``problems`` are those the
    reader has met already. Raises DataError when no image is left.
    """
    problems = list(problems)
    usable = [(p, size) for p in images if (size := _real_size(p, problems)) is not None]
    if not usable:
        first = f"; the first problem: {one_line(str(problems[0]), most=500)}" if problems else ""
        raise DataError(f"{where}: no usable image among {len(images)}{first}")
    counts = [len(image.labels) for image, _ in usable]
    owner = np.repeat(np.arange(len(usable)), counts)
    boxes, keep = _check_boxes(usable, owner, problems)
    areas = _of_all(usable, "areas", np.float64)[keep]
    table = SampleTable.of_arrays(
        image_ids=[image.image_id for image, _ in usable],
        paths=[image.path for image, _ in usable],
        sizes=[size for _, size in usable],
        counts=np.bincount(owner[keep], minlength=len(usable)).tolist(),
        boxes=torch.from_numpy(boxes[keep]),
        labels=torch.from_numpy(_of_all(usable, "labels", np.int64)[keep]),
        crowd=torch.from_numpy(_of_all(usable, "crowd", np.bool_)[keep]),
        areas=None if np.isnan(areas).all() else torch.from_numpy(areas),
    )
    return FileData(tuple(names), tuple(category_ids), table, problems)


def _of_all(usable: Sequence[_Usable], what: str, dtype: type[Any]) -> npt.NDArray[Any]:
    """Labels, flags or areas of the boxes of all images, one after the other. (N,)"""
    values = (value for image, _ in usable for value in getattr(image, what))
    return np.fromiter(values, dtype=dtype, count=sum(len(image.labels) for image, _ in usable))


def _real_size(image: ImageRecord, problems: list[Problem]) -> tuple[int, int] | None:
    if not os.path.isfile(image.path):
        problems.append(Problem(image.file, str(image.path), MISSING, "dropped"))
        return None
    try:
        size = image_size(image.path, image.stated_size)
    except ImageError as error:
        problems.append(Problem(image.file, str(error), UNREADABLE, "dropped"))
        return None
    stated = image.stated_size
    if stated is not None and stated != size:
        record = f"{image.path.name}: stated {stated[1]}x{stated[0]}, file {size[1]}x{size[0]}"
        problems.append(Problem(image.file, record, SIZE_DIFFERS, "kept"))
    return size


def _check_boxes(
    usable: Sequence[_Usable], owner: npt.NDArray[np.intp], problems: list[Problem]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Clipped boxes (N, 4) of all images and which to keep (N,); one problem per box at most."""
    numbers = (number for image, _ in usable for box in image.boxes for number in box)
    given = np.fromiter(numbers, dtype=np.float64, count=4 * len(owner)).reshape(-1, 4)
    limit = np.array([(w, h, w, h) for _, (h, w) in usable], dtype=np.float64)[owner]  # (N, 4)
    relative = np.array([image.relative for image, _ in usable], dtype=np.bool_)[owner]
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.where(relative[:, None], given * limit, given).astype(np.float32)
    x1, y1, x2, y2 = boxes.T
    clipped = np.clip(boxes, np.float32(0), limit.astype(np.float32))
    low, high = clipped[:, :2], clipped[:, 2:]
    reasons = {
        NOT_FINITE: ~np.isfinite(boxes).all(1),
        NO_FRACTIONS: relative & (np.abs(given) > MOST_FRACTION).any(1),
        INVERTED: (x2 < x1) | (y2 < y1),
        NO_AREA: (x2 == x1) | (y2 == y1),
        OUTSIDE: (high <= low).any(1),
    }
    bad = np.logical_or.reduce(list(reasons.values()))
    labels, crowd = _of_all(usable, "labels", np.int64), _of_all(usable, "crowd", np.bool_)
    reasons[DUPLICATE], nearly = _repeats(clipped, labels, crowd, owner, ~bad)
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


def _repeats(
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    crowd: npt.NDArray[np.bool_],
    owner: npt.NDArray[np.intp],
    alive: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which boxes equal an earlier one of the same image, class and flag, and which nearly do. (N,), (N,)

    Boxes are compared with those that follow in order of their left edge, for as long as that edge is near
    enough for the IoU to reach ``NEARLY``: the time grows with the boxes, not with their pairs.
    """
    order = np.flatnonzero(alive)
    order = order[np.lexsort((boxes[order, 0], crowd[order], labels[order], owner[order]))]
    box = boxes[order].astype(np.float64)
    group = np.stack((owner[order], labels[order], crowd[order]), axis=1)
    reach = box[:, 0] + (1 - NEARLY) * (box[:, 2] - box[:, 0]) + 1e-3
    area = (box[:, 2:] - box[:, :2]).prod(1)
    equal, near = np.zeros((2, len(boxes)), dtype=np.bool_)
    first, second = np.arange(len(order) - 1), np.arange(1, len(order))
    while len(first):
        close = (group[first] == group[second]).all(1) & (box[second, 0] <= reach[first])
        first, second = first[close], second[close]
        sides = np.minimum(box[first, 2:], box[second, 2:]) - np.maximum(box[first, :2], box[second, :2])
        overlap = sides.clip(min=0).prod(1)
        later = np.maximum(order[first], order[second])
        equal[later[(box[first] == box[second]).all(1)]] = True
        near[later[overlap >= NEARLY * (area[first] + area[second] - overlap)]] = True
        follows = second + 1 < len(order)
        first, second = first[follows], second[follows] + 1
    return equal, near & ~crowd


def summary(problems: Sequence[Problem]) -> list[str]:
    """One line per kind of problem, most frequent first: count, reason, action and the first example."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.reason, problem.action), []).append(problem)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        f"{len(group)} x {reason} ({action}), e.g. {group[0].file}: {group[0].record}"
        for (reason, action), group in ranked
    ]

"""What the numbers in the lines of YOLO label files are: boxes, polygons, or boxes with more behind them.

A line does not say. The yaml may (``kpt_shape``, ``task``); else all lines of a dataset together decide: lines that
fit as pose labels as well as polygons are an error that names both readings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gfocal.data.dataset import Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.outlines import OUTLINE, Corners, hull
from gfocal.errors import DataError
from gfocal.text import pluralize

SIXTH = "sixth column, a confidence or a track id, is not read: is this the output of a model?"
CONFIDENCE_AND_TRACK = (
    "sixth and seventh column, confidence and track id, are not read: is this the output of a model?"
)
KEYPOINTS = "keypoints are not read: the box of the line is used"
BOX = 4  # numbers of a box
MARGIN = 0.1  # of the box's sides, by which a keypoint may lie outside
SLACK = 0.01  # of the image, by which a box may exceed it
FITTING = 0.9  # share of the long lines that must fit as pose labels to make a dataset ambiguous


@dataclass
class LineLayout:
    """How the lines of a dataset are read, and what they have in common.

    Args:
        keypoints: number of keypoints of an object and numbers of each, 2 or 3; None: the yaml does not say.
        is_polygons: whether the yaml says that longer lines are polygons.
    """

    keypoints: tuple[int, int] | None = None
    is_polygons: bool = False
    ids: Counter[int] = field(default_factory=Counter)  # of classes, also unknown ones
    num_sixth: int = 0
    num_keypoints: int = 0
    lengths: Counter[int] = field(default_factory=Counter)  # of lines longer than a box and a sixth column
    fitting: Counter[int] = field(default_factory=Counter)  # numbers of a keypoint -> lines that fit as pose labels
    first: str = ""  # where the first long line is
    tracks: list[tuple[ImageRecord, str, Corners]] | None = field(default_factory=list)  # None: not all lines fit

    @property
    def not_understood(self) -> str:
        """The reason of a problem with a line that is not understood."""
        return "neither a box nor a polygon" if self.keypoints is None else "not as long as kpt_shape says"

    def read(self, numbers: Sequence[float], image: ImageRecord, record: str) -> Corners | None:
        """The box of a line, xyxy in fractions, from the numbers behind the class; None if it is not understood."""
        length = len(numbers)
        if length == BOX:
            return box_of(numbers)
        if self.keypoints is not None:
            count, dims = self.keypoints
            self.num_keypoints += length == BOX + count * dims
            return box_of(numbers) if length == BOX + count * dims else None
        if length == BOX + 1:
            extra = numbers[BOX]
            is_known = 0 <= extra <= 1 or (extra > 0 and extra.is_integer())
            self.num_sixth += is_known
            return box_of(numbers) if is_known else None
        if length < BOX + 2:
            return None
        self._compare(numbers, image, record)
        return hull(zip(numbers[::2], numbers[1::2], strict=True)) if length % 2 == 0 else None

    def _compare(self, numbers: Sequence[float], image: ImageRecord, record: str) -> None:
        self.first = self.first or f"{image.file}, {record}"
        self.lengths[len(numbers)] += 1
        for dims in (2, 3):
            self.fitting[dims] += fits_as_pose(numbers, dims)
        if self.tracks is not None:
            extra, track = numbers[BOX : BOX + 2]
            fits = len(numbers) == BOX + 2 and is_inside(numbers) and 0 <= extra <= 1
            if fits and track >= 0 and track.is_integer():
                self.tracks.append((image, record, box_of(numbers)))
            else:
                self.tracks = None

    def finish(self, where: str, problems: list[Problem]) -> None:
        """Decide what the long lines are. Raises DataError if they fit as pose labels and the yaml does not say."""
        num_long = sum(self.lengths.values())
        if self.num_keypoints:
            problems.append(Problem(where, pluralize(self.num_keypoints, "line"), KEYPOINTS, "kept"))
        if self.num_sixth:
            problems.append(Problem(where, pluralize(self.num_sixth, "line"), SIXTH, "kept"))
        if not num_long:
            return
        if self.is_polygons or not self.tracks:
            number = sum(count for length, count in self.lengths.items() if length % 2 == 0)
            problems.append(Problem(where, f"{pluralize(number, 'line')}, first {self.first}", OUTLINE, "kept"))
        if self.is_polygons:
            return
        if self.tracks:
            for image, record, box in self.tracks:
                image.boxes[image.records.index(record)] = box
            problems.append(Problem(where, pluralize(num_long, "line"), CONFIDENCE_AND_TRACK, "kept"))
            return
        (length, _), *others = self.lengths.most_common()
        if others:
            return  # pose labels of a dataset all have one length
        for dims in (3, 2):
            if self.fitting[dims] >= FITTING * num_long:
                count = (length - BOX) // dims
                pose = f"pose labels, a box and {pluralize(count, 'keypoint')} of {dims} numbers"
                polygon = f"polygons of {length // 2} points (write task: segment), or as " if length % 2 == 0 else ""
                raise DataError(
                    f"{where}: {pluralize(num_long, 'line')} with {length} numbers behind the class, such as "
                    f"{self.first}, can be read as {polygon}{pose} (write kpt_shape: [{count}, {dims}]): "
                    "say which in data.yaml"
                )


def box_of(numbers: Sequence[float]) -> Corners:
    """xyxy of a box that starts with its center, width and height."""
    cx, cy, w, h = numbers[:BOX]
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def is_inside(numbers: Sequence[float]) -> bool:
    """Whether the first four numbers are a box inside the image."""
    x1, y1, x2, y2 = box_of(numbers)
    return -SLACK <= x1 < x2 <= 1 + SLACK and -SLACK <= y1 < y2 <= 1 + SLACK


def fits_as_pose(numbers: Sequence[float], dims: int) -> bool:
    """Whether a line may be a box and keypoints of 2 numbers inside it, or of 3, of which the last is 0, 1 or 2."""
    points = numbers[BOX:]
    if len(points) % dims or not all(map(math.isfinite, numbers)) or not is_inside(numbers):
        return False
    if dims == 3:
        return all(value in (0, 1, 2) for value in points[2::3])
    cx, cy, w, h = numbers[:BOX]
    reach_x, reach_y = (0.5 + MARGIN) * w, (0.5 + MARGIN) * h
    pairs = zip(points[::2], points[1::2], strict=True)
    return all((x == y == 0) or (abs(x - cx) <= reach_x and abs(y - cy) <= reach_y) for x, y in pairs)

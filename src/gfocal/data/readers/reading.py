"""What readers of labeling tools do with an object: a box, the hull of an outline, or an image that is left out.

An image with an object whose box is not known is left out: it would be background where the object is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gfocal.data.annotated import EVERY_CLASS, AnnotatedBox, AnnotatedImage, Parsed
from gfocal.data.class_ids import report_shift
from gfocal.data.dataset import Problem
from gfocal.data.outlines import Corners
from gfocal.data.readers.fields import doubt_flag, read_flag
from gfocal.text import one_line, pluralize

WITHOUT_CLASS = "object without a class: an ignored region, neither ground truth nor background"
BROKEN_BOX = "image has an object whose box is not four finite numbers: neither ground truth nor background"
BROKEN_IMAGE = "record of an image without its name or its list of objects"
EMPTY_IMAGES = "images without objects are background; the files do not tell them from images not annotated yet"
SCORED = "objects have scores: predictions of a model are read as ground truth"

# Names of attributes and tags that exclude an object from training and evaluation.
IGNORING = frozenset({"crowd", "iscrowd", "is_crowd", "ignore", "ignored", "difficult", "isgroupof", "is_group_of"})


@dataclass
class Reading:
    """What is read of one annotation file, or of several that belong together."""

    file: str
    images: list[AnnotatedImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    class_ids: Counter[int] = field(
        default_factory=Counter
    )  # of objects, where a format has numbers; unknown ones too
    _notes: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    def add(
        self, image: AnnotatedImage, box: Sequence[float] | None, name: str, record: str, ignored: bool = False
    ) -> None:
        """Add an object: xyxy, None where the file has no box that can be read; ``name`` "" where it has no class."""
        if box is None or not all(map(math.isfinite, box)):
            leave_out(image, BROKEN_BOX, record)
            return
        if not name:
            self.problems.append(Problem(self.file, f"{image.name}, {record}", WITHOUT_CLASS, "kept"))
        x1, y1, x2, y2 = box
        image.boxes.append(AnnotatedBox((x1, y1, x2, y2), name or EVERY_CLASS, record, ignored or not name))

    def is_ignored(self, attributes: Any, record: str) -> bool:
        """Whether one of an object's attributes excludes it; a problem for each whose value is neither yes nor no."""
        given = attributes.items() if isinstance(attributes, dict) else ()
        flags = [(key, value) for key, value in given if key.lower() in IGNORING]
        for key, value in flags:
            if reason := doubt_flag(value):
                self.problems.append(Problem(self.file, f"{record}: {key} {value!r:.80}", reason, "kept"))
        return any(read_flag(value) for _, value in flags)

    def report_shifted_ids(self, known: Collection[int]) -> None:
        """Report ids of classes that are all one too high or too low for those that are known."""
        num_unknown = sum(number for value, number in self.class_ids.items() if value not in known)
        self.problems += report_shift(self.class_ids, known, num_unknown, self.file)

    def note(self, reason: str, what: str, action: str = "kept") -> None:
        """Count something that is reported once for the file: how many of what, for one reason."""
        self._notes.setdefault((reason, action), Counter())[what] += 1

    def note_empty_images(self) -> None:
        """Report images without objects, where the format does not tell background from images not annotated yet."""
        for _ in range(sum(not image.boxes and not image.left_out for image in self.images)):
            self.note(EMPTY_IMAGES, "images")

    def parsed(self, classes: Sequence[str] | None = None, category_ids: Mapping[str, int] | None = None) -> Parsed:
        """All that was read, with one problem for each kind of note."""
        notes = [
            Problem(
                self.file, ", ".join(f"{number:,} {what}" for what, number in counts.most_common()), reason, action
            )
            for (reason, action), counts in self._notes.items()
        ]
        return Parsed(self.images, classes, category_ids or {}, [*self.problems, *notes])


def leave_out(image: AnnotatedImage, reason: str, record: str) -> None:
    """Leave an image out of the dataset because of one of its objects; the first reason counts."""
    if not image.left_out:
        image.left_out, image.left_out_for = reason, record


def to_number(value: Any) -> float:
    """A json value as a number, also where it is written as text; NaN if it is none."""
    kind = type(value)  # exact types: isinstance takes twice as long, and a bool is an int
    if kind is float:
        return value
    if kind is not str and kind is not int:
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def to_numbers(source: Any, keys: Collection[Any]) -> tuple[float, ...] | None:
    """The numbers of a dict or list at some keys; None if one is missing or not finite, or a list has more."""
    if isinstance(source, list | tuple) and len(source) > len(keys):
        return None
    try:
        numbers = tuple([to_number(source[key]) for key in keys])
    except (KeyError, IndexError, TypeError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def from_xywh(numbers: Sequence[float] | None) -> Corners | None:
    """xyxy of left, top, width, height."""
    if numbers is None:
        return None
    x, y, width, height = numbers
    return x, y, x + width, y + height


def to_class(value: Any) -> str:
    """A class as a file states it, text or number; "" if there is none."""
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def describe_type(value: Any) -> str:
    """The type of a json value, for messages."""
    kinds = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), "a number")


def quote(values: Iterable[str], most: int = 10) -> str:
    """Some names, for messages."""
    values = list(values)
    more = f" and {pluralize(len(values) - most, 'other')}" if len(values) > most else ""
    return ", ".join(repr(one_line(value, max_length=60)) for value in values[:most]) + more

"""Tables whose cells hold several numbers, as in Kaggle's competitions: a row for each object is made of them.

``bbox`` has four numbers, ``annotations`` or ``boxes`` a list of objects of the image, and ``PredictionString``
groups ``class confidence xmin ymin xmax ymax`` or ``confidence x y width height``.

Four numbers are x, y, width, height, or two corners. The name of the column decides where it says so (``bbox_xywh``,
``bbox_xyxy``); else the reading with which 99 of 100 boxes are inside their images and not inverted, while at least
one in 10 is not with the other reading. If that decides nothing, the table is refused.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from gfocal.errors import DataError
from gfocal.text import one_line

Order = Literal["xywh", "xyxy"]
Size = tuple[int, int] | None  # height, width
ORDER_FITS = "four numbers of a box are read in the only order in which the boxes fit their images"
ONE_CLASS = "object"

# Names of classes that mean that nothing is there.
NOTHING = frozenset(
    ("none", "empty", "background", "nofinding", "normal", "negative", "noobject", "nothing", "blank")
)
_BBOX = {"bbox": None, "box": None, "boundingbox": None, "bboxxywh": "xywh", "xywh": "xywh", "boxxywh": "xywh"}
_BBOX |= {"bboxxyxy": "xyxy", "xyxy": "xyxy", "boxxyxy": "xyxy"}
_OBJECTS = ("annotations", "annotation", "objects", "boxes", "bboxes")
_STRINGS = ("predictionstring",)
_MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>"))
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LIST = re.compile(r"[\s\[\](){},;+\-.\deE]*")  # the characters of lists of numbers
_MOST_CHARACTERS = 1_000_000  # of a cell
_WITH_CLASS, _WITHOUT_CLASS = 6, 5  # words of an object in a PredictionString
_TOLERANCE = 1.0  # pixels by which a box may exceed its image
_FEW, _MANY = 0.01, 0.1  # fractions of the boxes that do not fit in the order that is taken, and in the other one
_MOST_OPENED = 2000  # images whose sizes are read for that


@dataclass(frozen=True)
class ListColumn:
    """A column with several numbers in a cell."""

    index: int
    kind: Literal["bbox", "objects", "string"]
    order: Order | None = None  # as the header says


@dataclass
class ListedObject:
    """One object of a cell: its four numbers, None if they cannot be read."""

    numbers: tuple[float, float, float, float] | None
    name: str = ""  # of the class, where the cell states it
    order: Order | None = None  # as the cell states it


@dataclass
class ListedImage:
    """The objects of one cell, and what decides how their numbers are read."""

    file: str
    size: Size
    objects: list[ListedObject] = field(default_factory=list)


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip().lower() in _MISSING


def is_nothing(name: str) -> bool:
    """Whether the name of a class says that nothing is there."""
    return re.sub("[^a-z]", "", name.lower()) in NOTHING


def find_list_column(words: Sequence[str], label: int | None, rows: Sequence[Sequence[str]]) -> ListColumn | None:
    """The column of lists in a header, given as letters and digits alone; ``label`` is the column of classes."""
    for word in _STRINGS:
        if word in words:
            return ListColumn(words.index(word), "string")
    cells = [row[label].strip() for row in rows if label is not None and len(row) > label]
    strings = [cell for cell in cells if len(cell.split()) >= _WITH_CLASS and _split_string(cell) is not None]
    if label is not None and strings and len(strings) == sum(not is_missing(cell) for cell in cells):
        return ListColumn(label, "string")  # the column of classes holds boxes too
    for place, word in enumerate(words):
        if word in _BBOX:
            order = _BBOX[word]
            return ListColumn(place, "bbox", "xywh" if order == "xywh" else "xyxy" if order == "xyxy" else None)
    return next((ListColumn(words.index(word), "objects") for word in _OBJECTS if word in words), None)


def parse_cell(text: str, column: ListColumn, keys: Mapping[str, Sequence[str]]) -> list[ListedObject]:
    """The objects in a cell; ``keys`` are the spellings of columns, for objects with keys."""
    if is_missing(text):
        return []
    if column.kind == "bbox":
        return [ListedObject(_four_numbers(text), order=column.order)]
    if column.kind == "string":
        return _split_string(text) or [ListedObject(None)]
    return [_parse_object(one, keys) for one in _parse_list(text)]


def _four_numbers(text: str) -> tuple[float, float, float, float] | None:
    """The numbers of ``[1, 2, 3, 4]``, ``1 2 3 4``, ``(1.0, 2, 3, 4)``; None for any other text."""
    if "_" not in text:  # what float reads, and is no number here
        try:
            a, b, c, d = map(float, text.strip("[]() ").split(","))  # three times faster than the expressions below
        except ValueError:
            pass
        else:
            if math.isfinite(a + b + c + d):
                return a, b, c, d
    numbers = [float(word) for word in _NUMBER.findall(text)] if _LIST.fullmatch(text[:_MOST_CHARACTERS]) else []
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _split_string(text: str) -> list[ListedObject] | None:
    """The objects of a PredictionString; None if it is none, or groups of 5 and of 6 words both fit."""
    words = text.split()
    found = [
        objects
        for size in (_WITH_CLASS, _WITHOUT_CLASS)
        if len(words) % size == 0 and (objects := _groups(words, size)) is not None
    ]
    return found[0] if len(found) == 1 else None


def _groups(words: Sequence[str], size: int) -> list[ListedObject] | None:
    objects = []
    for start in range(0, len(words), size):
        name = words[start] if size == _WITH_CLASS else ""
        try:
            confidence, a, b, c, d = map(float, words[start + size - 5 : start + size])
        except ValueError:
            return None
        if not 0 <= confidence <= 1:
            return None
        objects.append(ListedObject((a, b, c, d), name, "xyxy" if size == _WITH_CLASS else "xywh"))
    if len(objects) == 1 and objects[0].numbers == (0, 0, 1, 1) and size == _WITH_CLASS:
        name = objects[0].name
        return [] if is_nothing(name) or name.isdecimal() else objects  # "14 1 0 0 1 1" says that nothing was found
    return objects


def _parse_list(text: str) -> list[Any]:
    """The list in a cell, as json or as Python writes it; a list of one that is no object if it cannot be read."""
    if len(text) > _MOST_CHARACTERS:
        return [None]
    as_json = text if '"' in text else text.replace("'", '"')  # much faster than the literals of Python
    for parse, form in ((json.loads, as_json), (ast.literal_eval, text)):  # literal_eval runs nothing
        try:
            value = parse(form)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple):
            is_one_box = len(value) == 4 and all(isinstance(one, int | float) for one in value)
            return [value] if is_one_box else list(value)
        return [value] if isinstance(value, dict) else [None]
    return [None]


def _parse_object(one: Any, keys: Mapping[str, Sequence[str]]) -> ListedObject:
    if isinstance(one, list | tuple) and len(one) == 4 and all(map(_is_number, one)):
        a, b, c, d = map(float, one)
        return ListedObject((a, b, c, d))
    if not isinstance(one, dict):
        return ListedObject(None)
    words = {_to_word(str(key)): value for key, value in one.items()}
    values: dict[str, Any] = dict.fromkeys(keys)
    for what in keys:
        for word in keys[what]:
            if word in words:
                values[what] = words[word]
                break
    values["w"] = values["width"] if values["w"] is None else values["w"]
    values["h"] = values["height"] if values["h"] is None else values["h"]
    name = values["class"]
    name = str(name).strip() if isinstance(name, str | int) and not isinstance(name, bool) else ""
    orders: tuple[tuple[tuple[str, ...], Order], ...] = (
        (("x1", "y1", "x2", "y2"), "xyxy"),
        (("x", "y", "w", "h"), "xywh"),
        (("x1", "y1", "w", "h"), "xywh"),
    )
    for sides, order in orders:
        numbers = [float(value) for side in sides if _is_number(value := values[side]) and value is not None]
        if len(numbers) == len(sides):
            a, b, c, d = numbers
            return ListedObject((a, b, c, d), name, order)
    inner = next((words[word] for word in _BBOX if word in words), None)
    return ListedObject(_parse_object(inner, keys).numbers, name) if isinstance(inner, list) else ListedObject(None)


@lru_cache(1000)
def _to_word(key: str) -> str:
    return re.sub("[^a-z0-9]", "", key.lower())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def choose_order(
    images: Sequence[ListedImage], find_size: Callable[[str], Size], where: str
) -> tuple[Order | None, bool]:
    """The order of the four numbers of all boxes whose order is not stated, and whether it was concluded.

    ``find_size`` reads the size of an image that the table does not state. Raises DataError, which names both
    readings, if both fit, or neither.
    """
    boxes = [(image, one.numbers) for image in images for one in image.objects if one.order is None and one.numbers]
    if not boxes:
        return None, False
    numbers = [value for _, box in boxes for value in box]
    relative = all(0 <= value <= 1 for value in numbers) and any(0 < value < 1 for value in numbers)
    unknown = list(dict.fromkeys(image.file for image, _ in boxes if image.size is None))
    found = {} if relative else {name: find_size(name) for name in unknown[:_MOST_OPENED]}
    misfits = {
        order: _misfits(boxes, order, lambda image: (1, 1) if relative else image.size or found.get(image.file))
        for order in _ORDERS
    }
    for order, other in (_ORDERS, _ORDERS[::-1]):
        if misfits[order] <= _FEW * len(boxes) and misfits[other] >= _MANY * len(boxes):
            return order, True
    example = one_line(", ".join(f"{value:g}" for value in boxes[0][1]))
    raise DataError(
        f"{where}: four numbers such as {example} may be x, y, width, height or xmin, ymin, xmax, ymax: of "
        f"{len(boxes)} boxes {misfits['xywh']} do not fit their images as the former, and {misfits['xyxy']} as the "
        "latter; name the column bbox_xywh or bbox_xyxy"
    )


_ORDERS: tuple[Order, Order] = ("xywh", "xyxy")


def _misfits(
    boxes: Sequence[tuple[ListedImage, tuple[float, float, float, float]]],
    order: Order,
    size_of: Callable[[ListedImage], Size],
) -> int:
    """How many boxes have no area, or are outside their images, if their numbers are in an order."""
    count = 0
    for image, (a, b, c, d) in boxes:
        x2, y2 = (a + c, b + d) if order == "xywh" else (c, d)
        height, width = size_of(image) or (math.inf, math.inf)
        tolerance = _TOLERANCE if max(height, width) > 1 else 1e-3
        count += not (a < x2 <= width + tolerance and b < y2 <= height + tolerance)
    return count


def to_corners(one: ListedObject, order: Order | None) -> Iterator[str]:
    """The corners of an object as cells; question marks if its numbers cannot be read."""
    if one.numbers is None:
        yield from "????"
        return
    a, b, c, d = one.numbers
    yield from map(repr, (a, b, a + c, b + d) if (one.order or order) == "xywh" else (a, b, c, d))

"""One Pascal VOC xml file: its image, its objects with their boxes and flags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gfocal.data.dataset import Problem
from gfocal.data.outlines import OUTLINE, ROTATED, Corners, hull, hull_of_rotated
from gfocal.data.readers.fields import read_flag
from gfocal.data.validation import BROKEN_XML, NOT_VOC

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IGNORING = ("difficult", "iscrowd", "is_crowd", "crowd", "ignore", "ignored")  # elements or attributes of objects
_EXACT = Context(prec=120)  # digits, enough for any float32 plus 1
_CHALLENGE = ("the voc20", "pascal voc20")  # the VOC challenge's own files, in <database> and <annotation>


@dataclass(frozen=True)
class VocObject:
    """One object of a file."""

    box: Corners | None  # xyxy, None if it cannot be read
    name: str  # of the class, "" if there is none
    ignored: bool
    record: str  # which object of the file, for problems
    area: float  # NaN if not stated


@dataclass
class VocContent:
    """The content of one xml file."""

    filename: str = ""
    stated_size: tuple[int, int] | None = None
    objects: list[VocObject] = field(default_factory=list)
    problem: Problem | None = None  # the file cannot be used
    notes: list[Problem] = field(default_factory=list)
    is_challenge: bool = False  # written by the VOC challenge, whose corners count from 1

    @property
    def names(self) -> list[str]:
        """The classes of the objects."""
        return [one.name for one in self.objects if one.name]


def parse_voc_xml(file: Path, one_based: bool = False) -> VocContent:
    """The content of a file. With ``one_based`` corners are indices of the first and last pixels, counted from 1."""
    from defusedxml.ElementTree import parse

    try:
        root = parse(file).getroot()
    except (ValueError, SyntaxError, OSError, LookupError) as error:  # defusedxml raises ValueError for entities
        return VocContent(problem=Problem(str(file), " ".join(str(error).split())[:200], BROKEN_XML, "dropped"))
    assert root is not None, "parse returns a tree or raises"
    if root.tag != "annotation":
        return VocContent(problem=Problem(str(file), f"root <{root.tag}>", NOT_VOC, "dropped"))
    size = _numbers(root.find("size"), ("height", "width"))
    content = VocContent((root.findtext("filename") or "").strip())
    if size is not None and all(map(math.isfinite, size)):
        content.stated_size = (int(size[0]), int(size[1]))
    sources = [_text(root, f"source/{tag}").lower() for tag in ("database", "annotation")]
    content.is_challenge = any(source.startswith(_CHALLENGE) for source in sources)
    for number, entry in enumerate(root.findall("object"), 1):
        name = _text(entry, "name")
        record = f"object {number} ({name or 'no name'})"
        box, reason = _box(entry, one_based)
        if reason:
            content.notes.append(Problem(str(file), record, reason, "kept"))
        (area,) = _numbers(entry, ("area",)) or (math.nan,)
        area = area if math.isfinite(area) and area > 0 else math.nan
        content.objects.append(VocObject(box, name, _is_ignored(entry), record, area))
    return content


def _box(entry: Any, one_based: bool) -> tuple[Corners | None, str]:
    """The box of an object, and the reason of a note if it is that around something else."""
    box = _corners(entry.find("bndbox"), one_based)
    if box is not None:
        degrees = _number(_attribute(entry, "rotation"))
        turned = degrees is not None and math.isfinite(degrees) and degrees % 180 != 0
        return (hull_of_rotated(box, degrees), ROTATED) if turned and degrees is not None else (box, "")
    rotated = _numbers(entry.find("robndbox"), ("cx", "cy", "w", "h", "angle"))  # of roLabelImg, in radians
    if rotated is not None and entry.find("bndbox") is None:
        cx, cy, width, height, angle = rotated
        upright = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        return hull_of_rotated(upright, math.degrees(angle)), ROTATED
    points = list(_points(entry.find("polygon")))
    return (hull(points), OUTLINE) if len(points) > 1 and entry.find("bndbox") is None else (None, "")


def _corners(element: Any, one_based: bool) -> Corners | None:
    numbers = _numbers(element, _CORNERS)
    if numbers is None:
        return None
    x1, y1, x2, y2 = numbers
    if one_based:
        x1, y1 = (_less_one(element.findtext(tag)) for tag in _CORNERS[:2])
    return x1, y1, x2, y2


def _less_one(text: str) -> float:
    """A number minus 1, rounded once: what a writer added is removed exactly."""
    try:
        return float(_EXACT.subtract(Decimal(text.strip()), Decimal(1)))
    except InvalidOperation:
        return float(text) - 1


def _points(polygon: Any) -> Iterator[tuple[float, float]]:
    """The points of a polygon: <pt><x/><y/></pt> and <point> of LabelMe, <x1/><y1/><x2/>... of Roboflow."""
    if polygon is None:
        return
    pairs = [_numbers(point, ("x", "y")) for point in (*polygon.findall("pt"), *polygon.findall("point"))]
    number = 1
    while not polygon.findall("pt") and polygon.find(f"x{number}") is not None:
        pairs.append(_numbers(polygon, (f"x{number}", f"y{number}")))
        number += 1
    for pair in pairs:
        yield (pair[0], pair[1]) if pair is not None else (math.nan, math.nan)


def _is_ignored(entry: Any) -> bool:
    texts = [_text(entry, tag) for tag in _IGNORING]
    texts += [_attribute(entry, name) for name in _IGNORING]
    return any(read_flag(text) for text in texts)


def _attribute(entry: Any, name: str) -> str:
    """The value of one of the <attributes> of CVAT and datumaro."""
    for attribute in entry.findall("attributes/attribute"):
        if _text(attribute, "name").lower() == name:
            return _text(attribute, "value")
    return ""


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(element: Any, tags: Sequence[str]) -> tuple[float, ...] | None:
    """The numbers in the children of an element, or None if one is missing."""
    try:
        return tuple(float(element.findtext(tag)) for tag in tags)
    except (AttributeError, TypeError, ValueError):
        return None

"""One Pascal VOC xml file: its image, its objects with their boxes and flags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gfocal.data.dataset import Problem
from gfocal.data.outlines import NO_ROTATION, OUTLINE, ROTATED, Corners, hull, hull_of_rotated
from gfocal.data.readers.fields import FLAG, read_flag
from gfocal.data.readers.xml_files import parse_xml
from gfocal.data.validation import BROKEN_XML, NOT_VOC

BOX_ELSEWHERE = "xml has boxes outside of <object>, which are not understood"
SEVERAL_BOXES = "object with several boxes: the first is used"

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
    try:
        root = parse_xml(file)
    except ValueError as error:
        return VocContent(problem=Problem(str(file), str(error), BROKEN_XML, "dropped"))
    if root.tag != "annotation":
        return VocContent(problem=Problem(str(file), f"root <{root.tag}>", NOT_VOC, "dropped"))
    for element in root:
        if element.tag != "object" and len(element) and next(element.iter("bndbox"), None) is not None:
            return VocContent(problem=Problem(str(file), f"<{element.tag}>", BOX_ELSEWHERE, "dropped"))
    size = _numbers(root.find("size"), ("height", "width"))
    content = VocContent((root.findtext("filename") or "").strip())
    if size is not None and all(map(math.isfinite, size)):
        content.stated_size = (int(size[0]), int(size[1]))
    sources = [_text(root, f"source/{tag}").lower() for tag in ("database", "annotation")]
    content.is_challenge = any(source.startswith(_CHALLENGE) for source in sources)
    for number, entry in enumerate(root.findall("object"), 1):
        content.objects.append(_object(entry, number, one_based, str(file), content.notes))
    return content


def _object(entry: Any, number: int, one_based: bool, file: str, notes: list[Problem]) -> VocObject:
    children = {child.tag: child for child in reversed(entry)}  # the first of each name
    name = (children["name"].text or "").strip() if "name" in children else ""
    record = f"object {number} ({name or 'no name'})"
    attributes = _attributes(entry) if "attributes" in children else {}
    box, reasons = _box(children, attributes, one_based)
    if len(children) < len(entry) and len(entry.findall("bndbox")) > 1:
        reasons.append(SEVERAL_BOXES)
    flags = [(tag, children[tag].text) for tag in _IGNORING if tag in children]
    flags += [(tag, attributes[tag]) for tag in _IGNORING if tag in attributes]
    notes += [Problem(file, record, reason, "kept") for reason in reasons]
    ignored = False
    for tag, text in flags:
        value = read_flag(text)
        ignored = ignored or value is True
        if value is None:
            notes.append(Problem(file, f"{record}: {tag} {text!r:.80}", FLAG, "kept"))
    area = _number(children["area"].text or "") if "area" in children else None
    area = area if area is not None and math.isfinite(area) and area > 0 else math.nan
    return VocObject(box, name, ignored, record, area)


def _box(
    children: Mapping[str, Any], attributes: Mapping[str, str], one_based: bool
) -> tuple[Corners | None, list[str]]:
    """The box of an object, and the reason of a note if it is that around something else."""
    box = _corners(children.get("bndbox"), one_based)
    if box is not None:
        stated = attributes.get("rotation", "")
        degrees = _number(stated)
        if degrees is None or not math.isfinite(degrees):
            return box, [NO_ROTATION] * bool(stated)
        return (hull_of_rotated(box, degrees), [ROTATED]) if degrees % 180 else (box, [])
    if "bndbox" in children:
        return None, []
    rotated = _numbers(children.get("robndbox"), ("cx", "cy", "w", "h", "angle"))  # of roLabelImg, in radians
    if rotated is not None:
        cx, cy, width, height, angle = rotated
        upright = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        return hull_of_rotated(upright, math.degrees(angle)), [ROTATED]
    points = list(_points(children.get("polygon")))
    return (hull(points), [OUTLINE]) if len(points) > 1 else (None, [])


def _corners(element: Any, one_based: bool) -> Corners | None:
    sides = {child.tag: child.text for child in reversed(element)} if element is not None else {}
    try:
        x1, y1, x2, y2 = [float(sides[tag]) for tag in _CORNERS]
    except (KeyError, TypeError, ValueError):
        return None
    if one_based:
        x1, y1 = (_less_one(sides[tag]) for tag in _CORNERS[:2])
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


def _attributes(entry: Any) -> dict[str, str]:
    """Name, in lower case, and value of the <attributes> of CVAT and datumaro; of one that is repeated the first."""
    pairs = [(_text(one, "name").lower(), _text(one, "value")) for one in entry.findall("attributes/attribute")]
    return dict(reversed(pairs))


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

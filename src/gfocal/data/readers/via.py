"""Reader of VIA, the VGG Image Annotator 1.x and 2.x: project json, annotation json and csv.

VIA has no field for the class: it is one of the attributes that the user defined for regions. The only one that is
used is taken; of several, the one with a common name (``CLASS_ATTRIBUTES``); otherwise ``"class_attribute": "NAME"``
in gfocal.json, in the folder of the dataset, chooses. A value is the identifier of an option; its description, where
there is one, is the name of the class, as in VIA's own export to COCO.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfocal.data.annotated import AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.outlines import OUTLINE, Corners, hull, hull_of_ellipse
from gfocal.data.readers.json_files import SplitFile, find_by_split, read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    BROKEN_IMAGE,
    Reading,
    describe_type,
    from_xywh,
    leave_out,
    quote,
    to_class,
    to_number,
    to_numbers,
)
from gfocal.data.readers.unboxed import Unboxed
from gfocal.data.sidecar import SIDECAR, read_sidecar
from gfocal.errors import DataError

CLASS_ATTRIBUTES = ("class", "label", "category", "class_name", "name", "object", "type", "species")
CHOSEN = "region attribute that is read as the class"
SEVERAL_CLASSES = "image has an object of several classes: neither ground truth nor background"
ROWS_MISSING = "image has fewer regions in the file than it states: neither ground truth nor background"

_CSV_COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def _is_via(ends: bytes) -> bool:
    if ends.lstrip(b"#").startswith(b"filename,file_size,file_attributes,region_count"):
        return True
    project = re.search(rb'"_via_img_metadata"\s*:\s*\{', ends)
    image = all(re.search(rb'"%s"\s*:' % key, ends) for key in (b"filename", b"size", b"regions"))
    return bool(ends.lstrip().startswith(b"{") and (project or image))


def _find(path: Path) -> Mapping[str, SplitFile] | None:
    """The json files, project files before others; only where there is none, the csv files."""
    for suffix in (".json", ".csv"):
        found = find_by_split(path, lambda ends: b"_via_img_metadata" in ends and _is_via(ends), suffixes=(suffix,))
        found = found or find_by_split(path, _is_via, suffixes=(suffix,))
        if found:
            return found
    return None


@dataclass
class _Entry:
    """One image of a file."""

    name: str
    regions: list[Any]
    record: str
    stated: int | None = None  # number of regions that the file says there are


@dataclass
class _Content:
    entries: list[_Entry]
    options: dict[str, dict[str, str]] = field(default_factory=dict)  # attribute -> identifier -> description
    problems: list[Problem] = field(default_factory=list)


def _parse(source: SplitFile) -> Parsed:
    file = source.file
    content = _read_csv(file) if file.suffix.lower() == ".csv" else _read_json(file)
    reading = Reading(str(file), problems=content.problems)
    attribute = _choose_attribute(content, source, reading)
    names = _name_options(content.options.get(attribute, {}))
    unboxed = Unboxed()
    for entry in content.entries:
        image = AnnotatedImage(entry.name, str(file), folders=source.folders)
        reading.images.append(image)
        if entry.stated is not None and entry.stated > len(entry.regions):
            leave_out(image, ROWS_MISSING, f"{len(entry.regions)} of {entry.stated} regions")
        for number, region in enumerate(entry.regions):
            _add_region(reading, unboxed, image, region, attribute, names, f"region {number}")
    unboxed.leave_out_images(reading)
    reading.note_empty_images()
    ids = {name: int(key) for key, name in names.items() if re.fullmatch("[0-9]{1,9}", key)}
    return reading.parsed(list(names.values()) or None, ids if len(ids) == len(names) else None)


def _add_region(
    reading: Reading,
    unboxed: Unboxed,
    image: AnnotatedImage,
    region: Any,
    attribute: str,
    names: Mapping[str, str],
    record: str,
) -> None:
    if not isinstance(region, dict):
        leave_out(image, BROKEN_BOX, record)
        return
    shape, attributes = region.get("shape_attributes"), region.get("region_attributes")
    kind = shape.get("name") if isinstance(shape, dict) else None
    values = _values(attributes.get(attribute) if isinstance(attributes, dict) else None)
    if len(values) > 1:
        leave_out(image, SEVERAL_CLASSES, f"{record}: {quote(values)}")
        return
    name = names.get(values[0], values[0]) if values else ""
    if kind == "point":
        unboxed.add(image, name, f"{record}, a point")
        return
    box = _box(shape)
    if box is not None and kind != "rect":
        reading.note(OUTLINE, str(kind))
    reading.add(image, box, name, f"{record}, {kind}", reading.is_ignored(attributes, f"{image.name}, {record}"))


def _box(shape: Any) -> Corners | None:
    """xyxy of a region; None where its shape is not known or lacks numbers."""
    if not isinstance(shape, dict):
        return None
    kind = shape.get("name")
    if kind == "rect":
        return from_xywh(to_numbers(shape, ("x", "y", "width", "height")))
    if kind == "circle" and (numbers := to_numbers(shape, ("cx", "cy", "r"))):
        return hull_of_ellipse((numbers[0], numbers[1]), (numbers[2], numbers[2]))
    if kind == "ellipse" and (numbers := to_numbers(shape, ("cx", "cy", "rx", "ry"))):
        radians = to_number(shape.get("theta", 0.0))  # since 2.0.9; all before are upright
        return hull_of_ellipse((numbers[0], numbers[1]), (numbers[2], numbers[3]), math.degrees(radians))
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if kind in ("polygon", "polyline") and isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) > 1:
        return hull(zip(map(to_number, xs), map(to_number, ys), strict=True))
    return None


def _values(value: Any) -> list[str]:
    """The values of an attribute of a region: one of text, dropdown and radio, any number of a checkbox."""
    if isinstance(value, dict):
        return [key for key, chosen in value.items() if chosen is True]
    text = to_class(value)
    return [text] if text and text != "undefined" else []


def _name_options(options: Mapping[str, str]) -> dict[str, str]:
    """Identifier -> class: descriptions where they are all different, else the identifiers."""
    names = {key: text.strip() or key for key, text in options.items()}
    return names if len(set(names.values())) == len(names) else {key: key for key in options}


def _choose_attribute(content: _Content, source: SplitFile, reading: Reading) -> str:
    """The region attribute that is the class. Raises DataError, which lists them, where that is not clear."""
    counts: Counter[str] = Counter()
    for entry in content.entries:
        for region in entry.regions:
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            if isinstance(attributes, dict):
                counts.update(key for key, value in attributes.items() if _values(value))
    wanted = read_sidecar(source.root).class_attribute
    listed = quote(f"{name} ({count:,} regions)" for name, count in counts.most_common())
    if wanted is not None:
        if wanted not in {*counts, *content.options}:
            raise DataError(
                f"{source.root / SIDECAR}: class_attribute {wanted!r}: no region of {source.file} has it; "
                f"there are: {listed or 'none'}"
            )
        return wanted
    known = [name for name in counts if name.lower() in CLASS_ATTRIBUTES]
    if len(counts) > 1 and len(known) != 1:
        raise DataError(
            f"{source.file}: regions have several attributes, and it is not clear which is the class: {listed}; "
            f'choose one by {{"class_attribute": "NAME"}} in {source.root / SIDECAR}'
        )
    chosen = known[0] if len(known) == 1 else next(iter(counts), "")
    if chosen:
        others = f"; not: {quote(name for name in counts if name != chosen)}" if len(counts) > 1 else ""
        reading.problems.append(Problem(str(source.file), f"{chosen!r}{others}", CHOSEN, "kept"))
    return chosen


def _read_json(file: Path) -> _Content:
    content = read_json(file)
    if isinstance(content, dict) and {"project", "config", "attribute", "file", "metadata"} <= set(content):
        raise DataError(f"{file}: a project of VIA 3, which is not read; VIA 1 and 2 are, and COCO")
    project = content if isinstance(content, dict) and "_via_img_metadata" in content else {}
    images = project.get("_via_img_metadata") if project else content
    if not isinstance(images, dict):
        raise DataError(f"{file}: not a VIA file: images must be an object, not {describe_type(images)}")
    found = _Content([], _options(project.get("_via_attributes")))
    for key, entry in images.items():
        regions = entry.get("regions") if isinstance(entry, dict) else None
        if isinstance(regions, dict):  # VIA 1.x
            regions = list(regions.values())
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or not isinstance(regions, list):
            found.problems.append(Problem(str(file), f"image {key!r}", BROKEN_IMAGE, "dropped"))
            continue
        found.entries.append(_Entry(name, regions, f"image {key!r}"))
    if not found.entries:
        raise DataError(f"{file}: not a VIA file, or one without images: no entry has 'filename' and 'regions'")
    return found


def _options(attributes: Any) -> dict[str, dict[str, str]]:
    """The options of the region attributes that a project defines, in their order."""
    defined = attributes.get("region") if isinstance(attributes, dict) else None
    options: dict[str, dict[str, str]] = {}
    for name, entry in defined.items() if isinstance(defined, dict) else ():
        listed = entry.get("options") if isinstance(entry, dict) else None
        if isinstance(listed, dict):
            options[name] = {key: text if isinstance(text, str) else "" for key, text in listed.items()}
    return options


def _read_csv(file: Path) -> _Content:
    found: dict[tuple[str, str], _Entry] = {}
    for line, row in _rows(file):
        *name, size, _, count, _, shape, attributes = row
        entry = found.setdefault((",".join(name), size), _Entry(",".join(name), [], f"line {line}"))
        try:
            entry.stated = max(int(count), entry.stated or 0)
            shape_attributes, region_attributes = json.loads(shape), json.loads(attributes)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: line {line}: a cell is not json as VIA writes it: {error}") from error
        if shape_attributes != {}:  # the row of an image without regions has an empty one
            entry.regions.append({"shape_attributes": shape_attributes, "region_attributes": region_attributes})
    if not found:
        raise DataError(f"{file}: no rows below the header")
    return _Content(list(found.values()))


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row. A comma in a file name, which VIA does not quote, makes more cells."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream)
            header = [cell.strip().lstrip("#") for cell in next(rows, [])]
            if tuple(header) != _CSV_COLUMNS:
                raise DataError(f"{file}: not a VIA csv: its columns must be {', '.join(_CSV_COLUMNS)}")
            for row in rows:
                if row and len(row) < len(_CSV_COLUMNS):
                    raise DataError(f"{file}: line {rows.line_num}: {len(row)} cells, not {len(_CSV_COLUMNS)}")
                if row:
                    yield rows.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as csv: {error}") from error


VIA = AnnotationFormat(
    title="VIA",
    looked_for="a project or annotation .json of the VGG Image Annotator, or its .csv; or one in <split>/",
    find=_find,
    parse=_parse,
    layout="xywh",
)

"""Writer of Pascal VOC xml: datasets and detections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gfocal.data.dataset import Sample
from gfocal.data.sidecar import ImageExtra, Sidecar
from gfocal.data.writers.decimals import format_decimal
from gfocal.data.writers.placement import Placement, check_names, stated_areas
from gfocal.text import pluralize

IMAGES = "JPEGImages"
_EXACT = Context(prec=120)  # digits, enough for any float32 plus 1


def write_voc(placement: Placement, folder: Path, one_based: bool = False) -> tuple[Sidecar, list[str]]:
    """Write ``Annotations/*.xml``, ``ImageSets/Main/<split>.txt``, and the classes, for images in ``JPEGImages/``.

    Returns what the files cannot store, and notes for the user. Corners are continuous, with the fewest digits that
    keep the float32; ignored regions are ``difficult``; an outline's area is an element ``<area>``. The classes are
    in ``classes.txt`` in their order, and in ``labelmap.txt`` for datumaro and CVAT.

    With ``one_based``, xmin and ymin are one larger, as in the VOC challenge and the tools that follow it: corners
    are indices of the first and last pixels, counted from 1. gfocal.json says so to the reader.
    """
    check_names(placement.names, "VOC xml")
    (folder / "Annotations").mkdir(parents=True)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    extras: dict[str, dict[str, ImageExtra]] = {}
    written: set[str] = set()
    with_decimals = 0
    for part in placement.parts:
        stems = [Path(name).stem for name in part.files]
        (lists / f"{part.split}.txt").write_text("".join(f"{stem}\n" for stem in sorted(stems)), encoding="utf-8")
        places = {stem: number for number, stem in enumerate(sorted(stems, key=lambda s: Path(f"{s}.xml")), 1)}
        extras[part.split] = {}
        if any(sample.image_id != places[stem] for sample, stem in zip(part.data.samples, stems, strict=True)):
            extras[part.split] = {
                stem: ImageExtra(sample.image_id) for sample, stem in zip(part.data.samples, stems, strict=True)
            }
        for sample, name in zip(part.data.samples, part.files, strict=True):
            if name not in written:
                written.add(name)
                with_decimals += int((sample.boxes != sample.boxes.round()).sum())
                text = format_annotation(sample, name, placement.names, one_based)
                (folder / "Annotations" / f"{Path(name).stem}.xml").write_text(text, encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in placement.names), encoding="utf-8")
    ids = placement.category_ids
    is_usual = ids == tuple(range(1, len(ids) + 1))
    notes = _write_labelmap(placement.names, folder)
    if with_decimals:
        notes.append(
            f"{pluralize(with_decimals, 'corner')} with decimals, as in the source; tools that read only integers "
            "must round them"
        )
    names = None if is_usual else placement.names
    return Sidecar(names, None if is_usual else ids, extras, voc_one_based=one_based), notes


def _write_labelmap(names: Sequence[str], folder: Path) -> list[str]:
    """Write ``labelmap.txt``, without which datumaro and CVAT know the 20 classes of the VOC challenge alone."""
    unwritable = [name for name in names if ":" in name or name.startswith("#")]
    if unwritable:
        return [
            "no labelmap.txt, which datumaro and CVAT need: it cannot store the class name "
            f"{unwritable[0]!r}; rename it"
        ]
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:::" for name in names)]
    (folder / "labelmap.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return []


def format_annotation(sample: Sample, filename: str, names: Sequence[str], one_based: bool = False) -> str:
    """The xml file of an image, as text."""
    assert sample.size is not None, "samples of files have a size"
    root = _annotation(filename, sample.size)
    rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
    for box, label, crowd, area in zip(*(row.tolist() for row in rows), strict=True):
        entry = _object(root, names[label], crowd)
        if not math.isnan(area):
            ElementTree.SubElement(entry, "area").text = repr(area)
        corners = [format_decimal(value) for value in box]
        _corners(entry, [*map(_plus_one, corners[:2]), *corners[2:]] if one_based else corners)
    return _to_text(root)


def _plus_one(number: str) -> str:
    """A decimal number plus 1, exactly."""
    return format(_EXACT.add(Decimal(number), Decimal(1)), "f")


def _annotation(filename: str, size: Sequence[int], path: str = "") -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "folder").text = Path(path).parent.name if path else IMAGES
    ElementTree.SubElement(root, "filename").text = filename
    if path:
        ElementTree.SubElement(root, "path").text = path
    element = ElementTree.SubElement(root, "size")
    for tag, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        ElementTree.SubElement(element, tag).text = str(value)
    ElementTree.SubElement(root, "segmented").text = "0"
    return root


def _object(root: ElementTree.Element, name: str, difficult: bool) -> ElementTree.Element:
    entry = ElementTree.SubElement(root, "object")
    tags = {"name": name, "pose": "Unspecified", "truncated": "0", "difficult": str(int(difficult))}
    for tag, text in tags.items():
        ElementTree.SubElement(entry, tag).text = text
    return entry


def _corners(entry: ElementTree.Element, numbers: Sequence[str]) -> None:
    element = ElementTree.SubElement(entry, "bndbox")
    for tag, text in zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True):
        ElementTree.SubElement(element, tag).text = text


def _to_text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def format_voc_xml(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """The xml file of an image's detections, each with a ``<score>``, and ``<edge_std>`` if known.

    ``record`` has ``file``, ``size``, ``labels``, ``boxes`` (xyxy in pixels), ``scores`` and optionally ``edge_std``.
    """
    root = _annotation(
        _replace_unprintable(Path(record["file"]).name), record["size"], _replace_unprintable(record["file"])
    )
    stds = record.get("edge_std") or [None] * len(record["labels"])
    rows = zip(record["labels"], record["boxes"], record["scores"], stds, strict=True)
    for label, box, score, std in rows:
        entry = _object(root, _replace_unprintable(names[label]), False)
        ElementTree.SubElement(entry, "score").text = f"{score:.5f}"
        _corners(entry, [f"{value:.2f}" for value in box])
        if std is not None:
            element = ElementTree.SubElement(entry, "edge_std")
            for tag, value in zip(("left", "top", "right", "bottom"), std, strict=True):
                ElementTree.SubElement(element, tag).text = f"{value:.2f}"
    return _to_text(root)


def _replace_unprintable(text: str) -> str:
    """Text with every character that xml cannot store replaced by a question mark."""
    return "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "?" for c in text)

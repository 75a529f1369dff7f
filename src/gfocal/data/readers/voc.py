"""Reader of Pascal VOC xml: one annotation file per image, in the VOC folders or beside the images."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.images import SUFFIXES
from gfocal.data.locate import ImageLocator
from gfocal.data.paths import (
    class_mismatch,
    find_split_folders,
    list_images,
    pick_split,
    sort_splits,
    split_name,
)
from gfocal.data.readers.xml_files import root_tag
from gfocal.data.sidecar import read_sidecar
from gfocal.data.validation import (
    BROKEN_XML,
    MALFORMED,
    MISSING,
    NO_XML,
    NOT_VOC,
    REPEATED_IMAGE,
    UNKNOWN_CLASS,
    validate_records,
)
from gfocal.errors import DataError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: str | Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read Pascal VOC annotations.

    Two layouts: (a) ``Annotations/`` and ``JPEGImages/`` (or ``images/``), splits as lists of names in
    ``ImageSets/Main/<split>.txt``; (b) xml files beside their images, in ``folder`` or in its subfolders
    train, val, test. Without ``split`` every xml file is read.

    xmin, ymin, xmax, ymax are used unchanged as continuous xyxy: VOC's own are pixel indices that start at 1, most
    tools write edges that start at 0, and a file does not state which; no 1 is subtracted or added. Objects marked
    ``difficult`` get the crowd flag: ignored in training and evaluation.

    Classes are the sorted names in all xml files of the dataset, of every split, so that the labels of all splits
    agree; or those of a ``classes.txt`` in the folder, one per line, in that order; or ``names``, in that order,
    which must contain them. Category ids are 1..C and image ids 1, 2, ... in the order of file names, unless
    ``gfocal.json`` has others. An object's ``<area>``, which few tools write, is that of its outline.

    Problems of single files and boxes are reported in ``problems`` (see ``gfocal.data.validation``). Raises DataError
    if there is no such layout or split, no image is usable, or a class is not among ``names``.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    everything, chosen = _collect(folder, split, problems)
    parsed = {file: _parse(file) for file in everything}
    found = sorted({name for p in parsed.values() for name in p.names})
    if names is not None and not set(found) <= set(names):
        raise class_mismatch(found, names, folder)
    sidecar = read_sidecar(folder)
    names = list(names) if names is not None else _order_classes(found, folder)
    if not names:
        detail = next((f"; the first problem: {p.problem}" for p in parsed.values() if p.problem), "")
        raise DataError(f"{folder}: no objects in {len(parsed)} xml files{detail}")
    labels = {name: label for label, name in enumerate(names)}

    images_by_stem: dict[Path, dict[str, list[Path]]] = {}
    locators: dict[Path, ImageLocator] = {}
    images: list[ImageRecord] = []
    key = split and (split_name(split) or split)
    free = sidecar.free_ids(key)
    for file, image_folder in chosen:
        content = parsed[file]
        if content.problem is not None:
            problems.append(content.problem)
            continue
        if image_folder not in images_by_stem:
            images_by_stem[image_folder] = _group_by_stem(image_folder)
            locators[image_folder] = ImageLocator(folder, [image_folder], split_name(image_folder.name))
        path = _find_image(file, content.filename, locators[image_folder], images_by_stem[image_folder], problems)
        if path is None:
            continue
        extra = sidecar.image(key, file.stem)
        image_id = next(free) if extra.image_id is None else extra.image_id
        image = ImageRecord(str(file), path, image_id, content.stated_size)
        _add_boxes(image, content, labels, problems)
        images.append(image)
    images.sort(key=lambda image: image.image_id)
    ids = dict(zip(sidecar.names or (), sidecar.category_ids or (), strict=False))
    numbers = [ids[name] for name in names] if set(names) <= set(ids) else range(1, len(names) + 1)
    return validate_records(images, names, numbers, problems, where=folder)


def _order_classes(found: list[str], folder: Path) -> list[str]:
    """The classes in classes.txt, which may include some without objects, then the others by name."""
    file = folder / "classes.txt"
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file.is_file() else []
    return list(dict.fromkeys([*filter(None, map(str.strip, lines)), *found]))


def voc_splits(folder: Path) -> list[str]:
    """Names of the splits of a VOC dataset, of either layout; empty if it has none or is not VOC."""
    if _annotation_folder(folder) is not None:
        return sort_splits(_lists(folder))
    return sort_splits(name for name, sub in find_split_folders(folder).items() if _has_voc_xml(_xml_in(sub)))


def is_voc(folder: Path) -> bool:
    """Whether a folder contains VOC xml, in either layout."""
    return bool(_annotation_folder(folder) or _has_voc_xml(_xml_in(folder)) or voc_splits(folder))


def _has_voc_xml(files: Sequence[Path]) -> bool:
    """Whether one of some xml files is an annotation: other tools leave xml of their own beside images."""
    return any(root_tag(file) in ("annotation", None) for file in files)


def _xml_in(folder: Path) -> list[Path]:
    files = (f for f in folder.iterdir() if f.suffix.lower() == ".xml" and not f.name.startswith("."))
    return sorted(f for f in files if f.is_file())  # no pipes


def _annotation_folder(folder: Path) -> Path | None:
    places = (folder / "Annotations", folder / "annotations")
    return next((place for place in places if place.is_dir() and _has_voc_xml(_xml_in(place))), None)


def _lists(folder: Path) -> dict[str, Path]:
    """Split -> its list, without the VOC challenge's lists per class (dog_train.txt)."""
    files = sorted((f for f in (folder / "ImageSets" / "Main").glob("*.txt") if f.is_file()), reverse=True)
    complete = [f for f in files if "_" not in f.stem or split_name(f.stem.rsplit("_", 1)[1]) is None]
    return {split_name(f.stem) or f.stem: f for f in complete if not f.stem.endswith("_trainval")}


def _collect(folder: Path, split: str | None, problems: list[Problem]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """All xml files of the dataset, and those of the split, each with the folder of its image."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    home = _annotation_folder(folder)
    if home is not None:
        files = _xml_in(home)
        places = [folder / name for name in ("JPEGImages", "images", "Images")]
        place = next((p for p in places if p.is_dir()), home)
        if split is None:
            _report_images_without_xml(files, place, problems)
            return files, [(file, place) for file in files]
        return files, [(file, place) for file in _listed(files, pick_split(_lists(folder), split, folder), problems)]
    if _has_voc_xml(files := _xml_in(folder)):
        if split is not None and split_name(split) != split_name(folder.absolute().name):
            raise DataError(f"{folder}: no split {split!r}: the xml files are beside the images, without splits")
        _report_images_without_xml(files, folder, problems)
        home = folder.absolute()
        siblings = find_split_folders(home.parent) if split_name(home.name) else {}
        others = [s for s in siblings.values() if s != home]
        return files + [f for s in others for f in _xml_in(s)], [(file, folder) for file in files]
    folders = {name: sub for name, sub in find_split_folders(folder).items() if _has_voc_xml(_xml_in(sub))}
    if not folders:
        raise DataError(f"{folder}: no xml files here, in Annotations/, nor in subfolders train/, val/, test/")
    chosen = list(folders.values()) if split is None else [pick_split(folders, split, folder)]
    for sub in chosen:
        _report_images_without_xml(_xml_in(sub), sub, problems)
    return (
        [f for sub in folders.values() for f in _xml_in(sub)],
        [(f, sub) for sub in chosen for f in _xml_in(sub)],
    )


def _listed(files: list[Path], names_file: Path, problems: list[Problem]) -> list[Path]:
    """The xml files in a split's list, by file name with or without suffix."""
    by_stem = {file.stem: file for file in files}
    endings = re.compile("|".join(map(re.escape, (*SUFFIXES, ".xml"))) + "$", re.IGNORECASE)
    chosen: set[Path] = set()
    text = names_file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        words = [line, *line.split()[:1]]  # "a", "a 1" of the lists per class, "a.jpg"
        file = next((by_stem[w] for w in (*words, *(endings.sub("", w) for w in words)) if w in by_stem), None)
        record = f"line {number}: {line}"
        if file is None and line:
            problems.append(Problem(str(names_file), record, "no xml file of this name", "dropped"))
        elif file in chosen:
            problems.append(Problem(str(names_file), record, REPEATED_IMAGE, "dropped"))
        elif file is not None:
            chosen.add(file)
    return sorted(chosen)


def _group_by_stem(folder: Path) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    for path in list_images(folder):
        stems.setdefault(path.stem, []).append(path)
    return stems


def _report_images_without_xml(files: list[Path], folder: Path, problems: list[Problem]) -> None:
    """Images without xml are left out with a problem: they may have no objects or may not be annotated yet."""
    stems = {file.stem for file in files}
    for path in list_images(folder):
        if path.stem not in stems:
            problems.append(Problem(str(path), "whole image", NO_XML, "dropped"))


def _find_image(
    file: Path, stated: str, locator: ImageLocator, by_stem: dict[str, list[Path]], problems: list[Problem]
) -> Path | None:
    """The image of an xml file: with the same stem, else with the file name in the xml."""
    same = by_stem.get(file.stem, [])
    if same:
        return next((path for path in same if path.name == stated), same[0])
    if not stated:
        problems.append(Problem(str(file), str(locator.bases[0] / file.stem), MISSING, "dropped"))
        return None
    path = locator.take(locator.locate(stated), str(file), f"filename {stated}", problems)
    if path is not None and not os.path.isfile(path):
        problems.append(Problem(str(file), str(path), MISSING, "dropped"))
        return None
    return path


_Object = tuple[tuple[float, ...] | None, str, bool, str, float]  # box, class, difficult, record, area


@dataclass
class _Content:
    """The content of one xml file."""

    filename: str
    stated_size: tuple[int, int] | None
    objects: list[_Object]
    problem: Problem | None = None

    @property
    def names(self) -> list[str]:
        return [name for _, name, *_ in self.objects if name]


def _parse(file: Path) -> _Content:
    from defusedxml.ElementTree import parse

    try:
        root = parse(file).getroot()
    except (ValueError, SyntaxError, OSError, LookupError) as error:  # defusedxml raises ValueError for entities
        broken = Problem(str(file), " ".join(str(error).split())[:200], BROKEN_XML, "dropped")
        return _Content("", None, [], broken)
    assert root is not None, "parse returns a tree or raises"
    if root.tag != "annotation":
        other = Problem(str(file), f"root <{root.tag}>", NOT_VOC, "dropped")
        return _Content("", None, [], other)
    size = _numbers(root.find("size"), ("height", "width"))
    stated = (int(size[0]), int(size[1])) if size is not None and all(map(math.isfinite, size)) else None
    objects: list[_Object] = []
    for number, entry in enumerate(root.findall("object"), 1):
        name = (entry.findtext("name") or "").strip()
        box = _numbers(entry.find("bndbox"), _CORNERS)
        difficult = (entry.findtext("difficult") or "").strip().lower() in ("1", "true")
        (area,) = _numbers(entry, ("area",)) or (math.nan,)
        area = area if math.isfinite(area) and area > 0 else math.nan
        objects.append((box, name, difficult, f"object {number} ({name or 'no name'})", area))
    return _Content((root.findtext("filename") or "").strip(), stated, objects)


def _add_boxes(image: ImageRecord, content: _Content, labels: Mapping[str, int], problems: list[Problem]) -> None:
    for box, name, difficult, record, area in content.objects:
        if not name:
            problems.append(Problem(image.file, record, UNKNOWN_CLASS, "dropped"))
        elif box is None:
            problems.append(Problem(image.file, record, MALFORMED, "dropped"))
        else:
            image.add(box, labels[name], difficult, record, area)


def _numbers(element: Any, tags: Sequence[str]) -> tuple[float, ...] | None:
    """The numbers in the children of an element, or None if one is missing."""
    try:
        return tuple(float(element.findtext(tag)) for tag in tags)
    except (AttributeError, TypeError, ValueError):
        return None

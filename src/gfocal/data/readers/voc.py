"""Reader of Pascal VOC xml: one annotation file per image, in the VOC folders or beside the images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gfocal.data.dataset import FileData, Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.locate import SAME_IMAGE, ImageLocator
from gfocal.data.paths import class_mismatch, split_name
from gfocal.data.readers.voc_files import Layout, VocFiles, collect, has_voc_files, list_voc_splits
from gfocal.data.readers.voc_xml import VocContent, parse_voc_xml
from gfocal.data.sidecar import read_sidecar
from gfocal.data.validation import MALFORMED, MISSING, NO_XML, UNKNOWN_CLASS, validate_records
from gfocal.errors import DataError

COUNTED_FROM_1 = (
    "file of the VOC challenge, whose corners count from 1, read as if from 0: boxes are a pixel too narrow; write "
    '{"voc_one_based": true} to gfocal.json in the folder'
)

voc_splits = list_voc_splits
is_voc = has_voc_files


def read_voc(
    folder: str | Path,
    split: str | None = None,
    names: Sequence[str] | None = None,
    one_based: bool | None = None,
) -> FileData:
    """Read Pascal VOC annotations.

    Layouts: (a) ``Annotations/`` and ``JPEGImages/``, or ``labels/`` and ``data/`` or ``images/``, with the same
    subfolders in both, and splits as lists of names in ``ImageSets/Main/<split>.txt``; (b) xml files beside their
    images, in ``folder`` or its subfolders; (c) either of them in subfolders train, val, test. Without ``split``
    every xml file is read.

    xmin, ymin, xmax, ymax are used unchanged as continuous xyxy. VOC's own are indices of pixels that count from 1,
    most tools write edges that start at 0, and a file does not state which: with ``one_based``, 1 is subtracted from
    xmin and ymin. None: as ``gfocal.json`` of the folder says (``"voc_one_based": true``), else False. Objects marked
    ``difficult``, ``iscrowd`` or ``ignore`` get the crowd flag: ignored in training and evaluation. Of rotated boxes
    (CVAT's attribute, roLabelImg's robndbox) and polygons without a box the upright box around them is used.

    Classes are the sorted names in all xml files of the dataset, of every split, so that the labels of all splits
    agree; or those of a ``classes.txt`` or ``labelmap.txt`` in the folder, in that order; or ``names``, in that
    order, which must contain them. Category ids are 1..C and image ids 1, 2, ... in the order of file names, unless
    ``gfocal.json`` has others. An object's ``<area>``, which few tools write, is that of its outline.

    Problems of single files and boxes are reported in ``problems`` (see ``gfocal.data.validation``). Raises DataError
    if there is no such layout or split, no image is usable, or a class is not among ``names``.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    files = collect(folder, split, problems)
    sidecar = read_sidecar(folder)
    one_based = sidecar.voc_one_based if one_based is None else one_based
    parsed = {file: parse_voc_xml(file, one_based) for file in files.everything}
    found = sorted({name for content in parsed.values() for name in content.names})
    if names is not None and not set(found) <= set(names):
        raise class_mismatch(found, names, folder)
    names = list(names) if names is not None else _order_classes(found, folder)
    if not names:
        detail = next((f"; the first problem: {p.problem}" for p in parsed.values() if p.problem), "")
        raise DataError(f"{folder}: no objects in {len(parsed)} xml files{detail}")
    images = _describe_images(folder, split, files, parsed, names, problems)
    from_1 = [file for own in files.chosen.values() for file in own if parsed[file].is_challenge]
    if from_1 and not one_based:
        problems.append(Problem(str(from_1[0]), f"{len(from_1)} files", COUNTED_FROM_1, "kept"))
    ids = dict(zip(sidecar.names or (), sidecar.category_ids or (), strict=False))
    numbers = [ids[name] for name in names] if set(names) <= set(ids) else range(1, len(names) + 1)
    return validate_records(images, names, numbers, problems, where=folder)


def _describe_images(
    folder: Path,
    split: str | None,
    files: VocFiles,
    parsed: Mapping[Path, VocContent],
    names: Sequence[str],
    problems: list[Problem],
) -> list[ImageRecord]:
    """The images of a split in the order of their ids, with their objects."""
    labels = {name: label for label, name in enumerate(names)}
    sidecar = read_sidecar(folder)
    key = split and (split_name(split) or split)
    free = sidecar.free_ids(key)
    images: list[ImageRecord] = []
    for layout, own in files.chosen.items():
        contents = {file: parsed[file] for file in own}
        problems += [content.problem for content in contents.values() if content.problem is not None]
        is_whole = split is None or not layout.is_deep
        for file, path in _find_images(layout, contents, folder, is_whole, problems).items():
            extra = sidecar.image(key, layout.key(file))
            image_id = next(free) if extra.image_id is None else extra.image_id
            images.append(ImageRecord(str(file), path, image_id, contents[file].stated_size))
            _add_boxes(images[-1], contents[file], labels, problems)
    for path in files.backgrounds:
        extra = sidecar.image(key, path.stem)
        images.append(ImageRecord(str(path), path, next(free) if extra.image_id is None else extra.image_id))
    return sorted(images, key=lambda image: image.image_id)


def _order_classes(found: list[str], folder: Path) -> list[str]:
    """The classes in classes.txt or labelmap.txt, which may include some without objects, then the others by name."""
    file, labelmap = folder / "classes.txt", folder / "labelmap.txt"
    if file.is_file():
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        listed = [line.strip() for line in lines]
    elif labelmap.is_file():  # name:color:parts:actions
        lines = labelmap.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        listed = [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
        listed = [name for name in listed if name != "background" or name in found]
    else:
        listed = []
    return list(dict.fromkeys([*filter(None, listed), *found]))


def _find_images(
    layout: Layout, contents: Mapping[Path, VocContent], folder: Path, is_whole: bool, problems: list[Problem]
) -> dict[Path, Path]:
    """The image of each xml file: of the same path without suffix, else of the same file name, else of that stated.

    An image that one xml file has by its path is not taken for another one. If all xml files are given, images
    without one are reported and left out: they may have no objects or may not be annotated yet.
    """
    by_key = layout.images_by_key()
    by_stem: dict[str, list[Path]] = {}
    for paths in by_key.values():
        by_stem.setdefault(paths[0].stem, []).extend(paths)
    keys = {file: layout.key(file) for file in contents}
    stems = Counter(file.stem for file in contents)
    locator = ImageLocator(folder, [layout.images], split_name(layout.images.name))
    claimed = {path for key in keys.values() for path in by_key.get(key, ())}
    found: dict[Path, Path] = {}
    for file, content in contents.items():
        if content.problem is not None:
            continue
        same = by_key.get(keys[file], [])
        if not same and stems[file.stem] == 1:
            same = [path for path in by_stem.get(file.stem, []) if path not in claimed]
            same = same if len(same) == 1 else []
        if same:
            path = next((path for path in same if path.name == content.filename), same[0])
        else:
            other = _find_stated(file, content.filename, locator, layout, claimed, problems)
            if other is None:
                continue
            path = other
        claimed.add(path)
        found[file] = path
    for paths in by_key.values() if is_whole else ():
        if not claimed & set(paths):
            problems.append(Problem(str(paths[0]), "whole image", NO_XML, "dropped"))
    return found


def _find_stated(
    file: Path,
    stated: str,
    locator: ImageLocator,
    layout: Layout,
    claimed: Collection[Path],
    problems: list[Problem],
) -> Path | None:
    """The image that the xml file names, in the subfolder of the same name first."""
    inner = (layout.images / layout.key(file)).parent
    if not stated:
        problems.append(Problem(str(file), str(inner / file.stem), MISSING, "dropped"))
        return None
    folders = (inner.relative_to(locator.root).as_posix(),) if locator.root in (inner, *inner.parents) else ()
    found = locator.locate(stated, folders)
    if found.path is not None and found.path in claimed:
        record = f"filename {stated} -> {os.path.relpath(found.path, locator.root)}"
        problems.append(Problem(str(file), record, SAME_IMAGE, "dropped"))
        return None
    path = locator.take(found, str(file), f"filename {stated}", problems)
    if path is not None and not os.path.isfile(path):
        problems.append(Problem(str(file), str(path), MISSING, "dropped"))
        return None
    return path


def _add_boxes(image: ImageRecord, content: VocContent, labels: Mapping[str, int], problems: list[Problem]) -> None:
    problems += content.notes
    for one in content.objects:
        if one.name and one.box is not None:
            image.add(one.box, labels[one.name], one.ignored, one.record, one.area)
        else:
            image.num_lost += 1
            problems.append(Problem(image.file, one.record, MALFORMED if one.name else UNKNOWN_CLASS, "dropped"))

"""Reader of MegaDetector's batch output, formats 1.0 to 1.6: detections of a model, read as ground truth.

The files list all detections down to very low confidences. Those below a threshold are left out: ``score_threshold``
of gfocal.json in the folder of the dataset, else the threshold that the file states as typical of its detector, else
``SCORE_THRESHOLD``, that of MegaDetector 5. Boxes are left, top, width, height in fractions of the image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfocal.data.annotated import NOT_ANNOTATED, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.readers.json_files import SplitFile, find_by_split, read_json
from gfocal.data.readers.reading import (
    BROKEN_BOX,
    BROKEN_IMAGE,
    SCORED,
    Reading,
    from_xywh,
    leave_out,
    to_number,
    to_numbers,
)
from gfocal.data.sidecar import SIDECAR, read_sidecar
from gfocal.data.validation import REPEATED_CLASS
from gfocal.errors import DataError

SCORE_THRESHOLD = 0.2
BELOW_THRESHOLD = f"detections below the score threshold are left out ({SIDECAR}: score_threshold)"
EMPTIED = "images whose detections are all below the score threshold are background"
SPECIES = "classifications of detections are not read: the class is that of the detector"
VIDEO = "detections of a video, whose frames are no image files"
NO_CATEGORY = "category that the file does not list: no detection"

_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mpg", ".mpeg", ".mkv", ".m4v", ".wmv")


def _is_megadetector(ends: bytes) -> bool:
    return bool(
        ends.lstrip().startswith(b"{")
        and re.search(rb'"detection_categories"\s*:\s*\{', ends)
        and re.search(rb'"images"\s*:\s*\[', ends)
    )


def _find(path: Path) -> Mapping[str, SplitFile] | None:
    return find_by_split(path, _is_megadetector, homes=("", "annotations", "labels", "detections"))


def _parse(source: SplitFile) -> Parsed:
    file = source.file
    content = read_json(file)
    categories = content.get("detection_categories") if isinstance(content, dict) else None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(categories, dict) or not isinstance(images, list):
        raise DataError(f"{file}: not MegaDetector's output: it needs 'detection_categories' and the list 'images'")
    reading = Reading(str(file))
    names = _names(categories, reading)
    threshold = _threshold(content, source)
    for number, entry in enumerate(images, 1):
        name = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            reading.problems.append(Problem(str(file), f"images, entry {number}", BROKEN_IMAGE, "dropped"))
            continue
        image = AnnotatedImage(name, str(file), relative=True, folders=source.folders)
        reading.images.append(image)
        _add_detections(reading, image, entry, names, threshold)
    if not reading.images:
        raise DataError(f"{file}: no images")
    ids = {name: int(key) for key, name in reversed(names.items()) if re.fullmatch("[0-9]{1,9}", key)}
    return reading.parsed(list(dict.fromkeys(names.values())), ids)


def _add_detections(
    reading: Reading, image: AnnotatedImage, entry: Mapping[str, Any], names: Mapping[str, str], threshold: float
) -> None:
    detections = entry.get("detections")
    if entry.get("failure") or not isinstance(detections, list):
        leave_out(image, NOT_ANNOTATED, str(entry.get("failure") or "no detections"))
        return
    if "frame_rate" in entry or image.name.lower().endswith(_VIDEO_SUFFIXES):
        leave_out(image, VIDEO, f"{len(detections)} detections")
        return
    low = 0
    for number, one in enumerate(detections, 1):
        if not isinstance(one, dict):
            leave_out(image, BROKEN_BOX, f"detection {number}")
            continue
        score, category = to_number(one.get("conf")), str(one.get("category"))
        if score < threshold:
            reading.note(BELOW_THRESHOLD, f"detections below {threshold:g}", "left out")
            low += 1
        elif category not in names:
            reading.note(NO_CATEGORY, f"detections of category {category:.40}", "skipped")
        else:
            box = from_xywh(to_numbers(one.get("bbox"), range(4))) if score <= 1 else None
            reading.add(image, box, names[category], f"detection {number}")
            reading.note(SCORED, f"detections of at least {threshold:g}")
            if one.get("classifications"):
                reading.note(SPECIES, "detections")
    if low and low == len(detections):
        reading.note(EMPTIED, "images")


def _names(categories: Mapping[str, Any], reading: Reading) -> dict[str, str]:
    """Key -> name of the detector's categories, in the order of their numbers."""
    ordered = sorted(categories, key=lambda key: (not key.isdecimal(), key.zfill(20)))
    names = {key: categories[key].strip() for key in ordered if isinstance(categories[key], str)}
    names = {key: name for key, name in names.items() if name and name.lower() != "empty"}
    if not names:
        raise DataError(f"{reading.file}: detection_categories has no names")
    for name in sorted({name for name in names.values() if list(names.values()).count(name) > 1}):
        reading.problems.append(Problem(reading.file, f"detection_categories: {name!r}", REPEATED_CLASS, "merged"))
    return names


def _threshold(content: Mapping[str, Any], source: SplitFile) -> float:
    wanted = read_sidecar(source.root).score_threshold
    if wanted is not None:
        return wanted
    info = content.get("info")
    metadata = info.get("detector_metadata") if isinstance(info, dict) else None
    stated = to_number(metadata.get("typical_detection_threshold")) if isinstance(metadata, dict) else float("nan")
    return stated if 0 < stated < 1 else SCORE_THRESHOLD


MEGADETECTOR = AnnotationFormat(
    title="MegaDetector",
    looked_for="a .json with MegaDetector's detection_categories and images",
    find=_find,
    parse=_parse,
    layout="xywh",
)

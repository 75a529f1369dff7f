"""Writer of YOLO text files: datasets and detections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfocal.data.dataset import Sample
from gfocal.data.images import image_size
from gfocal.data.paths import is_image, split_name
from gfocal.data.readers.yolo_labels import label_file_of
from gfocal.data.sidecar import NO_EXTRA, IgnoredRegion, ImageExtra, LineExtra, Sidecar
from gfocal.data.writers.decimals import to_fractions
from gfocal.data.writers.placement import Part, Placement, stated_areas
from gfocal.text import pluralize

IMAGES = "images"


def write_yolo(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write data.yaml and ``labels/<split>/*.txt`` for images below ``images/``.

    Returns what the files cannot store, and notes for the user. A split whose images are not all in a folder of its
    own, or do not have the suffix of an image, is a text file that lists them. Images without objects have an empty
    label file.
    """
    import yaml

    entries: dict[str, str] = {}
    extras: dict[str, dict[str, ImageExtra]] = {}
    written: set[str] = set()
    num_ignored = num_rotated = 0
    for part in placement.parts:
        extras[part.split] = {}
        running = _running_numbers(part, folder)
        numbered = all(s.image_id == n for s, n in zip(part.data.samples, running, strict=True))
        for sample, name in zip(part.data.samples, part.files, strict=True):
            text, extra = format_labels(sample, None if numbered else sample.image_id)
            num_ignored += len(extra.ignored)
            num_rotated += extra.stated_size is not None
            extras[part.split][f"{IMAGES}/{name}"] = extra
            if name not in written:
                written.add(name)
                target = label_file_of(Path(IMAGES, name))
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                (folder / target).write_text(text, encoding="utf-8")
        if part.has_own_folder and all(is_image(Path(name)) for name in part.files):
            entries[part.split] = f"{IMAGES}/{part.split}"
        else:
            entries[part.split] = f"{part.split}.txt"
            lines = "".join(f"./{IMAGES}/{name}\n" for name in part.files)
            (folder / f"{part.split}.txt").write_text(lines, encoding="utf-8")
    content = entries | {"names": dict(enumerate(placement.names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    ids = placement.category_ids
    notes = []
    if num_ignored:
        notes.append(
            f"YOLO files cannot store {pluralize(num_ignored, 'ignored region')} (crowd, difficult): they are in "
            "gfocal.json, not in labels/; other tools treat these regions as background"
        )
    if num_rotated:
        notes.append(
            f"{pluralize(num_rotated, 'image')} annotated without EXIF rotation: gfocal.json records it, other tools "
            "may rotate the images and not the boxes"
        )
    is_usual = ids == tuple(range(len(ids)))
    kept = {s: p for s, p in extras.items() if split_name(s) != s or any(extra != NO_EXTRA for extra in p.values())}
    return Sidecar(None, None if is_usual else ids, kept), notes


def _running_numbers(part: Part, folder: Path) -> list[int]:
    """The image ids that the reader would assign: 1, 2, ... in the order of paths."""
    paths = [folder / IMAGES / name for name in part.files]
    places = {path: number for number, path in enumerate(sorted(paths), 1)}
    return [places[path] for path in paths]


def format_labels(sample: Sample, image_id: int | None) -> tuple[str, ImageExtra]:
    """The label file of an image, and what it cannot store."""
    assert sample.path is not None, "samples of files have a path"
    assert sample.size is not None, "samples of files have a size"
    height, width = sample.size
    lines: list[str] = []
    extras: dict[int, LineExtra] = {}
    ignored: list[IgnoredRegion] = []
    rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
    for at, (box, label, crowd, area) in enumerate(zip(*(row.tolist() for row in rows), strict=True)):
        x1, y1, x2, y2 = box
        corners = (x1 / width, y1 / height, x2 / width, y2 / height)
        if crowd:
            ignored.append(IgnoredRegion(at, label, corners, area))
            continue
        numbers, is_exact = _numbers(box, width, height)
        lines.append(f"{label} {numbers}")
        if not is_exact or not math.isnan(area):
            extras[len(lines)] = LineExtra(lines[-1], area, None if is_exact else corners)
    upright = image_size(sample.path)
    return "".join(f"{line}\n" for line in lines), ImageExtra(
        image_id, None if upright == sample.size else sample.size, extras, tuple(ignored)
    )


def _numbers(box: list[float], width: int, height: int) -> tuple[str, bool]:
    """``cx cy w h``, and whether these numbers give the box exactly."""
    x1, y1, x2, y2 = box
    across, down = to_fractions(x1, x2, width), to_fractions(y1, y2, height)
    cx, w = across or _approximate(x1, x2, width)
    cy, h = down or _approximate(y1, y2, height)
    return f"{cx} {cy} {w} {h}", across is not None and down is not None


def _approximate(low: float, high: float, size: int) -> tuple[str, str]:
    return repr((low + high) / 2 / size), repr((high - low) / size)


def format_yolo_text(record: Mapping[str, Any]) -> str:
    """The detections in an image, a line ``class cx cy w h score`` for each, in fractions of the image.

    ``record`` has ``size``, ``labels``, ``boxes`` (xyxy in pixels) and ``scores``.
    """
    height, width = record["size"]
    lines = []
    for label, (x1, y1, x2, y2), score in zip(record["labels"], record["boxes"], record["scores"], strict=True):
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height, score)
        lines.append(f"{label} " + " ".join(f"{number:.7g}" for number in numbers) + "\n")
    return "".join(lines)

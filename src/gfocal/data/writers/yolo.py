"""YOLO text files, out: datasets, and what a detector found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfocal.data.dataset import Sample
from gfocal.data.images import image_size
from gfocal.data.paths import is_image, split_name
from gfocal.data.readers.yolo_labels import label_file_of
from gfocal.data.sidecar import NOTHING, ImageExtra, LineExtra, PlacedBox, Sidecar
from gfocal.data.writers.decimals import fractions
from gfocal.data.writers.placing import Part, Placing, stated_areas
from gfocal.text import counted

IMAGES = "images"


def write_yolo(placing: Placing, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write data.yaml and ``labels/<split>/*.txt`` for images below ``images/``.

    Returns what YOLO's files have no place for, and notes for the user. A split whose images do not all lie in a
    folder of its own, or are not named like images, is a text file that lists them. Images of background have an
    empty label file.
    """
    import yaml

    entries: dict[str, str] = {}
    extras: dict[str, dict[str, ImageExtra]] = {}
    written: set[str] = set()
    crowds = turned = 0
    for part in placing.parts:
        extras[part.split] = {}
        running = _running_numbers(part, folder)
        numbered = all(s.image_id == n for s, n in zip(part.data.samples, running, strict=True))
        for sample, name in zip(part.data.samples, part.files, strict=True):
            text, extra = label_text(sample, None if numbered else sample.image_id)
            crowds += len(extra.ignored)
            turned += extra.stated_size is not None
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
    content = entries | {"names": dict(enumerate(placing.names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    ids = placing.category_ids
    notes = []
    if crowds:
        notes.append(
            f"YOLO has no place for {counted(crowds, 'ignored region')} (crowd, difficult): in gfocal.json, not in "
            "labels/; other tools take these places for background"
        )
    if turned:
        notes.append(
            f"{counted(turned, 'image')} annotated as stored, not as EXIF turns them: gfocal.json says so, other "
            "tools may turn the images and not the boxes"
        )
    is_usual = ids == tuple(range(len(ids)))
    told = {s: p for s, p in extras.items() if split_name(s) != s or any(extra != NOTHING for extra in p.values())}
    return Sidecar(None, None if is_usual else ids, told), notes


def _running_numbers(part: Part, folder: Path) -> list[int]:
    """The image ids that the reader gives on its own: places in the order of paths, from 1."""
    paths = [folder / IMAGES / name for name in part.files]
    places = {path: number for number, path in enumerate(sorted(paths), 1)}
    return [places[path] for path in paths]


def label_text(sample: Sample, image_id: int | None) -> tuple[str, ImageExtra]:
    """The label file of an image, and what it cannot say."""
    assert sample.path is not None, "samples of files have a path"
    assert sample.size is not None, "samples of files have a size"
    height, width = sample.size
    lines: list[str] = []
    extras: dict[int, LineExtra] = {}
    ignored: list[PlacedBox] = []
    rows = (sample.boxes, sample.labels, sample.crowd, stated_areas(sample))
    for at, (box, label, crowd, area) in enumerate(zip(*(row.tolist() for row in rows), strict=True)):
        x1, y1, x2, y2 = box
        corners = (x1 / width, y1 / height, x2 / width, y2 / height)
        if crowd:
            ignored.append(PlacedBox(at, label, corners, area))
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
    across, down = fractions(x1, x2, width), fractions(y1, y2, height)
    cx, w = across or _nearly(x1, x2, width)
    cy, h = down or _nearly(y1, y2, height)
    return f"{cx} {cy} {w} {h}", across is not None and down is not None


def _nearly(low: float, high: float, size: int) -> tuple[str, str]:
    return repr((low + high) / 2 / size), repr((high - low) / size)


def found_text(record: Mapping[str, Any]) -> str:
    """What was found in an image, ``class cx cy w h score`` a line, in fractions of the image.

    ``record`` has ``size``, ``labels``, ``boxes`` (xyxy in pixels) and ``scores``. No line: nothing was found.
    """
    height, width = record["size"]
    lines = []
    for label, (x1, y1, x2, y2), score in zip(record["labels"], record["boxes"], record["scores"], strict=True):
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height, score)
        lines.append(f"{label} " + " ".join(f"{number:.7g}" for number in numbers) + "\n")
    return "".join(lines)

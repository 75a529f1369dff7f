"""YOLO label files: where they are, and their lines."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gfocal.data.dataset import Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.readers.yolo_layout import LineLayout
from gfocal.data.sidecar import SIDECAR, ImageExtra, LineExtra
from gfocal.data.validation import UNKNOWN_CLASS


def label_file_of(image: Path) -> Path:
    """Path of the label file of an image, which may not exist."""
    parts = image.parts
    beside = image.with_suffix(".txt")
    if "images" not in parts[:-1]:
        return beside
    last = len(parts) - 1 - parts[::-1].index("images")
    swapped = Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
    return beside if os.path.isfile(beside) and not os.path.isfile(swapped) else swapped


def add_lines(
    image: ImageRecord,
    file: Path,
    labels: Mapping[int, int],
    extra: ImageExtra,
    layout: LineLayout,
    problems: list[Problem],
) -> None:
    """Add the boxes of a label file to its image, with their information in the sidecar.

    A line is ``class cx cy width height`` in fractions of the image, or longer, as ``layout`` has it. ``labels`` has
    the label of each class index. Lines that cannot be used are added to ``problems``.
    """
    objects: list[tuple[Sequence[float], int, bool, str, float]] = []
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        record = f"line {number}: {line.strip()[:80]}"
        try:
            index, *numbers = map(float, line.split())
        except ValueError:
            problems.append(Problem(str(file), record, "line is not only numbers", "dropped"))
            image.num_lost += 1
            continue
        if index.is_integer():
            layout.ids[int(index)] += 1
        if not index.is_integer() or int(index) not in labels:
            problems.append(Problem(str(file), record, f"{UNKNOWN_CLASS}: {_describe_ids(labels)}", "dropped"))
            image.num_lost += 1
            continue
        box = layout.read(numbers, image, f"line {number}")
        if box is None:
            problems.append(Problem(str(file), record, layout.not_understood, "dropped"))
            image.num_lost += 1
            continue
        more = extra.lines.get(number)
        if more is None or more.text != line.strip():  # the line was edited
            more = LineExtra(line)
        objects.append((more.box or box, labels[int(index)], False, f"line {number}", more.area))
    for one in extra.ignored:
        if one.label in labels:
            record = f"{SIDECAR}, ignored region {one.at}"
            objects.insert(one.at, (one.box, labels[one.label], True, record, one.area))
    for entry in objects:
        image.add(*entry)


def _describe_ids(labels: Collection[int]) -> str:
    if len(labels) > 1 and list(labels) == list(range(len(labels))):
        return f"ids are 0..{len(labels) - 1}"
    return f"ids are {', '.join(map(str, labels))}" if len(labels) > 1 else f"the only id is {next(iter(labels))}"

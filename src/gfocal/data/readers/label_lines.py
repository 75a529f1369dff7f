"""Lines of Darknet's label files into boxes by class name; an image with an unreadable line is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from gfocal.data.annotated import AnnotatedImage
from gfocal.data.outlines import OUTLINE, Corners, hull
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS, parse_numbers, read_lines
from gfocal.data.readers.reading import Reading, leave_out

KEYPOINTS = "lines of a box and keypoints: the keypoints are skipped"


def read_label_lines(
    file: Path, image: AnnotatedImage, classes: Mapping[int, str], reading: Reading, has_outlines: bool = False
) -> None:
    """Add the boxes of a label file to its image: ``class cx cy width height`` in fractions of it.

    ``has_outlines``: lines may also be polygons, or boxes with keypoints ``x y visibility``, as Label Studio writes
    them.
    """
    for number, line in enumerate(read_lines(file), 1):
        if not line:
            continue
        record = f"line {number}"
        numbers = parse_numbers(line.split())
        label = numbers[0] if numbers else math.nan
        name = ""
        if math.isfinite(label) and label.is_integer():
            reading.class_ids[int(label)] += 1
            name = classes.get(int(label), "")
        box = None if not numbers else _box(numbers[1:], has_outlines, reading)
        if box is None or not name:
            leave_out(image, UNREADABLE_OBJECTS, f"{record}: {line[:80]}")
        else:
            reading.add(image, box, name, record)


def _box(numbers: Sequence[float], has_outlines: bool, reading: Reading) -> Corners | None:
    count = len(numbers)
    if count == 4 or (has_outlines and _are_keypoints(numbers[4:])):
        if count > 4:
            reading.note(KEYPOINTS, "lines", "skipped")
        x, y, width, height = numbers[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if has_outlines and count >= 6 and count % 2 == 0:
        reading.note(OUTLINE, "polygons")
        return hull(zip(numbers[::2], numbers[1::2], strict=True))
    return None


def _are_keypoints(numbers: Sequence[float]) -> bool:
    """Whether numbers are x, y and visibility (0, 1 or 2) of some points."""
    return bool(numbers) and len(numbers) % 3 == 0 and all(value in (0, 1, 2) for value in numbers[2::3])

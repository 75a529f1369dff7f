"""Reader of WIDER FACE: ``wider_face_split/wider_face_<split>_bbx_gt.txt`` with ``WIDER_<split>/images/``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gfocal.data.annotated import WHOLE, AnnotatedBox, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.paths import SUFFIXES, find_split
from gfocal.data.readers.fields import FLAG
from gfocal.data.readers.label_files import parse_numbers, read_lines
from gfocal.errors import DataError

CLASS = "face"
_ENDING = "_bbx_gt.txt"
_INVALID = 7  # column: x y w h blur expression illumination invalid occlusion pose
_COLUMNS = (4, 10)


def find_widerface(path: Path) -> Mapping[str, Path] | None:
    """The lists of faces, by split."""
    if path.is_file():
        return {WHOLE: path} if path.name.lower().endswith(_ENDING) else None
    found: dict[str, Path] = {}
    for folder in (path / "wider_face_split", path):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in (file for file in files if file.name.lower().endswith(_ENDING)):
            found.setdefault(find_split(file.stem) or file.stem, file)
    return found or None


def parse_widerface(file: Path) -> Parsed:
    """The images of a list: a line with the file name, one with the count, and one for each face.

    A count of 0 is followed by a line of zeros, which is no face. Faces marked invalid are ignored regions; blurred
    and occluded ones are objects. Raises DataError where counts and lines disagree.
    """
    parsed = Parsed([], [CLASS])
    split = (re.match("wider_face_(.+)" + re.escape(_ENDING) + "$", file.name, re.IGNORECASE) or ["", ""])[1]
    lines = [(number, line) for number, line in enumerate(read_lines(file), 1) if line]
    place = 0
    while place < len(lines):
        number, name = lines[place]
        if not name.lower().endswith(tuple(SUFFIXES)):
            raise DataError(f"{file}, line {number}: not the name of an image: {name[:80]!r}; count and lines differ")
        count = _count(lines, place + 1, file)
        rows = []
        for line_number, text in lines[place + 2 : place + 2 + max(count, 1)]:
            numbers = parse_numbers(text.split())
            if numbers is None or len(numbers) not in _COLUMNS:
                break
            rows.append((line_number, numbers))
        place += 2 + len(rows)
        if count == 0 and any(value != 0 for _, row in rows for value in row[:4]):
            raise DataError(f"{file}, line {number}: {name[:80]} has count 0, and a face in the line after it")
        if count and len(rows) != count:
            raise DataError(f"{file}, line {number}: {name[:80]} has count {count}, and {len(rows)} lines of faces")
        image = AnnotatedImage(_below_split(name, split, file), str(file))
        for line_number, (x, y, width, height, *flags) in rows if count else ():
            flag = flags[_INVALID - 4] if flags else 0.0
            ignored = flag == 1
            if flag not in (0, 1):
                record = f"line {line_number}: invalid {flag:g}"
                parsed.problems.append(Problem(str(file), record, FLAG, "kept"))
            box = (x, y, x + width, y + height)
            image.boxes.append(AnnotatedBox(box, CLASS, f"line {line_number}", ignored))
        parsed.images.append(image)
    return parsed


def _count(lines: list[tuple[int, str]], place: int, file: Path) -> int:
    number, text = lines[place] if place < len(lines) else (lines[-1][0], "end of file")
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise DataError(f"{file}, line {number}: not the count of faces: {text[:80]!r}")
    return int(text)


def _below_split(name: str, split: str, file: Path) -> str:
    """The name of an image below the folder of its split, if there is one."""
    folder = f"WIDER_{split}/images/"
    roots = (file.parent, file.parent.parent)
    return folder + name if split and any((root / folder).is_dir() for root in roots) else name


WIDERFACE = AnnotationFormat(
    "WIDER FACE",
    "wider_face_split/wider_face_<split>_bbx_gt.txt with WIDER_<split>/images/",
    find_widerface,
    parse_widerface,
)

"""Reader of MOTChallenge: ``<sequence>/gt/gt.txt`` with frames ``<sequence>/img1/000001.jpg``, as single images."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.annotated import (
    EVERY_CLASS,
    NOT_ANNOTATED,
    WHOLE,
    AnnotatedBox,
    AnnotatedImage,
    AnnotationFormat,
    Parsed,
)
from gfocal.data.dataset import Problem
from gfocal.data.paths import find_split_folders, list_images
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS, parse_numbers, read_lines
from gfocal.data.validation import MALFORMED, MISSING
from gfocal.errors import DataError
from gfocal.text import one_line

COPY = "sequence is a copy of another one with other detections"
NOT_CONSIDERED = "classes that the benchmark does not count: background, as in its evaluation"
NO_FLAG = "seventh column is neither 0 nor 1, as a score: these may be the results of a tracker, read as ground truth"
BETWEEN = "frames without a row between frames with rows: images without objects"
PEDESTRIAN = "pedestrian"
CLASSES = (
    *(PEDESTRIAN, "person on vehicle", "car", "bicycle", "motorbike", "non-motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd"),
)  # numbers 1 to 13
# Where they are not considered, a detection of a pedestrian on them is neither right nor wrong.
_DISTRACTORS = ("person on vehicle", "static person", "distractor", "reflection", "crowd")
_COPIES = re.compile("-(DPM|FRCNN|SDP)$")  # MOT17 has each sequence once for each of these detectors
_LEAST, _WITH_CLASS, _MOT15 = 7, 9, 10  # columns: frame, id, left, top, width, height, flag; class, visibility
_COUNTS = (_LEAST, _WITH_CLASS, _MOT15)


@dataclass(frozen=True)
class _Row:
    line: int
    frame: int
    box: tuple[float, float, float, float]
    ignored: bool
    name: str


def find_mot(path: Path) -> Mapping[str, list[Path]] | None:
    """The sequences of each split: of train/, val/, test/, else of the folder, or the folder itself."""
    if not path.is_dir():
        return None
    if _is_sequence(path):
        return {WHOLE: [path]}
    if here := _sequences(path):
        return {WHOLE: here}
    found = {split: own for split, folder in find_split_folders(path).items() if (own := _sequences(folder))}
    return found or None


def _is_sequence(folder: Path) -> bool:
    return (folder / "gt" / "gt.txt").is_file()


def _sequences(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.is_dir() and _is_sequence(f))


def parse_mot(sequences: list[Path]) -> Parsed:
    """The frames of some sequences.

    Boxes stay as they are: the benchmark counts pixels from 1, and its tools do not subtract it. Rows with flag 0 are
    ignored regions: of their class if the benchmark counts it, of every class if they are distractors; those of other
    classes are background. A frame without a row is an image without objects if it is between frames with rows, else
    it is left out.
    """
    parsed = Parsed([])
    names: list[str] = []
    seen: set[str] = set()
    for folder in sequences:
        stem = _COPIES.sub("", folder.name)
        if stem in seen:
            parsed.problems.append(Problem(str(folder), folder.name, COPY, "skipped"))
            continue
        seen.add(stem if stem != folder.name else folder.name)
        known, is_own = _class_names(folder)
        rows, bad = _read_rows(folder / "gt" / "gt.txt", known, parsed.problems)
        used = {row.name for row in rows if not row.ignored} | (set(known) if is_own else set())
        names += [name for name in known if name in used and name not in names]
        parsed.images += _frames(folder, rows, bad, used, parsed.problems)
    parsed.classes = names
    if set(names) <= set(CLASSES):
        parsed.category_ids = {name: CLASSES.index(name) + 1 for name in names}
    return parsed


def _class_names(folder: Path) -> tuple[list[str], bool]:
    """The classes by their numbers from 1: of gt/labels.txt, as CVAT and datumaro write it, else MOTChallenge's."""
    file = folder / "gt" / "labels.txt"
    own = [line for line in read_lines(file) if line] if file.is_file() else []
    if len(set(own)) < len(own):
        raise DataError(f"{file}: a class is listed twice")
    return own or list(CLASSES), bool(own)


def _read_rows(file: Path, names: list[str], problems: list[Problem]) -> tuple[list[_Row], set[int]]:
    """The rows of a file, and the frames with a row that cannot be read."""
    rows: list[_Row] = []
    bad: set[int] = set()
    scored: list[int] = []
    for number, line in enumerate(read_lines(file), 1):
        if not line:
            continue
        numbers = parse_numbers(line.rstrip(", ").split(","))
        if numbers is None or len(numbers) not in _COUNTS or not numbers[0].is_integer() or numbers[0] < 0:
            if not rows and not bad and numbers is None:
                raise DataError(
                    f"{file}, line {number}: not frame,id,left,top,width,height,flag,... but {line[:80]!r}; masks "
                    "(MOTS) are not read"
                )
            raise DataError(f"{file}, line {number}: not frame,id,left,top,width,height,flag,...: {line[:80]!r}")
        frame, _, x, y, width, height, flag = numbers[:7]
        scored += [number] if flag not in (0, 1) else []
        name = PEDESTRIAN
        if len(numbers) == _WITH_CLASS:  # MOT15 has a position in space in place of class and visibility
            label = numbers[7]
            if not label.is_integer() or not 1 <= label <= len(names):
                problems.append(Problem(str(file), f"line {number}: class {label:g}", MALFORMED, "dropped"))
                bad.add(int(frame))
                continue
            name = names[int(label) - 1]
        rows.append(_Row(number, int(frame), (x, y, x + width, y + height), flag == 0, name))
    if scored:
        problems.append(Problem(str(file), f"{len(scored)} rows, first line {scored[0]}", NO_FLAG, "kept"))
    return rows, bad


def _frames(
    folder: Path, rows: list[_Row], bad: set[int], used: set[str], problems: list[Problem]
) -> list[AnnotatedImage]:
    """The frames of a sequence with the objects in its rows."""
    file = str(folder / "gt" / "gt.txt")
    image_folder, last, size = _describe_sequence(folder)
    if not os.path.isdir(image_folder):
        record = f"{one_line(image_folder.name, max_length=80)}/, the folder of the frames"
        problems.append(Problem(file, record, MISSING, "dropped"))
        return []
    paths = {int(path.stem): path for path in list_images(image_folder) if re.fullmatch(r"\d{1,9}", path.stem)}
    by_frame: dict[int, list[_Row]] = {}
    for row in rows:
        by_frame.setdefault(row.frame, []).append(row)
    marked = {*by_frame, *bad}
    images, between, dropped = [], 0, 0
    for frame in sorted(marked - set(paths)):
        problems.append(Problem(file, f"frame {frame} in {image_folder.name}/", MISSING, "dropped"))
    for frame, path in sorted(paths.items()):
        image = AnnotatedImage(os.path.abspath(path), file, size)
        images.append(image)
        if frame in bad:
            image.left_out = UNREADABLE_OBJECTS
        elif not marked or not min(marked) <= frame <= max(marked) or (last is not None and frame > last):
            image.left_out = NOT_ANNOTATED
        between += frame not in marked and not image.left_out
        for row in by_frame.get(frame, ()):
            if row.name in used or row.name in _DISTRACTORS:
                name = row.name if row.name in used else EVERY_CLASS
                image.boxes.append(AnnotatedBox(row.box, name, f"line {row.line}", row.ignored))
            else:
                dropped += 1
    if between:
        problems.append(Problem(file, f"{between} frames", BETWEEN, "kept"))
    if dropped:
        problems.append(Problem(file, f"{dropped} rows", NOT_CONSIDERED, "dropped"))
    return images


def _describe_sequence(folder: Path) -> tuple[Path, int | None, tuple[int, int] | None]:
    """The folder of the frames, the number of the last one and their size, of seqinfo.ini if it is there."""
    default = folder / "img1"
    file = folder / "seqinfo.ini"
    if not file.is_file():
        return default, None, None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string("\n".join(read_lines(file)))
        section = parser["Sequence"]
        place = section.get("imDir", "img1").strip()
        last = section.getint("seqLength")
        height, width = section.getint("imHeight"), section.getint("imWidth")
    except (configparser.Error, KeyError, ValueError) as error:
        raise DataError(f"{file}: not the seqinfo.ini of MOTChallenge: {one_line(str(error))}") from error
    if not re.fullmatch(r"[\w .-]+", place) or place in (".", ".."):
        raise DataError(f"{file}: imDir {place!r:.80} is not the name of a folder in {folder.name}/")
    return folder / place, last, (height, width) if height and width else None


MOT = AnnotationFormat(
    "MOTChallenge", "[<split>/]<sequence>/gt/gt.txt with <sequence>/img1/000001.jpg", find_mot, parse_mot
)

"""Folders with a text file of labels for each image, and the numbers in lines of text."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from gfocal.data.annotated import NOT_ANNOTATED, AnnotatedImage
from gfocal.data.dataset import Problem
from gfocal.data.locate import AMBIGUOUS
from gfocal.data.paths import list_images
from gfocal.data.validation import MALFORMED, MISSING
from gfocal.errors import DataError

UNREADABLE_OBJECTS = "image has objects that could not be read: neither ground truth nor background"
_PROBED = 5  # so many files with a line are opened to recognize a format
_MOST_OPENED = 200  # most may be empty
_HEAD = 10_000

ParseLine = Callable[[AnnotatedImage, str, str], bool]  # image, line, where it is; whether it could be read


def read_lines(file: Path) -> list[str]:
    """The stripped lines of a text file. Raises DataError where it cannot be read."""
    if not os.path.isfile(file):  # a pipe would never end
        raise DataError(f"{file}: cannot be read: not a file")
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def parse_numbers(words: Sequence[str]) -> list[float] | None:
    """The numbers in some words, None if one is none. NaN and infinities are left to the validation."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def label_files(folder: Path) -> list[Path]:
    """The .txt files of a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() == ".txt" and not f.name.startswith("."))


def first_lines(folder: Path) -> list[str]:
    """The first line of some label files that are not empty, to recognize a format."""
    if not folder.is_dir():
        return []
    lines: list[str] = []
    with os.scandir(folder) as entries:
        texts = (e for e in entries if e.name.lower().endswith(".txt") and not e.name.startswith("."))
        files = (entry.path for entry in texts if os.path.isfile(entry.path))
        for file in itertools.islice(files, _MOST_OPENED):
            if len(lines) >= _PROBED:
                break
            try:
                with open(file, encoding="utf-8-sig", errors="replace") as stream:
                    line = next((line for line in stream.read(_HEAD).splitlines() if line.strip()), "").strip()
            except OSError:
                continue
            lines += [line] if line else []
    return lines


def read_label_folder(
    labels: Path, images: Path, parse_line: ParseLine, problems: list[Problem], only: Collection[str] | None = None
) -> list[AnnotatedImage]:
    """The images of a folder with the objects in the label files of the same names.

    An image without a label file is left out; one with an empty file has no objects; one with a line that cannot be
    read is left out. ``only`` are the names, without suffix, of the images of a split.
    """
    by_stem: dict[str, list[Path]] = {}
    for path in list_images(images):
        by_stem.setdefault(path.stem, []).append(path)
    files = {file.stem: file for file in label_files(labels)}
    described = []
    for stem in sorted({*by_stem, *files} if only is None else only):
        file, paths = files.get(stem), by_stem.get(stem, [])
        if len(paths) != 1:
            reason = AMBIGUOUS if paths else MISSING
            record = f"{images.name}/{stem}" + f": {', '.join(path.name for path in paths)}" * bool(paths)
            problems.append(Problem(str(file or images), record, reason, "dropped"))
            continue
        image = AnnotatedImage(os.path.abspath(paths[0]), str(file or paths[0]))
        described.append(image)
        if file is None:
            image.left_out = NOT_ANNOTATED
            continue
        for number, line in enumerate(read_lines(file), 1):
            if line and not parse_line(image, line, f"line {number}"):
                problems.append(Problem(str(file), f"line {number}: {line[:80]}", MALFORMED, "dropped"))
                image.left_out = UNREADABLE_OBJECTS
    return described

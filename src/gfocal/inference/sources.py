"""Which images a command line names: files, folders, patterns and lists."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from gfocal.data.paths import is_image, visible_in
from gfocal.errors import DataError
from gfocal.text import counted

STANDARD_INPUT = "-"


@dataclass
class Named:
    """Images in the order in which they are named, each once, as text: there may be millions of them."""

    files: list[str]
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # what names no image at all


def images_named(
    words: Sequence[str | Path], out: Path, lists: Sequence[Path] = (), standard_input: TextIO | None = None
) -> Named:
    """The images that words and lists name.

    A word is a file, a folder (with its subfolders; files named like images), a pattern such as ``a/**/*.jpg``
    (files named like images too), a list as ``@list.txt``, or ``-`` for a list on standard input. Something that
    exists is what it is, whatever signs its name has. A list has a path to a file or folder in each line, as one
    would write it on the command line: from the folder where one is, not from that of the list. What an earlier call
    left in ``out`` is none of the images.

    Raises DataError for a list that cannot be read.
    """
    named = Named([])
    found: dict[str, None] = {}
    repeated = 0
    for word in _words(words, lists, standard_input or sys.stdin):
        files, failure = _of_word(word, out, named.notes)
        if failure:
            named.failures.append(failure)
        repeated += sum(file in found for file in files)
        found.update(dict.fromkeys(files))
    if repeated:
        named.notes.append(f"{counted(repeated, 'image')} named a second time, taken once")
    named.files = list(found)
    return named


def _words(words: Sequence[str | Path], lists: Sequence[Path], standard_input: TextIO) -> Iterator[str | Path]:
    for word in words:
        if word == STANDARD_INPUT:
            yield from _lines(standard_input)
        elif str(word).startswith("@") and not os.path.exists(word):
            yield from _list(Path(str(word)[1:]))
        elif isinstance(word, str) and glob.has_magic(word) and not os.path.exists(word):
            yield word
        else:
            yield Path(word)
    for file in lists:
        yield from _list(file)


def _list(file: Path) -> list[Path]:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
            return list(_lines(stream))
    except OSError as error:
        raise DataError(f"{file}: the list of images cannot be read: {error.strerror or error}") from error


def _lines(stream: TextIO) -> Iterator[Path]:
    for line in stream:
        text = line.rstrip("\r\n")
        if text.strip():
            yield Path(text)


def _of_word(word: str | Path, out: Path, notes: list[str]) -> tuple[list[str], str]:
    """The images of one word; or why there are none."""
    if isinstance(word, str):
        matches = sorted(glob.iglob(word, recursive=True))
        files = kept([file for file in map(Path, matches) if is_image(file) and not file.is_dir()], out)
        lacking = f"{word}: no image fits this pattern (known by names that end in .jpg, .png ...)"
        return files, "" if files else lacking
    if not word.is_dir():
        return [str(word)], ""
    below = visible_in(word, deep=True)
    files = kept([file for file in below if is_image(file)], out, word)
    others = kept([file for file in below if not is_image(file) and file.is_file()], out, word)
    if others:
        endings = ", ".join(sorted({Path(other).suffix.lower() or "no ending" for other in others}))
        notes.append(f"{word}: {counted(len(others), 'file')} passed over, not named like images ({endings})")
    return files, "" if files else f"{word}: no images in this folder (known by names that end in .jpg, .png ...)"


def kept(files: Sequence[Path], out: Path, folder: Path | None = None) -> list[str]:
    """Without those in ``out``, where it lies below the folder that is looked through."""
    drawn = out.resolve()
    if folder is not None and folder.resolve() not in drawn.parents:
        return [str(file) for file in files]
    return [str(file) for file in files if drawn not in file.resolve().parents]

"""Json files of labeling tools: recognized by their beginning and end, found by split, read with one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.paths import find_split, find_split_folders, sort_splits
from gfocal.data.sidecar import SIDECAR
from gfocal.errors import DataError

WHOLE = ""  # the split of a dataset without splits
PROBED = 1 << 16  # bytes at the beginning, and at the end, of a file by which it is recognized
MAX_FILES = 64  # a folder with more files than this has one for each image, not one for each split
IMAGE_FOLDERS = (
    "images",
    "data",
    "img",
    "images/100k",
)  # below a dataset's folder, with one subfolder for each split


@dataclass(frozen=True)
class SplitFile:
    """The annotation file of a split."""

    file: Path
    root: Path  # the folder of the dataset
    folders: tuple[str, ...] = ()  # below it, where the images of the split are probably


def read_json(file: Path) -> Any:
    """The content of a json file. Raises DataError, which names the line of a broken one."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{file}: cannot be read as json: nested too deeply") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as json: {error}") from error


def read_ends(file: Path) -> bytes:
    """The beginning and the end of a file; empty if it cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(PROBED)
            length = stream.seek(0, 2)
            stream.seek(max(length - PROBED, len(start)))
            return start.removeprefix(b"\xef\xbb\xbf") + stream.read(PROBED)
    except OSError:
        return b""


def find_by_split(
    path: Path,
    is_own: Callable[[bytes], bool],
    homes: Sequence[str] = ("", "annotations", "labels"),
    suffixes: Sequence[str] = (".json",),
) -> dict[str, SplitFile] | None:
    """Split -> annotation file of a dataset that has one such file, or one for each split; None if there is none.

    They are looked for in ``homes`` below the folder, then in those below its folders train, val and test.
    ``is_own`` decides from the ends of a file. Several files without a split in their names are splits of their own,
    named by their stems.
    """
    if path.is_file():
        own = path.suffix.lower() in suffixes and is_own(read_ends(path))
        return {WHOLE: SplitFile(path, path.parent)} if own else None
    for home in homes:
        files = _own_files(path / home, is_own, suffixes)
        if files:
            named = _name_splits(files)
            return {name: SplitFile(file, path, image_folders(path, name, home)) for name, file in named.items()}
    found: dict[str, SplitFile] = {}
    for split, folder in find_split_folders(path).items():
        for home in homes:
            files = _own_files(folder / home, is_own, suffixes)
            for file in files:
                name = split if len(files) == 1 else f"{split}/{file.stem}"
                found.setdefault(name, SplitFile(file, path, image_folders(path, split, f"{folder.name}/{home}")))
            if files:
                break
    return {name: found[name] for name in sort_splits(found)} or None


def _own_files(folder: Path, is_own: Callable[[bytes], bool], suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    files = [file for file in files if not file.name.startswith(".") and file.name != SIDECAR]
    return [file for file in files if is_own(read_ends(file))] if len(files) <= MAX_FILES else []


def _name_splits(files: Iterable[Path]) -> Mapping[str, Path]:
    files = list(files)
    named: dict[str, Path] = {}
    for file in reversed(files):
        own = find_split(file.stem)
        if own is None and len(files) == 1:
            return {WHOLE: file}
        named[own if own is not None and own not in named else file.stem] = file
    return {name: named[name] for name in sort_splits(named)}


def image_folders(root: Path, split: str, home: str) -> tuple[str, ...]:
    """Folders below ``root`` in which the images of a split may be: most specific first, only those that exist."""
    home = home.strip("/")
    top = home.split("/")[0] if home else ""
    places = [
        f"{one}/{sub}".strip("/") for one in dict.fromkeys((home, top)) for sub in ("data", "images", "img", "")
    ]
    for parent in ("", *IMAGE_FOLDERS):
        folder = root / parent
        if split != WHOLE and folder.is_dir() and (own := find_split_folders(folder).get(split)):
            below = own.relative_to(root).as_posix()
            places += [below, *(f"{below}/{sub}" for sub in ("data", "images", "img"))]
    return tuple(dict.fromkeys(place for place in places if place and (root / place).is_dir()))

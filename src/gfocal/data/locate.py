"""Which file an annotation means by the name of an image: inside the dataset's folder, never outside of it.

Labeling tools write the path that an image had where it was labeled: of another machine, of a media server, a URL. A
name that is not there as it stands is looked up by its last parts (``.../train/a.jpg``, else ``a.jpg``) among the
image files below the dataset's folder. One file that fits is taken, and a note says so; several are ambiguous, and
none is taken. A name without the suffix of an image, such as the id of a table, means a file with any of the suffixes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from gfocal.data.images import SUFFIXES
from gfocal.data.paths import resolve_inside

FOUND_BY_LAST_PARTS = "image found by the last parts of its path, which is not that of this machine"
AMBIGUOUS = "several images fit the last parts of its path"
MAX_INDEXED = 2_000_000  # files below a folder that are listed to look names up; a whole disk is no dataset
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Located:
    """Where an image lies; ``path`` is None where it is not there, or where it is ambiguous."""

    path: Path | None
    by_last_parts: bool = False  # not as the name stands: a note is due
    candidates: tuple[Path, ...] = ()  # where it is ambiguous


@dataclass
class ImageLocator:
    """Looks up images below the folder of a dataset.

    Args:
        root: nothing outside this folder is ever returned.
        bases: folders below it from which names may start, tried in order; ``root`` itself is tried last.
    """

    root: Path
    bases: Sequence[Path] = ()
    _index: dict[str, list[tuple[str, ...]]] | None = field(default=None, init=False, repr=False)
    _stems: dict[str, list[tuple[str, ...]]] | None = field(default=None, init=False, repr=False)

    def locate(self, name: str) -> Located:
        """The image that a name means, whatever machine or server its path is of."""
        text = clean_name(name)
        for base in (*self.bases, self.root):
            path = resolve_inside(base, text) if text else None
            if path is not None and os.path.isfile(path):
                return Located(path)
        parts = tuple(part for part in text.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        if not parts:
            return Located(None)
        is_stem = os.path.splitext(parts[-1])[1].lower() not in SUFFIXES
        found = self._by_stem(parts) if is_stem else self._by_last_parts(parts)
        if len(found) == 1:
            shared = _shared_end(found[0][:-1], parts[:-1])
            return Located(self.root.joinpath(*found[0]), by_last_parts=not is_stem or shared < len(parts) - 1)
        return Located(None, candidates=tuple(self.root.joinpath(*one) for one in found[:5]))

    def _by_last_parts(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The indexed files of that base name which share most of the last parts of a path."""
        if self._index is None:
            self._index = _indexed(self.root)
        files = self._index.get(parts[-1].casefold(), [])
        exact = [file for file in files if file[-1] == parts[-1]]  # a file of the same case goes before others
        ranked = [(_shared_end(file, parts), file) for file in exact or files]
        best = max((rank for rank, _ in ranked), default=0)
        return [file for rank, file in ranked if rank == best]

    def _by_stem(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The indexed files whose names without suffix share most of the last parts, those below a base first."""
        if self._index is None:
            self._index = _indexed(self.root)
        if self._stems is None:
            self._stems = {}
            for file in (file for same in self._index.values() for file in same):
                self._stems.setdefault(os.path.splitext(file[-1])[0].casefold(), []).append(file)
        files = self._stems.get(parts[-1].casefold(), [])
        exact = [file for file in files if os.path.splitext(file[-1])[0] == parts[-1]]
        ranked = [(_shared_end(file[:-1], parts[:-1]), file) for file in exact or files]
        best = max((rank for rank, _ in ranked), default=0)
        found = [file for rank, file in ranked if rank == best]
        for base in self.bases:
            start = base.relative_to(self.root).parts if base != self.root else ()
            inside = [file for file in found if start and file[: len(start)] == start]
            if inside:
                return inside
        return found


def clean_name(name: str) -> str:
    """The path in a name: without scheme, host and query of a URL, with slashes, percent signs decoded.

    ``/data/local-files/?d=set/a.jpg`` of Label Studio is ``set/a.jpg``; ``C:\\set\\a.jpg`` is ``C:/set/a.jpg``.
    """
    text = name.strip()
    query = text.partition("?")[2] if "?d=" in text else ""
    if query and (inner := parse_qs(query).get("d")):
        return inner[0].replace("\\", "/")
    if _SCHEME.match(text):
        url = urlsplit(text)
        text = unquote(url.path).lstrip("/")
    return text.replace("\\", "/")


def _indexed(root: Path) -> dict[str, list[tuple[str, ...]]]:
    """Base name in lower case -> the parts below ``root`` of each image file of that name; nothing hidden."""
    index: dict[str, list[tuple[str, ...]]] = {}
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        below = Path(folder).relative_to(root).parts
        for file in sorted(files):
            if file.startswith(".") or os.path.splitext(file)[1].lower() not in SUFFIXES:
                continue
            index.setdefault(file.casefold(), []).append((*below, file))
            count += 1
            if count >= MAX_INDEXED:
                return index
    return index


def _shared_end(file: Iterable[str], parts: Iterable[str]) -> int:
    """How many of the last parts of two paths are equal, case aside."""
    count = 0
    for one, other in zip(reversed(tuple(file)), reversed(tuple(parts)), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count

"""Which file an annotation means by the name of an image: inside the dataset's folder, never outside of it.

Labeling tools write the path that an image had where it was labeled: of another machine, of a media server, a URL. A
name that is not there as it stands is looked up by its last parts (``.../train/a.jpg``, else ``a.jpg``) among the
image files below the dataset's folder, then without the prefix of an upload (``0a1b2c3d-a.jpg``); a name without the
suffix of an image, such as the id of a table, fits any. One file that fits is taken, and a note says so; several are
ambiguous, and none is taken. A file name alone never leads from one split to the folder of another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from gfocal.data.dataset import Problem
from gfocal.data.paths import SUFFIXES, find_split, resolve_inside, split_name
from gfocal.data.validation import UNSAFE
from gfocal.errors import DataError
from gfocal.text import one_line

FOUND_BY_LAST_PARTS = "image found by the last parts of its path, which is not that of this machine"
AMBIGUOUS = "several images fit the last parts of its path"
SAME_IMAGE = "several names lead to one image by their last parts"
MAX_INDEXED = 2_000_000  # files below a folder that are listed to look names up; a whole disk is no dataset
_PROBED = 20  # so many of the listed images are searched for to find their folder
_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "ann", "json")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}(-|__)(?=.)")  # of Label Studio

_Parts = tuple[str, ...]


@dataclass(frozen=True)
class Located:
    """Where an image lies; ``path`` is None where it is not there, or where it is ambiguous."""

    path: Path | None
    by_last_parts: bool = False  # not as the name stands: a note is due
    candidates: tuple[Path, ...] = ()  # where it is ambiguous
    expected: Path | None = None  # where it would be as its name stands; None: outside the folder
    shared: bool = False  # ambiguous because other names lead to the same file


@dataclass
class ImageLocator:
    """Looks up images below the folder of a dataset.

    Args:
        root: where names are looked up by their last parts; nothing outside this folder and ``bases`` is returned.
        bases: folders from which names may start, tried in order; ``root`` itself is tried last.
        split: of the images: a file in the folder of another split does not fit by its file name alone.
    """

    root: Path
    bases: Sequence[Path] = ()
    split: str | None = None
    _index: _Index | None = field(default=None, init=False, repr=False)

    def locate(self, name: str, folders: Sequence[str] = ()) -> Located:
        """The image that a name means, whatever machine or server its path is of.

        It is looked up first in ``folders`` below the root, as it stands and by its last parts.
        """
        own = tuple(self.root / folder for folder in folders)
        bases = (*own, *self.bases, self.root)
        expected = None
        for text in dict.fromkeys((name, clean_name(name))):
            for base in bases:
                path = resolve_inside(base, text) if text and "\0" not in text else None
                expected = expected or path
                if path is not None and os.path.isfile(path):
                    return Located(path)
        parts = _split_parts(clean_name(name))
        if not parts:
            return Located(None)
        found = self._by_last_parts(parts, own)
        if len(found) == 1:
            path = self.root.joinpath(*found[0])
            stems = {base.joinpath(*parts) for base in bases}  # of names that lack the suffix
            return Located(path, path.with_suffix("") not in stems, expected=expected)
        return Located(None, candidates=tuple(self.root.joinpath(*one) for one in found[:5]), expected=expected)

    def locate_all(self, names: Iterable[str | tuple[str, tuple[str, ...]]]) -> list[Located]:
        """The image of each name, or name and folders. What leads where another name leads is ambiguous.

        Of names that lead to one file those that are found by their last parts are ambiguous: several images of one
        file name, in folders of another machine, may have become one here.
        """
        pairs = [(name, ()) if isinstance(name, str) else name for name in names]
        known = {pair: self.locate(*pair) for pair in dict.fromkeys(pairs)}
        users: dict[Path, set[_Parts]] = {}
        for (name, _), one in known.items():
            if one.path is not None:
                users.setdefault(one.path, set()).add(_split_parts(clean_name(name).casefold()))
        for pair, one in known.items():
            if one.path is not None and one.by_last_parts and len(users[one.path]) > 1:
                known[pair] = replace(one, path=None, candidates=(one.path,), shared=True)
        return [known[pair] for pair in pairs]

    def take(self, found: Located, file: str, record: str, problems: list[Problem]) -> Path | None:
        """The path of a located image, or None and a problem; a note if it was found by the last parts of its name.

        An image that is missing inside the folder is returned as the path where it should be.
        """
        if found.path is not None:
            if found.by_last_parts:
                where = f"{record} -> {os.path.relpath(found.path, self.root)}"
                problems.append(Problem(file, where, FOUND_BY_LAST_PARTS, "kept"))
            return found.path
        if found.candidates:
            several = ", ".join(os.path.relpath(path, self.root) for path in found.candidates)
            reason = SAME_IMAGE if found.shared else AMBIGUOUS
            problems.append(Problem(file, f"{record}: {several}", reason, "dropped"))
            return None
        if found.expected is None:
            problems.append(Problem(file, record, UNSAFE, "dropped"))
        return found.expected

    def _by_last_parts(self, parts: _Parts, own: Sequence[Path]) -> list[_Parts]:
        """The indexed files that share most of the last parts of a path, those in ``own`` folders first."""
        if self._index is None:
            self._index = _list_files(self.root)
        last = parts[-1]
        is_stem = os.path.splitext(last)[1].lower() not in SUFFIXES
        first = (*own, *self.bases) if is_stem else own  # masks have the stems of their images
        without = _UPLOAD_PREFIX.sub("", last)
        named, uploaded, stems = self._index.named, self._index.uploaded, self._index.stems
        for files in (
            named(last),
            named(without),
            uploaded.get(last.casefold(), []),
            stems.get(last.casefold(), []),
            stems.get(without.casefold(), []),
        ):
            ranked = [(_shared_end(file[:-1], parts[:-1]), file) for file in files]
            ranked = [(rank, file) for rank, file in ranked if rank or not self._is_of_another_split(file)]
            if ranked:
                best = max(rank for rank, _ in ranked)
                found = [file for rank, file in ranked if rank == best]
                inside = ([f for f in found if _is_below(self.root.joinpath(*f), base)] for base in first)
                return next(filter(None, inside), found)
        return []

    def _is_of_another_split(self, file: _Parts) -> bool:
        splits = {split_name(part) for part in file[:-1]} - {None}
        return self.split is not None and bool(splits) and split_name(self.split) not in splits


def find_images(file: Path, names: Sequence[str]) -> ImageLocator:
    """The locator of the images that an annotation file names.

    Names start from the folder, among the usual ones near the file, that has most of the first images; others are
    looked up by their last parts below the folder of the file, or below the one that holds it if it is called
    annotations or by a split. Raises DataError, which lists the searched folders, if none of the images is found.
    """
    split = find_split(file.stem) or split_name(file.absolute().parent.name)
    probed, places = names[:_PROBED], _usual_folders(file)
    hits = [
        sum((p := resolve_inside(place, n)) is not None and os.path.isfile(p) for n in probed) for place in places
    ]
    best = places[hits.index(max(hits))]
    locator = ImageLocator(dataset_folder(file), [best] if max(hits) else [], split)
    if not names or max(hits) > 0:
        return locator
    found = [locator.locate(name) for name in names]
    if not any(one.path or one.candidates for one in found):
        raise DataError(
            f"{file}: images not found; move them to one of the folders in which {one_line(names[0])!r} was looked "
            "for: " + ", ".join(os.path.relpath(place, file.parent) for place in places) + " (relative to the file)"
        )
    if not any(one.path for one in found):
        candidates = next(one.candidates for one in found if one.candidates)
        several = ", ".join(os.path.relpath(path, file.parent) for path in candidates)
        raise DataError(f"{file}: images not found: {AMBIGUOUS}, e.g. {one_line(several)}; keep one of them")
    return locator


def dataset_folder(file: Path) -> Path:
    """The folder of the dataset of an annotation file: its own, or the one above annotations/ or train/."""
    here = file.parent if file.parent.name else file.parent.absolute()
    is_inner = here.name.lower() in _ANNOTATION_FOLDERS or split_name(here.name) is not None
    return here.parent if is_inner else here


def _usual_folders(file: Path) -> list[Path]:
    here, root = file.parent, file.parent.parent
    words = [file.stem.split("_", 1)[-1], *re.findall("[A-Za-z]+[0-9]*", file.stem)]
    words += [alias for w in words if (alias := split_name(w)) and alias != w]
    if "val" in words:
        words.append("valid")
    places = [here, *(here / w for w in words), here / "images", here / "data", *(here / "images" / w for w in words)]
    places += [*(root / w for w in words), *(root / "images" / w for w in words), root / "images", root]
    places += [root / "train2017", root / "val2017", root / "train", root / "JPEGImages"]
    return list(dict.fromkeys(places))


def clean_name(name: str) -> str:
    """The path in a name: without scheme, host and query of a URL, with slashes, percent signs decoded.

    ``/data/local-files/?d=set/a.jpg`` of Label Studio is ``set/a.jpg``; ``C:\\set\\a.jpg`` is ``C:/set/a.jpg``.
    """
    text = name.strip()
    query = text.partition("?")[2] if "?d=" in text else ""
    if query and (inner := parse_qs(query).get("d")):
        return inner[0].replace("\\", "/")
    if _SCHEME.match(text):
        try:
            text = unquote(urlsplit(text).path).lstrip("/")
        except ValueError:  # an address with brackets that is none
            text = text.partition("://")[2]
    return text.replace("\\", "/")


@dataclass
class _Index:
    """The parts below a folder of its image files, by their names in lower case."""

    names: dict[str, list[_Parts]] = field(default_factory=dict)
    stems: dict[str, list[_Parts]] = field(default_factory=dict)  # by the name without suffix
    uploaded: dict[str, list[_Parts]] = field(default_factory=dict)  # by the name without the prefix of an upload

    def named(self, name: str) -> list[_Parts]:
        """The files of a name; one of the same case goes before others."""
        files = self.names.get(name.casefold(), [])
        return [file for file in files if file[-1] == name] or files

    def add(self, file: _Parts) -> None:
        name = file[-1].casefold()
        self.names.setdefault(name, []).append(file)
        self.stems.setdefault(os.path.splitext(name)[0], []).append(file)
        if (match := _UPLOAD_PREFIX.match(name)) is not None:
            self.uploaded.setdefault(name[match.end() :], []).append(file)


def _list_files(root: Path) -> _Index:
    """All image files below a folder, nothing hidden. Symbolic links are followed: the owner of the disk set them."""
    index, count, seen = _Index(), 0, set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        below = Path(folder).relative_to(root).parts
        count += len(files)
        if count > MAX_INDEXED:
            raise DataError(f"{root}: more than {MAX_INDEXED:,} files: give the folder of the dataset alone")
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:
                index.add((*below, file))
    return index


def _is_below(path: Path, folder: Path) -> bool:
    return path.parts[: len(folder.parts)] == folder.parts


def _split_parts(text: str) -> _Parts:
    return tuple(part for part in text.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def _shared_end(file: Iterable[str], parts: Iterable[str]) -> int:
    """How many of the last parts of two paths are equal, case aside."""
    count = 0
    for one, other in zip(reversed(tuple(file)), reversed(tuple(parts)), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count

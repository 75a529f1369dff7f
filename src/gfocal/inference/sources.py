"""The images that a command line names: files, folders, patterns and lists."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from gfocal.data.paths import is_image, list_visible
from gfocal.errors import DataError
from gfocal.text import pluralize

STANDARD_INPUT = "-"
KNOWN_BY = "known by suffixes such as .jpg and .png"


# What people give in place of images.
_VIDEOS = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv", ".webm", ".flv", ".3gp", ".ts", ".mts", ".m2ts")
)
_ADDRESS = re.compile("([A-Za-z][A-Za-z0-9+.-]+):/+")  # a path may have lost one of its slashes
_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
_PLAYLISTS = (".m3u8", ".mpd")  # of streams over http
_CAMERA = re.compile("camera(:.+)?|/dev/video[0-9]+")

VideoKind = Literal["file", "stream", "camera"]


@dataclass
class FoundImages:
    """Image files in the order in which they are named, each once."""

    files: list[str]  # text, not Path: there may be millions
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # arguments that name no image, with the reason


def find_images(
    arguments: Sequence[str | Path], out: Path, lists: Sequence[Path] = (), standard_input: TextIO | None = None
) -> FoundImages:
    """The images that arguments and lists name.

    An argument is a file, a folder (searched with its subfolders, for names with the suffix of an image), a pattern
    such as ``a/**/*.jpg`` (for such names too), a list as ``@list.txt``, or ``-`` for a list on standard input. An
    existing file or folder is taken as such, whatever characters its name has. A list has a path to a file or folder
    in each line, relative to the current folder, not to that of the list. Images in ``out``, drawn by an earlier run,
    are left out.

    Raises DataError for a list that cannot be read.
    """
    result = FoundImages([])
    found: dict[str, None] = {}
    repeated = 0
    for argument in _expand_lists(arguments, lists, standard_input or sys.stdin):
        files, failure = _find(argument, out, result.notes)
        if failure:
            result.failures.append(failure)
        repeated += sum(file in found for file in files)
        found.update(dict.fromkeys(files))
    if repeated:
        result.notes.append(f"{pluralize(repeated, 'image')} named more than once, used once")
    result.files = list(found)
    return result


def video_kind(argument: str | Path) -> VideoKind | None:
    """What kind of video an argument names, as far as its name tells; None for anything else.

    A file, also one behind an address of http, is known by its suffix, a stream by its address (``rtsp://...``, or
    http with a playlist), a camera as ``camera``, ``camera:1`` or ``/dev/video1``.
    """
    text, suffix = str(argument), Path(argument).suffix.lower()
    if os.path.isdir(argument):
        return None
    if _CAMERA.fullmatch(text) and not os.path.isfile(text):
        return "camera"
    address = _ADDRESS.match(text)
    if address and (address[1].lower() in _STREAMS or suffix in _PLAYLISTS):
        return "stream"
    return "file" if suffix in _VIDEOS else None


def without_password(address: str) -> str:
    """An address as it may be shown and written to files: ``rtsp://me:secret@host`` as ``rtsp://me:***@host``."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", address)


def reason_against(argument: str | Path, of_absent: bool = True) -> str:
    """Why an argument names no image, as far as its name and a look at the disk tell; empty if it may name some.

    ``of_absent`` says whether a file that is not there is a reason.
    """
    text, path = str(argument), Path(argument)
    if os.path.isdir(path):
        return ""
    address = _ADDRESS.match(text)
    if video_kind(argument) in ("file", "stream"):
        source = "INPUT" if address else shlex.quote(text)
        return (
            f"{text}: a video, where images are expected; give its frames (ffmpeg -i {source} frames/%06d.png); "
            "'gfocal detect' alone takes videos, and no images beside them"
        )
    if os.path.exists(path):
        return ""
    if address:
        return f"{text}: addresses are not supported; download the image and give its file"
    if not of_absent or (isinstance(argument, str) and glob.has_magic(argument)):
        return ""
    return f"{text}: no such file or folder"


def _expand_lists(
    arguments: Sequence[str | Path], lists: Sequence[Path], standard_input: TextIO
) -> Iterator[str | Path]:
    """Patterns as str, files and folders as Path."""
    for argument in arguments:
        if argument == STANDARD_INPUT:
            yield from _lines(standard_input)
        elif str(argument).startswith("@") and not os.path.exists(argument):
            yield from _read_list(Path(str(argument)[1:]))
        elif isinstance(argument, str) and glob.has_magic(argument) and not os.path.exists(argument):
            yield argument
        else:
            yield Path(argument)
    for file in lists:
        yield from _read_list(file)


def _read_list(file: Path) -> list[Path]:
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


def _find(argument: str | Path, out: Path, notes: list[str]) -> tuple[list[str], str]:
    """The images of a pattern, file or folder; where there are none, the reason."""
    if isinstance(argument, str):
        matches = sorted(glob.iglob(argument, recursive=True))
        files = outside(out, [file for file in map(Path, matches) if is_image(file) and not file.is_dir()])
        return files, "" if files else f"{argument}: no image matches this pattern ({KNOWN_BY})"
    if reason := reason_against(argument, of_absent=False):
        return [], reason
    if not argument.is_dir():
        return [str(argument)], ""
    below = list_visible(argument, deep=True)
    files = outside(out, [file for file in below if is_image(file)], argument)
    others = outside(out, [file for file in below if not is_image(file) and file.is_file()], argument)
    if others:
        suffixes = ", ".join(sorted({Path(other).suffix.lower() or "no suffix" for other in others}))
        notes.append(f"{argument}: {pluralize(len(others), 'file')} skipped, not named like images ({suffixes})")
    return (
        files,
        "" if files else f"{argument}: no images in this folder ({KNOWN_BY}){_hint_at_videos(argument, others)}",
    )


def _hint_at_videos(folder: Path, files: Sequence[str]) -> str:
    videos = [Path(file) for file in files if video_kind(file) == "file"]
    if not videos:
        return ""
    return f"; {pluralize(len(videos), 'video')}, which are named one by one: {folder}/*{videos[0].suffix}"


def outside(out: Path, files: Sequence[Path], folder: Path | None = None) -> list[str]:
    """The files that are not in ``out``; all of them where ``out`` does not lie below the searched ``folder``."""
    drawn = out.resolve()
    if folder is not None and folder.resolve() not in drawn.parents:
        return [str(file) for file in files]
    return [str(file) for file in files if drawn not in file.resolve().parents]

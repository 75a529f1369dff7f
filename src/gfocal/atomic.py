"""Atomic file writes: a process that is killed while writing leaves no incomplete file."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = re.compile(r".+\.[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file, text or binary, so that ``path`` holds either its old content or all of the new.

    Yields a temporary path in the same folder for the caller to write to and close. On leaving without an exception
    that file is flushed to disk and renamed to ``path``; on any exception it is removed and ``path`` is unchanged. A
    symbolic link stays a link: the file it points to is replaced. The file has the permissions of the one it
    replaces, or those of any new file. The folder must exist. ::

        with atomic_write(folder / "report.json") as temporary:
            temporary.write_text(text)
    """
    target = Path(os.path.realpath(path))
    # The name ends in .tmp so that what a killed process leaves behind matches no pattern such as "*.pt".
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Some writers create files that only their owner can read; a new file gets the permissions of an empty one.
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        assert temporary.is_file(), f"nothing was written for {target}: write to the path that is yielded"
        if target.exists():
            shutil.copymode(target, temporary)
        else:
            temporary.chmod(stat.S_IMODE(mode))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and needs no flush
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that a new one takes its place and nothing is lost; returns the new path.

    ``run.json`` becomes ``run.aside-1.json``, or the next number that is free.
    """
    number = 1
    while (aside := path.with_name(f"{path.stem}.aside-{number}{path.suffix}")).exists():
        number += 1
    os.replace(path, aside)
    return aside


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove and return the temporary files of killed processes in a folder. No process may be writing there."""
    found = [path for path in folder.iterdir() if path.is_file() and TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return found

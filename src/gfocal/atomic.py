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
TEMPORARY_FOLDER = re.compile(r"\..+\.[0-9a-f]{8}\.gfocal-tmp")


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


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a new folder so that ``path`` is whole once it is there; an empty folder in its place is replaced.

    Yields a hidden folder beside it, which is renamed on leaving without an exception and removed on any. Such
    folders of processes that were killed are removed, too: those that no living process holds locked.
    """
    target = Path(os.path.abspath(path))
    _remove_abandoned(target.parent)
    work, lock = _make_locked_folder(target)
    try:
        yield work
        if target.exists():
            target.rmdir()
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make_locked_folder(target: Path) -> tuple[Path, int | None]:
    while True:
        work = target.with_name(f".{target.name}.{secrets.token_hex(4)}.gfocal-tmp")
        work.mkdir()
        lock = _lock_folder(work)
        if work.is_dir():  # not removed by another process before it was locked
            return work, lock
        if lock is not None:
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.iterdir():
        if TEMPORARY_FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            lock = _lock_folder(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _lock_folder(path: Path) -> int | None:
    """A descriptor by which this process holds a folder locked; None if another does, or the system has no locks."""
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


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

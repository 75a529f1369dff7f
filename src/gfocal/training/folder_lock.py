"""One run at a time in a folder: two that write the same state and weights would spoil both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".run.lock"
_held: set[Path] = set()  # by this process, whose own locks the system does not hold against it


class FolderInUse(RuntimeError):  # noqa: N818
    """Another process is training in this folder."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raises FolderInUse where another holds it.

    The lock is the system's, and goes with the process however it ends: a run that was killed can be gone on with at
    once. Processes that load pictures do not inherit it. Where the system has no such locks (Windows, some network
    disks), or the lock file is another user's, other processes are not held off.
    """
    place = folder.resolve()
    if place in _held:
        raise FolderInUse(f"{folder}: this process is training here already; name another folder")
    _held.add(place)
    try:
        with _locked(folder):
            yield
    finally:
        _held.discard(place)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = (folder / LOCK_FILE).open("a")
    except OSError:
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise FolderInUse(
                f"{folder}: another process is training here at this moment; wait for its end, stop it, or name "
                f"another folder with --out (a machine that is gone may hold {LOCK_FILE} there: take it away then)"
            ) from error
        except OSError:
            pass  # no locks on this disk
        yield

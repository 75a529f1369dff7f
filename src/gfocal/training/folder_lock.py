"""One run at a time in a folder: two that write the same state and weights would spoil both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".run.lock"


class FolderInUse(RuntimeError):  # noqa: N818
    """Another process is training in this folder."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raises FolderInUse where another holds it.

    The lock is the system's, and goes with the process however it ends: a run that was killed can be gone on with at
    once. Processes that load pictures do not inherit it. Where the system has no such locks (Windows, some network
    disks), nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise FolderInUse(
                f"{folder}: another process is training here at this moment; wait for its end, stop it, or name "
                "another folder with --out"
            ) from error
        except OSError:
            pass  # no locks on this disk
        yield

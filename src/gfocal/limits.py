"""Limits that the system sets a process: on open files and on memory, and the errors that mean they are reached."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress

from gfocal.errors import OpenFilesError
from gfocal.text import pluralize

WANTED_FILES = 65536  # the limit on open files is raised to this, where the system allows it
FILES_PER_WORKER = 48  # of a process that loads images: its pipes, and the tensors of batches that wait
ENOUGH_MEMORY = 2**26  # bytes: where fewer are left, that is why things fail
OTHER_FILES = 32  # opened for a moment: images, model files, states

_OUT_OF_MEMORY = re.compile(
    r"(?i)not enough memory|can(?:no|')t allocate memory|out of memory|bad_alloc|failed to map segment|"
    r"cannot allocate memory|Caught \w*MemoryError|can't start new thread"
)
_OUT_OF_FILES = re.compile(r"(?i)too many open files|items of ancillary data")


def open_file_limit() -> int | None:
    """How many files this process may have open; None where that is unknown or unlimited."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def raise_open_file_limit() -> None:
    """Raise the limit on open files as far as this user may, up to ``WANTED_FILES``."""
    limit = open_file_limit()
    if limit is None or limit >= WANTED_FILES:
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = WANTED_FILES if most == resource.RLIM_INFINITY else min(most, WANTED_FILES)
    if wanted > limit:
        with suppress(OSError, ValueError):  # macOS has a further limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def require_open_files(num_workers: int) -> None:
    """OpenFilesError if the limit on open files is too low for ``num_workers`` processes that load images.

    They would fail in the middle, some of them without an end: multiprocessing prints such an error and tries again.
    """
    limit = open_file_limit()
    needed = _count_open_files() + OTHER_FILES + FILES_PER_WORKER * num_workers
    if num_workers and limit is not None and limit < needed:
        raise OpenFilesError(
            f"too few open files: this process may open {limit} (ulimit -n), and to load images in "
            f"{pluralize(num_workers, 'process', 'processes')} it needs {needed}. Raise the limit (ulimit -n 4096), "
            "or load images without them (--num-workers 0)"
        )


def _count_open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return OTHER_FILES


def describe_out_of_files() -> str:
    """A line for an error that ``is_out_of_files``."""
    return (
        f"too many open files: this process may open {open_file_limit()} (ulimit -n). Raise the limit "
        "(ulimit -n 4096), or open fewer at once (--num-workers 0, or --jobs 1)"
    )


def is_out_of_files(error: BaseException) -> bool:
    """Whether an error means that the limit on open files, of the process or of the system, is reached."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    return not isinstance(error, KeyboardInterrupt) and _OUT_OF_FILES.search(str(error)) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or this process is out of memory.

    The allocators of torch and of the system's loader are recognized by their messages alone.
    """
    # By its name: torch may not be imported, or not completely.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, SystemError):  # an import that ran out of memory may leave no better error
        return not can_allocate(ENOUGH_MEMORY)
    return not isinstance(error, KeyboardInterrupt) and _OUT_OF_MEMORY.search(str(error)) is not None


def can_allocate(size: int) -> bool:
    """Whether ``size`` bytes can be allocated at this moment."""
    try:
        bytearray(size)
    except MemoryError:
        return False
    return True

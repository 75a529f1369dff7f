"""Runs that give the same bits each time on the same machine, GPU included."""

# FOLDED training.memory: Memory that a training step frees and wants again at once.
# FOLDED training.folder_lock: One run at a time in a folder: two that write the same state and weights would spoil both.
from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gfocal.errors import NonDeterministicOperationError, RunFolderInUseError


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """While this lasts, torch takes only operations that give the same bits each time, or says which one it lacks.

    Raises:
        NonDeterministicOperationError: an operation has no such version on this device.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when a GPU first multiplies matrices
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "determinis" not in reason and "CUBLAS_WORKSPACE_CONFIG" not in str(error):
            raise
        raise NonDeterministicOperationError(
            f"run.deterministic: {reason} Leave run.deterministic out, or compute where there is one (run.cpu = true)"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt's parameters, from malloc.h
_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have the C library keep the memory of freed tensors for the next step; returns whether it does.

    glibc hands large blocks back to the kernel when they are freed and takes them anew, page by page, at the
    next step: on a processor that is a fifth of a light network's training time. The process keeps its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6")
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _BYTES))


LOCK_FILE = ".run.lock"
_held: set[Path] = set()  # by this process, whose own locks the system does not hold against it


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raises RunFolderInUseError where another holds it.

    The lock is the system's, and goes with the process however it ends: a run that was killed can be gone on with at
    once. Processes that load images do not inherit it. Where the system has no such locks (Windows, some network
    disks), or the lock file is another user's, other processes are not held off.
    """
    place = folder.resolve()
    if place in _held:
        raise RunFolderInUseError(f"{folder}: this process is training here already; name another folder")
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
            raise RunFolderInUseError(
                f"{folder}: another process is training here at this moment; wait for its end, stop it, or name "
                f"another folder with --out (a machine that is gone may hold {LOCK_FILE} there: take it away then)"
            ) from error
        except OSError:
            pass  # no locks on this disk
        yield

"""The process that trains: deterministic operations, memory that it keeps, and its lock on the run directory."""

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
from gfocal.run_folder import RunFolder

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h
_MOST_BYTES = 2**31 - 1
_locked_here: set[Path] = set()  # by this process, against which its own system locks do not hold


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Within this, torch uses only operations that give the same bits each time, or names the one it lacks.

    Raises:
        NonDeterministicOperationError: an operation has no deterministic version on this device.
    """
    if not enabled:
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
            f"run.deterministic: {reason} Leave run.deterministic out, or compute on the CPU (run.cpu = true)"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def keep_freed_memory() -> bool:
    """Make the C library keep the memory of freed tensors for the next step; returns whether it does.

    glibc returns large blocks to the kernel when they are freed and gets them back, page by page, at the next step:
    on a CPU that is a fifth of a light network's training time. The process keeps its peak memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6")
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MOST_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _MOST_BYTES))


@contextmanager
def lock_folder(folder: RunFolder) -> Iterator[None]:
    """Lock a run directory for this process alone; RunFolderInUseError where another one holds it.

    The lock is the system's, and ends with the process however it ends: a run that was killed can be resumed at
    once. Processes that load images do not inherit it. Where the system has no such locks (Windows, some network
    disks), or the lock file is another user's, other processes are not kept out.
    """
    path = folder.path.resolve()
    if path in _locked_here:
        raise RunFolderInUseError(f"{folder.path}: this process is training here already; name another folder")
    _locked_here.add(path)
    try:
        with _system_lock(folder):
            yield
    finally:
        _locked_here.discard(path)


@contextmanager
def _system_lock(folder: RunFolder) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = folder.lock.open("a")
    except OSError:
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise RunFolderInUseError(
                f"{folder.path}: another process is training here at this moment; wait for its end, stop it, or name "
                f"another folder with --out (a lock of a machine that is gone: delete {folder.lock.name} there)"
            ) from error
        except OSError:
            pass  # no locks on this disk
        yield

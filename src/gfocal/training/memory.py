"""Memory that a training step frees and wants again at once."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

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

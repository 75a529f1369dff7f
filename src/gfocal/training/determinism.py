"""Runs that give the same bits each time on the same machine, GPU included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class NonDeterministicOperation(RuntimeError):  # noqa: N818
    """A deterministic run met an operation of which this device has no such version; the message names it."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """While this lasts, torch takes only operations that give the same bits each time, or says which one it lacks.

    Raises:
        NonDeterministicOperation: an operation has no such version on this device.
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
        raise NonDeterministicOperation(
            f"run.deterministic: {reason} Leave run.deterministic out, or compute where there is one (run.cpu = true)"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn

"""What torchrun or accelerate launch has told this process about itself."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process among those of the launch, from 0; 0 where there is only one."""
    return int(os.environ.get("RANK") or 0)


def world() -> int:
    """How many processes were launched together."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for all."""
    return rank() == 0

"""What torchrun or accelerate launch tells this process about itself, by environment variables."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process among those of the launch, from 0; 0 where there is only one."""
    return int(os.environ.get("RANK") or 0)


def world_size() -> int:
    """How many processes were launched together."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0

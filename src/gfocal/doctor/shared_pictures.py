"""Before the first step: pictures that are trained on and judged on as well, which flatters every number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from rich.console import Console

from gfocal.data.samples import FileData, ImageData
from gfocal.words import counted

TAIL = 4096  # bytes at the end of a file that are compared first: the ends of two photographs differ
MOST_OPENED = 20_000  # pictures: more of them are compared by their paths alone, for the time that it takes


def tell_shared(train_data: ImageData, val_data: ImageData | None, console: Console) -> None:
    """A warning where pictures of validation are training pictures too: one file, or files of equal bytes."""
    if not isinstance(train_data, FileData) or not isinstance(val_data, FileData):
        return
    pairs = shared_pictures(train_data, val_data)
    if not pairs:
        return
    first, other = pairs[0]
    which = str(first) if first == other else f"{first} is {other}"
    are = "is a training picture" if len(pairs) == 1 else "are training pictures"
    console.print(
        f"warning: {len(pairs)} of {counted(len(val_data), 'picture')} to validate on {are} too ({which}): AP and "
        "the choice of the best epoch are flattered; 'gfocal check' lists them, and those that are nearly the same",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def shared_pictures(train_data: FileData, val_data: FileData) -> list[tuple[Path, Path]]:
    """Pairs of a training and a validation picture that are one file, or two of equal bytes.

    Only files of equal size are opened, and only those of equal ends are read whole, each once. Files that cannot be
    read are passed over: whoever reads them will say so.
    """
    train, val = _paths(train_data), _paths(val_data)
    both = set(train) & set(val)
    pairs = [(path, path) for path in val if path in both]
    if max(len(train), len(val)) > MOST_OPENED:
        return pairs
    groups = [(train, [path for path in val if path not in both])]
    for mark in (_size, _tail, _digest):
        groups = [smaller for group in groups for smaller in _split(*group, mark)]
    return pairs + [(train_paths[0], path) for train_paths, val_paths in groups for path in val_paths]


def _paths(data: FileData) -> list[Path]:
    table = data.table
    return [path for i in range(len(table)) if (path := table.path(i)) is not None]


def _split(
    train: Sequence[Path], val: Sequence[Path], mark: Callable[[Path], Hashable]
) -> list[tuple[list[Path], list[Path]]]:
    """Groups of training and validation pictures that have a mark in common."""
    groups: dict[Hashable, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((train, val)):
        for path in paths:
            try:
                groups.setdefault(mark(path), ([], []))[side].append(path)
            except OSError:
                continue
    return [group for group in groups.values() if all(group)]


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) - TAIL))
        return file.read(TAIL)


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()

"""Data and devices that a command line names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.console import note

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from gfocal.config.config import Config
    from gfocal.data.dataset import ImageData, Problem


PIPE_WIDTH = 200  # columns


@contextmanager
def told_of_coco(is_expected: bool, path: str) -> Iterator[None]:
    """Where COCO itself is expected, what is missing is told together with where to get it."""
    from gfocal.data.coco_names import COCO_2017
    from gfocal.errors import DataError

    try:
        yield
    except DataError as error:
        if not is_expected:
            raise
        raise DataError(f"{error}\n{COCO_2017.format(path=path)}") from error


def first_split(data: str, *wanted: str) -> str | None:
    """The first of the wanted splits that a dataset has."""
    from gfocal.data.discovery import list_splits

    if data == "synthetic":
        return wanted[0]
    there = list_splits(Path(data))
    return next((name for name in wanted if name in there), None)


def parts_of(paths: Sequence[str], asked: str | None, *wanted: str) -> list[tuple[str, str | None]]:
    """Each dataset with the split that is asked for, else the first of the wanted that it has, else None: all."""
    return [(path, asked or first_split(path, *wanted)) for path in paths]


def read_all(
    parts: Sequence[tuple[str, str | None]],
    console: Console,
    config: Config | None = None,
    names: Sequence[str] | None = None,
    renames: Sequence[tuple[str, str]] = (),
) -> ImageData:
    """Several datasets, each with its split, as one; see ``read`` and ``gfocal.data.views``."""
    from gfocal.data.views import ONE_CLASS, as_one_class, concatenate
    from gfocal.errors import DataError

    if len(parts) == 1 and not renames:
        path, split = parts[0]
        return read(path, split, console, config, names)
    where = ", ".join(path for path, _ in parts)
    sets = [read(path, split, console, config) for path, split in parts]
    files = [data.files for data in sets if data.files is not None]
    if len(files) < len(sets):
        raise DataError(
            f"{where}: synthetic images neither join other data nor change their classes; give them alone"
        )
    is_one = names is not None and tuple(names) == ONE_CLASS
    found = concatenate(files, None if is_one else names, dict(renames), where)
    tell(found.problems[sum(len(data.problems) for data in files) :], console)
    return as_one_class(found) if is_one else found


def tell(problems: Sequence[Problem], console: Console) -> None:
    """What is wrong with the files, a line for each kind."""
    from gfocal.data.validation import summarize

    for line in summarize(problems):
        note(console, line)


def read(
    data: str,
    split: str | None,
    console: Console,
    config: Config | None = None,
    names: Sequence[str] | None = None,
) -> ImageData:
    """A dataset by its path, its problems told; ``synthetic`` draws scenes of the config's size.

    Where the one class "object" is expected, every class of the data counts as it.
    """
    from gfocal.data.views import ONE_CLASS, as_one_class

    if names is not None and tuple(names) == ONE_CLASS:
        found = read(data, split, console, config)
        if found.names != ONE_CLASS:
            note(console, f"the model knows one class, {ONE_CLASS[0]}: all {len(found.names)} of the data are it")
        return as_one_class(found)
    from gfocal.data.discovery import read_data
    from gfocal.data.paths import class_mismatch
    from gfocal.data.synthetic.scenes import SyntheticScenes

    if data == "synthetic":
        if names is not None and tuple(names) != SyntheticScenes.names:
            raise class_mismatch(SyntheticScenes.names, names, data)
        size = (config.size.short_side if config else None) or 192
        seed = config.run.seed if config else 0
        return SyntheticScenes(1000 if split == "train" else 200, size, seed, split or "test")
    found = read_data(Path(data), split, names)
    tell(found.problems, console)
    return found


def standard_output() -> Console:
    """What is asked for goes to standard output, everything else to standard error.

    In a file or a pipe lines are not folded at the 80 columns that a terminal of unknown width is taken for.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def chosen_device(args: argparse.Namespace) -> torch.device:
    """The device of --device, else the first GPU, else the processor; DeviceError for one that is not there."""
    import torch

    from gfocal.errors import DeviceError

    if args.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros((), device=args.device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {args.device}: not there ({reason}); leave it out, or say cpu") from error

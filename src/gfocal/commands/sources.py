"""Data and devices that a command line names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from gfocal.configs import Recipe
    from gfocal.data.samples import ImageData


@contextmanager
def told_of_coco(is_expected: bool, path: str) -> Iterator[None]:
    """Where COCO itself is expected, what is missing is told together with where to get it."""
    from gfocal.data.coco_names import COCO_2017
    from gfocal.data.samples import DataError

    try:
        yield
    except DataError as error:
        if not is_expected:
            raise
        raise DataError(f"{error}\n{COCO_2017.format(path=path)}") from error


def first_split(data: str, *wanted: str) -> str | None:
    """The first of the wanted splits that a data set has."""
    from gfocal.data.discovery import splits

    if data == "synthetic":
        return wanted[0]
    there = splits(Path(data))
    return next((name for name in wanted if name in there), None)


def read(
    data: str,
    split: str | None,
    console: Console,
    recipe: Recipe | None = None,
    names: Sequence[str] | None = None,
) -> ImageData:
    """A data set by its path, its problems told; ``synthetic`` draws scenes of the recipe's size."""
    from gfocal.data.discovery import read_data
    from gfocal.data.layouts import mismatch
    from gfocal.data.synthetic import SyntheticScenes
    from gfocal.data.validation import summary

    if data == "synthetic":
        if names is not None and tuple(names) != SyntheticScenes.names:
            raise mismatch(SyntheticScenes.names, names, data)
        size = (recipe.size.short_side if recipe else None) or 192
        seed = recipe.run.seed if recipe else 0
        return SyntheticScenes(1000 if split == "train" else 200, size, seed, split or "test")
    found = read_data(Path(data), split, names)
    for line in summary(found.problems):
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    return found


def standard_output() -> Console:
    """What is asked for goes to standard output, everything else to standard error."""
    from rich.console import Console

    return Console()


def chosen_device(chosen: argparse.Namespace) -> torch.device:
    """The device of --device, else the first GPU, else the processor; DeviceError for one that is not there."""
    import torch

    from gfocal.training.distributed import DeviceError

    if chosen.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros((), device=chosen.device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {chosen.device}: not there ({reason}); leave it out, or say cpu") from error

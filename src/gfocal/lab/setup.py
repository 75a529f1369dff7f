"""What all runs of a lab share: base config and data, by budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from gfocal.config.config import Config, read_config, with_changes
from gfocal.console import note
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.validation import summarize
from gfocal.errors import DataError, LabError

Budget = Literal["small", "paper"]
Fact = str | int | float

SYNTHETIC = "synthetic"
IMAGES_PER_EPOCH = 500
TEST_IMAGES = 300
TEST_SEED = 0  # the same test images for every run; drawn for the split "test", so that no run trains on them


@dataclass(frozen=True)
class LabSetup:
    """Base config and data of a lab."""

    budget: Budget
    data: str  # as the user named it
    config_name: str
    config: Config
    data_description: str  # part of the name of every run
    changes: str = ""  # of the base config, as the user stated them


@dataclass(frozen=True)
class LabData:
    """Images to train on, other ones for every seed if they are synthetic, and to evaluate on, always the same."""

    train: Callable[[int], ImageData]  # of the seed of a run
    val: ImageData


def make_setup(budget: Budget, data: str, changes: Mapping[str, str] | None = None) -> LabSetup:
    """The setup of a budget: ``small`` for one computer, ``paper`` for the paper's own config on COCO.

    ``changes`` are of the base config; what a row itself changes stands above them.

    Raises:
        LabError: budget ``paper`` without data.
        DataError: there is no dataset at that path, or it lacks a split.
        ConfigError: a change names an unknown key, or a value does not fit.
    """
    if budget == "paper":
        if data == SYNTHETIC:
            raise LabError("--budget paper trains on COCO: give --data PATH/TO/coco")
        name, text = "coco_r50_1x", Path(data).resolve().name
    elif data == SYNTHETIC:
        name = "lab_synthetic"
        text = f"{IMAGES_PER_EPOCH} new synthetic images per epoch, evaluated on {TEST_IMAGES} others"
    else:
        train, val = (read_data(data, split) for split in find_splits(data))
        name = "lab_files"
        text = f"{Path(data).resolve().name}, {len(train)} images, evaluated on {len(val)} others"
    config = with_changes(read_config(name), changes or {}, "--set")
    stated = ", ".join(f"{key} = {value}" for key, value in (changes or {}).items())
    return LabSetup(budget, data, name, config, text, stated)


def load_lab_data(setup: LabSetup, console: Console) -> LabData:
    """The images of a setup. Problems with them are printed as notes.

    Raises:
        DataError: there is no dataset at that path, or it lacks a split.
    """
    if setup.data == SYNTHETIC:
        size = setup.config.size.short_side
        assert size is not None, "the config of synthetic images has their size"
        return LabData(
            lambda seed: SyntheticScenes(IMAGES_PER_EPOCH, size, seed, "train"),
            SyntheticScenes(TEST_IMAGES, size, TEST_SEED, "test"),
        )
    train_split, val_split = find_splits(setup.data)
    train = read_data(setup.data, train_split)
    val = read_data(setup.data, val_split, train.names)
    for line in (*summarize(train.problems), *summarize(val.problems)):
        note(console, line)
    return LabData(lambda seed: train, val)


def find_splits(data: str) -> tuple[str, str]:
    """Names of the splits to train on and to evaluate on.

    Raises:
        DataError: there is no dataset, or it lacks one of the two.
    """
    there = list_splits(Path(data))
    val = next((name for name in ("val", "test") if name in there), None)
    if "train" not in there or val is None:
        raise DataError(
            f"{data}: the lab needs a split named train and one named val or test; "
            f"there {'is' if len(there) == 1 else 'are'} {', '.join(there) or 'none'}"
        )
    return "train", val

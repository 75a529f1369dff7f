"""What all runs of a lab have in common: the base config and the data, chosen by a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from gfocal.config.config import Config, read_config
from gfocal.console import note
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data, splits
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.validation import summary
from gfocal.errors import DataError, LabError

Budget = Literal["small", "paper"]
Fact = str | int | float

SYNTHETIC = "synthetic"
SCENES_PER_EPOCH = 500
UNSEEN_SCENES = 300
UNSEEN_SEED = 0  # the same unseen scenes for every run; of purpose "test", so that no run trains on them


@dataclass(frozen=True)
class LabSetting:
    """Base config and data of a lab."""

    budget: Budget
    data: str  # as the user named it
    config_name: str
    config: Config
    data_text: str  # says which data; part of what makes a run the run it is


@dataclass(frozen=True)
class LabData:
    """Images to train on, drawn anew for every seed where they are drawn, and to evaluate on, always the same."""

    train: Callable[[int], ImageData]  # of a run's seed
    val: ImageData


def lab_setting(budget: Budget, data: str) -> LabSetting:
    """The setting of a budget: ``small`` for one computer, ``paper`` for the paper's own config on COCO.

    Raises:
        LabError: the paper's config is asked for without data.
        DataError: there is no dataset at that path, or it has no two splits.
    """
    if budget == "paper":
        if data == SYNTHETIC:
            raise LabError("--budget paper takes the config of the paper on COCO: give --data PATH/TO/coco")
        return LabSetting(budget, data, "coco_r50_1x", read_config("coco_r50_1x"), Path(data).resolve().name)
    if data == SYNTHETIC:
        config = read_config("lab_synthetic")
        text = f"{SCENES_PER_EPOCH} new synthetic images an epoch, evaluated on {UNSEEN_SCENES} unseen ones"
        return LabSetting(budget, data, "lab_synthetic", config, text)
    train, val = (read_data(data, split) for split in train_and_val(data))
    text = f"{Path(data).resolve().name}, {len(train)} images, evaluated on {len(val)} others"
    return LabSetting(budget, data, "lab_files", read_config("lab_files"), text)


def lab_data(setting: LabSetting, console: Console) -> LabData:
    """The images of a setting; what is wrong with some of them is told once.

    Raises:
        DataError: as ``lab_setting``.
    """
    if setting.data == SYNTHETIC:
        size = setting.config.size.short_side
        assert size is not None, "the config of synthetic images states their size"
        return LabData(
            lambda seed: SyntheticScenes(SCENES_PER_EPOCH, size, seed, "train"),
            SyntheticScenes(UNSEEN_SCENES, size, UNSEEN_SEED, "test"),
        )
    train_split, val_split = train_and_val(setting.data)
    train = read_data(setting.data, train_split)
    val = read_data(setting.data, val_split, train.names)
    for line in (*summary(train.problems), *summary(val.problems)):
        note(console, line)
    return LabData(lambda seed: train, val)


def train_and_val(data: str) -> tuple[str, str]:
    """Names of the splits to train and to evaluate on.

    Raises:
        DataError: there is no dataset, or it lacks one of them.
    """
    there = splits(Path(data))
    evaluation = next((name for name in ("val", "test") if name in there), None)
    if "train" not in there or evaluation is None:
        raise DataError(
            f"{data}: the lab needs a split named train and one named val or test; "
            f"there {'is' if len(there) == 1 else 'are'} {', '.join(there) or 'none'}"
        )
    return "train", evaluation

"""The processes that load images: what they share with the run, and that they end with it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from PIL import Image

from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
from gfocal.data.dataset import FileData, Problem, Sample
from gfocal.data.loading import EvaluationItems, TrainingItems, drop_problems, training_loader
from gfocal.data.preprocess import InputSettings

SETTINGS = InputSettings(short_side=32, long_side=32)


class Telling(FileData):
    """Data whose read tells about the process that reads."""

    def read(self, index: int) -> tuple[torch.Tensor, Sample]:
        about = torch.tensor([gc.get_freeze_count() > 10_000, len(self.problems), os.getpid() % 251])
        return about.to(torch.uint8).view(3, 1, 1).expand(3, 32, 32).contiguous(), self.sample(index)


def data(kind: type[FileData] = FileData, count: int = 4) -> FileData:
    none = torch.zeros(0, dtype=torch.int64)
    samples = [Sample(i, Path(f"{i}.png"), torch.zeros(0, 4), none, none.bool(), (32, 32)) for i in range(count)]
    return kind(("a",), (1,), samples, [Problem("file", "record", "reason", "kept")])


def test_workers_share_the_arrays_and_get_no_problems() -> None:
    plain = InputSettings((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32, 32)
    augmentation = Augmentation(AugmentSettings(flip=0), 32, 32)
    whole = data(Telling)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader, _ = training_loader(whole, augmentation, plain, 2, 0, num_workers=1)
        told = torch.cat([batch.images[:, :, 0, 0] for batch in loader])
    assert told[:, :2].tolist() == [[1, 0]] * 4
    assert (told[:, 2] != os.getpid() % 251).all()
    assert len(whole.problems) == 1, "the run keeps them"
    items = loader.dataset
    assert isinstance(items, TrainingItems)
    assert isinstance(items.data, Telling)
    assert items.data.table is whole.table
    assert EvaluationItems(drop_problems(whole), plain).data.sample(2).image_id == 2


def test_portrait_images_are_known_by_their_sizes() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    sizes = [(20, 10), (10, 20), (10, 10), None, (11, 10), (5, 9)]
    samples = [Sample(i, None, torch.zeros(0, 4), none, none.bool(), size) for i, size in enumerate(sizes)]
    augmentation = Augmentation(AugmentSettings(), 32, 32)
    loader, _ = training_loader(FileData(("a",), (1,), samples), augmentation, SETTINGS, 2, 0)
    assert list(loader.batch_sampler.upright) == [True, False, False, False, True, False]  # type: ignore[union-attr]


def test_unexpected_error_ends_the_run_and_its_workers(tmp_path: Path) -> None:
    """They leave SIGTERM to the run, and so Python's own way to end them."""
    for number in range(4):
        Image.new("L", (32, 32)).save(tmp_path / f"{number}.png")
    script = """
import sys, torch
from pathlib import Path
from gfocal.data.loading import training_loader
from gfocal.data.preprocess import InputSettings
from gfocal.data.dataset import FileData, Sample
from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
none = torch.zeros(0, dtype=torch.int64)
samples = [Sample(i, Path(sys.argv[1], f"{i}.png"), torch.zeros(0, 4), none, none.bool()) for i in range(4)]
augmentation = Augmentation(AugmentSettings(), 32, 32)
settings = InputSettings(short_side=32, long_side=32)
loader, _ = training_loader(FileData(("a",), (1,), samples), augmentation, settings, 1, 0, num_workers=1)
for batch in loader:
    raise KeyError("nobody expected this")
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "KeyError: 'nobody expected this'" in ended.stderr

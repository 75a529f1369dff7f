"""From pictures with truth to batches: augmentation, normalisation, padding.

What a sample looks like depends on the seed, the epoch and its own number alone, never on the worker that
loads it: a run that is resumed sees the pictures that it would have seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfocal.data.orders import BatchOrder, EpochOrder
from gfocal.data.preparation import InputSettings, normalise, resize, resized_shape, stack_padded
from gfocal.data.samples import DataError, FileData, ImageData, Sample
from gfocal.data.transforms import Augmentation, scale_xyxy
from gfocal.structures import Batch, pad_targets

# How many unreadable pictures in a row end an epoch: more is no accident of one file.
MAX_UNREADABLE = 20


@dataclass(frozen=True)
class Item:
    """One picture on its way into a batch."""

    image: Tensor  # (3, h, w) float32, normalised
    boxes: Tensor  # (G, 4) xyxy in pixels of ``image``
    labels: Tensor  # (G,)
    original_size: tuple[int, int]
    image_id: int


class TrainingItems(Dataset[Item]):
    """Augmented pictures with their truth; crowd regions are no truth for training."""

    def __init__(self, data: ImageData, augmentation: Augmentation, input_settings: InputSettings, seed: int) -> None:
        self.data, self.augmentation, self.input_settings, self.seed = (
            data,
            augmentation,
            input_settings,
            seed,
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Item:
        epoch, index = epoch_and_index
        image, sample = read_or_next(self.data.at_epoch(epoch), index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + index) % 2**63)
            boxes, labels = sample.boxes[~sample.crowd], sample.labels[~sample.crowd]
            original_size = (int(image.shape[-2]), int(image.shape[-1]))
            image, boxes, labels = self.augmentation(image, boxes, labels)
        return Item(normalise(image, self.input_settings), boxes, labels, original_size, sample.image_id)


class EvaluationItems(Dataset[Item]):
    """Pictures as the test-time protocol sees them: resized, nothing else.

    One that cannot be read is shown as an even surface, in which nothing is to be found, so that its objects
    count as missed and a broken file does not end a run.
    """

    def __init__(self, data: ImageData, input_settings: InputSettings) -> None:
        self.data, self.input_settings = data, input_settings

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Item:
        settings = self.input_settings
        try:
            image, sample = self.data.read(epoch_and_index[1])
        except DataError as error:
            warnings.warn(f"{error}; its objects count as missed", stacklevel=2)
            sample = self.data.sample(epoch_and_index[1])
            even = torch.tensor(settings.mean).round().to(torch.uint8)
            image = even.view(3, 1, 1).expand(3, *(sample.size or (settings.short_side, settings.short_side)))
        old = (int(image.shape[-2]), int(image.shape[-1]))
        new = resized_shape(*old, settings.short_side, settings.long_side)
        boxes = sample.boxes * scale_xyxy(old, new)
        return Item(
            normalise(resize(image, new, settings.antialias), settings), boxes, sample.labels, old, sample.image_id
        )


def read_or_next(data: ImageData, index: int) -> tuple[Tensor, Sample]:
    """A picture, or the next one that can be read: one broken file does not end an epoch."""
    for offset in range(MAX_UNREADABLE):
        try:
            return data.read((index + offset) % len(data))
        except DataError as error:
            warnings.warn(f"{error}; the next picture takes its place", stacklevel=2)
            last = error
    raise DataError(f"{MAX_UNREADABLE} pictures in a row cannot be read; the last one: {last}")


@dataclass(frozen=True)
class Collate:
    """Items -> one padded batch."""

    multiple: int

    def __call__(self, items: Sequence[Item]) -> Batch:
        """As the class says."""
        return Batch(
            images=stack_padded([item.image for item in items], self.multiple),
            targets=pad_targets([item.boxes for item in items], [item.labels for item in items]),
            sizes=torch.tensor([item.image.shape[-2:] for item in items]),
            original_sizes=torch.tensor([item.original_size for item in items]),
            image_ids=tuple(item.image_id for item in items),
        )


def training_loader(
    data: ImageData,
    augmentation: Augmentation,
    input_settings: InputSettings,
    batch_size: int,
    seed: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> tuple[DataLoader[Batch], EpochOrder]:
    """Batches of one process, and the order whose ``epoch`` must be set before each epoch."""
    order = EpochOrder(len(data), seed, True, rank, world)
    items = TrainingItems(data, augmentation, input_settings, seed)
    upright = [False] * len(data)
    if isinstance(data, FileData):
        upright = [sample.size is not None and sample.size[0] > sample.size[1] for sample in data.samples]
    return _loader(items, BatchOrder(order, upright, batch_size), workers, input_settings), order


def evaluation_loader(
    data: ImageData,
    input_settings: InputSettings,
    batch_size: int,
    workers: int = 0,
) -> DataLoader[Batch]:
    """Batches in the order of the data."""
    order = EpochOrder(len(data), 0, shuffle=False)
    batches = BatchOrder(order, [False] * len(data), batch_size)
    return _loader(EvaluationItems(data, input_settings), batches, workers, input_settings)


def _loader(items: Dataset[Item], batches: BatchOrder, workers: int, settings: InputSettings) -> DataLoader[Batch]:
    return DataLoader[Any](
        items,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=Collate(settings.multiple),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )

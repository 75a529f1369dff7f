"""From images with ground truth to batches: augmentation, normalization, padding.

What a sample looks like depends on the seed, the epoch and its own number alone, never on the worker that
loads it: a run that is resumed sees the images that it would have seen.
"""

from __future__ import annotations

import atexit
import gc
import signal
import warnings
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfocal.data.augmentation.labelled import Labelled
from gfocal.data.augmentation.pipeline import Augmentation
from gfocal.data.dataset import FileData, ImageData, Sample
from gfocal.data.preprocess import InputSettings, normalize, resize, resized_shape, scale_xyxy, stack_padded
from gfocal.data.samplers import BatchOrder, EpochOrder
from gfocal.errors import DataError
from gfocal.structures import Batch, pad_targets

# How many unreadable images in a row end an epoch: more is no accident of one file.
MAX_UNREADABLE = 20


@dataclass(frozen=True)
class Item:
    """One image on its way into a batch."""

    image: Tensor  # (3, h, w) float32, normalized
    boxes: Tensor  # (G, 4) xyxy in pixels of ``image``
    labels: Tensor  # (G,)
    ignored: Tensor  # (G,) bool: no ground truth, but regions to be ignored
    original_size: tuple[int, int]
    image_id: int


class TrainingItems(Dataset[Item]):
    """Augmented images with their ground truth; crowd regions come along as ignored.

    ``epochs`` is the number of epochs of the run: in the last of them, as many as the augmentation's settings close,
    no images are mixed. None: the run has no end.
    """

    def __init__(
        self,
        data: ImageData,
        augmentation: Augmentation,
        input_settings: InputSettings,
        seed: int,
        epochs: int | None = None,
    ) -> None:
        self.data, self.augmentation, self.input_settings, self.seed = (
            data,
            augmentation,
            input_settings,
            seed,
        )
        self.closed_from = None if epochs is None else epochs - augmentation.settings.close_epochs

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Item:
        epoch, index = epoch_and_index
        data = self.data.at_epoch(epoch)

        def another() -> Labelled:
            """Drawn by the sample's own generator, so that no worker has a say in it."""
            image, sample = read_or_next(data, int(torch.randint(len(data), ())))
            return Labelled(image, sample.boxes, sample.labels, sample.crowd)

        others = another if self.closed_from is None or epoch < self.closed_from else None
        image, sample = read_or_next(data, index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + index) % 2**63)
            original_size = (int(image.shape[-2]), int(image.shape[-1]))
            image, boxes, labels, ignored = self.augmentation(
                image, sample.boxes, sample.labels, sample.crowd, others
            )
        image = normalize(image, self.input_settings)
        return Item(image, boxes, labels, ignored, original_size, sample.image_id)


class EvaluationItems(Dataset[Item]):
    """Images as the test-time protocol sees them: resized, nothing else.

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
        image = normalize(resize(image, new, settings.antialias), settings)
        return Item(image, boxes, sample.labels, sample.crowd, old, sample.image_id)


def read_or_next(data: ImageData, index: int) -> tuple[Tensor, Sample]:
    """An image, or the next one that can be read: one broken file does not end an epoch."""
    for offset in range(MAX_UNREADABLE):
        try:
            return data.read((index + offset) % len(data))
        except DataError as error:
            warnings.warn(f"{error}; the next image takes its place", stacklevel=2)
            last = error
    raise DataError(f"{MAX_UNREADABLE} images in a row cannot be read; the last one: {last}")


@dataclass(frozen=True)
class Collate:
    """Items -> one padded batch."""

    multiple: int

    def __call__(self, items: Sequence[Item]) -> Batch:
        """As the class says."""
        return Batch(
            images=stack_padded([item.image for item in items], self.multiple),
            targets=pad_targets(
                [item.boxes for item in items], [item.labels for item in items], [item.ignored for item in items]
            ),
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
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
    epochs: int | None = None,
) -> tuple[DataLoader[Batch], EpochOrder]:
    """Batches of one process, and the order whose ``epoch`` must be set before each epoch.

    ``epochs`` of the run say which are the last, in which no images are mixed; None: none is.
    """
    order = EpochOrder(len(data), seed)
    items = TrainingItems(without_problems(data), augmentation, input_settings, seed, epochs)
    upright = [False] * len(data)
    if isinstance(data, FileData):
        sizes = data.table.sizes
        upright = (sizes[:, 0] > sizes[:, 1]).tolist()
    return _loader(items, BatchOrder(order, upright, batch_size, rank, world), num_workers, input_settings), order


def evaluation_loader(
    data: ImageData,
    input_settings: InputSettings,
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Batches in the order of the data.

    Of several processes each gets every ``world``-th batch, whole: an image is seen beside the ones that it is
    seen with in one process, so that its detections are the same to the last bit.
    """
    order = EpochOrder(len(data), 0, shuffle=False)
    batches = list(BatchOrder(order, [False] * len(data), batch_size))[rank::world]
    return _loader(EvaluationItems(without_problems(data), input_settings), batches, num_workers, input_settings)


def _loader(
    items: Dataset[Item], batches: Iterable[list[tuple[int, int]]], num_workers: int, settings: InputSettings
) -> DataLoader[Batch]:
    loader = DataLoader[Any](
        items,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=Collate(settings.multiple),
        persistent_workers=num_workers > 0,
        worker_init_fn=start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    # An error that ends Python keeps the loader alive, and Python would wait for ever for processes that it asks by
    # SIGTERM to end: they leave that to the run. This comes before Python asks.
    atexit.register(stop_workers, weakref.ref(loader))
    return loader


def stop_workers(loader: weakref.ref[DataLoader[Batch]]) -> None:
    """End the processes of a loader, if it is still there and has begun an epoch."""
    iterator = getattr(loader(), "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def start_worker(worker: int) -> None:
    """What a process that loads images does first."""
    leave_signals_to_the_run(worker)
    # Looking for garbage writes into every object there is, which would copy what the process shares with the run.
    gc.freeze()


def without_problems(data: ImageData) -> ImageData:
    """The data as processes that load images need them: what was wrong with the files is told already."""
    return replace(data, problems=[]) if isinstance(data, FileData) else data


def leave_signals_to_the_run(worker: int) -> None:
    """Ctrl-C and SIGTERM go to all processes of a group: the run decides what to do, and needs its workers for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

"""From images with ground truth to batches: augmentation, normalization, padding.

A training sample depends on the seed, the epoch and its index alone (its size also on its batch, if the augmentation
says so), not on the worker process that loads it: a resumed run sees the images that an uninterrupted one would have.
"""

from __future__ import annotations

import atexit
import gc
import signal
import warnings
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gfocal.data.augmentation.labeled_image import LabeledImage
from gfocal.data.augmentation.pipeline import Augmentation
from gfocal.data.dataset import ImageData, Sample
from gfocal.data.images import max_pixels, set_max_pixels
from gfocal.data.preprocess import InputSettings, normalize_batch, resize_to_input, scale_xyxy
from gfocal.data.samplers import BatchOrder, EpochOrder
from gfocal.data.survey import with_value_range
from gfocal.errors import DataError
from gfocal.limits import require_open_files
from gfocal.structures import Batch, pad_targets

# So many unreadable images in a row end the run: that is not a single broken file.
MAX_UNREADABLE = 20
NEVER = 2**62  # an epoch that no run has


@dataclass(frozen=True)
class Item:
    """One preprocessed image with its ground truth, before batching."""

    image: Tensor  # (3, h, w) uint8, resized
    boxes: Tensor  # (G, 4) xyxy in pixels of ``image``
    labels: Tensor  # (G,)
    ignored: Tensor  # (G,) bool: ignored regions, not ground truth
    original_size: tuple[int, int]
    image_id: int


class TrainingItems(Dataset[Item]):
    """Augmented images with their ground truth; crowd regions are flagged as ignored.

    ``epochs`` is the number of epochs of the run: in its last ``close_epochs`` (of the augmentation's settings) no
    images are mixed. None: images are mixed in every epoch.
    """

    def __init__(
        self,
        data: ImageData,
        augmentation: Augmentation,
        input_settings: InputSettings,
        seed: int,
        epochs: int | None = None,
    ) -> None:
        self.data, self.augmentation = _in_range_of(input_settings, data), augmentation
        self.input_settings, self.seed = input_settings, seed
        closed_from = NEVER if epochs is None else epochs - augmentation.settings.close_epochs
        # The epoch from which no images are mixed; a tensor, whose memory processes that load images can share.
        self.closed_from = torch.tensor(closed_from)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, ...]) -> Item:
        """The item of an epoch and index; a third number is that of its batch, whose images may have one size."""
        epoch, index, *of_batch = place
        data = self.data.at_epoch(epoch)

        def read_random() -> LabeledImage:
            """Chosen by the sample's own generator, so that it does not depend on the worker."""
            image, sample = read_or_next(data, int(torch.randint(len(data), ())))
            return LabeledImage(image, sample.boxes, sample.labels, sample.crowd)

        others = read_random if epoch < int(self.closed_from) else None
        image, sample = read_or_next(data, index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 + index) % 2**63)
            original_size = (int(image.shape[-2]), int(image.shape[-1]))
            image, boxes, labels, ignored = self.augmentation(
                image,
                sample.boxes,
                sample.labels,
                sample.crowd,
                others,
                self._sides(epoch, *of_batch) if of_batch else None,
            )
        return Item(image, boxes, labels, ignored, original_size, sample.image_id)

    def _sides(self, epoch: int, batch: int) -> tuple[int, int]:
        """Short and long side of the images of a batch: the same in all processes and workers, and after a resume."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(((self.seed * 1_000_003 + epoch) * 1_000_003 - 1 - batch) % 2**63)
            return self.augmentation.draw_sides()


class EvaluationItems(Dataset[Item]):
    """Images for evaluation: resized, without augmentation.

    An image that cannot be read is replaced by one of the mean color, so that its objects count as missed and a
    broken file does not end a run.
    """

    def __init__(self, data: ImageData, input_settings: InputSettings) -> None:
        self.data, self.input_settings = _in_range_of(input_settings, data), input_settings

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, ...]) -> Item:
        """The item of an epoch, which does not count, and index."""
        settings = self.input_settings
        try:
            image, sample = self.data.read(place[1])
        except DataError as error:
            warnings.warn(f"{error}; its objects count as missed", stacklevel=2)
            sample = self.data.sample(place[1])
            mean = torch.tensor(settings.mean).round().to(torch.uint8)
            image = mean.view(3, 1, 1).expand(3, *(sample.size or (settings.short_side, settings.short_side)))
        old = (int(image.shape[-2]), int(image.shape[-1]))
        image = resize_to_input(image, settings)
        boxes = sample.boxes * scale_xyxy(old, (int(image.shape[-2]), int(image.shape[-1])))
        return Item(image, boxes, sample.labels, sample.crowd, old, sample.image_id)


def _in_range_of(settings: InputSettings, data: ImageData) -> ImageData:
    """The data, read with the value range of a model's settings unless they have one of their own."""
    files = data.files
    return data if files is None or files.value_range is not None else with_value_range(data, settings.value_range)


def read_or_next(data: ImageData, index: int) -> tuple[Tensor, Sample]:
    """The image at an index, or else the next one that can be read: a broken file does not end an epoch."""
    for offset in range(MAX_UNREADABLE):
        try:
            return data.read((index + offset) % len(data))
        except DataError as error:
            warnings.warn(f"{error}; the next image takes its place", stacklevel=2)
            last = error
    raise DataError(f"{MAX_UNREADABLE} images in a row cannot be read; the last one: {last}")


@dataclass(frozen=True)
class Collate:
    """Collate items into one normalized, padded batch."""

    settings: InputSettings

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Items of B images -> batch."""
        return Batch(
            images=normalize_batch([item.image for item in items], self.settings),
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
    """Training batches of one process, and the order whose ``epoch`` must be set before each epoch.

    ``epochs`` is the number of epochs of the run, see ``TrainingItems``.
    """
    order = EpochOrder(len(data), seed)
    items = TrainingItems(drop_problems(data), augmentation, input_settings, seed, epochs)
    if num_workers:
        items.closed_from.share_memory_()
    upright = [False] * len(data)
    if data.files is not None and not input_settings.stretch:
        sizes = data.files.table.sizes
        upright = (sizes[:, 0] > sizes[:, 1]).tolist()
    batches = BatchOrder(order, upright, batch_size, rank, world, augmentation.settings.size_per_batch)
    return _loader(items, batches, num_workers, input_settings), order


def evaluation_loader(
    data: ImageData,
    input_settings: InputSettings,
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Batches for evaluation, in the order of the data.

    Each of several processes gets every ``world``-th whole batch: an image is in the same batch for any number of
    processes, so that its detections are the same to the last bit.
    """
    order = EpochOrder(len(data), 0, shuffle=False)
    batches = list(BatchOrder(order, [False] * len(data), batch_size))[rank::world]
    return _loader(EvaluationItems(drop_problems(data), input_settings), batches, num_workers, input_settings)


def _loader(
    items: Dataset[Item], batches: Iterable[list[tuple[int, ...]]], num_workers: int, settings: InputSettings
) -> DataLoader[Batch]:
    require_open_files(num_workers)
    loader = DataLoader[Any](
        items,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=Collate(settings),
        persistent_workers=num_workers > 0,
        worker_init_fn=partial(start_worker, pixel_limit=max_pixels()),
        pin_memory=torch.cuda.is_available(),
    )
    # An uncaught error keeps the loader alive, and at exit Python would wait forever for workers that it asks to end
    # by SIGTERM, which they ignore. This is called before that.
    atexit.register(stop_workers, weakref.ref(loader))
    return loader


def stop_workers(loader: weakref.ref[DataLoader[Batch]]) -> None:
    """End the worker processes of a loader, if it still exists and has started an epoch."""
    iterator = getattr(loader(), "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()


def start_worker(worker: int, pixel_limit: int | None) -> None:
    """Initialize a worker process, which is to refuse images of more pixels than its parent does."""
    set_max_pixels(pixel_limit)
    ignore_signals()
    # Garbage collection writes into every object, which would copy the memory shared with the parent process.
    gc.freeze()


def drop_problems(data: ImageData) -> ImageData:
    """The data as worker processes need it: without what they would copy and never read."""
    return data if data.files is None else replace(data.files.without_stated(), problems=[])


def ignore_signals() -> None:
    """Ctrl-C and SIGTERM reach all processes of a group, but the main process handles them, and needs its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

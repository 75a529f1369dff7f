"""The images of an epoch: their order, their batches, and the process that gets each batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import Sampler

from gfocal.data.dataset import ImageData


class EpochOrder(Sampler[tuple[int, int]]):
    """The order of an epoch as (epoch, index) pairs, shuffled by seed and epoch.

    Attributes:
        epoch: must be set before each epoch.
        repeats: (N,) mean number of times that an epoch has each image, at least 1; None: once. All epochs have the
            same length. Each repetition of an image has an index larger by N, so that augmentation, whose random
            numbers depend on the index, gives a different result.
    """

    def __init__(self, num_images: int, seed: int, shuffle: bool = True) -> None:
        self.num_images, self.seed, self.shuffle = num_images, seed, shuffle
        self.epoch = 0
        self.repeats: Tensor | None = None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self._indices()
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
        yield from ((self.epoch, index) for index in order)

    def __len__(self) -> int:
        return self.num_images + _whole_excess(self.repeats)

    def _indices(self) -> list[int]:
        """Indices of the epoch, not shuffled: each image once, then the repetitions."""
        indices = list(range(self.num_images))
        if self.repeats is None:
            return indices
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 2 + 1)
        again = sample_counts(self.repeats.double() - 1, _whole_excess(self.repeats), generator)
        for index, times in enumerate(again.tolist()):
            indices += [index + self.num_images * k for k in range(1, times + 1)]
        return indices


def dataset_repeat_factors(data: ImageData, threshold: float) -> Tensor:
    """``repeat_factors`` of a dataset; ignored regions do not count."""
    samples = (data.sample(i) for i in range(len(data)))
    return repeat_factors([sample.labels[~sample.crowd] for sample in samples], len(data.names), threshold)


def repeat_factors(labels: Sequence[Tensor], num_classes: int, threshold: float) -> Tensor:
    """Repeat factors that oversample images of rare classes (Gupta et al. 2019, LVIS, section 3.4).

    A class that is in a fraction f of the images has the factor max(1, sqrt(threshold / f)); an image has the largest
    factor of its classes.

    Args:
        labels: of the objects of each image.
        num_classes: C.
        threshold: fraction of the images, 0..1; the paper's t.

    Returns:
        (N,) float64, at least 1.
    """
    present = torch.zeros(len(labels), num_classes, dtype=torch.bool)
    for row, of_image in zip(present, labels, strict=True):
        row[of_image] = True
    frequency = present.double().mean(0)  # (C,)
    wanted = (threshold / frequency.clamp(min=1e-12)).sqrt().clamp(min=1)
    return torch.where(present, wanted, 1.0).amax(1)


def sample_counts(expected: Tensor, total: int, generator: torch.Generator) -> Tensor:
    """Systematic sampling: random integers (N,) whose sum is ``total``.

    Each is its share of the total, in proportion to ``expected`` (N,), rounded up or down.
    """
    order = torch.randperm(len(expected), generator=generator)  # otherwise neighbors would alternate
    ends = expected[order].cumsum(0)
    ends = ends * (total / ends[-1].clamp(min=1e-12))
    ends[-1] = total
    marks = (ends + torch.rand((), generator=generator, dtype=torch.float64)).floor().long()
    counts = torch.empty_like(marks)
    counts[order] = marks.diff(prepend=torch.zeros(1, dtype=torch.long))
    return counts


def _whole_excess(repeats: Tensor | None) -> int:
    return 0 if repeats is None else math.ceil(float(repeats.double().sum()) - len(repeats) - 1e-6)


class BatchOrder(Sampler[list[tuple[int, ...]]]):
    """Batches of images that are all portrait or all landscape, to reduce padding.

    Images that do not fill a batch of their orientation form mixed batches at the end, so that the number of batches
    depends only on that of the images.

    Several processes divide batches of ``world`` times as many images: at each step they see the images that a single
    process with such batches would see. Only the last batch of an epoch may be smaller. A process that would get no
    image of it gets the first one again, so that it takes part in the step; see ``is_idle``.

    Attributes:
        first: index of the first batch of the next epoch, for an epoch that is resumed.
        numbered: whether the index of its batch follows each image's epoch and index.
    """

    def __init__(
        self,
        order: EpochOrder,
        upright: Sequence[bool],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        numbered: bool = False,
    ) -> None:
        self.order, self.upright, self.numbered = order, upright, numbered
        self.whole_size, self.rank, self.world = batch_size * world, rank, world
        self.first = 0

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        for number, batch in enumerate(islice(self._whole_batches(), self.first, None), self.first):
            of_process = batch[self.rank :: self.world] or batch[:1]
            yield [(*entry, number) for entry in of_process] if self.numbered else [*of_process]

    def __len__(self) -> int:
        return -(-len(self.order) // self.whole_size)

    def images(self, batches: int) -> int:
        """Number of images that all processes together have seen after so many batches of an epoch."""
        return min(batches * self.whole_size, len(self.order))

    def is_idle(self, batch: int) -> bool:
        """Whether this process has no image of its own in a batch, given by its index in the epoch."""
        return self.rank >= self.images(batch + 1) - self.images(batch)

    def _whole_batches(self) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for entry in self.order:
            batch = waiting[self.upright[entry[1] % len(self.upright)]]
            batch.append(entry)
            if len(batch) == self.whole_size:
                yield list(batch)
                batch.clear()
        rest = waiting[False] + waiting[True]
        yield from (rest[i : i + self.whole_size] for i in range(0, len(rest), self.whole_size))

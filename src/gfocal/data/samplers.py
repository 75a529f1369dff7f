"""Which images an epoch sees, in which order, in which batches, and which process sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import Sampler

from gfocal.data.dataset import ImageData


class EpochOrder(Sampler[tuple[int, int]]):
    """The order of an epoch, as (epoch, index) pairs: shuffled by seed and epoch.

    Attributes:
        epoch: to be set before each epoch.
        repeats: (N,) how often an epoch shows each image on average, 1 at least; None: once. All epochs are of the
            same length. An image that comes again has an index larger by N each time, so that augmentation, which
            draws by the index, makes another one of it.
    """

    def __init__(self, num_images: int, seed: int, shuffle: bool = True) -> None:
        self.num_images, self.seed, self.shuffle = num_images, seed, shuffle
        self.epoch = 0
        self.repeats: Tensor | None = None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self._shown()
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
        yield from ((self.epoch, index) for index in order)

    def __len__(self) -> int:
        return self.num_images + _whole_excess(self.repeats)

    def _shown(self) -> list[int]:
        """Indices that the epoch shows: each image once, then what is shown again."""
        shown = list(range(self.num_images))
        if self.repeats is None:
            return shown
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) * 2 + 1)
        again = systematic(self.repeats.double() - 1, _whole_excess(self.repeats), generator)
        for index, times in enumerate(again.tolist()):
            shown += [index + self.num_images * k for k in range(1, times + 1)]
        return shown


def repeats_of(data: ImageData, share: float) -> Tensor:
    """``repeat_factors`` of a dataset; crowd regions show no class."""
    samples = (data.sample(i) for i in range(len(data)))
    return repeat_factors([sample.labels[~sample.crowd] for sample in samples], len(data.names), share)


def repeat_factors(labels: Sequence[Tensor], num_classes: int, share: float) -> Tensor:
    """How often images are to be shown so that rare classes are seen (Gupta et al. 2019, section 3.4 of LVIS).

    A class in f of all images asks for max(1, sqrt(share / f)), and an image follows the rarest of its classes.

    Args:
        labels: of each image's objects.
        num_classes: C.
        share: of the images, 0..1; the paper's t.

    Returns:
        (N,) float64, 1 at least.
    """
    present = torch.zeros(len(labels), num_classes, dtype=torch.bool)
    for row, of_image in zip(present, labels, strict=True):
        row[of_image] = True
    frequency = present.double().mean(0)  # (C,)
    wanted = (share / frequency.clamp(min=1e-12)).sqrt().clamp(min=1)
    return torch.where(present, wanted, 1.0).amax(1)


def systematic(expected: Tensor, total: int, generator: torch.Generator) -> Tensor:
    """Whole numbers (N,) whose sum is ``total``, each next to its share of it in proportion to ``expected`` (N,)."""
    order = torch.randperm(len(expected), generator=generator)  # neighbors would be drawn alternately
    ends = expected[order].cumsum(0)
    ends = ends * (total / ends[-1].clamp(min=1e-12))
    ends[-1] = total
    marks = (ends + torch.rand((), generator=generator, dtype=torch.float64)).floor().long()
    counts = torch.empty_like(marks)
    counts[order] = marks.diff(prepend=torch.zeros(1, dtype=torch.long))
    return counts


def _whole_excess(repeats: Tensor | None) -> int:
    return 0 if repeats is None else math.ceil(float(repeats.double().sum()) - len(repeats) - 1e-6)


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Batches of images that are all upright or all lying, so that little of a batch is padding.

    What does not fill a batch of its kind makes mixed ones at the end: the number of batches is that of the
    images alone.

    Several processes share out batches of ``world`` times as many images: they see at each step what one process
    with such batches would see. Only the last batch of an epoch may be smaller. A process that gets none of it is
    shown the first image once more, so that it takes part in the step; see ``is_idle``.

    Attributes:
        first: number of the batch that the next epoch begins with, of one that was begun before.
    """

    def __init__(
        self, order: EpochOrder, upright: Sequence[bool], batch_size: int, rank: int = 0, world: int = 1
    ) -> None:
        self.order, self.upright = order, upright
        self.whole_size, self.rank, self.world = batch_size * world, rank, world
        self.first = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in islice(self._whole_batches(), self.first, None):
            yield batch[self.rank :: self.world] or batch[:1]

    def __len__(self) -> int:
        return -(-len(self.order) // self.whole_size)

    def images(self, batches: int) -> int:
        """How many images all processes together have seen after so many batches of an epoch."""
        return min(batches * self.whole_size, len(self.order))

    def is_idle(self, batch: int) -> bool:
        """Whether a batch, by its number in the epoch, holds no image for this process to learn from."""
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

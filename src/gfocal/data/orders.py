"""Which pictures an epoch sees, in which order, in which batches, and which process sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[tuple[int, int]]):
    """The order of an epoch, as (epoch, index) pairs: shuffled by seed and epoch, shared out to processes.

    Every process gets the same number of pictures; where they do not divide, the first ones come twice.
    """

    def __init__(self, num_images: int, seed: int, shuffle: bool = True, rank: int = 0, world: int = 1) -> None:
        self.num_images, self.seed, self.shuffle = num_images, seed, shuffle
        self.rank, self.world = rank, world
        self.epoch = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = list(range(self.num_images))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_images, generator=generator).tolist()
        shares = len(self) * self.world
        order = (order * self.world)[:shares]
        yield from ((self.epoch, index) for index in order[self.rank :: self.world])

    def __len__(self) -> int:
        return -(-self.num_images // self.world)


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Batches of pictures that are all upright or all lying, so that little of a batch is padding.

    What does not fill a batch of its kind makes mixed ones at the end: the number of batches is that of the
    pictures alone, the same in every process.
    """

    def __init__(self, order: EpochOrder, upright: Sequence[bool], batch_size: int) -> None:
        self.order, self.upright, self.batch_size = order, upright, batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for entry in self.order:
            batch = waiting[self.upright[entry[1]]]
            batch.append(entry)
            if len(batch) == self.batch_size:
                yield list(batch)
                batch.clear()
        rest = waiting[False] + waiting[True]
        yield from (rest[i : i + self.batch_size] for i in range(0, len(rest), self.batch_size))

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

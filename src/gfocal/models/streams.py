"""Several passes through a network at once, each in a thread of its own, where one pass leaves cores idle.

In a small network on small images, the threads that share an operation wait for each other a large part of the time,
and on a busy machine most of it. Passes side by side, with a thread each, wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from gfocal.data.threads import start_workers, submit_ahead


class HasImages(Protocol):
    """A batch."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W)"""


B = TypeVar("B", bound=HasImages)
R = TypeVar("R")

MAX_STREAMS = 4  # each holds the maps of a batch
MAX_PIXELS = 512 * 512  # of a batch; larger ones keep all threads busy by themselves, and memory


def run_each(run: Callable[[B], R], batches: Iterable[B], network: nn.Module | None) -> Iterator[tuple[B, R]]:
    """Each batch with its result, in order; some are computed at once where that is faster.

    Args:
        run: what to do with a batch: a pass through the network, which may be called by several threads at once.
        batches: are taken by the calling thread, a few ahead.
        network: decides how many run at once; None: one.
    """
    iterator = iter(batches)
    first = list(islice(iterator, 2))
    streams = count_streams(network, first[0].images) if len(first) == 2 and network is not None else 1
    if streams == 1:
        yield from ((batch, run(batch)) for batch in chain(first, iterator))
        return
    with start_workers(streams, torch.get_num_threads() // streams) as pool:
        for batch, future in submit_ahead(pool, run, chain(first, iterator), depth=streams + 1):
            yield batch, future.result()


def count_streams(network: nn.Module, images: Tensor) -> int:
    """How many passes run at once."""
    parameter = next(network.parameters(), None)
    if parameter is None or parameter.device.type != "cpu" or images[:, 0].numel() > MAX_PIXELS:
        return 1
    # With one thread, torch computes its own 1x1 convolutions by another algorithm, in twice the time.
    if any(type(m) is nn.Conv2d or not getattr(m, "onednn", True) for m in network.modules()):
        return 1
    return max(1, min(torch.get_num_threads(), MAX_STREAMS))

"""Share of each epoch in which training waits for its next batch; the network is idle meanwhile.

    python benchmarks/loader_wait.py DATA --config light --out /somewhere/run --set run.epochs=2

Arguments are those of ``gfocal train``, which runs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from torch.utils.data import dataloader

from gfocal.cli.main import main
from gfocal.training import loop

waits: list[float] = []
next_batch, train_epoch = dataloader._BaseDataLoaderIter.__next__, loop.train_epoch


def timed_next(self: Any) -> Any:
    """The next batch; the seconds until it is there are kept."""
    started = time.perf_counter()
    try:
        return next_batch(self)
    finally:
        waits.append(time.perf_counter() - started)


def timed_epoch(*arguments: Any) -> Any:
    """An epoch, with a line about its waiting."""
    waits.clear()
    started = time.perf_counter()
    row = train_epoch(*arguments)
    total, waited = time.perf_counter() - started, sum(waits)
    print(f"epoch of {total:.1f} s: {waited:.2f} s waited for batches, {100 * waited / total:.1f} %", flush=True)
    return row


if __name__ == "__main__":
    dataloader._BaseDataLoaderIter.__next__ = timed_next  # type: ignore[method-assign]
    loop.train_epoch = timed_epoch  # type: ignore[assignment]
    sys.exit(main(["train", *sys.argv[1:]]))

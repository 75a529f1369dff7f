"""Work done by threads ahead of where its results are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class SynchronousExecutor(Executor):
    """An executor without threads: work is done when it is submitted."""

    def submit(self, function: Callable[..., B], /, *arguments: object, **named: object) -> Future[B]:
        """Call the function now."""
        future: Future[B] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def start_workers(num_workers: int, torch_threads: int = 1) -> Iterator[Executor]:
    """An executor of ``num_workers`` threads, in each of which torch computes with so many of its own; 0: none.

    Threads, not processes: decoding images and torch's operations release Python's lock, and a decoder that crashes
    ends the whole process, after which the journal can be resumed; nothing waits forever for a process that is gone.
    """
    if not num_workers:
        yield SynchronousExecutor()
        return
    before = torch.get_num_threads()  # of this thread, and settled by asking
    pool = ThreadPoolExecutor(num_workers, initializer=torch.set_num_threads, initargs=(torch_threads,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # of threads that are started later


def submit_ahead(
    pool: Executor, function: Callable[[A], B], items: Iterable[A], depth: int
) -> Iterator[tuple[A, Future[B]]]:
    """Each item with the future of its result, in order; at most ``depth`` are submitted and not yet yielded."""
    waiting: deque[tuple[A, Future[B]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) >= max(1, depth):
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()

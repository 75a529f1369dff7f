"""Images read and made ready by threads while the network is busy with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Here(Executor):
    """An executor without threads: the work is done at once, for ``workers`` of 0."""

    def submit(self, function: Callable[..., B], /, *arguments: object, **named: object) -> Future[B]:
        """Do it now."""
        future: Future[B] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


def executor(num_workers: int) -> Executor:
    """Threads, not processes: decoding images leaves Python's lock, and a thread cannot be killed by itself.

    A decoder that crashes takes the whole process with it, and the journal goes on; nothing waits for it forever.
    """
    return ThreadPoolExecutor(num_workers) if num_workers else Here()


def ahead(
    pool: Executor, function: Callable[[A], B], items: Iterable[A], depth: int
) -> Iterator[tuple[A, Future[B]]]:
    """Each item with the future of its result, in order; at most ``depth`` are begun and not yet yielded."""
    waiting: deque[tuple[A, Future[B]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) >= max(1, depth):
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()

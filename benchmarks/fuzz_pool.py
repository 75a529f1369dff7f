"""A pool of processes that run fuzzing cases; a process that dies or hangs is a finding, and the others continue."""

from __future__ import annotations

import multiprocessing as mp
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gfocal.console import say

CRASH, HANG, UNCLEAR, INVALID = "crash", "hang", "unclear", "invalid data"


@dataclass
class Finding:
    """A case with a wrong result."""

    kind: str
    number: int
    what: str  # CRASH, HANG, UNCLEAR, INVALID
    text: str
    stored: str = ""  # path for a replay


@dataclass
class Tally:
    """Counts of results of cases of a kind."""

    files: int = 0
    clean: int = 0  # read without problems
    with_problems: int = 0  # read, with reported problems
    refused: int = 0  # DataError
    slowest: float = 0.0  # processor time of one call, seconds
    slowest_number: int = -1
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally."""
        for name in ("files", "clean", "with_problems", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.slowest > self.slowest:
            self.slowest, self.slowest_number = other.slowest, other.slowest_number
        self.reasons.update(other.reasons)
        self.findings.extend(other.findings)


Work = Callable[[str, int], Tally]  # runs one case, given by kind and number


@dataclass(frozen=True)
class Chunk:
    """Cases ``first`` to ``last - 1`` of a kind."""

    kind: str
    first: int
    last: int


def chunks(kind: str, calls: int, size: int) -> list[Chunk]:
    """All cases of a kind, in chunks."""
    return [Chunk(kind, first, min(first + size, calls)) for first in range(0, calls, size)]


@dataclass
class _Worker:
    process: Any
    connection: Connection
    current: Any  # shared: number of the case, and when it began
    chunk: Chunk | None = None


def run(
    start_work: Callable[[], Work], plan: Iterable[Chunk], jobs: int, stuck_after: float, memory: int
) -> list[Tally]:
    """Run every chunk of the plan in ``jobs`` processes; returns a tally for each kind, in the order of the plan.

    ``start_work`` is called once in every process. A process whose case takes more than ``stuck_after`` seconds is
    killed. ``memory`` is the number of bytes that a process may map beyond those at its start.
    """
    waiting = list(plan)
    tallies = {chunk.kind: Tally() for chunk in waiting}
    waiting.reverse()
    context: Any = mp.get_context("fork")

    def start() -> _Worker:
        ours, theirs = context.Pipe()
        current = context.Array("d", [-1.0, 0.0], lock=False)
        process = context.Process(target=_serve, args=(theirs, current, start_work, memory), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, current)

    workers = [start() for _ in range(max(1, min(jobs, len(waiting))))]
    console, total, done = Console(stderr=True), len(waiting), 0
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=total)
        while waiting or any(worker.chunk for worker in workers):
            for worker in workers:
                if worker.chunk is None and waiting:
                    worker.chunk = waiting.pop()
                    worker.connection.send(worker.chunk)
            ready = wait([worker.connection for worker in workers if worker.chunk], timeout=0.5)
            for place, worker in enumerate(workers):
                if worker.chunk is None:
                    continue
                if worker.connection in ready:
                    try:
                        tallies[worker.chunk.kind].add(worker.connection.recv())
                        worker.chunk = None
                        progress.advance(bar)
                        done += 1
                        if not console.is_terminal and done % max(1, total // 20) == 0:  # into the log of a long run
                            files = sum(tally.files for tally in tallies.values())
                            found = sum(len(tally.findings) for tally in tallies.values())
                            say(console, f"{time.strftime('%H:%M:%S')} {files:,} files, {found} findings")
                        continue
                    except EOFError:
                        worker.process.join()
                        what, text = CRASH, _describe_exit(worker.process.exitcode)
                elif worker.current[0] >= 0 and time.monotonic() - worker.current[1] > stuck_after:
                    what, text = HANG, f"no end after {stuck_after:g} s, killed"
                    worker.process.kill()
                    worker.process.join()
                else:
                    continue
                chunk, number = worker.chunk, int(worker.current[0])
                number = min(max(number, chunk.first), chunk.last - 1)
                tallies[chunk.kind].findings.append(Finding(chunk.kind, number, what, text))
                say(console, f"{chunk.kind} {number}: {what}: {text}")
                tallies[chunk.kind].files += 1
                parts = (Chunk(chunk.kind, chunk.first, number), Chunk(chunk.kind, number + 1, chunk.last))
                waiting.extend(part for part in parts if part.first < part.last)
                workers[place] = start()
    for worker in workers:
        worker.connection.close()
        worker.process.join(5)
    return list(tallies.values())


def _serve(connection: Connection, current: Any, start_work: Callable[[], Work], memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    work = start_work()
    limit_memory(memory)
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            os._exit(0)
        tally = Tally()
        for number in range(chunk.first, chunk.last):
            current[1] = time.monotonic()
            current[0] = float(number)
            tally.add(work(chunk.kind, number))
        current[0] = -1.0
        connection.send(tally)


def limit_memory(beyond: int) -> None:
    """Limit the memory that this process may map, in bytes beyond the present amount."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + beyond, mapped + beyond))


def _describe_exit(code: int | None) -> str:
    return (
        f"the process died of {signal.Signals(-code).name}" if code and code < 0 else f"the process ended with {code}"
    )


def table(title: str, kinds: Sequence[str], tallies: Sequence[Tally]) -> Table:
    """The table of results."""
    columns = (
        "files",
        "clean",
        "with problems",
        "refused",
        "crashes",
        "hangs",
        "unclear",
        "invalid data",
        "slowest call",
    )
    shown = Table("", *columns, title=title)
    for kind, tally in zip(kinds, tallies, strict=True):
        found = Counter(finding.what for finding in tally.findings)
        counts = [tally.files, tally.clean, tally.with_problems, tally.refused, *(found[w] for w in _ALL)]
        slowest = f"{tally.slowest:.3f} s (case {tally.slowest_number})"
        shown.add_row(kind, *(f"{count:,}" for count in counts), slowest)
    return shown


_ALL = (CRASH, HANG, UNCLEAR, INVALID)


def reasons_table(title: str, kinds: Sequence[str], tallies: Sequence[Tally], most: int = 10) -> Table:
    """The most frequent messages, and the number of different ones."""
    shown = Table("", "times", "message", title=title)
    for kind, tally in zip(kinds, tallies, strict=True):
        for place, (reason, count) in enumerate(tally.reasons.most_common(most)):
            shown.add_row(f"{kind} ({len(tally.reasons)} different)" if place == 0 else "", f"{count:,}", reason)
    return shown

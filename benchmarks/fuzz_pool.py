"""Processes that try case after case; one that dies or never answers is a finding, and the others go on."""

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

CRASH, HANG, UNCLEAR, INSANE = "crash", "hang", "unclear", "not sane"


@dataclass
class Finding:
    """A case that must not be."""

    kind: str
    number: int
    what: str  # CRASH, HANG, UNCLEAR, INSANE
    text: str
    stored: str = ""  # where it can be replayed from


@dataclass
class Tally:
    """What came of some cases of a kind."""

    files: int = 0
    clean: int = 0  # read, and nothing to say
    told: int = 0  # read, with problems told
    refused: int = 0
    slowest: float = 0.0  # seconds of the processor of one call
    slowest_number: int = -1
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another one."""
        for name in ("files", "clean", "told", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.slowest > self.slowest:
            self.slowest, self.slowest_number = other.slowest, other.slowest_number
        self.reasons.update(other.reasons)
        self.findings.extend(other.findings)


Work = Callable[[str, int], Tally]  # tries one case, by kind and number


@dataclass(frozen=True)
class Chunk:
    """Cases ``first`` to ``last - 1`` of a kind."""

    kind: str
    first: int
    last: int


def chunks(kind: str, calls: int, size: int) -> list[Chunk]:
    """All cases of a kind in pieces."""
    return [Chunk(kind, first, min(first + size, calls)) for first in range(0, calls, size)]


@dataclass
class _Worker:
    process: Any
    connection: Connection
    current: Any  # shared: number of the case, and when it began
    chunk: Chunk | None = None


def run(begin: Callable[[], Work], plan: Iterable[Chunk], jobs: int, stuck_after: float, memory: int) -> list[Tally]:
    """Every chunk of the plan in ``jobs`` processes; the tallies, one for each kind in order of the plan.

    ``begin`` is called once in every process. A case that takes more than ``stuck_after`` seconds in code that no
    signal can stop is killed. ``memory`` is what a process may take beyond what it has at the start, in bytes.
    """
    waiting = list(plan)
    tallies = {chunk.kind: Tally() for chunk in waiting}
    waiting.reverse()
    context: Any = mp.get_context("fork")

    def start() -> _Worker:
        ours, theirs = context.Pipe()
        current = context.Array("d", [-1.0, 0.0], lock=False)
        process = context.Process(target=_serve, args=(theirs, current, begin, memory), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, current)

    num_workers = [start() for _ in range(max(1, min(jobs, len(waiting))))]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(waiting))
        while waiting or any(worker.chunk for worker in num_workers):
            for worker in num_workers:
                if worker.chunk is None and waiting:
                    worker.chunk = waiting.pop()
                    worker.connection.send(worker.chunk)
            ready = wait([worker.connection for worker in num_workers if worker.chunk], timeout=0.5)
            for place, worker in enumerate(num_workers):
                if worker.chunk is None:
                    continue
                if worker.connection in ready:
                    try:
                        tallies[worker.chunk.kind].add(worker.connection.recv())
                        worker.chunk = None
                        progress.advance(bar)
                        continue
                    except EOFError:
                        worker.process.join()
                        what, text = CRASH, _ended(worker.process.exitcode)
                elif worker.current[0] >= 0 and time.monotonic() - worker.current[1] > stuck_after:
                    what, text = HANG, f"no end after {stuck_after:g} s, killed"
                    worker.process.kill()
                    worker.process.join()
                else:
                    continue
                chunk, number = worker.chunk, int(worker.current[0])
                number = min(max(number, chunk.first), chunk.last - 1)
                tallies[chunk.kind].findings.append(Finding(chunk.kind, number, what, text))
                tallies[chunk.kind].files += 1
                parts = (Chunk(chunk.kind, chunk.first, number), Chunk(chunk.kind, number + 1, chunk.last))
                waiting.extend(part for part in parts if part.first < part.last)
                num_workers[place] = start()
    for worker in num_workers:
        worker.connection.close()
        worker.process.join(5)
    return list(tallies.values())


def _serve(connection: Connection, current: Any, begin: Callable[[], Work], memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    work = begin()
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
    """Let this process map at most so many bytes more than it has mapped by now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + beyond, mapped + beyond))


def _ended(code: int | None) -> str:
    return (
        f"the process died of {signal.Signals(-code).name}" if code and code < 0 else f"the process ended with {code}"
    )


def table(title: str, kinds: Sequence[str], tallies: Sequence[Tally]) -> Table:
    """The table of a run."""
    columns = (
        "files",
        "clean",
        "with problems",
        "refused",
        "crashes",
        "hangs",
        "unclear",
        "not sane",
        "slowest call",
    )
    shown = Table("", *columns, title=title)
    for kind, tally in zip(kinds, tallies, strict=True):
        found = Counter(finding.what for finding in tally.findings)
        counts = [tally.files, tally.clean, tally.told, tally.refused, *(found[w] for w in _ALL)]
        slowest = f"{tally.slowest:.3f} s (case {tally.slowest_number})"
        shown.add_row(kind, *(f"{count:,}" for count in counts), slowest)
    return shown


_ALL = (CRASH, HANG, UNCLEAR, INSANE)


def reasons_table(title: str, kinds: Sequence[str], tallies: Sequence[Tally], most: int = 10) -> Table:
    """What was told most often, and how many different things there were."""
    shown = Table("", "times", "what was told", title=title)
    for kind, tally in zip(kinds, tallies, strict=True):
        for place, (reason, count) in enumerate(tally.reasons.most_common(most)):
            shown.add_row(f"{kind} ({len(tally.reasons)} different)" if place == 0 else "", f"{count:,}", reason)
    return shown

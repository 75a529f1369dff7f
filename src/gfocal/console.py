"""Progress bar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A progress bar over the batches of an epoch, with losses, images per second and the time left."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task
        self.start, self.images = time.perf_counter(), 0

    def advance(self, images: int, text: str = "") -> None:
        """One more batch is done."""
        self.images += images
        speed = self.images / max(time.perf_counter() - self.start, 1e-6)
        self.progress.update(self.task, advance=1, text=f"{speed:.1f} images/s {text}")


@contextmanager
def progress_bar(console: Console, title: str, batches: int, done: int = 0) -> Iterator[Bar]:
    """A bar that goes away when it is done. Where nobody looks (no terminal), nothing is shown."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden, refresh_per_second=4) as progress:
        yield Bar(progress, progress.add_task(title, total=batches, completed=done, text=""))


def say(console: Console, text: str) -> None:
    """Print a line as it is: no markup, no colors of numbers, not folded. Text of files is escaped by ``gfocal.text``."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def note(console: Console, text: str) -> None:
    """Print ``note: text``: worth knowing, nothing to fix."""
    say(console, f"note: {text}")


def warn(console: Console, text: str) -> None:
    """Print ``warning: text``: something that is likely not as wanted; the command goes on."""
    say(console, f"warning: {text}")


def fail(console: Console, text: str) -> None:
    """Print a line in red: something failed."""
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)

"""What commands print besides their results: lines of text, and a progress bar."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gfocal.text import printable

if TYPE_CHECKING:  # rich is imported when something is printed: the command line starts without it
    from rich.console import Console
    from rich.progress import Progress, TaskID

MAX_LENGTH = 10_000  # characters of what is printed at once


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


def can_redraw(console: Console) -> bool:
    """Whether lines can be drawn over: on a terminal that is not the one of a command in a cell of a notebook.

    Such a cell keeps every state of a bar below the last one. Jupyter names its process to its kernels.
    """
    return console.is_terminal and "JPY_PARENT_PID" not in os.environ


@contextmanager
def progress_bar(console: Console, title: str, batches: int | None, done: int = 0) -> Iterator[Bar]:
    """A bar that is removed when it is done; nothing is shown where the console is no terminal, or a notebook's.

    Where the number of batches is not known (None), it has no time left.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    hidden = not can_redraw(console)
    with Progress(*columns, console=console, transient=True, disable=hidden, refresh_per_second=4) as progress:
        yield Bar(progress, progress.add_task(title, total=batches, completed=done, text=""))


def say(console: Console, text: str, fold: bool = False) -> None:
    """Print a line as it is: no markup, emoji or colors; folded between words where ``fold`` says so, never in one.

    Control characters are escaped: a line may quote names of untrusted files.
    """
    text = printable(text, MAX_LENGTH)
    if fold:  # rich would break addresses and paths that are longer than a line
        lines = text.splitlines()
        text = "\n".join(
            textwrap.fill(line, console.width, break_long_words=False, break_on_hyphens=False) for line in lines
        )
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(console: Console, text: str) -> None:
    """Print ``note: text``: worth knowing, nothing to fix."""
    say(console, f"note: {text}")


def warn(console: Console, text: str) -> None:
    """Print ``warning: text``: something is likely not as wanted; the command continues."""
    say(console, f"warning: {text}")


def fail(console: Console, text: object) -> None:
    """Print ``failed: text`` in red: one of several things failed; the command continues with the others."""
    _red(console, f"failed: {text}")


def report_error(console: Console, text: object) -> None:
    """Print ``gfocal: text`` in red: why the command ends."""
    _red(console, f"gfocal: {text}")


def _red(console: Console, text: str) -> None:
    console.print(
        printable(text, MAX_LENGTH), style="red", markup=False, highlight=False, emoji=False, soft_wrap=True
    )

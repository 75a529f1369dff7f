"""Requests to stop: Ctrl-C, SIGTERM of a scheduler, a terminal that closes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# A launcher may pass on what the terminal has sent already: signals this close together are one.
SAME = 0.5  # seconds


class Stopped(KeyboardInterrupt):
    """A run stopped because it was asked to, its state saved; the message says where. ``code`` is the exit code."""

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.code = 128 + (number or signal.SIGINT)


@dataclass
class StopRequest:
    """Whether somebody asked for an end, and by which signal."""

    number: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether there was one."""
        return self.number is not None


@contextmanager
def stop_requests(say: str = "") -> Iterator[StopRequest]:
    """Note the first signal, for the run to stop where its state is whole; the second one stops at once.

    ``say`` goes to standard error with the first. Signals that were ignored, as nohup has it, stay so. In another
    thread than the first, Python hears no signals and nothing is ever noted.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    request = StopRequest()
    at = 0.0
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        nonlocal at
        now = time.monotonic()
        if not request.is_made:
            request.number, at = number, now
            if say:  # not print: the signal may have come in the middle of one
                os.write(2, f"\n{say}\n".encode())
        elif now - at > SAME:
            raise KeyboardInterrupt("stopped at once; what was saved before is whole")

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""When a run stops before its last epoch: no better AP for a while."""

# FOLDED training.signals: Requests to stop: Ctrl-C, SIGTERM of a scheduler, a terminal that closes.
# FOLDED training.failures: What ends a run early, in words: a loss that is not finite, nothing to learn, a process that is gone.
from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gfocal.data.preprocess import InputSettings
from gfocal.errors import NonFiniteLossError, NoPositivesError, ProcessEndedError
from gfocal.text import counted
from gfocal.training.checkpoints import Progress
from gfocal.training.settings import RunSettings


def evaluations_without_better(progress: Progress, eval_every: int) -> int:
    """Evaluations since the one with the best AP, by the epochs alone: a resumed run counts on."""
    return progress.epoch // eval_every - progress.best_epoch // eval_every


def has_run_dry(progress: Progress, run: RunSettings) -> bool:
    """Whether ``run.patience`` evaluations in a row brought no better AP. Not before one is above 0."""
    if not run.patience or progress.best_ap <= 0:
        return False
    return evaluations_without_better(progress, run.eval_every) >= run.patience


def why_stopped(progress: Progress, run: RunSettings) -> str:
    """A line that says so."""
    number = counted(evaluations_without_better(progress, run.eval_every), "evaluation")
    return (
        f"stopped early: no better AP than {progress.best_ap:.3f} of epoch {progress.best_epoch} in {number} "
        f"(run.patience = {run.patience})"
    )


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


# What torch says, in words only, when a process that loads images, or another that trains, has gone.
WORKER_GONE = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (\w+)|exited unexpectedly)"
)
PROCESS_GONE = re.compile(r"(?i)closed by peer|reset by peer|broken pipe|remote process exited|NCCL (error|comm)")

LOADER_GONE = (
    "a process that loads images {how}, most likely because memory ran out. The saved state is whole: go on with "
    "--resume, and with fewer processes (run.num_workers) or more memory, of which /dev/shm is a part in containers"
)


def check_finite(terms: Mapping[str, Tensor], image_ids: Sequence[int], step: int) -> None:
    """NonFiniteLossError unless the terms of the loss of a batch are all finite."""
    if torch.isfinite(sum(terms.values(), torch.zeros(()))):
        return
    told = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
    raise NonFiniteLossError(
        f"the loss is not finite at step {step} ({told}) in the batch of image ids "
        f"{', '.join(map(str, image_ids))}. The saved state is from before. Ways out: a lower "
        "learning rate, clip_norm, precision 'no'; or look at these images' boxes"
    )


def check_learned(num_positives: Tensor, num_images: int, settings: InputSettings) -> None:
    """NoPositivesError unless an epoch had a positive point, by their number over all processes."""
    if num_positives > 0:
        return
    raise NoPositivesError(
        f"nothing was learned: in {counted(num_images, 'image')} at {settings.short_side} x {settings.long_side} "
        "pixels no object was large enough to be seen by the detector. Ways out: larger images (--short-side, "
        "size.short_side and size.long_side of the config), or look whether the boxes are those of the images"
    )


@contextmanager
def named_failures(world: int) -> Iterator[None]:
    """Give a name to what torch says when one of the processes of a run is gone; ``world``: how many train.

    Raises:
        ProcessEndedError: in place of an error that means it.
    """
    try:
        yield
    except (ConnectionError, EOFError) as error:  # a batch was under way from a process that is gone
        raise ProcessEndedError(LOADER_GONE.format(how="ended")) from error
    except RuntimeError as error:
        text = str(error)
        if worker := WORKER_GONE.search(text):
            how = f"was killed ({worker[1]})" if worker[1] else "ended"
            raise ProcessEndedError(LOADER_GONE.format(how=how)) from error
        if world > 1 and PROCESS_GONE.search(text):
            raise ProcessEndedError(
                "another process of this run has ended, and this one ends with it; what happened stands in the "
                "other's output. The saved state is whole: go on with --resume"
            ) from error
        raise

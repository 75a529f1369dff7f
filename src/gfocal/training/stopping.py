"""What ends a run before its last epoch: no better AP for a while, a signal, or a failure, put into words."""

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
from gfocal.text import pluralize
from gfocal.training.checkpoints import Progress
from gfocal.training.settings import RunSettings

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a scheduler, a terminal that closes
# A launcher may pass on what the terminal has sent already: signals this close together count as one.
SAME_SIGNAL_SECONDS = 0.5

# What torch says, in words only, when a process that loads images, or another that trains, has ended.
WORKER_ENDED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (\w+)|exited unexpectedly)"
)
PROCESS_ENDED = re.compile(r"(?i)closed by peer|reset by peer|broken pipe|remote process exited|NCCL (error|comm)")
# The same for processes that do not answer within the time of ``run.timeout_minutes``, or for the network's own time.
NO_ANSWER = re.compile(
    r"(?i)timed out waiting \d+ ?ms|timeout caused pair closure|client socket has timed out|wait timeout"
)
NETWORK_CUT = re.compile(r"(?i)connection timed out|no route to host|network is unreachable|connectFullMesh failed")
LOADER_ENDED = (
    "a process that loads images {how}, most likely because memory ran out. The saved state is whole: continue with "
    "--resume, and with fewer processes (run.num_workers) or more memory, of which /dev/shm is a part in containers"
)


def should_stop_early(progress: Progress, run: RunSettings) -> bool:
    """Whether ``run.patience`` evaluations in a row brought no better AP. Not before one is above 0."""
    if not run.patience or progress.best_ap <= 0:
        return False
    assert run.eval_every is not None
    return evaluations_without_improvement(progress, run.eval_every) >= run.patience


def evaluations_without_improvement(progress: Progress, eval_every: int) -> int:
    """Evaluations since the one with the best AP; computed from the epochs, so that a resumed run counts on."""
    return progress.epoch // eval_every - progress.best_epoch // eval_every


def describe_early_stop(progress: Progress, run: RunSettings) -> str:
    """A line that says why a run stops early."""
    assert run.eval_every is not None
    number = pluralize(evaluations_without_improvement(progress, run.eval_every), "evaluation")
    return (
        f"stopped early: no better AP than {progress.best_ap:.3f} of epoch {progress.best_epoch} in {number} "
        f"(run.patience = {run.patience})"
    )


class TrainingInterrupt(KeyboardInterrupt):
    """A run was stopped by a signal, its state saved; the message says where. ``code`` is the exit code."""

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.code = 128 + (number or signal.SIGINT)


@dataclass
class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    number: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether it was."""
        return self.number is not None


@contextmanager
def catch_stop_signals(message: str = "") -> Iterator[StopRequest]:
    """Note the first signal, for the run to stop where its state is whole; the second one stops at once.

    ``message`` is written to standard error at the first signal. Signals that were ignored, as under nohup, stay so.
    Python delivers signals to the main thread only: in another one, none is ever noted.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    request = StopRequest()
    at = 0.0
    before: dict[int, Any] = {}

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal at
        now = time.monotonic()
        if not request.is_made:
            request.number, at = number, now
            if message:  # not print: the signal may have come in the middle of one
                os.write(2, f"\n{message}\n".encode())
        elif now - at > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt("stopped at once; what was saved before is whole")

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, on_signal)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_finite(terms: Mapping[str, Tensor], image_ids: Sequence[int], step: int) -> None:
    """NonFiniteLossError unless the terms of the loss of a batch are all finite."""
    if torch.isfinite(sum(terms.values(), torch.zeros(()))):
        return
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
    raise NonFiniteLossError(
        f"the loss is not finite at step {step} ({values}) in the batch of image ids "
        f"{', '.join(map(str, image_ids))}. The saved state is from before. Try a lower learning rate, clip_norm, or "
        "precision 'no'; or look at the boxes of these images"
    )


def check_positives(num_positives: Tensor, num_images: int, settings: InputSettings) -> None:
    """NoPositivesError unless an epoch had a positive point; ``num_positives`` is summed over all processes."""
    if num_positives > 0:
        return
    raise NoPositivesError(
        f"nothing was learned: in {pluralize(num_images, 'image')} at {settings.short_side} x {settings.long_side} "
        "pixels no object was large enough to be assigned to a point of the detector. Try larger images "
        "(--short-side, size.short_side and size.long_side of the config), or check that the boxes are those of the "
        "images"
    )


@contextmanager
def explain_ended_processes(world_size: int, timeout_minutes: float) -> Iterator[None]:
    """Put torch's errors into words where one of ``world_size`` processes, or one that loads images, has ended.

    ``timeout_minutes``: for how long a process waits for the others.

    Raises:
        ProcessEndedError: in place of an error that means it.
    """
    try:
        yield
    except (ConnectionError, EOFError) as error:  # a process ended while it sent a batch
        raise ProcessEndedError(LOADER_ENDED.format(how="ended")) from error
    except RuntimeError as error:
        text = str(error)
        if worker := WORKER_ENDED.search(text):
            how = f"was killed ({worker[1]})" if worker[1] else "ended"
            raise ProcessEndedError(LOADER_ENDED.format(how=how)) from error
        if world_size > 1 and PROCESS_ENDED.search(text):
            raise ProcessEndedError(
                "another process of this run has ended, and this one ends with it; the output of the other says why. "
                "The saved state is whole: continue with --resume"
            ) from error
        if world_size > 1 and (NO_ANSWER.search(text) or NETWORK_CUT.search(text)):
            how_long = f" for {timeout_minutes:g} minutes (run.timeout_minutes)" if NO_ANSWER.search(text) else ""
            raise ProcessEndedError(
                f"another process of this run has not answered{how_long}: its machine is gone, the network between "
                "the machines is cut, or it is busy for longer. The saved state is whole: continue with --resume"
            ) from error
        raise

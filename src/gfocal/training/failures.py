"""What ends a run early, in words: a loss that is not finite, nothing to learn, a process that is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gfocal.data.preparation import InputSettings
from gfocal.words import counted

# What torch says, in words only, when a process that loads pictures, or another that trains, has gone.
WORKER_GONE = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (\w+)|exited unexpectedly)"
)
PROCESS_GONE = re.compile(r"(?i)closed by peer|reset by peer|broken pipe|remote process exited|NCCL (error|comm)")

LOADER_GONE = (
    "a process that loads pictures {how}, most likely because memory ran out. The saved state is whole: go on with "
    "--resume, and with fewer processes (run.workers) or more memory, of which /dev/shm is a part in containers"
)


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss became NaN or infinite; the message names the terms, the step and the pictures."""


class NothingToLearn(RuntimeError):  # noqa: N818
    """No object of a whole epoch met a point of the detector; the message says what to change."""


class ProcessGone(RuntimeError):  # noqa: N818
    """A process that the run cannot do without has ended; the message says which and why it may be."""


def check_finite(terms: Mapping[str, Tensor], image_ids: Sequence[int], step: int) -> None:
    """NonFiniteLoss unless the terms of the loss of a batch are all finite."""
    if torch.isfinite(sum(terms.values(), torch.zeros(()))):
        return
    told = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
    raise NonFiniteLoss(
        f"the loss is not finite at step {step} ({told}) in the batch of image ids "
        f"{', '.join(map(str, image_ids))}. The saved state is from before. Ways out: a lower "
        "learning rate, clip_norm, precision 'no'; or look at these pictures' boxes"
    )


def check_learned(num_positives: Tensor, num_images: int, settings: InputSettings) -> None:
    """NothingToLearn unless an epoch had a positive point, by their number over all processes."""
    if num_positives > 0:
        return
    raise NothingToLearn(
        f"nothing was learned: in {counted(num_images, 'picture')} at {settings.short_side} x {settings.long_side} "
        "pixels no object was large enough to be seen by the detector. Ways out: larger pictures (--short-side, "
        "size.short_side and size.long_side of the recipe), or look whether the boxes are those of the pictures"
    )


@contextmanager
def named_failures(world: int) -> Iterator[None]:
    """Give a name to what torch says when one of the processes of a run is gone; ``world``: how many train.

    Raises:
        ProcessGone: in place of an error that means it.
    """
    try:
        yield
    except (ConnectionError, EOFError) as error:  # a batch was under way from a process that is gone
        raise ProcessGone(LOADER_GONE.format(how="ended")) from error
    except RuntimeError as error:
        text = str(error)
        if worker := WORKER_GONE.search(text):
            how = f"was killed ({worker[1]})" if worker[1] else "ended"
            raise ProcessGone(LOADER_GONE.format(how=how)) from error
        if world > 1 and PROCESS_GONE.search(text):
            raise ProcessGone(
                "another process of this run has ended, and this one ends with it; what happened stands in the "
                "other's output. The saved state is whole: go on with --resume"
            ) from error
        raise

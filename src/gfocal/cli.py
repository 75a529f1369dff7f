"""The command line: gfocal train, eval, detect, demo, models, import, lab."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence

from gfocal import launched
from gfocal.arguments import parser

MISTAKE = 2  # beside commands.DONE and commands.SOME_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Mistakes of the user end in one line, without a traceback."""
    chosen = parser().parse_args(arguments)
    from rich.console import Console

    # Without a network the hub would say 20 lines about it before the one that counts.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    console = Console(stderr=True, quiet=chosen.command in ("train", "eval") and not launched.is_first())
    everybody = Console(stderr=True)  # for what only one of several processes knows
    warnings.showwarning = lambda message, *_, **__: everybody.print(
        f"warning: {message}", markup=False, highlight=False, soft_wrap=True
    )
    try:
        return chosen.run(chosen, console)
    except KeyboardInterrupt as stop:
        console.print(stopped(chosen, stop, arguments), markup=False, highlight=False, soft_wrap=True)
        return getattr(stop, "code", 130)
    except Exception as error:
        no_room = is_out_of_memory(error)
        if not no_room and not isinstance(error, (*_mistakes(), OSError)):
            raise
        if chosen.traceback:
            traceback.print_exc()
        if no_room:
            everybody.print(
                "gfocal: out of memory. Ways out: a smaller --batch-size (the learning rate follows it), a smaller "
                "--short-side, --precision bf16, --checkpoint-activations",
                style="red",
                soft_wrap=True,
            )
            return MISTAKE
        everybody.print(f"gfocal: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return MISTAKE


def stopped(chosen: argparse.Namespace, stop: BaseException, arguments: Sequence[str] | None) -> str:
    """What Ctrl-C or SIGTERM leaves, and how to go on."""
    from gfocal.training.checkpoints import has_state
    from gfocal.training.signals import Stopped

    if isinstance(stop, Stopped):
        if chosen.command != "train" or chosen.auto_resume:
            return f"{stop}; the same command goes on"
        command = shlex.join(["gfocal", *(sys.argv[1:] if arguments is None else arguments)])
        how = "the same launch with --resume goes on" if launched.world() > 1 else f"go on with: {command}"
        return f"{stop}; {how}" + " --resume" * (launched.world() == 1 and not chosen.resume)
    if str(stop):
        return str(stop)
    if chosen.command == "lab":
        return "stopped; the same command goes on with it"
    if chosen.command not in ("train", "demo"):
        return "stopped"
    if not has_state(chosen.out):
        return "stopped before a state was saved; start again"
    return "stopped; " + (
        "the run goes on with --resume" if chosen.command == "train" else "the same command goes on"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; the processor's allocator says so in words only."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def _mistakes() -> tuple[type[Exception], ...]:
    from gfocal.comparing import CompareError
    from gfocal.configs import RecipeError
    from gfocal.data.samples import DataError
    from gfocal.doctor.refusal import ClampedEdges
    from gfocal.interop.mmdet import ImportingError
    from gfocal.lab.figures.canvas import CanvasError
    from gfocal.lab.settings import LabError
    from gfocal.models.backbone import WeightsError
    from gfocal.models.files import ModelFileError
    from gfocal.models.hub import HubError
    from gfocal.models.zoo import PresetError
    from gfocal.training.checkpoints import ResumeError
    from gfocal.training.determinism import NonDeterministicOperation
    from gfocal.training.distributed import DeviceError
    from gfocal.training.failures import NonFiniteLoss, NothingToLearn, ProcessGone
    from gfocal.training.folder_lock import FolderInUse
    from gfocal.training.trackers import TrackerError

    return (
        RecipeError,
        CompareError,
        DataError,
        WeightsError,
        ModelFileError,
        PresetError,
        ResumeError,
        DeviceError,
        FolderInUse,
        NonDeterministicOperation,
        TrackerError,
        ClampedEdges,
        NonFiniteLoss,
        NothingToLearn,
        ProcessGone,
        ImportingError,
        HubError,
        LabError,
        CanvasError,
    )


if __name__ == "__main__":
    sys.exit(main())

"""The command line: gfocal train, eval, detect, demo, models, import, lab."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from gfocal.arguments import parser

MISTAKE = 2  # beside commands.DONE and commands.SOME_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Mistakes of the user end in one line, without a traceback."""
    chosen = parser().parse_args(arguments)
    from rich.console import Console

    # Without a network the hub would say 20 lines about it before the one that counts.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    console = Console(stderr=True)
    warnings.showwarning = lambda message, *_, **__: console.print(
        f"warning: {message}", markup=False, highlight=False, soft_wrap=True
    )
    try:
        return chosen.run(chosen, console)
    except KeyboardInterrupt as stop:
        console.print(str(stop) or stopped(chosen), markup=False, highlight=False, soft_wrap=True)
        return 130
    except Exception as error:
        no_room = is_out_of_memory(error)
        if not no_room and not isinstance(error, (*_mistakes(), OSError)):
            raise
        if chosen.traceback:
            traceback.print_exc()
        if no_room:
            console.print(
                "gfocal: out of memory. Ways out: a smaller --batch-size (the learning rate follows it), a smaller "
                "--short-side, --precision bf16",
                style="red",
                soft_wrap=True,
            )
            return MISTAKE
        console.print(f"gfocal: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return MISTAKE


def stopped(chosen: argparse.Namespace) -> str:
    """What Ctrl-C leaves, and how to go on."""
    from gfocal.training.checkpoints import STATE_FILE

    if chosen.command == "lab":
        return "stopped; the same command goes on with it"
    if chosen.command not in ("train", "demo"):
        return "stopped"
    if not (chosen.out / STATE_FILE).is_file():
        return "stopped before the first epoch was saved; start again"
    return "stopped; " + (
        "the run goes on with --resume" if chosen.command == "train" else "the same command goes on"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; the processor's allocator says so in words only."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def _mistakes() -> tuple[type[Exception], ...]:
    from gfocal.configs import RecipeError
    from gfocal.data.samples import DataError
    from gfocal.interop.mmdet import ImportingError
    from gfocal.lab.figures.canvas import CanvasError
    from gfocal.lab.settings import LabError
    from gfocal.models.backbone import WeightsError
    from gfocal.models.files import ModelFileError
    from gfocal.models.hub import HubError
    from gfocal.models.zoo import PresetError
    from gfocal.training.checkpoints import ResumeError
    from gfocal.training.distributed import DeviceError
    from gfocal.training.failures import NonFiniteLoss, NothingToLearn

    return (
        RecipeError,
        DataError,
        WeightsError,
        ModelFileError,
        PresetError,
        ResumeError,
        DeviceError,
        NonFiniteLoss,
        NothingToLearn,
        ImportingError,
        HubError,
        LabError,
        CanvasError,
    )


if __name__ == "__main__":
    sys.exit(main())

"""The command line: gfocal train, eval, detect, demo, models, import, lab."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from gfocal import commands
from gfocal.arguments import parser
from gfocal.lab import commands as lab_commands

MISTAKE = 2  # beside commands.DONE and commands.SOME_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Mistakes of the user end in one line, without a traceback."""
    chosen = parser(
        {
            "train": commands.run_train,
            "eval": commands.run_eval,
            "detect": commands.run_detect,
            "demo": commands.run_demo,
            "models": commands.run_models,
            "import": commands.run_import,
            "lab": lab_commands.run_lab,
        }
    ).parse_args(arguments)
    from rich.console import Console

    console = Console(stderr=True)
    warnings.showwarning = lambda message, *_, **__: console.print(
        f"warning: {message}", markup=False, highlight=False, soft_wrap=True
    )
    try:
        return chosen.run(chosen, console)
    except KeyboardInterrupt:
        same = "; the same command goes on with it"
        goes_on = {"train": "; the run goes on with --resume", "demo": same, "lab": same}
        console.print(f"stopped{goes_on.get(chosen.command, '')}")
        return 130
    except Exception as error:
        if is_out_of_memory(error) and not chosen.traceback:
            console.print(
                "gfocal: out of memory. Ways out: a smaller --batch-size (the learning rate follows it), a smaller "
                "--short-side, --precision bf16",
                style="red",
                soft_wrap=True,
            )
            return MISTAKE
        if chosen.traceback or not isinstance(error, (*_mistakes(), OSError)):
            raise
        console.print(f"gfocal: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return MISTAKE


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
    from gfocal.training.loop import NonFiniteLoss

    return (
        RecipeError,
        DataError,
        WeightsError,
        ModelFileError,
        PresetError,
        ResumeError,
        DeviceError,
        NonFiniteLoss,
        ImportingError,
        HubError,
        LabError,
        CanvasError,
    )


if __name__ == "__main__":
    sys.exit(main())

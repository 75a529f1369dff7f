"""The command line: gfocal train, eval, detect, demo, models, import."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from gfocal import commands
from gfocal.arguments import parser

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
        goes_on = {"train": "; the run goes on with --resume", "demo": "; the same command goes on with it"}
        console.print(f"stopped{goes_on.get(chosen.command, '')}")
        return 130
    except Exception as error:
        if chosen.traceback or not isinstance(error, (*_mistakes(), OSError)):
            raise
        console.print(f"gfocal: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return MISTAKE


def _mistakes() -> tuple[type[Exception], ...]:
    from gfocal.configs import RecipeError
    from gfocal.data.samples import DataError
    from gfocal.interop.mmdet import ImportingError
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
    )


if __name__ == "__main__":
    sys.exit(main())

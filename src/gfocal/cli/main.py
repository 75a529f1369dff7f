"""The command line: gfocal train, eval, detect, demo, models, import, lab."""

# FOLDED arguments: What one may write behind ``gfocal``: all commands, each declared in a file of its own.
from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence

from gfocal import __version__, launch
from gfocal.cli import MISTAKE, check, compare, convert, demo, detect, evaluate, lab, models, train
from gfocal.cli import import_checkpoint as bring
from gfocal.console import report_error, say, warn
from gfocal.errors import GFocalError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Mistakes of the user end in one line, without a traceback."""
    args = parser().parse_args(arguments)
    from rich.console import Console

    # Without a network the hub would say 20 lines about it before the one that counts.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    console = Console(stderr=True, quiet=args.command in ("train", "eval") and not launch.is_main())
    everybody = Console(stderr=True)  # for what only one of several processes knows
    warnings.showwarning = lambda message, *_, **__: warn(everybody, str(message))
    try:
        return args.run(args, console)
    except KeyboardInterrupt as stop:
        say(console, stopped(args, stop, arguments))
        return getattr(stop, "code", 130)
    except Exception as error:
        no_room = is_out_of_memory(error)
        if not no_room and not isinstance(error, GFocalError | OSError):
            raise
        if args.traceback:
            traceback.print_exc()
        if no_room:
            report_error(
                everybody,
                "out of memory. Ways out: a smaller --batch-size (the learning rate follows it), a smaller "
                "--short-side, --precision bf16, --checkpoint-activations",
            )
            return MISTAKE
        report_error(everybody, error)
        return MISTAKE


def stopped(args: argparse.Namespace, stop: BaseException, arguments: Sequence[str] | None) -> str:
    """What Ctrl-C or SIGTERM leaves, and how to go on."""
    from gfocal.run_folder import RunFolder
    from gfocal.training.stopping import TrainingInterrupt

    if isinstance(stop, TrainingInterrupt):
        if args.command != "train" or args.auto_resume:
            return f"{stop}; the same command goes on"
        command = shlex.join(["gfocal", *(sys.argv[1:] if arguments is None else arguments)])
        how = "the same launch with --resume goes on" if launch.world_size() > 1 else f"go on with: {command}"
        return f"{stop}; {how}" + " --resume" * (launch.world_size() == 1 and not args.resume)
    if str(stop):
        return str(stop)
    if args.command == "lab":
        return "stopped; the same command goes on with it"
    if args.command not in ("train", "demo"):
        return "stopped"
    if not RunFolder(args.out).has_state:
        return "stopped before a state was saved; start again"
    return "stopped; " + ("the run goes on with --resume" if args.command == "train" else "the same command goes on")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; the processor's allocator says so in words only."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


EPILOG = """examples:
  gfocal demo                                      train, evaluate and look at a report, from nothing
  gfocal check photos/                             what is wrong with your own images and labels
  gfocal train photos/ --out runs/mine             train on your own images (COCO, VOC, YOLO or CSV)
  gfocal train --resume --out runs/mine photos/    go on with a run that was stopped
  gfocal eval runs/mine photos/ --split test       the COCO numbers
  gfocal detect runs/mine new/*.jpg --out found    boxes as json, and images with the boxes drawn
  gfocal convert photos/ --to yolo --out photos_yolo    the same annotations in another format
  gfocal compare runs/a runs/b --out compare.html  runs side by side: configs, AP, curves
  gfocal models                                    the presets and configs
  gfocal import gfl_r50.pth --out gfl_r50.safetensors   a published checkpoint of MMDetection
  gfocal lab run 1a --seeds 3                      a study of the paper, made again on synthetic images

exit codes:
  0    all done
  1    some images or runs failed; 'gfocal check' found errors
  2    something must be fixed: the last line says what
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by a terminal that closed: the last line says how to go on"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options; the one args is ``run`` of what is parsed."""
    main = argparse.ArgumentParser(
        prog="gfocal",
        description="Object detectors with Generalized Focal Loss: what, where, and how sure of each edge.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"gfocal {__version__}")
    main.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (check, train, compare, evaluate, detect, convert, demo, bring, models, lab):
        command.add(commands)
    return main


if __name__ == "__main__":
    sys.exit(main())

"""Entry point of the command line: all commands, and errors of the user in one line."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from gfocal import __version__, launch
from gfocal.cli import (
    USER_ERROR,
    benchmark,
    calibrate,
    check,
    compare,
    convert,
    demo,
    detect,
    doctor,
    evaluate,
    export,
    import_checkpoint,
    lab,
    models,
    select,
    serve,
    split,
    train,
)
from gfocal.cli.parser import Parser
from gfocal.console import report_error, say, warn
from gfocal.errors import GFocalError, OpenFilesError
from gfocal.limits import (
    ENOUGH_MEMORY,
    can_allocate,
    describe_out_of_files,
    is_out_of_files,
    is_out_of_memory,
    raise_open_file_limit,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors that a user can cause end in one line, without a traceback."""
    args = build_parser().parse_args(arguments)
    try:
        return run_command(args, arguments)
    except Exception as error:
        # Where little memory is left, libraries whose import failed half give errors of any kind.
        if not is_out_of_memory(error) and can_allocate(4 * ENOUGH_MEMORY):
            raise
        if args.traceback:
            traceback.print_exc()
    # Not through rich, which imports more for it; and after the frames of the error are gone, with what they hold.
    hint = SAVE_MEMORY.get(args.command, "Close other programs, or use a machine with more")
    sys.stderr.write(f"gfocal: out of memory. {hint}\n")
    return USER_ERROR


def run_command(args: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    """Run a command; returns the exit code. Raises what is no error of the user, and what is for want of memory."""
    from rich.console import Console

    # Without a network, huggingface_hub would print 20 lines before the one that matters.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    console = Console(stderr=True, quiet=args.command in ("train", "eval") and not launch.is_main())
    every_process = Console(stderr=True)  # for what only one of several processes knows
    warnings.showwarning = lambda message, *_, **__: warn(every_process, str(message))
    raise_open_file_limit()
    with note_interruptions() as interruption:
        try:
            return args.run(args, console)
        except KeyboardInterrupt as interrupt:
            say(console, describe_interruption(args, interrupt, arguments))
            return getattr(interrupt, "code", 130)
        except Exception as error:
            if interruption.is_made:  # while a library was imported, whose own error hides it
                say(console, describe_interruption(args, KeyboardInterrupt(), arguments))
                return 130
            text = describe_error(error)
            if text is None:
                raise
            if args.traceback:
                traceback.print_exc()
            if isinstance(error, OpenFilesError) or is_out_of_files(error):  # rich may import more for what it prints
                sys.stderr.write(f"gfocal: {text}\n")
            else:
                report_error(every_process, text)
            return USER_ERROR


def describe_error(error: Exception) -> str | None:
    """The line for an error that a user can cause; None for any other."""
    if isinstance(error, GFocalError):
        return str(error)
    if is_out_of_files(error):
        return describe_out_of_files()
    return str(error) if isinstance(error, OSError) and not is_out_of_memory(error) else None


@dataclass
class Interruption:
    """Whether Ctrl-C was pressed."""

    is_made: bool = False


@contextmanager
def note_interruptions() -> Iterator[Interruption]:
    """Note Ctrl-C besides raising KeyboardInterrupt, which compiled code may turn into an error of its own."""
    found = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        found.is_made = True
        signal.default_int_handler(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield found
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def describe_interruption(
    args: argparse.Namespace, interrupt: KeyboardInterrupt, arguments: Sequence[str] | None
) -> str:
    """What an interruption by Ctrl-C or SIGTERM left behind, and how to continue."""
    from gfocal.run_folder import RunFolder

    # Nothing heavy is imported here: a library whose import was interrupted cannot be imported again.
    stopping = sys.modules.get("gfocal.training.stopping")
    if stopping is not None and isinstance(interrupt, getattr(stopping, "TrainingInterrupt", ())):
        if args.command != "train" or args.auto_resume:
            return f"{interrupt}; the same command continues"
        if launch.world_size() > 1:
            return f"{interrupt}; the same launch with --resume continues"
        command = shlex.join(["gfocal", *(sys.argv[1:] if arguments is None else arguments)])
        return f"{interrupt}; continue with: {command}" + " --resume" * (not args.resume)
    if args.command in ("train", "demo") and not RunFolder(args.out).has_state:
        return "stopped before a state was saved; start again"
    if str(interrupt):
        return str(interrupt)
    if args.command == "lab":
        return "stopped; the same command continues"
    if args.command not in ("train", "demo"):
        return "stopped"
    return "stopped; " + ("--resume continues the run" if args.command == "train" else "the same command continues")


SAVE_MEMORY = {
    "train": "Use less: a smaller --batch-size (the learning rate is scaled with it), a smaller --short-side, "
    "--precision bf16, --checkpoint-activations",
    "eval": "Use less: a smaller --batch-size, fewer processes that load images (--num-workers)",
    "detect": "Use less: a smaller --batch-size, fewer threads that read images (--num-workers)",
    "select": "Use less: a smaller --batch-size, fewer threads that read images (--num-workers)",
    "serve": "Use less: a smaller --max-batch, --max-queue or --max-megapixels, fewer --num-workers",
    "check": "Use less: fewer threads that read images (--jobs 1), or only their headers (--fast)",
}
EPILOG = """examples:
  gfocal demo                                      train on synthetic images, evaluate, write a report
  gfocal check photos/                             find problems of your own images and annotations
  gfocal split photos/ --val 0.15 --test 0.15      hold out images that are like the training images
  gfocal train photos/ --out runs/mine             train on your own images (COCO, VOC, YOLO or CSV)
  gfocal train photos/ --out runs/mine --resume    continue an interrupted run
  gfocal eval runs/mine photos/ --split test       COCO AP and error analysis
  gfocal detect runs/mine new/*.jpg --out found    boxes as json, and images with the boxes drawn
  gfocal select runs/mine new/ --number 100        choose the images that are worth labeling next
  gfocal convert photos/ --to yolo --out photos_yolo    convert a dataset to another format
  gfocal compare runs/a runs/b --out compare.html  compare configs, AP and training curves of runs
  gfocal models                                    list presets, configs and published weights
  gfocal detect nanodet_plus_m_416_coco photo.jpg  detect with published weights, downloaded when first used
  gfocal serve runs/mine                           detect over HTTP, with a page to try it
  gfocal export runs/mine --to onnx                write a model as a file for ONNX Runtime
  gfocal benchmark runs/mine model.onnx            how fast models are on this machine, as a table
  gfocal import gfl_r50.pth --out gfl_r50.safetensors   convert a checkpoint of MMDetection
  gfocal doctor                                    versions, devices, threads, cache, memory: for a bug report
  gfocal lab run 1a --seeds 3                      reproduce a study of the paper on synthetic images

exit codes:
  0    all done
  1    some images or runs failed; 'gfocal check' found errors
  2    an error that you can fix; the last line says how
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by a closed terminal; the last line says how to continue"""


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options; the parsed arguments have the function of the command as ``run``."""
    main = Parser(
        prog="gfocal",
        description="Object detectors with Generalized Focal Loss, which predict the uncertainty of each edge.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"gfocal {__version__}")
    main.add_argument("--traceback", action="store_true", help="print the traceback of an error")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        check,
        split,
        train,
        compare,
        evaluate,
        calibrate,
        detect,
        serve,
        select,
        convert,
        demo,
        export,
        benchmark,
        import_checkpoint,
        models,
        lab,
        doctor,
    ):
        command.add(commands)
    return main


if __name__ == "__main__":
    sys.exit(main())

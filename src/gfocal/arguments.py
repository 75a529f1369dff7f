"""What one may write behind ``gfocal``: all commands, each declared in a file of its own."""

from __future__ import annotations

import argparse

from gfocal import __version__
from gfocal.commands import bring, check, compare, convert, demo, detect, evaluate, lab, models, train

EPILOG = """examples:
  gfocal demo                                      train, evaluate and look at a report, from nothing
  gfocal check photos/                             what is wrong with your own pictures and labels
  gfocal train photos/ --out runs/mine             train on your own pictures (COCO, VOC, YOLO or CSV)
  gfocal train --resume --out runs/mine photos/    go on with a run that was stopped
  gfocal eval runs/mine photos/ --split test       the COCO numbers
  gfocal detect runs/mine new/*.jpg --out found    boxes as json, and pictures with the boxes drawn
  gfocal convert photos/ --to yolo --out photos_yolo    the same annotations in another format
  gfocal compare runs/a runs/b --out compare.html  runs side by side: recipes, AP, curves
  gfocal models                                    the presets and recipes
  gfocal import gfl_r50.pth --out gfl_r50.safetensors   a published checkpoint of MMDetection
  gfocal lab run 1a --seeds 3                      a study of the paper, made again on drawn scenes

exit codes:
  0    all done
  1    some pictures or runs failed; 'gfocal check' found errors
  2    something must be mended: the last line says what
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by a terminal that closed: the last line says how to go on"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options; the one chosen is ``run`` of what is parsed."""
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

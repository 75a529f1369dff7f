"""gfocal lab: the options of its commands; ``gfocal.lab.commands`` does them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.commands.options import whole

if TYPE_CHECKING:
    from rich.console import Console

LAB_EPILOG = """examples:
  gfocal lab list                                  the studies, their rows and the paper's AP
  gfocal lab run 1a --column atss                  a part of table 1a on drawn scenes, 3 seeds a row
  gfocal lab run all --seeds 5                     all tables; stopped with Ctrl-C, the same line goes on
  gfocal lab run 3 --data photos/ --out runs/mine  on your own pictures
  gfocal lab run all --budget paper --data coco/ --out runs/coco
                                                   recipe files and commands of the paper's own size
  gfocal lab report --markdown lab.md              what is done so far, beside the paper"""


def add(commands: Any) -> None:
    """Declare the command and its options."""
    lab = commands.add_parser(
        "lab",
        help="make the paper's studies again, small or in full",
        description="The paper's tables of variants, made again and set beside the paper's numbers.\n"
        "Each row of a table is a recipe that differs from the others in a choice or two.",
        epilog=LAB_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.set_defaults(run=run)
    _add_commands(lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True))


def run(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal lab."""
    from gfocal.lab.commands import run_lab

    return run_lab(chosen, console)


def _add_commands(commands: Any) -> None:
    """The commands behind ``gfocal lab``."""
    out: dict[str, Any] = {
        "type": Path,
        "default": Path("runs/lab"),
        "metavar": "DIR",
        "help": "folder of the lab (default: runs/lab)",
    }
    data: dict[str, Any] = {"default": "synthetic", "metavar": "synthetic|PATH"}
    commands.add_parser("list", help="list the studies, their rows and the paper's AP")

    run = commands.add_parser("run", help="make the runs of a study that are missing, then write the report")
    run.add_argument("study", metavar="STUDY", help="a table of the paper, such as 1a (see gfocal lab list), or all")
    run.add_argument("--data", **data, help="pictures with boxes, in splits train and val or test; drawn scenes else")
    run.add_argument("--seeds", type=whole(1), default=3, metavar="N", help="runs of each row (default: 3)")
    run.add_argument(
        "--budget",
        choices=("small", "paper"),
        default="small",
        help="small: minutes a run (default); paper: the paper's recipe, with COCO as --data, as recipe files and "
        "commands for 8 GPUs",
    )
    run.add_argument("--start", action="store_true", help="with --budget paper: make the runs here, in this process")
    run.add_argument("--column", metavar="NAME", help="only this part of the tables, such as atss or fcos")
    run.add_argument("--threads", type=whole(1), metavar="N", help="threads of a run (default: all)")
    run.add_argument("--out", **out)

    report = commands.add_parser("report", help="gather what is done; write the report")
    report.add_argument("--out", **out)
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write it as markdown too")

    figures = commands.add_parser("figures", help="draw the paper's figures")
    figures.add_argument("--out", **out)
    figures.add_argument("--data", **data, help="pictures with boxes for the figures of data; drawn scenes else")

    commands.add_parser("theory", help="check the paper's statements about its losses with numbers")

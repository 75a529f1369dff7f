"""gfocal demo."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.inputs import standard_output
from gfocal.cli.options import int_at_least
from gfocal.console import say

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command and its options."""
    demo = commands.add_parser("demo", help="train on synthetic images, evaluate, and write a report")
    demo.set_defaults(run=run)
    demo.add_argument("--out", type=Path, default=Path("gfocal-demo"), metavar="DIR", help="(default: gfocal-demo)")
    demo.add_argument("--seed", type=int_at_least(0), default=0, help="(default: 0)")
    demo.add_argument(
        "--epochs", type=int_at_least(1), help="fewer are faster (default: as many as the AP in the README takes)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal demo."""
    from gfocal.lab.demo_run import run_demo
    from gfocal.reports.tables import coco_table

    result = run_demo(args.out, seed=args.seed, epochs=args.epochs, console=console)
    standard_output().print(coco_table(result))
    say(console, f"report: {args.out / 'report.html'}")
    return DONE

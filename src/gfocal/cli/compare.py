"""gfocal compare."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.inputs import standard_output
from gfocal.console import note, say
from gfocal.models.names import require_model

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gfocal.reports.runs import ComparedRun


def add(commands: Any) -> None:
    """Declare the command and its options."""
    compare = commands.add_parser(
        "compare",
        help="compare runs: config differences, AP, training curves, spread over seeds",
        description="Compare runs of 'gfocal train', finished or not: config differences, best AP, its difference "
        "from the first run with a confidence interval, time, mean and standard deviation of runs that differ only "
        "in the seed.",
    )
    compare.set_defaults(run=run)
    compare.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of runs; of a model file without its run, also of published weights by name (see 'gfocal "
        "models'), the network and its input are compared",
    )
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write an html page, with training curves and AP of each class",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal compare."""
    from gfocal.errors import ModelFileError
    from gfocal.models.exported import is_exported

    for model in args.runs:
        if not Path(model).is_dir():  # without a run in it, said when it is read
            require_model(model)
        if is_exported(model):
            raise ModelFileError(f"{model}: an exported file; give the run or the model file that it was made of")
    from gfocal.reports.comparison import write_comparison_page
    from gfocal.reports.runs import (
        ap_differences,
        config_differences,
        describe_selection,
        environment_differences,
        have_same_evaluation_data,
        read_runs,
        seed_spreads,
    )

    if args.out is not None and args.out.is_dir():
        raise IsADirectoryError(f"{args.out}: is a folder; name a file")
    runs = read_runs(args.runs)
    output = standard_output()
    output.print(results_table(runs))
    if selection := describe_selection(runs):
        say(output, selection)
    values = config_differences(runs) | environment_differences(runs)
    if values:
        output.print(differences_table(values))
    for difference in ap_differences(runs):
        say(output, f"{difference.index + 1} against 1: {difference.describe()}")
    for one in seed_spreads(runs):
        line = ", ".join(f"{name.upper()} {one.mean[name]:.3f} ± {one.std[name]:.3f}" for name in one.mean)
        say(output, f"{_numbers(one.indices)} differ only in the seed: {line}")
    if not have_same_evaluation_data(runs):
        note(console, "these runs were evaluated on different data: their AP is not comparable")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_comparison_page(args.out, runs)
        say(console, f"page: {args.out}")
    return DONE


def results_table(runs: Sequence[ComparedRun]) -> Table:
    """A row for each run."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from gfocal.reports.runs import METRICS
    from gfocal.training.pace import format_duration

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("run", overflow="fold")
    for name in (*METRICS, "at epoch", "time"):
        table.add_column(name.upper() if name in METRICS else name, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for k, one in enumerate(runs):
        figures = [f"{one.best[name]:.3f}" if one.best else "–" for name in METRICS]
        epoch = f"{one.best['epoch']:.0f}" if one.best else "–"
        table.add_row(str(k + 1), escape(one.name), *figures, epoch, format_duration(one.seconds), one.state)
    return table


def differences_table(values: Mapping[str, Sequence[str]]) -> Table:
    """A row for each key: its values, and the numbers of the runs that have them."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("differing in", no_wrap=True)
    table.add_column("value (runs)", overflow="fold")
    for key, of_runs in values.items():
        parts = [
            f"{value} ({_numbers([k for k, other in enumerate(of_runs) if other == value])})"
            for value in dict.fromkeys(of_runs)
        ]
        table.add_row(key, escape(", ".join(parts)))
    return table


def _numbers(indices: Sequence[int]) -> str:
    return " ".join(str(k + 1) for k in indices)

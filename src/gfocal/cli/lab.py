"""gfocal lab: list, run, report, figures and theory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.options import int_at_least, parse_settings
from gfocal.console import fail, say
from gfocal.models.names import require_model

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.lab.studies import Study


LAB_EPILOG = """examples:
  gfocal lab list                                  the studies, their rows and the paper's AP
  gfocal lab run 1a --column atss                  a part of table 1a on synthetic images, 3 seeds a row
  gfocal lab run all --seeds 5                     all tables; after Ctrl-C the same command continues
  gfocal lab run 3 --data photos/ --out runs/mine  on your own images
  gfocal lab run 3 --set run.epochs=18 --out runs/long
                                                   three times as long; any value of the config
  gfocal lab run all --budget paper --data coco/ --out runs/coco
                                                   configs and commands for runs at full size
  gfocal lab report --markdown lab.md              results so far, beside the paper's"""


def add(commands: Any) -> None:
    """Declare the command and its options."""
    lab = commands.add_parser(
        "lab",
        help="reproduce the paper's studies, small or in full",
        description="Reproduce the paper's ablation tables and compare the results with the published numbers.\n"
        "Each row of a table is a config that differs from the others in one or two choices.",
        epilog=LAB_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.set_defaults(run=run_lab)
    _add_commands(lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True))


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

    run = commands.add_parser("run", help="train the missing runs of a study, then write the report")
    run.add_argument(
        "study",
        metavar="STUDY",
        help="a table of the paper, such as 1a, or a later study (see gfocal lab list), or all",
    )
    run.add_argument(
        "--data", **data, help="a dataset with splits train, and val or test (default: synthetic images)"
    )
    run.add_argument("--seeds", type=int_at_least(1), default=3, metavar="N", help="runs of each row (default: 3)")
    run.add_argument(
        "--budget",
        choices=("small", "paper"),
        default="small",
        help="small: runs of minutes (default); paper: the paper's config with COCO as --data, written as config "
        "files and commands for 8 GPUs",
    )
    run.add_argument("--start", action="store_true", help="with --budget paper: train in this process instead")
    run.add_argument("--column", metavar="NAME", help="only this column of the tables, such as atss or fcos")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of the config of all rows, which none of them has itself, e.g. run.epochs=18; may be repeated",
    )
    run.add_argument("--threads", type=int_at_least(1), metavar="N", help="CPU threads of a run (default: all)")
    run.add_argument("--out", **out)

    report = commands.add_parser("report", help="write the report of the finished runs")
    report.add_argument("--out", **out)
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write it as markdown as well")

    figures = commands.add_parser("figures", help="draw the paper's figures")
    figures.add_argument("--out", **out)
    figures.add_argument("--data", **data, help="a dataset for the figures of data (default: synthetic images)")

    commands.add_parser("theory", help="check the paper's statements about its losses numerically")


# Runs that figures are drawn from: study, column and row.
RUNS_OF_FIGURES = {
    "joint": ("1a", "atss", "joint IoU (QFL)"),
    "separate": ("1a", "atss", "IoU-branch"),
    "dirac": ("2a", "atss", "Dirac"),
    "gaussian": ("2a", "atss", "Gaussian"),
    "general": ("2a", "atss", "General, DFL"),
}


def run_lab(args: argparse.Namespace, console: Console) -> int:
    """gfocal lab."""
    if args.lab_command == "list":
        return list_studies()
    if args.lab_command == "run":
        return run_studies(args, console)
    if args.lab_command == "report":
        return report_results(args, console)
    if args.lab_command == "figures":
        return draw_figures(args, console)
    return print_theory()


def list_studies() -> int:
    """gfocal lab list: every study with its rows and the paper's AP."""
    from rich.console import Console
    from rich.table import Table

    from gfocal.lab.studies import COLUMNS, STUDIES

    table = Table("study", "column", "row", "paper's AP", title="gfocal lab run STUDY", title_justify="left")
    for study in STUDIES.values():
        table.add_section()
        table.add_row(study.name, "", f"{study.title} ({study.paper_section})", "", style="bold")
        for cell in study.cells:
            table.add_row("", cell.column, cell.name, str((cell.paper or {}).get("ap", "–")))
    Console().print(table)
    Console().print("columns:", "; ".join(f"{name}: {text}" for name, text in COLUMNS.items()), soft_wrap=True)
    return DONE


def run_studies(args: argparse.Namespace, console: Console) -> int:
    """gfocal lab run: train the missing runs, or write the commands that do."""
    import torch

    from gfocal.lab.running import plan_runs, require_shared_values, run_planned, write_commands
    from gfocal.lab.setup import make_setup

    if args.threads:
        torch.set_num_threads(args.threads)
    changes, studies = parse_settings(args.set), select_studies(args.study)
    setting = make_setup(args.budget, args.data, changes)
    require_shared_values(studies, changes, args.column)
    if "distill.teacher" in changes:
        require_model(changes["distill.teacher"])
    planned = plan_runs(studies, setting, range(args.seeds), args.column, console)
    if args.budget == "paper" and not args.start:
        file = write_commands(planned, setting, args.out)
        say(
            console,
            f"configs: {args.out / 'configs'}\ncommands: {file}\nnothing was started; once runs are "
            f"finished, gfocal lab report --out {args.out} collects them (--start trains them here)",
        )
        return DONE
    failed = run_planned(planned, setting, args.out, console)
    write_report(args.out, None, console)
    for name, reason in failed.items():
        fail(console, f"{name}: {reason}")
    return SOME_FAILED if failed else DONE


def select_studies(name: str) -> list[Study]:
    """One study, or all of them.

    Raises:
        LabError: there is no such study.
    """
    from gfocal.errors import LabError
    from gfocal.lab.studies import STUDIES

    if name == "all":
        return list(STUDIES.values())
    if name not in STUDIES:
        raise LabError(f"there is no study {name!r}; there are {', '.join(STUDIES)}, and all")
    return [STUDIES[name]]


def draw_figures(args: argparse.Namespace, console: Console) -> int:
    """gfocal lab figures: those without training, and those whose runs are finished."""
    from gfocal.data.discovery import list_splits
    from gfocal.lab.figures import draw_from_runs, draw_simulated
    from gfocal.lab.figures.figure_8 import describe_machine, measure_speeds
    from gfocal.lab.report import FIGURES_FOLDER
    from gfocal.lab.setup import SYNTHETIC, load_lab_data, make_setup

    folder = args.out / FIGURES_FOLDER
    is_synthetic = args.data == SYNTHETIC
    split = "train" if not is_synthetic and "train" in list_splits(args.data) else None
    written = draw_simulated(folder, None if is_synthetic else args.data, split=split)
    models = trained_detectors(args.out)
    if models:
        budget = read_budget(args.out, args.data)
        data = load_lab_data(make_setup(budget, args.data), console)
        written += draw_from_runs(
            folder,
            data=data.val,
            joint=models.get("joint"),
            separate=models.get("separate"),
            dirac=models.get("dirac"),
            gaussian=models.get("gaussian"),
            general=models.get("general"),
            speeds=measure_speeds(models, data.val),
            machine=describe_machine(),
        )
    missing = [name for name in RUNS_OF_FIGURES if name not in models]
    for file in written:
        say(console, str(file))
    if missing:
        wanted = ", ".join(f"{study} ({cell})" for study, _, cell in map(RUNS_OF_FIGURES.__getitem__, missing))
        say(console, f"not drawn: figures that need these runs of column atss, seed 0: {wanted}")
    return DONE


def trained_detectors(out: Path) -> dict[str, Path]:
    """The model files of the finished runs that figures are drawn from."""
    from gfocal.lab.results_json import RUNS_FOLDER, is_finished, read_results
    from gfocal.run_folder import RunFolder

    results = read_results(out)
    found = {}
    for name, place in RUNS_OF_FIGURES.items():
        for outcome in results.outcomes if results else ():
            run = RunFolder(out / RUNS_FOLDER / outcome.run)
            if outcome.key == (*place, 0) and is_finished(run.path) and run.last.is_file():
                found[name] = run.last
    return found


def read_budget(out: Path, data: str) -> Any:
    """The budget of a lab folder.

    Raises:
        LabError: its runs were made on other data.
    """
    from gfocal.errors import LabError
    from gfocal.lab.results_json import read_results
    from gfocal.lab.setup import make_setup

    results = read_results(out)
    assert results is not None, "there are runs, so there are results"
    budget: Any = results.setup["budget"]
    description = None if budget == "paper" and data == "synthetic" else make_setup(budget, data).data_description
    if description != results.setup["data"]:
        raise LabError(f"{out}: its runs were trained on {results.setup['data']}; name these data with --data")
    return budget


def print_theory() -> int:
    """gfocal lab theory: numerical checks of the paper's proofs."""
    from rich.console import Console
    from rich.table import Table

    from gfocal.lab.theory import check_theory

    checks = check_theory()
    table = Table("statement", "cases", "largest deviation", "holds")
    for check in checks:
        table.add_row(check.name, f"{check.cases:,}", f"{check.deviation:.1e}", "yes" if check.holds else "NO")
    Console().print(table)
    return DONE if all(check.holds for check in checks) else SOME_FAILED


def report_results(args: argparse.Namespace, console: Console) -> int:
    """gfocal lab report."""
    write_report(args.out, args.markdown, console)
    return DONE


def write_report(out: Path, markdown: Path | None, console: Console) -> None:
    """Collect the finished runs of a lab folder and write its page, and a markdown file where one is named.

    Raises:
        LabError: there are no results in the folder.
    """
    from gfocal.errors import LabError
    from gfocal.lab.report import FIGURES_FOLDER, REPORT_FILE, write_lab_page, write_markdown
    from gfocal.lab.results_json import RESULTS_FILE, gather_results, read_results, write_results

    results = read_results(out)
    if results is None:
        raise LabError(f"{out}: there is no {RESULTS_FILE}; start with gfocal lab run, or name the folder with --out")
    collected = gather_results(results, out)
    if collected != results:
        write_results(out, collected)
    images = sorted((out / FIGURES_FOLDER).glob("*.png"))
    write_lab_page(out / REPORT_FILE, collected, images)
    written = [out / REPORT_FILE]
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        write_markdown(markdown, collected, images)
        written.append(markdown)
    say(console, f"report: {', '.join(map(str, written))}")

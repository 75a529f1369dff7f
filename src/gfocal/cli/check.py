"""gfocal check."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.early import require_data, say_beginning
from gfocal.cli.inputs import standard_output
from gfocal.cli.label_review import add_review, refuse_contradictions, review_annotations, write_review
from gfocal.cli.options import (
    add_ignored_as_objects,
    add_image_reading,
    add_short_side,
    image_changes,
    int_at_least,
    parse_settings,
)
from gfocal.cli.training_config import config_with
from gfocal.config.bundled import find_config
from gfocal.console import say
from gfocal.models.names import require_model

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.checks.check import CheckResult
    from gfocal.config.config import Config


DESCRIPTION = """\
Check a dataset before training: image files, annotations, splits, and whether the regression range of the detector
covers the boxes. With a trained model, also which annotations are probably wrong. Every kind of finding has a code, a
severity and a fix, see docs/check.md.
"""
EPILOG = """exit codes: 0 notes at most, 1 errors (with --strict: or warnings), 2 the dataset cannot be checked"""


def add(commands: Any) -> None:
    """Declare the command and its options."""
    check = commands.add_parser(
        "check",
        help="find problems of a dataset",
        usage="gfocal check DATA ... [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    check.set_defaults(run=run)
    check.add_argument(
        "data", nargs="+", metavar="DATA", help="COCO json or folder, VOC or YOLO folder, CSV table; or several"
    )
    check.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="detector and input size for the regression range (default: that of gfocal train, nano)",
    )
    check.add_argument(
        "--model",
        metavar="MODEL",
        help="detector and input size of a model file, a run, or published weights by name (see 'gfocal models'), as "
        "for 'gfocal train --init-from MODEL'; it also reviews the annotations, see below",
    )
    add_short_side(check)
    add_image_reading(check)
    check.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any value of the config; may be repeated"
    )
    check.add_argument(
        "--splits",
        default="all",
        metavar="NAMES",
        help="splits to check, e.g. train,val (default: train, val and test, else all)",
    )
    check.add_argument(
        "--json", type=Path, metavar="FILE", help="write every finding, the regression range and the advice"
    )
    check.add_argument("--html", type=Path, metavar="FILE|DIR", help="write a page with images of the worst cases")
    check.add_argument(
        "--augmented",
        type=Path,
        metavar="DIR",
        help="draw training images as the network sees them, with boxes, after the config's augmentation and "
        "resizing (of another augmentation: --set augment.preset=strong)",
    )
    add_ignored_as_objects(check)
    check.add_argument("--strict", action="store_true", help="exit code 1 for warnings too")
    check.add_argument(
        "--jobs", type=int_at_least(1), metavar="N", help="threads that read images (default: all cores)"
    )
    check.add_argument(
        "--fast",
        action="store_true",
        help="read only the headers of images: finds no broken pixels and no near-duplicates, and reviews no "
        "annotations",
    )
    add_review(check)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal check."""
    refuse_contradictions(args)
    require_data(args.data)
    find_config(args.config or "nano")
    if args.model is not None:
        require_model(args.model)
    say_beginning(f"reading {', '.join(args.data)}", console)
    from gfocal.config.start import default_config, with_initial_network
    from gfocal.data.images import pixel_limit

    changes = image_changes(args) | parse_settings(args.set)
    if args.model is not None:
        changes["model.init_from"] = args.model
    config = config_with(args, changes, "--set")
    args.is_config_named = args.config is not None
    args.config = args.config or default_config(changes)
    if "model.init_from" in changes:
        config = with_initial_network(config, changes)
    with pixel_limit(config.images.max_megapixels):
        return _check(args, config, console)


def _check(args: argparse.Namespace, config: Config, console: Console) -> int:
    from gfocal.checks.check import check_datasets, with_review
    from gfocal.checks.label_review import as_findings
    from gfocal.reports.check_tables import print_check

    splits = [] if args.splits == "all" else [name.strip() for name in args.splits.split(",") if name.strip()]
    result = check_datasets(
        args.data,
        config,
        Path(args.model or args.config).stem,
        splits,
        jobs=args.jobs or os.cpu_count() or 1,
        fast=args.fast,
        with_ignored=args.ignored_as_objects,
        console=console,
        train_options=train_options(args),
    )
    review = review_annotations(args, result, config, console)
    if review is not None:
        result = with_review(result, as_findings(review), review.describe())
    # Files first: what is printed to may be a pipe that is closed early, as by head.
    write_check(result, args, console)
    if review is not None and args.review is not None:
        write_review(review, args, console)
    if args.augmented:
        draw_augmented(result, config, args.augmented, console)
    print_check(result, standard_output())
    if review is not None and args.review is None and review.all_reported():
        say(
            console,
            "--review DIR draws the suspects, and lists them; --export also writes them for CVAT or Label Studio",
        )
    elif not args.html and any(finding.image or finding.group for finding in result.findings):
        say(console, "--html check.html shows the images of these findings")
    bad = result.counts["error"] + args.strict * result.counts["warning"]
    return SOME_FAILED if bad else DONE


def train_options(args: argparse.Namespace) -> str:
    """The options with which gfocal train has the config of a check, to be appended to a command."""
    options: list[str] = []
    if args.is_config_named:
        options += ["--config", args.config]
    if args.model is not None:
        options += ["--init-from", args.model]
    if args.short_side is not None:
        options += ["--short-side", args.short_side]
    if args.value_range is not None:
        options += ["--value-range", "{}..{}".format(*args.value_range)]
    if args.max_megapixels is not None:
        options += ["--max-megapixels", f"{args.max_megapixels:g}"]
    for setting in args.set:
        options += ["--set", setting]
    return "".join(f" {shlex.quote(str(option))}" for option in options)


def write_check(result: CheckResult, args: argparse.Namespace, console: Console) -> None:
    """Write the files of --json and --html."""
    from gfocal.atomic import atomic_write

    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(args.json) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
        say(console, f"findings: {args.json}")
    if args.html:
        from gfocal.reports.check import PAGE_FILE, write_check_page

        page = args.html if args.html.suffix.lower() in (".html", ".htm") else args.html / PAGE_FILE
        page.parent.mkdir(parents=True, exist_ok=True)
        write_check_page(result, page)
        say(console, f"page: {page}")


def draw_augmented(result: CheckResult, config: Config, folder: Path, console: Console) -> None:
    """Contact sheets of the training images of every split as in the first epoch."""
    from dataclasses import replace

    from gfocal.build import build_model
    from gfocal.visualize.augmented import save_augmented_sheets

    untrained = replace(config, model=replace(config.model, pretrained=False, weights=None))
    for name in result.measured_splits:
        data = result.splits[name]
        paths = save_augmented_sheets(
            data,
            config.augment,
            build_model(untrained, data.names).input_settings,
            folder if len(result.measured_splits) == 1 else folder / name.replace(":", "_"),
            seed=config.run.seed,
            epochs=config.run.epochs,
        )
        for path in paths:
            say(console, f"augmented images: {path}")

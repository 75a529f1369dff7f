"""gfocal split."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.early import require_data, say_beginning
from gfocal.cli.held_out import SHARE
from gfocal.cli.inputs import print_problems, say_format, standard_output
from gfocal.cli.options import Options, add_max_megapixels, int_at_least
from gfocal.console import note, say
from gfocal.text import one_line, pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from gfocal.data.dataset import FileData
    from gfocal.data.splitting import SplitPlan

DESCRIPTION = """\
Divide the training images of a dataset, or all of one without splits, into train, val and test. Each gets classes and
numbers of objects per image in the same proportion; near-duplicates, copies of one image and frames of one sequence
stay in one split. The same command gives the same splits. They are written as the format of the dataset has them
(VOC: ImageSets/Main, YOLO: lists that data.yaml names, COCO: a json file for each split), else to gfocal.json beside
the annotations, which gfocal reads. Images are not moved, and no split that is there is changed without --replace.
"""


def part(text: str) -> float:
    """The type of an option that takes a part of the images, above 0 and below 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(
            f"takes a part of the images above 0 and below 1, such as 0.15, not {text!r}"
        )
    return number


def add(commands: Any) -> None:
    """Declare the command and its options."""
    split = commands.add_parser(
        "split",
        help="divide a dataset into train, val and test",
        usage="gfocal split DATA [--val 0.15] [--test 0.15] [options]",
        description=DESCRIPTION,
    )
    split.set_defaults(run=run)
    split.add_argument("data", type=Path, metavar="DATA", help="a dataset of any format that 'gfocal train' reads")
    split.add_argument(
        "--val",
        type=part,
        metavar="PART",
        help=f"part of the images for val (default: {SHARE} unless --test is given)",
    )
    split.add_argument("--test", type=part, metavar="PART", help="part of the images for test (default: none)")
    _add_rules(split)
    add_max_megapixels(split)


def _add_rules(command: Options) -> None:
    command.add_argument(
        "--seed", type=int_at_least(0), default=0, help="another number gives another division (default: 0)"
    )
    command.add_argument(
        "--replace", action="store_true", help="divide the images of splits that are there already again, too"
    )
    command.add_argument("--dry-run", action="store_true", help="print the numbers, write nothing")
    command.add_argument(
        "--jobs", type=int_at_least(1), metavar="N", help="threads that read images (default: all cores)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal split."""
    require_data([str(args.data)])
    say_beginning(f"reading {args.data}", console)
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        return _split(args, console)


def _split(args: argparse.Namespace, console: Console) -> int:
    from gfocal.console import progress_bar
    from gfocal.data.split_files import Division, read_undivided, write_splits
    from gfocal.data.splitting import plan_split
    from gfocal.errors import DataError

    shares = {name: value for name, value in (("val", args.val), ("test", args.test)) if value is not None}
    shares = shares or {"val": SHARE}
    if sum(shares.values()) >= 1:
        raise DataError(f"--val {args.val:g} --test {args.test:g}: nothing is left for train")
    data, sources = read_undivided(args.data, list(shares), args.replace)
    say_format(data, str(args.data), console)
    print_problems(data.problems, console)
    with progress_bar(console, "reading images", len(data)) as bar:
        plan = plan_split(
            data, shares, args.seed, jobs=args.jobs or os.cpu_count() or 1, on_image=lambda: bar.advance(1)
        )
    standard_output().print(describe_numbers(data, plan))
    say(console, plan.describe_groups())
    if largest := plan.describe_largest(data):
        say(console, largest)
    for line in describe_rare(data, plan):
        note(console, line)
    if args.dry_run:
        say(console, "nothing is written (--dry-run)")
        return DONE
    settings = {**shares, "seed": args.seed}
    files = write_splits(Division(args.data, data, sources, plan.splits), settings)
    say(console, f"written: {', '.join(map(str, files))}")
    return DONE


def describe_numbers(data: FileData, plan: SplitPlan) -> Table:
    """A table: images and objects of each class, and which part of them each split has."""
    from rich.markup import escape
    from rich.table import Table

    from gfocal.text import printable

    splits = list(dict.fromkeys(("train", *plan.shares)))
    table = Table("", *(name for name in splits), title=f"{pluralize(len(data), 'image')} divided")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, numbers in count_by_split(data, plan, splits):
        if not (total := sum(numbers)):
            continue
        cells = (f"{number:,} ({number / total:.0%})" for number in numbers)
        table.add_row(escape(printable(one_line(name, max_length=60))), *cells)
    return table


def count_by_split(data: FileData, plan: SplitPlan, splits: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Images, all objects, then the objects of each class: how many of them each split has."""
    from gfocal.data.splitting import FEW, count_features

    counts = [
        count_features(data.select(plan.indices(split)))[:, 1 + len(FEW) :].sum(0).astype(int) for split in splits
    ]
    rows = [("images", [len(plan.indices(split)) for split in splits])]
    rows += [("objects", [int(own.sum()) for own in counts])]
    return rows + [(name, [int(own[label]) for own in counts]) for label, name in enumerate(data.names)]


def describe_rare(data: FileData, plan: SplitPlan) -> list[str]:
    """A line for each split that has classes without an object, of those that have some."""
    lines = []
    splits = ["train", *plan.shares]
    classes = count_by_split(data, plan, splits)[2:]
    for place, split in enumerate(splits):
        few = [f"{name} ({pluralize(sum(own), 'object')})" for name, own in classes if sum(own) and not own[place]]
        if few:
            shown = one_line(", ".join([*few[:10], *[f"{len(few) - 10} more"] * (len(few) > 10)]), max_length=1000)
            lines.append(f"too few objects for one in {split}, where their AP cannot be measured: {shown}")
    return lines

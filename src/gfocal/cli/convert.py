"""gfocal convert."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.options import add_rename
from gfocal.console import note, say

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.data.dataset import FileData


TARGETS = ("coco", "yolo", "voc", "csv")


def add(commands: Any) -> None:
    """Declare the command and its options."""
    convert = commands.add_parser(
        "convert",
        help="write annotated images in another format",
        usage="gfocal convert DATA ... --to FORMAT --out DIR [options]",
        description="Read annotated images of any format that 'gfocal train' reads and write them in another, all "
        "splits or one. Names and their order, category ids, image ids, boxes to the last bit of a float32, ignored "
        "regions (crowd, difficult), areas, images without objects and splits stay; what the new format has no "
        "place for goes into gfocal.json beside it, which gfocal reads back. The result is read back and compared "
        "before DIR is there. Outlines, keypoints and attributes are not carried: gfocal reads boxes.",
    )
    convert.set_defaults(run=run)
    convert.add_argument(
        "data", nargs="+", metavar="DATA", help="datasets; several become one, classes by their names"
    )
    convert.add_argument("--to", choices=TARGETS, required=True, help="the format to write")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    convert.add_argument("--split", metavar="NAME", help="this split alone (default: all)")
    convert.add_argument("--as", dest="called", metavar="NAME", help="call the split so; of data that is one split")
    add_rename(convert)
    how = convert.add_mutually_exclusive_group()
    how.add_argument(
        "--copy", dest="images", action="store_const", const="copy", default="copy", help="copy images (default)"
    )
    how.add_argument(
        "--link",
        dest="images",
        action="store_const",
        const="link",
        help="hard links to the images, symbolic ones to another disk: no room is taken",
    )
    how.add_argument(
        "--no-images",
        dest="images",
        action="store_const",
        const="none",
        help="write annotations alone; they name images inside DIR, as readers refuse any others",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal convert."""
    from gfocal.data.convert import concatenate_splits, convert, original_names
    from gfocal.errors import DataError
    from gfocal.text import counted

    sets = [_parts(Path(path), args.split, console) for path in args.data]
    names = {path: name for data in args.data for path, name in original_names(Path(data)).items()}
    parts = concatenate_splits(sets, dict(args.rename))
    if args.called is not None:
        if len(parts) > 1:
            raise DataError(f"--as {args.called}: there are splits {', '.join(parts)}; choose one with --split")
        parts = {args.called: next(iter(parts.values()))}
    notes = convert(parts, args.to, args.out, args.images, names)
    for line in notes:
        note(console, line)
    for split, data in parts.items():
        objects = sum(len(sample.boxes) for sample in data.samples)
        dropped = sum(problem.action == "dropped" for problem in data.problems)
        told = f"{split}: {counted(len(data), 'image')}, {counted(objects, 'object')}"
        told += f" ({counted(dropped, 'record')} dropped on reading, as train would)" if dropped else ""
        say(console, told)
    told = f"{args.out}: {args.to}, read back and found equal"
    say(console, told)
    return DONE


def _parts(path: Path, split: str | None, console: Console) -> dict[str, FileData]:
    """The splits of a dataset; data without splits is one, called by the name of its file or else train."""
    from gfocal.cli.inputs import read_dataset
    from gfocal.data.discovery import list_splits
    from gfocal.data.paths import split_name

    there = list_splits(path)
    wanted: list[str | None] = list(there) if split is None and there else [split]
    parts: dict[str, FileData] = {}
    for name in wanted:
        words = re.findall("[A-Za-z]+", path.stem)
        own = next((found for word in words if (found := split_name(word))), "train")
        data = read_dataset(str(path), name, console).files
        assert data is not None, "a path is a dataset of files"
        parts[own if name is None else split_name(name) or name] = data
    return parts

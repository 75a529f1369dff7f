"""gfocal convert."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.options import add_classes, add_ignored_as_objects, add_max_megapixels, add_rename
from gfocal.console import note, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gfocal.data.dataset import FileData


TARGETS = (
    "coco",
    "yolo",
    "voc",
    "voc-one-based",
    "csv",
    "label-studio",
    "cvat",
    "labelme",
    "createml",
    "via",
    "kitti",
)


def add(commands: Any) -> None:
    """Declare the command and its options."""
    convert = commands.add_parser(
        "convert",
        help="convert a dataset to another format",
        usage="gfocal convert DATA ... --to FORMAT --out DIR [options]",
        description="Convert a dataset, or one of its splits, from any format that 'gfocal train' reads. Class names "
        "and their order, category ids, image ids, boxes to the last bit of a float32, ignored regions (crowd, "
        "difficult), areas, images without objects and splits are preserved; what the new format cannot hold is "
        "written to a file gfocal.json beside it, which gfocal reads. The result is read back and compared before "
        "DIR appears. Masks, keypoints and attributes are not converted: gfocal reads boxes.",
    )
    convert.set_defaults(run=run)
    convert.add_argument(
        "data", nargs="+", metavar="DATA", help="datasets; several become one, with classes matched by name"
    )
    convert.add_argument(
        "--to",
        choices=TARGETS,
        required=True,
        help="the format to write; voc-one-based is VOC with corners that count from 1, as in the VOC challenge",
    )
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    convert.add_argument("--split", metavar="NAME", help="convert only this split (default: all)")
    convert.add_argument("--as", dest="split_as", metavar="NAME", help="rename the split; for data with one split")
    add_rename(convert)
    add_max_megapixels(convert)
    add_classes(convert, note="objects of other classes are not written, all images are")
    add_ignored_as_objects(convert)
    how = convert.add_mutually_exclusive_group()
    how.add_argument(
        "--copy", dest="images", action="store_const", const="copy", default="copy", help="copy images (default)"
    )
    how.add_argument(
        "--link",
        dest="images",
        action="store_const",
        const="link",
        help="link images, which takes no disk space: hard links, or symbolic ones to another disk",
    )
    how.add_argument(
        "--no-images",
        dest="images",
        action="store_const",
        const="none",
        help="write only annotations; they name images in DIR, since readers refuse paths outside of it",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal convert."""
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        return _convert(args, console)


def _convert(args: argparse.Namespace, console: Console) -> int:
    from gfocal.data.convert import concatenate_splits, convert, original_names
    from gfocal.errors import DataError
    from gfocal.text import pluralize

    datasets = [_read_splits(Path(path), args.split, args.ignored_as_objects, console) for path in args.data]
    names = {path: name for data in args.data for path, name in original_names(Path(data)).items()}
    parts = concatenate_splits(datasets, dict(args.rename))
    if args.classes:
        parts = _select_classes(parts, args.classes, console)
    if args.split_as is not None:
        if len(parts) > 1:
            raise DataError(f"--as {args.split_as}: there are splits {', '.join(parts)}; choose one with --split")
        parts = {args.split_as: next(iter(parts.values()))}
    notes = convert(parts, args.to, args.out, args.images, names)
    for line in notes:
        note(console, line)
    for split, data in parts.items():
        objects = sum(len(sample.boxes) for sample in data.samples)
        dropped = sum(problem.action == "dropped" for problem in data.problems)
        text = f"{split}: {pluralize(len(data), 'image')}, {pluralize(objects, 'object')}"
        text += f" ({pluralize(dropped, 'record')} dropped while reading, as in training)" if dropped else ""
        say(console, text)
    say(console, f"{args.out}: {args.to}, read back and found equal")
    return DONE


def _select_classes(parts: dict[str, FileData], texts: Sequence[str], console: Console) -> dict[str, FileData]:
    """The splits with the classes of --classes alone; what is left out of each is said in a note."""
    from gfocal.data.classes import choose_classes
    from gfocal.data.views import describe_left_out, with_classes

    names = choose_classes(texts, list(dict.fromkeys(name for data in parts.values() for name in data.names)))
    for split, data in parts.items():
        if left_out := describe_left_out(data, names):
            note(console, f"{split}: left out: {left_out}")
    return {split: with_classes(data, names) for split, data in parts.items()}


def _read_splits(path: Path, split: str | None, with_ignored: bool, console: Console) -> dict[str, FileData]:
    """The splits of a dataset; data without splits are one, named after the file, else train."""
    from gfocal.cli.inputs import read_dataset, take_ignored_as_objects
    from gfocal.data.discovery import list_splits
    from gfocal.data.paths import split_name
    from gfocal.data.views import select_trained

    available = list_splits(path)
    wanted: list[str | None] = list(available) if split is None and available else [split]
    result: dict[str, FileData] = {}
    for name in wanted:
        words = re.findall("[A-Za-z]+", path.stem)
        own = next((found for word in words if (found := split_name(word))), "train")
        everything = take_ignored_as_objects(read_dataset(str(path), name, console), with_ignored, console)
        data = select_trained(everything).files
        assert data is not None, "a path is a dataset of files"
        result[own if name is None else split_name(name) or name] = data
    return result

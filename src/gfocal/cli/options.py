"""Types of options, and the options that several commands share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfocal.config.config import Config
    from gfocal.ops.decoding import DecodeSettings
    from gfocal.visualize.viewer.viewer_page import ViewerFile

Options = argparse.ArgumentParser | argparse._ArgumentGroup


def int_at_least(minimum: int) -> Callable[[str], int]:
    """The type of an option that takes an integer of at least ``minimum``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"takes an integer of at least {minimum}, not {text!r}")
        return number

    return read


def fraction(text: str) -> float:
    """The type of an option that takes a number in 0..1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"takes a number in 0..1, not {text!r}")
    return number


def minutes(text: str) -> float:
    """The type of an option that takes a time, 90s, 20m or 1.5h, as minutes."""
    factor = {"s": 1 / 60, "m": 1.0, "h": 60.0}.get(text[-1:])
    try:
        number = 0.0 if factor is None else float(text[:-1]) * factor
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"takes a time such as 90s, 20m or 1.5h, not {text!r}")
    return number


def coverage(text: str) -> float:
    """The type of an option that takes a number between 0 and 1, neither included."""
    number = fraction(text)
    if number in (0, 1):
        raise argparse.ArgumentTypeError(f"takes a number between 0 and 1, not {text!r}")
    return number


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """The KEY=VALUE texts of --set as key -> value. Raises ConfigError for a text of another form."""
    from gfocal.errors import ConfigError

    changes: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, not {text!r}")
        changes[key.strip()] = value.strip()
    return changes


def threshold_rule(text: str) -> str:
    """The type of an option that takes a rule for choosing score thresholds: f1, or precision=0.9."""
    from gfocal.evaluation.thresholds import parse_rule

    try:
        parse_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def old_and_new(text: str) -> tuple[str, str]:
    """The type of an option that takes OLD=NEW."""
    old, equals, new = text.partition("=")
    if not equals or not old or not new:
        raise argparse.ArgumentTypeError(f"takes OLD=NEW, not {text!r}")
    return old, new


def add_rename(command: Options, of: str = "data") -> None:
    """--rename, of commands that read data or detections."""
    command.add_argument(
        "--rename",
        action="append",
        default=[],
        type=old_and_new,
        metavar="OLD=NEW",
        help=f"rename a class of the {of}; classes that get the same name become one class; may be repeated",
    )


def add_classes(command: Options, of: str = "data", note: str = "objects of other classes are background") -> None:
    """--classes, of commands that read data or detections."""
    command.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="A,B",
        help=f"only these classes of the {of}, by their names after --rename; {note}; may be repeated",
    )


def add_ignored_as_objects(command: Options) -> None:
    """--ignored-as-objects, of commands that read data."""
    command.add_argument(
        "--ignored-as-objects",
        action="store_true",
        help="take objects that are marked as crowd, difficult or ignored as ordinary objects",
    )


def add_short_side(command: Options) -> None:
    """--short-side, of commands that take a config; see ``short_side_changes``."""
    command.add_argument(
        "--short-side",
        type=int_at_least(1),
        metavar="PIXELS",
        help="resize images to this shorter side; the config's longer side and the range of sizes in augmentation "
        "are scaled with it",
    )


def short_side_changes(config: Config, short_side: int | None) -> dict[str, Any]:
    """Changes of the config for --short-side: the longer side and the sizes in augmentation are scaled with it."""
    from gfocal.data.preprocess import scaled_long_side

    size, sampled = config.size, config.augment.short_sides
    if short_side is None:
        return {}
    changes: dict[str, Any] = {"size.short_side": short_side}
    if size.short_side:
        factor = short_side / size.short_side
        if size.long_side:
            changes["size.long_side"] = scaled_long_side(size.long_side, size.short_side, short_side)
        if sampled is not None:
            changes["augment.short_sides"] = [round(side * factor) for side in sampled]
    return changes


def range_of_values(text: str) -> tuple[int, int]:
    """The type of --value-range."""
    from gfocal.data.value_range import parse_range

    try:
        return parse_range(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def megapixels(text: str) -> float:
    """The type of an option that takes a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number of million pixels above 0, not {text!r}")
    return number


def add_image_reading(command: Options) -> None:
    """--value-range and --max-megapixels, of commands that read images; see ``image_changes``."""
    command.add_argument(
        "--value-range",
        type=range_of_values,
        metavar="BITS|LOW..HIGH",
        help="the values of images of more than 8 bits that become black and white: 12 for 0..4095, or 7400..8600 "
        "(default: the model's if the images fit it, else the bit depth of the highest value in the data)",
    )
    add_max_megapixels(command)


def add_max_megapixels(command: Options) -> None:
    """--max-megapixels, of commands that read images or their headers."""
    command.add_argument(
        "--max-megapixels",
        type=megapixels,
        metavar="N",
        help="refuse larger images, as a guard of the memory (default: 89)",
    )


def image_changes(args: argparse.Namespace) -> dict[str, Any]:
    """Changes of the config for the options of ``add_image_reading``."""
    options = {"images.value_range": args.value_range, "images.max_megapixels": args.max_megapixels}
    return {key: value for key, value in options.items() if value is not None}


def add_nms(command: Options) -> None:
    """--nms-iou and --class-agnostic-nms, of commands that run a model; see ``with_nms``."""
    command.add_argument(
        "--nms-iou",
        "--iou",
        type=fraction,
        metavar="IOU",
        help="boxes that overlap by more than this IoU are one object, of which the best is kept (default: the "
        "model's, 0.6 for most)",
    )
    command.add_argument(
        "--class-agnostic-nms",
        action=argparse.BooleanOptionalAction,
        help="whether that holds for boxes of different classes too, so that an object gets one name (default: the "
        "model's: not, unless 'gfocal eval --store-nms' changed it)",
    )


def with_nms(settings: DecodeSettings, args: argparse.Namespace) -> DecodeSettings:
    """The settings of a model, changed by the options of ``add_nms``."""
    options = {"nms_threshold": args.nms_iou, "class_agnostic_nms": args.class_agnostic_nms}
    return replace(settings, **{key: value for key, value in options.items() if value is not None})


def has_nms_options(args: argparse.Namespace) -> bool:
    """Whether an option of ``add_nms`` was given."""
    return args.nms_iou is not None or args.class_agnostic_nms is not None


def describe_nms(settings: DecodeSettings) -> str:
    """``NMS at IoU 0.6 within each class``."""
    return f"NMS at IoU {settings.nms_threshold:g} " + (
        "across all classes" if settings.class_agnostic_nms else "within each class"
    )


def nms_to_json(settings: DecodeSettings) -> dict[str, Any]:
    """The settings as the files of numbers have them."""
    return {"iou": settings.nms_threshold, "class_agnostic": settings.class_agnostic_nms}


def add_precision(command: Options) -> None:
    """--precision and --compile, of commands that run a model."""
    add_number_format(command)
    command.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first (torch.compile, which needs a C++ compiler): a minute or more, kept for the "
        "next run; worth it for thousands of images",
    )


def add_number_format(command: Options) -> None:
    """--precision alone."""
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bf16"),
        default="auto",
        help="number format of the network; auto: bf16 where the processor or GPU has instructions for it and "
        "'gfocal eval --store-precision' found the same AP with it, else float32 (default: auto)",
    )


def add_device(command: Options) -> None:
    """--device, of commands that run a model."""
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")


def add_viewer(command: Options, shown: str) -> None:
    """--viewer and its options, of commands that detect; see ``viewer_file``."""
    command.add_argument(
        "--viewer",
        type=Path,
        metavar="FILE.html",
        help=f"write a page on which a browser shows {shown}: each edge with its distribution and interval, filters "
        "by score, class and width of interval; one file, which works offline",
    )
    command.add_argument(
        "--viewer-side",
        type=int_at_least(32),
        metavar="PIXELS",
        help="longer side of the images in the viewer (default: 1024, less for so many that the page would become "
        "too large)",
    )
    command.add_argument(
        "--viewer-mb",
        type=int_at_least(1),
        default=100,
        metavar="MB",
        help="size of the viewer; images for which there is no space are shown as boxes alone (default: 100)",
    )


def viewer_file(args: argparse.Namespace) -> ViewerFile | None:
    """What --viewer asks for; its folder is created.

    Raises:
        DataError: the file is a folder, or is not named as a page.
    """
    from gfocal.errors import DataError
    from gfocal.visualize.viewer.viewer_page import ViewerFile

    if args.viewer is None:
        return None
    if args.viewer.is_dir() or args.viewer.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--viewer {args.viewer}: name a file that ends in .html")
    args.viewer.parent.mkdir(parents=True, exist_ok=True)
    return ViewerFile(args.viewer, args.viewer_side, args.viewer_mb * 1_000_000)

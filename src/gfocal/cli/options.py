"""What options take, and the options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfocal.config.config import Config


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"takes a whole number of at least {least}, not {text!r}")
        return number

    return read


def share(text: str) -> float:
    """The type of an option that takes a number in 0..1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"takes a number in 0..1, not {text!r}")
    return number


def set_values(texts: Sequence[str]) -> dict[str, str]:
    """Key -> value of the KEY=VALUE of --set. Raises ConfigError for a text of another form."""
    from gfocal.config.config import ConfigError

    changes: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, not {text!r}")
        changes[key.strip()] = value.strip()
    return changes


def threshold_rule(text: str) -> str:
    """The type of an option that takes a way to choose score thresholds: f1, or precision=0.9."""
    from gfocal.evaluation.thresholds import read_rule

    try:
        read_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def pair(text: str) -> tuple[str, str]:
    """The type of an option that takes OLD=NEW."""
    old, equals, new = text.partition("=")
    if not equals or not old or not new:
        raise argparse.ArgumentTypeError(f"takes OLD=NEW, not {text!r}")
    return old, new


def add_rename(command: argparse.ArgumentParser) -> None:
    """--rename, of commands that read annotated images of several sets."""
    command.add_argument(
        "--rename",
        action="append",
        default=[],
        type=pair,
        metavar="OLD=NEW",
        help="a class of the data by another name; two that get one name become one class; may be repeated",
    )


def add_short_side(command: argparse.ArgumentParser) -> None:
    """--short-side, of commands that take a config; see ``size_changes``."""
    command.add_argument(
        "--short-side",
        type=whole(1),
        metavar="PIXELS",
        help="images are resized to this; the config's longer side, and the range that augmentation draws sides "
        "from, grow or shrink along",
    )


def size_changes(config: Config, short_side: int | None) -> dict[str, Any]:
    """The changes of a config that --short-side means: what belongs to the side grows or shrinks along."""
    size, drawn = config.size, config.augment.short_sides
    if short_side is None:
        return {}
    changes: dict[str, Any] = {"size.short_side": short_side}
    if size.short_side:
        factor = short_side / size.short_side
        if size.long_side:
            changes["size.long_side"] = round(size.long_side * factor)
        if drawn is not None:
            changes["augment.short_sides"] = [round(side * factor) for side in drawn]
    return changes


def add_device(command: argparse.ArgumentParser) -> None:
    """--device, of commands that run a model."""
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")

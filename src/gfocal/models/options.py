"""Options of a preset, from a config or a model file: their types and bounds, checked before anything is built."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gfocal.text import one_line, similar

# Arguments of a preset that other parts of a config, or the data, decide.
NOT_OPTIONS = ("num_classes", "names", "pretrained", "weights", "input_settings", "return")
# Smallest and largest value of each number among the options. What lies beyond is a mistake, or a file that is meant
# to fill the memory.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "n": (1, 1024),
    "delta": (1e-3, 1e3),
    "finest": (4, 8),
    "channels": (2, 4096),
    "num_convs": (0, 64),
    "deformable_stages": (1, 4),
    "sides": (1e-3, 1e5),
}
MAX_LIST, MAX_TEXT = 64, 200  # entries, characters
MAX_WEIGHTS = 100_000_000  # of the convolutions of neck and head; 7.7 million as published


def coerce(value: Any, hint: Any) -> Any:
    """The value in the type that ``hint`` declares; ValueError says what would fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return coerce(value, choice)
            except ValueError:
                continue
    elif origin is Literal:
        if isinstance(value, str | int) and value in arguments:
            return value
        raise ValueError(f"is one of {', '.join(map(repr, arguments))}, not {quote(value)}")
    elif origin in (tuple, Sequence) and isinstance(value, list | tuple):
        is_any_length = origin is Sequence or arguments[-1] is Ellipsis
        kinds = [arguments[0]] * len(value) if is_any_length else list(arguments)
        if len(kinds) == len(value):
            return tuple(coerce(v, k) for v, k in zip(value, kinds, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    elif isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise ValueError(f"must be {describe_type(hint)}, not {quote(value)}")


def quote(value: Any) -> str:
    """A value of an untrusted file as an error quotes it: in one line, shortened."""
    try:
        return one_line(value if isinstance(value, str) and len(value) > 100 else repr(value), 100)
    except (RecursionError, ValueError):  # deeply nested, or a number of thousands of digits
        return f"this {type(value).__name__}"


def describe_type(hint: Any) -> str:
    """The values of a type, in words that need no Python."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [describe_type(argument) for argument in arguments]
        return (", or " if "," in parts[0] else " or ").join(parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple and arguments == (int, int):
        return "two whole numbers, e.g. [480, 800]"
    if origin in (tuple, Sequence):
        return "a list of whole numbers, e.g. [8, 11]" if arguments[0] is int else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words.get(hint, "a table, e.g. {n = 8}" if origin is dict else str(hint))


def check_options(preset: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for a preset's function, in the types that it declares.

    Raises:
        ValueError: an option that it lacks, or a value of another type or out of bounds.
    """
    hints = typing.get_type_hints(preset)
    known = [key for key in hints if key not in NOT_OPTIONS]
    checked = {}
    for key, value in options.items():
        if key not in known:
            near = similar(key, known)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise ValueError(f"{preset.__name__} has no option {quote(key)}; {hint}")
        try:
            checked[key] = coerce(value, hints[key])
            _check_size(checked[key], *BOUNDS.get(key, (-math.inf, math.inf)))
        except ValueError as error:
            raise ValueError(f"{key} {error}") from error
    channels, num_convs = checked.get("channels", 256), checked.get("num_convs", 4)
    if (weights := 9 * (2 * num_convs + 5) * channels**2) > MAX_WEIGHTS:  # two towers, and five levels of the neck
        raise ValueError(
            f"num_convs {num_convs} and channels {channels} make a network of more than {weights / 1e6:,.0f} million "
            f"weights, {MAX_WEIGHTS / 1e6:.0f} are allowed; take less of one of them"
        )
    return checked


def _check_size(value: Any, lowest: float, highest: float) -> None:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"has {len(value):,} characters, more than {MAX_TEXT}")
    if isinstance(value, tuple):
        if len(value) > MAX_LIST:
            raise ValueError(f"has {len(value):,} entries, more than {MAX_LIST}")
        for entry in value:
            _check_size(entry, lowest, highest)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_bounds(value, lowest, highest)


def check_bounds(value: float, lowest: float, highest: float) -> None:
    """ValueError unless a number lies in ``lowest..highest``."""
    if not lowest <= value <= highest:  # so that NaN is refused
        raise ValueError(f"lies in {lowest:g}..{highest:g}, not {quote(value)}")

"""What an exported file says about itself: one json object under the key ``gfocal`` of its metadata.

The file may come from anybody: every value is checked for type and bounds before it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "gfocal"  # of the metadata
FORMAT = "gfocal-export-1"
MAX_JSON = 4_000_000  # characters
MAX_CLASSES, MAX_TEXT, MAX_NAMES = 100_000, 1000, 1_000_000  # classes, characters of a text, of all names
MAX_TABLE = 10_000  # entries
PRECISIONS = ("float32", "bf16", "int8")

Number = tuple[type, float, float]  # type, smallest and largest value
INPUT: Mapping[str, Number] = {
    "short_side": (int, 1, 32768),
    "long_side": (int, 1, 32768),
    "multiple": (int, 32, 4096),
    "antialias": (bool, 0, 1),
    "stretch": (bool, 0, 1),
}
DECODE: Mapping[str, Number] = {
    "score_threshold": (float, 0, 1),
    "per_level": (int, 1, 1_000_000),
    "nms_threshold": (float, 0, 1),
    "max_detections": (int, 1, 1_000_000),
    "softmax": (bool, 0, 1),
    "class_agnostic_nms": (bool, 0, 1),
}


class ExportedFileError(ValueError):
    """An exported file, or an image for it, that cannot be used; the message is one line, file and reason."""


@dataclass(frozen=True)
class InputRule:
    """How an image becomes the input of the network: RGB, 0..255, resized, minus mean, divided by std, padded."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int  # the shorter side is resized to this,
    long_side: int  # unless the longer side would exceed this
    multiple: int  # height and width of a batch are padded to a multiple of this, with zeros
    antialias: bool  # whether downscaling is antialiased
    stretch: bool  # whether an image is stretched to short_side (height) x long_side (width)


@dataclass(frozen=True)
class DecodeRule:
    """The numbers by which outputs become detections; those of ``gfocal.ops.decoding.DecodeSettings``."""

    score_threshold: float
    per_level: int
    nms_threshold: float
    max_detections: int
    softmax: bool
    class_agnostic_nms: bool


@dataclass(frozen=True)
class Metadata:
    """The checked content. ``about`` has all of it, also what only a reader of the file is interested in."""

    names: tuple[str, ...]  # of the classes
    input: InputRule
    decode: DecodeRule
    thresholds: tuple[float, ...] | None  # of each class
    num_bins: int  # K of an edge's distribution; 0: no distribution
    delta: float  # distance of two bins, in strides
    has_nms: bool  # whether the outputs are final objects
    precision: str
    about: Mapping[str, Any] = field(repr=False)


def parse(text: str | None, where: str) -> Metadata:
    """The metadata of a file, checked.

    Raises:
        ExportedFileError: the file has none, or something in it is missing, of the wrong type or out of bounds.
    """
    if text is None:
        raise ExportedFileError(f"{where}: not a file that gfocal export wrote: its metadata have no key {KEY!r}")
    if len(text) > MAX_JSON:
        raise ExportedFileError(f"{where}: its metadata have {len(text):,} characters, more than {MAX_JSON:,}")
    try:
        about = json.loads(text)
        if not isinstance(about, dict):
            raise ValueError("no table")
        if about.get("format") != FORMAT:
            raise ValueError(f"format {_quote(about.get('format'))}, not {FORMAT!r}; install a newer version")
        return _read(about)
    except RecursionError:
        raise ExportedFileError(f"{where}: its metadata are damaged: nested too deeply") from None
    except ValueError as error:
        raise ExportedFileError(f"{where}: its metadata are damaged: {error}") from None


def _read(about: dict[str, Any]) -> Metadata:
    names = _texts(about, "names", MAX_CLASSES)
    if not names or sum(map(len, names)) > MAX_NAMES:
        raise ValueError("names: none, or too long")
    inputs, decode, coder = (_table(about, key) for key in ("input", "decode", "box_coder"))
    rule = {key: _number(inputs, key, *bounds) for key, bounds in INPUT.items()}
    if rule["long_side"] < rule["short_side"] or rule["multiple"] % 32:
        raise ValueError("input: long_side below short_side, or a multiple that is none of 32")
    thresholds = None
    if about.get("thresholds") is not None:
        thresholds = _numbers(_table(about, "thresholds"), "scores", len(names), 0, 1)
    if not isinstance(about.get("nms"), bool) or about.get("precision") not in PRECISIONS:
        raise ValueError("nms or precision is missing, or of an unknown kind")
    return Metadata(
        names=names,
        input=InputRule(_numbers(inputs, "mean", 3, -1e4, 1e5), _numbers(inputs, "std", 3, 1e-6, 1e5), **rule),
        decode=DecodeRule(**{key: _number(decode, key, *bounds) for key, bounds in DECODE.items()}),
        thresholds=thresholds,
        num_bins=_number(coder, "num_bins", int, 0, 1025),
        delta=_number(coder, "delta", float, 1e-3, 1e3),
        has_nms=about["nms"],
        precision=about["precision"],
        about=about,
    )


def _table(about: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(about.get(key), dict) or len(about[key]) > MAX_TABLE:
        raise ValueError(f"{key} is no table")
    return about[key]


def _texts(about: Mapping[str, Any], key: str, most: int) -> tuple[str, ...]:
    texts = about.get(key)
    if not isinstance(texts, list) or len(texts) > most:
        raise ValueError(f"{key} is no list of at most {most:,} texts")
    if any(not isinstance(text, str) or len(text) > MAX_TEXT for text in texts):
        raise ValueError(f"{key} has an entry that is no text of at most {MAX_TEXT:,} characters")
    return tuple(texts)


def _number(table: Mapping[str, Any], key: str, kind: type, lowest: float, highest: float) -> Any:
    value: Any = table.get(key)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind if kind is not float else int | float):
        raise ValueError(f"{key} is {_quote(value)}, no {kind.__name__}")
    number: Any = value
    if not lowest <= number <= highest:  # so that NaN is refused
        raise ValueError(f"{key} lies in {lowest:g}..{highest:g}, not {_quote(value)}")
    return kind(number)


def _numbers(table: Mapping[str, Any], key: str, count: int, lowest: float, highest: float) -> Any:
    values = table.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{key} is no list of {count} numbers")
    return tuple(_number({key: value}, key, float, lowest, highest) for value in values)


def _quote(value: Any) -> str:
    """A value of an untrusted file, in one line."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**18:
        return "a number of many digits"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else "no finite number"
    return ascii(value)[:100] if isinstance(value, str | int | None) else f"a {type(value).__name__}"

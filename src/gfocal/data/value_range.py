"""The values that images of more than 8 bits are read with: which range of them becomes 0..255.

A camera of 12 bits writes 0..4095 into files of 16 bits, where 4095 would be nearly black. The range is chosen for a
whole dataset, is stored in the model file, and is the same in training, evaluation and detection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gfocal.text import pluralize

Range = tuple[int, int]  # lowest and highest value, which become 0 and 255
FULL: Range = (0, 65535)  # where no range was chosen
MIN_BITS, MAX_BITS = 8, 16
MAX_VALUE = 2**31
OPTION = "--value-range"
# Values that occupy a smaller part of their bit depth are stretched: a thermal camera writes 7400..8600 of 0..16383.
MIN_OCCUPIED = 0.25


def check_range(value_range: Range) -> None:
    """Raise ValueError for what is no range."""
    low, high = value_range
    if not all(isinstance(value, int) and abs(value) <= MAX_VALUE for value in value_range) or low >= high:
        raise ValueError(f"value_range is two whole numbers, the lowest and the highest value, not {low!r}, {high!r}")


def parse_range(text: str) -> Range:
    """``12`` (bits, 8 to 16) or ``7400..8600`` -> a range. Raises ValueError for another text."""
    if re.fullmatch(r"\d{1,2}", text) and MIN_BITS <= int(text) <= MAX_BITS:
        return 0, 2 ** int(text) - 1
    numbers = re.fullmatch(r"(-?\d{1,10})\.\.(-?\d{1,10})", text)
    if numbers is None:
        raise ValueError(
            f"takes a bit depth of {MIN_BITS} to {MAX_BITS}, or the lowest and the highest value as LOW..HIGH, "
            f"not {text!r}"
        )
    low, high = int(numbers[1]), int(numbers[2])
    check_range((low, high))
    return low, high


def format_range(value_range: Range) -> str:
    """As ``parse_range`` takes it."""
    return f"{value_range[0]}..{value_range[1]}"


def count_bits(value_range: Range) -> int | None:
    """The bit depth, 8 to 16, of which this is the full range; None for any other range."""
    bits = value_range[1].bit_length()
    is_full = value_range == (0, 2**bits - 1) and MIN_BITS <= bits <= MAX_BITS
    return bits if is_full else None


def to_8_bits(values: npt.NDArray[Any], value_range: Range | None) -> npt.NDArray[np.uint8]:
    """Integer values of any shape -> 0..255; values outside the range are clipped.

    The full range of a bit depth is shifted: v << 4, v << 4 | v >> 4 and, for 16 bits, v * 257 give v exactly.
    Any other range is stretched linearly, and rounded half up.
    """
    low, high = value_range or FULL
    bits = count_bits((low, high))
    if bits is not None:
        return (np.clip(values, low, high) >> (bits - MIN_BITS)).astype(np.uint8)
    if values.dtype == np.uint16:  # by a table: less memory
        return to_8_bits(np.arange(FULL[1] + 1, dtype=np.int64), (low, high))[values]
    above = np.clip(values.astype(np.int64), low, high) - low
    return ((above * 510 + (high - low)) // (2 * (high - low))).astype(np.uint8)


@dataclass(frozen=True)
class MeasuredValues:
    """The lowest and the highest value in images of more than 8 bits."""

    low: int
    high: int
    num_read: int  # images that were decoded for it,
    num_deep: int  # of the images of more than 8 bits that were found

    @property
    def bits(self) -> int:
        """The smallest bit depth, at least 8, that holds the highest value."""
        return max(MIN_BITS, self.high.bit_length())

    @property
    def is_signed_or_long(self) -> bool:
        """Whether the values do not fit into 16 bits without a sign."""
        return self.low < 0 or self.high > FULL[1]

    @property
    def value_range(self) -> Range:
        """The full range of the bit depth; the values' own where they occupy less than a quarter of that."""
        is_narrow = self.bits > MIN_BITS and self.high - self.low < MIN_OCCUPIED * 2**self.bits
        if self.low < self.high and (is_narrow or self.is_signed_or_long):
            return self.low, self.high
        return 0, 2 ** min(self.bits, MAX_BITS) - 1

    def fits(self, value_range: Range) -> bool:
        """Whether the values are of the kind that a model with this range was trained on.

        Full ranges: they hold the values, whose bit depth is the same or 1 less. Other ranges: they hold at least
        half of the values' own range.
        """
        bits = count_bits(value_range)
        if bits is not None:
            return self.low >= 0 and self.high <= value_range[1] and self.bits >= bits - 1
        inside = min(self.high, value_range[1]) - max(self.low, value_range[0])
        return inside >= 0 and 2 * inside >= self.high - self.low

    def __str__(self) -> str:
        read = f"{self.num_read:,} of " * (self.num_read < self.num_deep)
        depth = "" if self.is_signed_or_long else f", a depth of {self.bits} bits"
        images = pluralize(self.num_deep, "image")
        return f"{read}{images} of more than 8 bits: values {format_range((self.low, self.high))}{depth}"


def merge_measured(found: Sequence[MeasuredValues]) -> MeasuredValues | None:
    """What was measured in several parts of a dataset, as one; None if there is none."""
    if not found:
        return None
    return MeasuredValues(
        min(part.low for part in found),
        max(part.high for part in found),
        sum(part.num_read for part in found),
        sum(part.num_deep for part in found),
    )


@dataclass(frozen=True)
class RangeChoice:
    """The range to read images of more than 8 bits with, and why."""

    value_range: Range | None  # None: nothing to choose from; 0..65535
    is_stated: bool = False  # by the user, now or when the model was trained
    text: str = ""  # a line; empty where there are no images of more than 8 bits
    is_note: bool = False  # whether the user should look at it


def choose_range(
    found: MeasuredValues | None, stated: Range | None = None, own: Range | None = None, is_own_stated: bool = False
) -> RangeChoice:
    """Choose the range for a dataset.

    Args:
        found: what was measured in it; None if it has no images of more than 8 bits.
        stated: by the user; it is taken.
        own: of the model. It is taken if it was stated for its training or ``found`` fits it, else that of the data.
    """
    is_stated = stated is not None or (own is not None and is_own_stated)
    given = stated or (own if is_own_stated else None)
    if found is None:
        return RangeChoice(given or own, is_stated)
    if given is not None:
        source = "as stated" if stated is not None else "as stated when the model was trained"
        outside = found.low < given[0] or found.high > given[1]
        is_darker = count_bits(given) is not None and not outside and not found.fits(given)
        why = "; values outside are clipped" * outside + "; most of it is empty: images are dark" * is_darker
        is_note = is_darker or (outside and count_bits(given) is not None)
        return RangeChoice(given, True, f"{found}; read as {_describe(given)}, {source}{why}", is_note)
    if own is not None and found.fits(own):
        return RangeChoice(own, False, f"{found}; read as {_describe(own)}, the model's range")
    chosen = found.value_range
    text = f"{found}; read as {_describe(chosen)}"
    if own is not None:
        text += f", not as {_describe(own)}, the model's range, which they do not fit"
    force = own or FULL
    hint = f"{OPTION} {format_range(force)} forces that" if own is not None else f"{OPTION} states another range"
    return RangeChoice(chosen, False, f"{text} ({hint})", is_note=own is not None)


def _describe(value_range: Range) -> str:
    bits = count_bits(value_range)
    return format_range(value_range) + (f" ({bits} bits)" if bits is not None else ", stretched")

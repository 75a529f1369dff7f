"""Numbers with their nouns, and untrusted text made safe to print."""

from __future__ import annotations

import re

# What moves the cursor or colors a terminal, turns the direction of writing, or is no character at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 epoch``, ``2,000 epochs``; ``plural`` where an s is not enough."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str, most: int = 300) -> str:
    """Text that is safe to print: signs that steer a terminal are escaped, the middle of a long text is left out."""
    text = _UNPRINTABLE.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def one_line(text: str, most: int = 300) -> str:
    """The same in one line."""
    return printable(text, most).replace("\n", " ").replace("\t", " ")

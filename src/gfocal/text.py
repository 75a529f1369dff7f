"""Numbers with their nouns, and untrusted text made safe to print."""

from __future__ import annotations

import re

# Characters that move the cursor, color a terminal or reverse the writing direction, and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """``1 epoch``, ``2,000 epochs``; ``plural`` for nouns whose plural is irregular."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str, max_length: int = 300) -> str:
    """Text that is safe to print: control characters are escaped, the middle of a long text is left out."""
    text = _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
    half = max_length // 2
    return text if len(text) <= max_length else f"{text[:half]} ... {text[-half:]}"


def one_line(text: str, max_length: int = 300) -> str:
    """``printable`` text in one line."""
    return printable(text, max_length).replace("\n", " ").replace("\t", " ")

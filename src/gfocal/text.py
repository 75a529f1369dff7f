"""Numbers with their nouns, and untrusted text made safe to print."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Characters that move the cursor, color a terminal or reverse the writing direction, and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """``1 epoch``, ``2,000 epochs``; ``plural`` for nouns whose plural is irregular."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def similar(word: str, known: Iterable[str], number: int = 1) -> list[str]:
    """Up to ``number`` of the ``known`` words that a word with a typo may stand for, the likeliest first."""
    import difflib

    folded = {name.lower().lstrip("-"): name for name in known}  # dashes that all options have make none similar
    return [folded[name] for name in difflib.get_close_matches(word[:100].lower().lstrip("-"), folded, n=number)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean train?`` for a word with a typo, else a list of the words that are ``known``."""
    known = list(known)
    if near := similar(word, known):
        return one_line(f"did you mean {near[0]}?")
    return one_line(f"there are: {', '.join(known)}", max_length=1000)


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """``there is no preset 'gfl_r51_fpn'; did you mean gfl_r50_fpn? There are: ...``."""
    known = list(known)
    near = similar(name, known)
    hint = f"did you mean {near[0]}? There are: " if near else "there are: "
    return f"there is no {what} {one_line(name, 100)!r}; {one_line(hint + ', '.join(known), max_length=1000)}"


def printable(text: str, max_length: int = 300) -> str:
    """Text that is safe to print: control characters are escaped, the middle of a long text is left out."""
    text = _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
    half = max_length // 2
    return text if len(text) <= max_length else f"{text[:half]} ... {text[-half:]}"


def one_line(text: str, max_length: int = 300) -> str:
    """``printable`` text in one line."""
    return printable(text, max_length).replace("\n", " ").replace("\t", " ")

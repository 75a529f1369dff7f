"""Class names that may mean one class: ``bishop`` beside ``black-bishop``, ``aple`` beside ``apple``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from gfocal.data.coco_names import COCO_NAMES

MAX_FEW = 5  # boxes of a class that may be a mistake
MIN_RATIO, MIN_FREQUENT = 5, 10  # times as many boxes, and boxes, has the class that was meant
MIN_LETTERS = 5  # of names that differ in a letter: cat and car are two words
MIN_SIMILARITY = 0.8  # of the letters of names that differ in more than one
OPPOSITES = {"no", "not", "non", "without", "un", "off", "open", "closed", "broken"}
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Suspect:
    """A class with hardly a box, and the frequent class that may have been meant."""

    name: str
    meant: str
    number: int  # of boxes of the class
    number_meant: int
    why: str
    also: tuple[str, ...] = ()  # other classes that may have been meant


def normalize_name(name: str) -> str:
    """A class name without case, spaces and punctuation; the name itself where nothing is left."""
    return re.sub(r"[\W_]+", "", name).casefold() or name


def find_suspects(number: Mapping[str, int]) -> list[Suspect]:
    """Classes with hardly a box, whose names resemble that of a frequent class; ``number`` of boxes of each."""
    found = []
    for name, few in number.items():
        if not 0 < few <= MAX_FEW:
            continue
        frequent = [other for other, many in number.items() if many >= max(MIN_RATIO * few, MIN_FREQUENT)]
        near = [(other, why) for other in frequent if (why := explain_likeness(name, other, number))]
        near.sort(key=lambda pair: -number[pair[0]])
        if near:
            (meant, why), *others = near
            found.append(Suspect(name, meant, few, number[meant], why, tuple(other for other, _ in others)))
    return found


def explain_likeness(rare: str, frequent: str, names: Iterable[str] = ()) -> str:
    """Why the name of a rare class may be a mistake for a frequent one; empty if nothing says so.

    ``names`` of all classes tell whether what is left of a compound is a word: ``black`` of ``blackbishop``, beside
    ``blackking``.
    """
    first, second = _split_words(rare), _split_words(frequent)
    if rare == frequent or not first or not second or {rare, frequent} <= set(COCO_NAMES):
        return ""
    letters, other_letters = "".join(first), "".join(second)
    if letters == other_letters:
        return "the same letters"
    if [_singular(word) for word in first] == [_singular(word) for word in second]:
        return "singular and plural"
    if re.sub(r"\d", "", letters) == re.sub(r"\d", "", other_letters):
        return ""  # speed 30, speed 80
    if set(first) < set(second):
        left = [word for word in second if word not in first]
        return "" if OPPOSITES & set(left) else f"without {' '.join(left)!r}"
    if rest := _compound_rest(letters, other_letters, names):
        return f"without {rest!r}"
    return "" if (set(first) ^ set(second)) & OPPOSITES else _explain_misspelling(letters, other_letters)


@lru_cache(maxsize=4096)
def _split_words(name: str) -> tuple[str, ...]:
    """The words of a name: ``blackKing 2`` has three."""
    return tuple(word.casefold() for word in _WORD.findall(_HUMP.sub(" ", name)))


def _singular(word: str) -> str:
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _compound_rest(rare: str, frequent: str, names: Iterable[str]) -> str:
    """What a compound has before or after the rare name, if a third class has it there too; else nothing."""
    others = [other for name in names if (other := normalize_name(name)) not in (rare, frequent)]
    if len(rare) < MIN_LETTERS or len(frequent) < len(rare) + 3:
        return ""
    if frequent.endswith(rare) and any(other.startswith(frequent[: -len(rare)]) for other in others):
        return frequent[: -len(rare)]
    if frequent.startswith(rare) and any(other.endswith(frequent[len(rare) :]) for other in others):
        return frequent[len(rare) :]
    return ""


def _explain_misspelling(first: str, second: str) -> str:
    longer = max(len(first), len(second))
    if longer < MIN_LETTERS or first[0] != second[0] or abs(len(first) - len(second)) > 2:
        return ""
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    edits = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal")
    swapped = len(first) == len(second) and sorted(first) == sorted(second) and edits <= 2
    if swapped:
        return "two letters are swapped"
    if edits == 1:
        is_other = len(first) == len(second) and longer <= MIN_LETTERS  # glass and grass are two words
        return "" if is_other else "a letter differs"
    return f"{edits} letters differ" if edits == 2 and matcher.ratio() >= MIN_SIMILARITY else ""

"""Class ids that are all one too high or too low, as where one program counts from 0 and another from 1.

Most of them are ids of some class, so that objects would silently be of the wrong one.
"""

from __future__ import annotations

from collections.abc import Collection

from gfocal.data.dataset import Problem
from gfocal.text import pluralize

IDS_SHIFTED = (
    "ids of classes look shifted by one: objects would get the names of other classes; correct the ids, or the "
    "list of classes"
)
MAX_SHOWN = 6


def find_shift(used: Collection[int], known: Collection[int]) -> int:
    """1 if all ids that objects have are one above those of classes, -1 if one below; 0 if not.

    They are where some object has an id that is not known, and none would with the other numbering.
    """
    classes = set(known)
    if not used or classes.issuperset(used):
        return 0
    return next((shift for shift in (1, -1) if classes.issuperset(value - shift for value in used)), 0)


def report_shift(used: Collection[int], known: Collection[int], num_unknown: int, where: str) -> list[Problem]:
    """A problem if class ids are shifted; ``num_unknown`` objects have an id that is not known."""
    shift = find_shift(used, known)
    if not shift:
        return []
    never = sorted(set(known) - set(used))
    record = (
        f"{'subtract 1 from' if shift > 0 else 'add 1 to'} those of the objects, {_show(used)}; the classes have "
        f"{_show(known)}: {_show(set(used) - set(known))} ({pluralize(num_unknown, 'object')}) is unknown, "
        f"{_show(never)} never used"
    )
    return [Problem(where, record, IDS_SHIFTED, "kept")]


def _show(ids: Collection[int]) -> str:
    values = sorted(ids)
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}..{values[-1]}"
    return ", ".join(map(str, values[:MAX_SHOWN])) + ", ..." * (len(values) > MAX_SHOWN)

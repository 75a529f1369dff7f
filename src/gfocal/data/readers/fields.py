"""Values of json and xml fields that tools write in several ways: flags and ids."""

from __future__ import annotations

import re
from typing import Any

FLAG = "flag that is neither yes nor no: not set"
FLAG_NUMBER = "flag that is a number other than 0 and 1: set"
NO = frozenset(("", "0", "0.0", "false", "no", "n", "f", "none", "null", "off"))
YES = frozenset(("1", "1.0", "true", "yes", "y", "t", "on"))


def read_flag(value: Any) -> bool | None:
    """Whether a flag is set, also where it is text ('0', 'false'); None if it is neither yes nor no."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, int | float):
        return bool(value) if value == value else None  # NaN
    word = value.strip().lower() if isinstance(value, str) else "?"
    return False if word in NO else True if word in YES else None


def doubt_flag(value: Any) -> str:
    """Why the value of a flag may mean something else than ``read_flag`` takes it for; "" if it does not."""
    if read_flag(value) is None:
        return FLAG
    return FLAG_NUMBER if isinstance(value, int | float) and value not in (0, 1) else ""


def read_id(value: Any) -> int | str | None:
    """An id: 7 for 7, 7.0, '7' and '7.0', any other text as it stands ('007', 'a7'); None for what is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"(0|-?[1-9]\d{0,18})(\.0*)?", text, re.ASCII):
            return text or None
        value = int(text.partition(".")[0])
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def read_integer(value: Any) -> int | None:
    """An integer, also where it is written as a decimal or as text; else None."""
    number = read_id(value)
    return number if isinstance(number, int) else None

"""Flags and ids as tools write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.readers.fields import read_flag, read_id, read_integer


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", "0", "false", " False ", "no", "0.0", "None", "N"])
def test_flags_that_are_not_set(value: Any) -> None:
    assert read_flag(value) is False


@pytest.mark.parametrize("value", [True, 1, 2, 1.0, "1", "true", "Yes", "1.0", "y"])
def test_flags_that_are_set(value: Any) -> None:
    assert read_flag(value) is True


@pytest.mark.parametrize("value", ["maybe", "2.5", [], {}, float("nan")])
def test_flags_that_are_neither(value: Any) -> None:
    assert read_flag(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((7, 7), (7.0, 7), ("7", 7), (" 7 ", 7), ("7.0", 7), ("7.", 7), ("-3", -3), ("0", 0)),
        *(("007", "007"), ("a7", "a7"), ("7.5", "7.5"), ("٣", "٣")),
        *((True, None), (None, None), ("", None), ("  ", None), (7.5, None), (float("inf"), None), ([7], None)),
        *((2**63, None), (str(2**63), None), (-(2**63), -(2**63))),
    ],
)
def test_ids(value: Any, expected: int | str | None) -> None:
    assert read_id(value) == expected
    assert read_integer(value) == (expected if isinstance(expected, int) else None)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_the_same_id_as_its_text(number: int) -> None:
    assert read_id(number) == read_id(str(number)) == number

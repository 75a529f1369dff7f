"""Boxes as decimal numbers: short, and the same float32 when they are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gfocal.data.writers.decimals import format_decimal, shorten, to_fractions, to_xywh

FLOATS = st.floats(-1e5, 1e5, width=32)


@given(value=FLOATS)
def test_short_numbers_are_the_same_float32(value: float) -> None:
    assert np.float32(shorten(value)) == np.float32(value)
    assert np.float32(float(format_decimal(value))) == np.float32(value)


INSIDE = st.floats(0, 1e5, width=32)  # boxes are clipped to their images


@given(across=st.tuples(INSIDE, INSIDE).map(sorted), down=st.tuples(INSIDE, INSIDE).map(sorted))
def test_x_and_width_give_the_right_edge(across: list[float], down: list[float]) -> None:
    (x1, x2), (y1, y2) = across, down
    x, y, width, height = to_xywh((x1, y1, x2, y2))
    assert [np.float32(v) for v in (x, y, x + width, y + height)] == [np.float32(v) for v in (x1, y1, x2, y2)]


@given(size=st.integers(1, 20000), data=st.data())
def test_fractions_give_both_edges(size: int, data: st.DataObject) -> None:
    """Edges of more than a ten-thousandth of a pixel, or none: such are those of every real box."""
    anywhere = st.floats(0, size, width=32).filter(lambda value: value > 1e-4)
    edge = st.one_of(st.just(0.0), st.integers(0, size).map(float), anywhere)
    low, high = sorted((data.draw(edge), data.draw(edge)))
    assume(low < high)
    found = to_fractions(low, high, size)
    assert found is not None
    center, length = map(float, found)
    edges = np.clip(np.float32([(center - length / 2) * size, (center + length / 2) * size]), 0, np.float32(size))
    assert edges.tolist() == [low, high]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 320.0, 640), ("0.25", "0.5")),
        ((0.0, 640.0, 640), ("0.5", "1")),
        ((0.0, 3.0, 7), ("0.21428571", "0.42857143")),
    ],
)
def test_no_more_digits_than_needed(box: tuple[float, float, int], expected: tuple[str, str]) -> None:
    assert to_fractions(*box) == expected
    assert format_decimal(5.0) == "5"
    assert format_decimal(float(np.float32(0.1))) == "0.1"
    assert to_xywh((0.1, 0.2, 10, 20.25)) == [0.1, 0.2, 9.9, 20.05]


def test_unrepresentable_edges_give_none() -> None:
    assert to_fractions(1e-20, 3.0, 7) is None

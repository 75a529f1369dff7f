"""Which values of images of more than 8 bits become 0 and 255: by the data, the model, or as stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.preprocess import InputSettings
from gfocal.data.value_range import (
    FULL,
    MeasuredValues,
    Range,
    choose_range,
    count_bits,
    format_range,
    merge_measured,
    parse_range,
    to_8_bits,
)

BYTES = np.arange(256)


def measured(low: int, high: int) -> MeasuredValues:
    return MeasuredValues(low, high, 4, 4)


@pytest.mark.parametrize("bits", range(8, 17))
def test_8_bit_values_come_back_exactly_from_every_depth(bits: int) -> None:
    shift = bits - 8
    for stored in (BYTES << shift, BYTES << shift | BYTES >> (8 - shift), (BYTES << shift) + (1 << shift) - 1):
        np.testing.assert_array_equal(to_8_bits(stored.astype(np.uint16), (0, 2**bits - 1)), BYTES)
    np.testing.assert_array_equal(to_8_bits((BYTES * 257).astype(np.uint16), None), BYTES)


@given(st.integers(-40_000, 70_000), st.integers(1, 80_000), st.lists(st.integers(-50_000, 99_000), min_size=1))
def test_a_range_is_mapped_in_order_from_black_to_white(low: int, width: int, values: list[int]) -> None:
    value_range = (low, low + width)
    found = to_8_bits(np.array(values), value_range).astype(int)
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert to_8_bits(np.array([low, low + width]), value_range).tolist() == [0, 255]
    exact = np.clip((np.array(values) - low) / width, 0, 1) * 255
    assert np.abs(found - exact).max() <= (1 if count_bits(value_range) else 0.5) + 1e-9


@given(st.integers(0, 65_534), st.integers(1, 65_535))
def test_16_bit_values_go_through_a_table_to_the_same(low: int, width: int) -> None:
    value_range = (low, min(low + width, 65_535))
    values = np.array([0, low, low + width // 3, 65_535]).clip(0, 65_535)
    np.testing.assert_array_equal(
        to_8_bits(values.astype(np.uint16), value_range), to_8_bits(values.astype(np.int64), value_range)
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1023, (0, 1023)),  # 10 bits of a medical display
        (1156, 2264, (0, 4095)),  # a microscope of 12 bits: 27 % of the depth
        (12, 16_320, (0, 16_383)),
        (3, 65_280, (0, 65_535)),
        (900, 51_000, (0, 65_535)),  # a microscope that uses 16 bits
        (7400, 8600, (7400, 8600)),  # a thermal camera of 14 bits
        (100, 130, (0, 255)),  # 8 bits in a file of 16: as they are in one of 8
        (500, 500, (0, 511)),
        (-1024, 3071, (-1024, 3071)),  # Hounsfield units
        (0, 100_000, (0, 100_000)),
    ],
)
def test_the_depth_of_the_highest_value_or_the_values_own_range(low: int, high: int, expected: Range) -> None:
    assert measured(low, high).value_range == expected


def test_which_range_is_taken() -> None:
    data = measured(10, 4000)
    assert choose_range(data).value_range == (0, 4095)
    assert choose_range(data, own=(0, 4095)).value_range == (0, 4095)
    assert choose_range(data, own=(0, 8191)).value_range == (0, 8191)  # 1 bit less than the model's
    for own in ((0, 65_535), (0, 16_383), (0, 2047), (7400, 8600)):
        other = choose_range(data, own=own)
        assert other.value_range == (0, 4095)
        assert other.is_note
        assert f"--value-range {format_range(own)}" in other.text
    assert choose_range(measured(7700, 8100), own=(7400, 8600)).value_range == (7400, 8600)
    assert choose_range(measured(7300, 8700), own=(7400, 8600)).value_range == (7400, 8600)


def test_a_stated_range_wins() -> None:
    data = measured(10, 4000)
    chosen = choose_range(data, stated=(0, 1023), own=(0, 4095))
    assert (chosen.value_range, chosen.is_stated, chosen.is_note) == ((0, 1023), True, True)
    assert "clipped" in chosen.text
    trained = choose_range(data, own=(0, 65_535), is_own_stated=True)
    assert (trained.value_range, trained.is_stated, trained.is_note) == ((0, 65_535), True, True)
    assert "dark" in trained.text
    window = choose_range(measured(-1024, 3000), own=(-160, 240), is_own_stated=True)
    assert (window.value_range, window.is_note) == ((-160, 240), False)


def test_data_of_8_bits_keep_what_a_model_has() -> None:
    assert choose_range(None).value_range is None
    assert choose_range(None, own=(0, 4095)).value_range == (0, 4095)
    assert choose_range(None, stated=(0, 1023)).value_range == (0, 1023)
    assert choose_range(None).text == ""


def test_parts_are_merged() -> None:
    assert merge_measured([]) is None
    both = merge_measured([MeasuredValues(5, 90, 2, 3), MeasuredValues(7, 4000, 1, 1)])
    assert both == MeasuredValues(5, 4000, 3, 4)


def test_the_text_says_what_was_measured_and_chosen() -> None:
    text = choose_range(MeasuredValues(7400, 8600, 500, 2000)).text
    for part in ("500 of 2,000 images", "7400..8600", "14 bits", "stretched", "--value-range"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "expected"), [("12", (0, 4095)), ("7400..8600", (7400, 8600)), ("-160..240", (-160, 240))]
)
def test_ranges_are_parsed(text: str, expected: Range) -> None:
    assert parse_range(text) == expected
    assert parse_range(format_range(expected)) == expected


@pytest.mark.parametrize("text", ["", "7", "17", "5..5", "9..2", "a..b", "1.5..3", "9" * 5000, f"0..{'9' * 20}"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"value_range|bit depth"):
        parse_range(text)


@pytest.mark.parametrize("wrong", [(5, 5), (9, 2), (0, 2**40), (0.5, 3)])
def test_settings_refuse_what_is_no_range(wrong: Range) -> None:
    with pytest.raises(ValueError, match="value_range"):
        InputSettings(value_range=wrong)
    assert InputSettings(value_range=FULL).value_range == FULL

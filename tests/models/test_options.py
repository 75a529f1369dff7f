"""Options of presets: each number has bounds, and what lies beyond is refused before anything is built."""

from __future__ import annotations

import math
import typing
from typing import Any, Literal

import pytest

from gfocal.models.options import BOUNDS, NOT_OPTIONS, check_options, coerce, quote
from gfocal.models.zoo import PRESETS, gfl_light_fpn, sapd_r50_fpn, ssd512_vgg16


def numbers_of(hint: Any) -> set[type]:
    """The types of numbers that a hint has in it."""
    if hint in (int, float):
        return {hint}
    return {kind for argument in typing.get_args(hint) for kind in numbers_of(argument) if isinstance(hint, object)}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_number_among_the_options_has_bounds(preset: Any) -> None:
    hints = typing.get_type_hints(preset)
    numbers = {key for key, hint in hints.items() if key not in NOT_OPTIONS and numbers_of(hint)}
    assert numbers <= set(BOUNDS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_convs": 100_000}, "num_convs lies in 0..64, not 100000"),
        ({"channels": 10**30}, "channels lies in 2..4096, not 1000"),
        ({"num_convs": 64, "channels": 4096}, "more than 20,082 million weights, 100 are allowed"),
        ({"n": 0}, "n lies in 1..1024, not 0"),
        ({"n": True}, "n must be a whole number, not True"),
        ({"delta": math.nan}, "delta lies in 0.001..1000, not nan"),
        ({"delta": 10**400}, "delta must be a number, not 1000"),
        ({"body": "x" * 2**20}, "body has 1,048,576 characters, more than 200"),
        ({"origin": [[]]}, "origin is one of 'corner', 'legacy', 'center', not [[]]"),
        ({"k" * 2**20: 1}, "has no option kkkk"),
        ({"weights": "/etc/passwd"}, "has no option 'weights'"),
    ],
)
def test_what_does_not_fit_is_one_short_line(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        check_options(gfl_light_fpn, options)
    assert expected in str(error.value)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_lists_have_bounds_too() -> None:
    with pytest.raises(ValueError, match="sides has 100,000 entries"):
        check_options(ssd512_vgg16, {"sides": [1.0] * 100_000})
    with pytest.raises(ValueError, match="sides lies in"):
        check_options(ssd512_vgg16, {"sides": [-1.0] * 8})


def test_what_fits_comes_back_in_its_type() -> None:
    assert check_options(gfl_light_fpn, {"n": 48, "delta": 1}) == {"n": 48, "delta": 1.0}
    assert check_options(sapd_r50_fpn, {"channels": 64, "num_convs": 0}) == {"channels": 64, "num_convs": 0}
    assert coerce([1, 2], tuple[int, ...]) == (1, 2)
    assert coerce("a", Literal["a", "b"]) == "a"


def test_a_deep_value_is_quoted_shortly() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert quote(deep) == "this list"
    assert quote(10**5000) == "this int"
    assert len(quote("x" * 10_000)) < 120

"""Class names that may mean one class are found by their names and numbers, and others are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.checks.class_names import MAX_FEW, MIN_FREQUENT, MIN_RATIO, explain_likeness, find_suspects
from gfocal.data.coco_names import COCO_NAMES


@pytest.mark.parametrize(
    ("rare", "frequent", "why"),
    [
        ("bishop", "black-bishop", "without 'black'"),
        ("Bishop", "bishop_white", "without 'white'"),
        ("aple", "apple", "a letter differs"),
        ("appel", "apple", "two letters are swapped"),
        ("dogs", "dog", "singular and plural"),
        ("berry", "berries", "singular and plural"),
        ("box", "boxes", "singular and plural"),
        ("black king", "blackKing", "the same letters"),
        ("stop-sign", "Stop Sign", "the same letters"),
    ],
)
def test_names_that_may_mean_one_class(rare: str, frequent: str, why: str) -> None:
    assert explain_likeness(rare, frequent) == why


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("cat", "car"),
        ("dog", "hot dog"),  # both are COCO's
        ("speed 30", "speed 80"),
        ("class1", "class10"),
        ("helmet", "no helmet"),
        ("masked", "unmasked"),
        ("glass", "grass"),
        ("kite", "knife"),
        ("left wheel", "right wheel"),
        ("black-bishop", "black-king"),
        ("fork", "fork"),
        ("-", "fork"),
        ("", "fork"),
    ],
)
def test_names_of_two_classes(rare: str, frequent: str) -> None:
    assert explain_likeness(rare, frequent) == ""


def test_a_compound_needs_another_class_with_the_rest() -> None:
    assert explain_likeness("bishop", "blackbishop", ["blackking"]) == "without 'black'"
    assert explain_likeness("bishop", "blackbishop", ["whiteking"]) == ""


def test_numbers_decide_who_is_suspected() -> None:
    names = {"bishop": 1, "black-bishop": 40, "white-bishop": 60, "king": 30, "rook": 0}
    (found,) = find_suspects(names)
    assert (found.name, found.meant, found.number, found.number_meant) == ("bishop", "white-bishop", 1, 60)
    assert found.also == ("black-bishop",)
    assert find_suspects(names | {"bishop": MAX_FEW + 1}) == []
    assert find_suspects({"bishop": 5, "black-bishop": 5 * MIN_RATIO - 1}) == []
    assert find_suspects({"bishop": 5, "black-bishop": 5 * MIN_RATIO}) != []
    assert find_suspects({"bishop": 1, "black-bishop": MIN_FREQUENT - 1}) == []


def test_cocos_classes_are_never_suspected() -> None:
    assert find_suspects({name: 1 if i % 2 else 1000 for i, name in enumerate(COCO_NAMES)}) == []


@given(st.dictionaries(st.text(max_size=12), st.integers(0, 1000), max_size=12))
def test_any_names_are_taken(number: dict[str, int]) -> None:
    for found in find_suspects(number):
        assert 0 < number[found.name] <= MAX_FEW
        assert number[found.meant] >= MIN_RATIO * number[found.name]
        assert found.name != found.meant
        assert found.why

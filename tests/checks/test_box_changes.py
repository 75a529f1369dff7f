"""What differs between the boxes of two images that show the same."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.checks.box_changes import BoxChanges, compare_boxes
from gfocal.data.dataset import Sample

NAMES = ("cat", "dog")
BOXES = [[10.0, 10.0, 50.0, 50.0], [60.0, 20.0, 90.0, 70.0], [20.0, 60.0, 55.0, 95.0]]


def sample(boxes: list[list[float]], labels: list[int], size: tuple[int, int] = (100, 100)) -> Sample:
    count = len(labels)
    rows = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return Sample(1, Path("a.png"), rows, torch.tensor(labels), torch.zeros(count, dtype=torch.bool), size)


def compare(first: Sample, second: Sample, *, is_equal: bool = True) -> BoxChanges:
    return compare_boxes(first, second, NAMES, NAMES, is_equal=is_equal)


def marks(changes: BoxChanges) -> tuple[list[str], list[str]]:
    return [one.mark for one in changes.first], [one.mark for one in changes.second]


def test_equal_boxes_in_another_order() -> None:
    found = compare(sample(BOXES, [0, 1, 0]), sample(BOXES[::-1], [0, 1, 0]))
    assert marks(found) == (["same"] * 3, ["same"] * 3)
    assert found.text == ""


def test_every_kind_of_change() -> None:
    moved = [64.0, 20.0, 94.0, 70.0]
    second = sample([BOXES[0], moved, [1.0, 1.0, 8.0, 8.0]], [1, 1, 0])
    found = compare(sample(BOXES, [0, 1, 0]), second)
    assert marks(found) == (["other-class", "moved", "missing"], ["other-class", "moved", "added"])
    assert found.text == "1 box added, 1 box missing, 1 box moved, 1 box of another class: cat → dog"
    assert [one.box for one in found.second] == [(10, 10, 50, 50), (64, 20, 94, 70), (1, 1, 8, 8)]


def test_a_box_of_the_same_class_is_preferred() -> None:
    """Of two boxes on one object, of two classes, each finds its own."""
    found = compare(sample([BOXES[0]] * 2, [0, 1]), sample([BOXES[0]] * 2, [1, 0]))
    assert found.text == ""


def test_rounding_is_no_change_in_equal_images_and_more_is() -> None:
    first = sample(BOXES[:1], [0])
    assert compare(first, sample([[10.9, 10.0, 50.0, 50.9]], [0])).text == ""
    assert compare(first, sample([[12.0, 10.0, 50.0, 50.0]], [0])).text == "1 box moved"
    assert compare(first, sample([[12.0, 10.0, 50.0, 50.0]], [0]), is_equal=False).text == ""
    assert compare(first, sample([[20.0, 10.0, 60.0, 50.0]], [0]), is_equal=False).text == "1 box moved"


def test_images_of_two_sizes() -> None:
    double = [[2 * value for value in box] for box in BOXES]
    found = compare(sample(BOXES, [0, 1, 0]), sample(double, [0, 1, 0], (200, 200)), is_equal=False)
    assert found.text == ""
    assert found.first[0].box == (10, 10, 50, 50), "each in pixels of its own image"
    assert found.second[0].box == (20, 20, 100, 100)


def test_classes_are_compared_by_name() -> None:
    first, second = sample(BOXES, [0, 1, 0]), sample(BOXES, [1, 0, 1])
    assert compare_boxes(first, second, NAMES, NAMES[::-1], is_equal=True).text == ""


box = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 50), st.integers(0, 1))


@given(st.lists(box, max_size=6), st.lists(box, max_size=6))
def test_every_box_has_a_mark_and_pairs_are_pairs(
    first: list[tuple[int, ...]], second: list[tuple[int, ...]]
) -> None:
    samples = [
        sample([[x, y, x + w, y + h] for x, y, w, h, _ in rows], [row[4] for row in rows]) for rows in (first, second)
    ]
    of_first, of_second = marks(compare(*samples))
    assert (len(of_first), len(of_second)) == (len(first), len(second))
    for mark in ("same", "moved", "other-class"):
        assert of_first.count(mark) == of_second.count(mark)
    assert "added" not in of_first
    assert "missing" not in of_second

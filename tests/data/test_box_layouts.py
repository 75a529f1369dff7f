"""Boxes that are something else than their format has, and right boxes that nothing is said of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.box_layouts import (
    CENTERS,
    CORNERS,
    CORNERS_FOR_CENTERS,
    MAYBE_CORNERS,
    MAYBE_RESIZED,
    SIDES,
    SWAPPED_SIDES,
    TOP_LEFT,
    Layout,
    find_other_layout,
    find_resized,
)

Boxes = np.ndarray[Any, np.dtype[np.float64]]
WIDTH, HEIGHT = 640.0, 480.0


def place(seed: int, count: int, share: tuple[float, float] = (0.05, 0.3), to: float = 1.0) -> Boxes:
    """Right boxes, xyxy, anywhere in an image's first ``to`` of each side; ``share`` of it that their sides have."""
    rng = np.random.default_rng(seed)
    limits = np.array([WIDTH, HEIGHT]) * to
    sides = rng.uniform(*share, (count, 2)) * limits
    start = rng.uniform(0, 1, (count, 2)) * (limits - sides)
    return np.concatenate((start, start + sides), axis=1)


def to_xywh(boxes: Boxes) -> Boxes:
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def to_centers(boxes: Boxes) -> Boxes:
    return np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)


def swap(numbers: Boxes) -> Boxes:
    return numbers[:, [0, 1, 3, 2]]


def same(boxes: Boxes) -> Boxes:
    return boxes


def read(numbers: Boxes, layout: Layout) -> Boxes:
    """What a reader of the layout makes of four numbers."""
    first, last = numbers[:, :2], numbers[:, 2:]
    if layout == "xyxy":
        return numbers
    start = first if layout == "xywh" else first - last / 2
    return np.concatenate((start, start + last), axis=1)


def found(boxes: Boxes, layout: Layout) -> str:
    one = find_other_layout(boxes, np.tile([WIDTH, HEIGHT], (len(boxes), 1)), layout)
    return "" if one is None else one.reason


@pytest.mark.parametrize("count", [30, 250])
@pytest.mark.parametrize(
    ("layout", "write", "reason"),
    [
        ("xywh", same, CORNERS),
        ("xywh", to_centers, CENTERS),
        ("xywh", lambda boxes: swap(to_xywh(boxes)), SWAPPED_SIDES),
        ("cxcywh", same, CORNERS_FOR_CENTERS),
        ("cxcywh", to_xywh, TOP_LEFT),
        ("cxcywh", lambda boxes: swap(to_centers(boxes)), SWAPPED_SIDES),
        ("xyxy", to_xywh, SIDES),
    ],
)
def test_another_layout_is_found_in_small_and_large_sets(
    layout: Layout, write: Callable[[Boxes], Boxes], reason: str, count: int
) -> None:
    boxes = place(count, count, (0.1, 0.4))
    if reason == SWAPPED_SIDES:  # wide objects along the bottom and the right
        boxes = np.array([(20.0 + 2 * i, 440.0, 220.0 + 2 * i, 478.0) for i in range(count)])
        boxes[:, 2] = boxes[:, 2].clip(max=WIDTH)
    assert found(read(write(boxes), layout), layout) == reason


@given(
    st.integers(0, 2**31),
    st.integers(1, 60),
    st.sampled_from([(0.01, 0.05), (0.05, 0.3), (0.3, 0.9), (0.6, 1.0)]),
    st.sampled_from(["xyxy", "xywh", "cxcywh"]),
)
def test_nothing_is_said_of_right_boxes(seed: int, count: int, share: tuple[float, float], layout: Layout) -> None:
    boxes = place(seed, count, share)
    assert found(boxes, layout) == ""
    sizes, owner = np.tile([WIDTH, HEIGHT], (count, 1)), np.arange(count) // 3
    assert find_resized(boxes, sizes, owner) is None


@given(st.integers(0, 2**31), st.sampled_from(["xywh", "cxcywh"]))
def test_nothing_is_said_of_sloppy_edges_and_of_objects_that_end_outside(seed: int, layout: Layout) -> None:
    rng = np.random.default_rng(seed)
    boxes = place(seed, 40)
    sloppy = boxes + rng.uniform(-3, 3, boxes.shape)
    assert found(sloppy, layout) == ""
    start = rng.uniform(-0.15, 0.85, (60, 2)) * [WIDTH, HEIGHT]  # drawn whole, as pedestrian sets have them
    whole = np.concatenate((start, start + 0.3 * np.array([WIDTH, HEIGHT])), axis=1)
    assert found(whole, layout) == ""
    assert find_resized(whole, np.tile([WIDTH, HEIGHT], (60, 1)), np.arange(60) // 3) is None


def test_corners_of_objects_in_the_top_left_are_doubtful_as_no_box_leaves_its_image() -> None:
    for layout in ("xywh", "cxcywh"):
        boxes = read(place(1, 100, (0.1, 0.3), to=0.3), layout)  # type: ignore[arg-type]
        inside = boxes[(boxes[:, :2] >= 0).all(1)]
        assert found(inside, layout) == MAYBE_CORNERS  # type: ignore[arg-type]
        assert found(inside[:10], layout) == ""  # type: ignore[arg-type]
    portraits = place(2, 100, (0.6, 0.9))  # wide and high, and not small
    assert found(portraits, "xywh") == ""


def test_boxes_of_larger_images() -> None:
    boxes = place(3, 120) * 1.5
    sizes, owner = np.tile([WIDTH, HEIGHT], (120, 1)), np.arange(120) // 6
    resized = find_resized(boxes, sizes, owner)
    assert resized is not None
    assert resized.reason == MAYBE_RESIZED
    assert "times the width" in resized.record
    few = np.where(owner[:, None] < 5, boxes, boxes / 1.5)  # in a quarter of the images: mistakes of these
    assert find_resized(few, sizes, owner) is None
    turned = place(4, 120)[:, [1, 0, 3, 2]]
    assert find_resized(turned, sizes, owner) is None  # x and y are swapped

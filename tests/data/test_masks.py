"""Boxes of COCO's outlines, compared with faster-coco-eval's mask functions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faster_coco_eval.core import mask as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gfocal.data.masks import box_around_outline, decode_runs
from gfocal.data.outlines import box_around_points, hull_of_ellipse, hull_of_rotated

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


def runs_of(mask: npt.NDArray[np.uint8]) -> list[int]:
    """Lengths of runs of 0 and 1 in turn, down the columns."""
    flat = np.concatenate(([0], mask.flatten(order="F"), [2]))
    ends = np.flatnonzero(np.diff(flat[:-1])).tolist()
    starts = [0, *ends, mask.size]
    return [b - a for a, b in itertools.pairwise(starts)]


@given(MASKS)
def test_boxes_of_masks_are_those_of_the_reference(mask: npt.NDArray[np.uint8]) -> None:
    encoded = reference.encode(np.asfortranarray(mask))
    counts = encoded["counts"]
    text = counts.decode() if isinstance(counts, bytes) else counts
    assert decode_runs(text) == runs_of(mask)
    size = list(mask.shape)
    for segmentation in ({"size": size, "counts": text}, {"size": size, "counts": runs_of(mask)}):
        box = box_around_outline(segmentation)
        if not mask.any():
            assert box is None
            continue
        x, y, w, h = np.asarray(reference.toBbox(encoded)).tolist()
        assert box == (x, y, x + w, y + h)


def test_polygons_in_their_ways_of_writing() -> None:
    expected = (1.0, 2.0, 9.0, 8.0)
    for segmentation in (
        [[1, 2, 9, 2, 9, 8]],
        [[1, 2, 5, 2, 5, 8], [4, 4, 9, 4, 9, 7]],
        [1, 2, 9, 2, 9, 8],
        [[1, 2], [9, 2], [9, 8]],
        [[[1, 2], [9, 2], [9, 8]]],
        [["1", "2", "9", "2", "9", "8"]],
    ):
        assert box_around_outline(segmentation) == expected


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[]],
        "text",
        7,
        [[1, 2, 3]],
        [[1, 2]],
        [[1, 2, float("nan"), 4]],
        [[10**400, 2, 3, 4]],
        [{"x": 1}],
        {},
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [-1, 17]},
        {"size": [4, 4], "counts": ["16"]},
        {"size": [0, 4], "counts": [0]},
        {"size": [4], "counts": [16]},
        {"size": 4, "counts": [16]},
        {"size": [4, 4], "counts": [16]},
        {"size": [4, 4], "counts": "\x00"},
        {"size": [4, 4], "counts": "o" * 100},
        {"size": [4, 4], "counts": "é"},
    ],
)
def test_what_is_no_outline_has_no_box(segmentation: Any) -> None:
    assert box_around_outline(segmentation) is None


@given(st.text(st.characters(min_codepoint=40, max_codepoint=115)))
def test_any_text_is_a_mask_or_no_outline(text: str) -> None:
    box = box_around_outline({"size": [5, 5], "counts": text})
    assert box is None or (0 <= box[0] < box[2] <= 5 and 0 <= box[1] < box[3] <= 5)


NUMBERS = st.floats(-100, 100)


@given(NUMBERS, NUMBERS, st.floats(0, 50), st.floats(0, 50), st.floats(-720, 720))
def test_rotated_boxes_are_inside_their_hull(x: float, y: float, w: float, h: float, degrees: float) -> None:
    box = (x, y, x + w, y + h)
    angle, center = np.radians(degrees), np.array([x + w / 2, y + h / 2])
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[box[i], box[j]] for i in (0, 2) for j in (1, 3)])
    turned = (corners - center) @ rotation + center
    np.testing.assert_allclose(hull_of_rotated(box, degrees), (*turned.min(0), *turned.max(0)), atol=1e-9)
    ellipse = hull_of_ellipse((center[0], center[1]), (w / 2, h / 2), degrees)
    t = np.linspace(0, 2 * np.pi, 400)
    points = np.stack((w / 2 * np.cos(t), h / 2 * np.sin(t)), axis=1) @ rotation + center
    np.testing.assert_allclose(ellipse, box_around_points(map(tuple, points.tolist())), atol=0.05)  # type: ignore[arg-type]

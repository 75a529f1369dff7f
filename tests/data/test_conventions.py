"""What concerns a whole dataset: conventions of numbers, resized images, boxes on stored pixels, ignored objects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from gfocal.data.box_layouts import Layout
from gfocal.data.conventions import (
    CENTERS,
    CORNERS,
    FRACTIONS,
    MOSTLY_IGNORED,
    RESIZED,
    TURNED,
    TURNED_YOLO,
    convert_records,
    turn_fractions,
)
from gfocal.data.dataset import Problem
from gfocal.data.image_record import ImageRecord, Usable

SIZE = (120, 160)  # height, width


def record(boxes: list[tuple[float, ...]], stated: tuple[int, int] | None = SIZE, crowd: int = 0) -> ImageRecord:
    image = ImageRecord("a.json", Path("a.png"), 1, stated)
    for number, box in enumerate(boxes):
        image.add(
            box, 0, number < crowd, f"object {number}", 50.0, (*box[:2], box[2] - box[0], box[3] - box[1], 50.0)
        )  # type: ignore[arg-type]
    return image


def convert(
    images: list[ImageRecord], size: tuple[int, int] = SIZE, orientation: int = 1, layout: Layout = "xywh"
) -> tuple[list[Problem], list[Usable]]:
    problems: list[Problem] = []
    usable = [(image, size) for image in images]
    differing = convert_records(
        usable, [orientation] * len(usable), problems, "set", layout=layout, flag="crowd", in_pixels=False
    )
    return problems, differing


INSIDE = st.tuples(st.floats(0, 100), st.floats(0, 80), st.floats(5, 60), st.floats(5, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(st.lists(INSIDE, min_size=3, max_size=30))
def test_boxes_inside_their_images_are_left_as_they_are(boxes: list[tuple[float, ...]]) -> None:
    image = record(boxes)
    assert convert([image]) == ([], [])
    assert image.boxes == boxes
    assert not image.relative


@given(st.lists(INSIDE, min_size=3, max_size=30), st.sampled_from([2.0, 3.0, 4.5]))
def test_boxes_of_shrunk_images_are_scaled_if_one_leaves_its_file(boxes: list[tuple[float, ...]], k: float) -> None:
    stated = (round(SIZE[0] * k), round(SIZE[1] * k))
    image = record([tuple(v * k for v in box) for box in boxes], stated)
    leaves = any(box[2] * k > SIZE[1] + 1 or box[3] * k > SIZE[0] + 1 for box in boxes)
    problems, differing = convert([image])
    assert [p.reason for p in problems] == [RESIZED] * leaves
    assert bool(differing) != leaves
    if leaves:
        np.testing.assert_allclose(image.boxes, boxes, atol=1e-9)
        np.testing.assert_allclose(image.areas, 50 / k**2)
        np.testing.assert_allclose([row[:2] for row in image.stated if row], [box[:2] for box in boxes], atol=1e-9)


def test_boxes_of_enlarged_images_are_scaled_if_they_reach_through_the_stated_size() -> None:
    half = (SIZE[0] // 2, SIZE[1] // 2)
    places = [(x, y, x + 10.0, y + 10.0) for x in (5.0, 30.0, 65.0) for y in (5.0, 20.0, 45.0)]
    image = record(places, half)
    problems, differing = convert([image])
    assert [p.reason for p in problems] == [RESIZED]
    assert "0.5 times" in problems[0].record
    assert not differing
    assert image.boxes[0] == (10, 10, 30, 30)
    for few in (record(places[:2], half), record([(5.0, 5.0, 9.0, 9.0)] * 9, half)):  # may be of either size
        problems, differing = convert([few])
        assert problems == []
        assert len(differing) == 1


def test_a_stated_size_of_hundreds_of_digits_is_another_size_and_boxes_stay() -> None:
    image = record([(10, 10, 150, 30)], (10**400, SIZE[1]))
    problems, differing = convert([image])
    assert problems == []
    assert len(differing) == 1
    assert image.boxes == [(10, 10, 150, 30)]


def test_swapped_height_and_width_are_no_other_size() -> None:
    image = record([(10, 10, 150, 30)], (SIZE[1], SIZE[0]))
    problems, differing = convert([image])
    assert problems == []
    assert len(differing) == 1
    assert image.boxes == [(10, 10, 150, 30)]


def test_corners_and_centers_in_place_of_xywh() -> None:
    boxes = [(70.0 + i, 60.0 + i, 110.0 + 2 * i, 100.0 + i) for i in range(9)]
    corners = record([(x1, y1, x1 + x2, y1 + y2) for x1, y1, x2, y2 in boxes])
    assert [p.reason for p in convert([corners])[0]] == [CORNERS]
    wide = [(90.0 + i, 70.0 + i, 150.0 + i, 116.0) for i in range(9)]
    centers = record(
        [((x1 + x2) / 2, (y1 + y2) / 2, 1.5 * x2 - x1 / 2, 1.5 * y2 - y1 / 2) for x1, y1, x2, y2 in wide]
    )
    assert [p.reason for p in convert([centers])[0]] == [CENTERS]
    for image in (corners, centers):  # formats that state corners are another matter
        assert convert([image], layout="xyxy")[0] == []


def test_fractions_keep_their_areas_in_pixels() -> None:
    image = record([(0.25, 0.5, 0.5, 1.0)] * 3)
    image.areas = [0.125, 50.0, math.nan]
    problems, _ = convert([image])
    assert [p.reason for p in problems] == [FRACTIONS]
    assert image.relative
    assert image.areas[:2] == [0.125 * 120 * 160, 50.0]
    assert image.stated == [None] * 3


@pytest.mark.parametrize("boxes", [[(0, 0, 1, 1)] * 4, [(0.5, 0.5, 1.5, 0.9)] * 4, [(0.2, 0.2, 0.4, 0.4)] * 2])
def test_what_is_too_little_for_fractions(boxes: list[tuple[float, ...]]) -> None:
    image = record(boxes)
    assert FRACTIONS not in [p.reason for p in convert([image], layout="xyxy")[0]]
    assert not image.relative


@pytest.mark.parametrize(
    ("count", "crowd", "said"), [(9, 9, 1), (1, 1, 1), (16, 8, 1), (17, 8, 0), (4, 3, 0), (9, 0, 0)]
)
def test_most_objects_are_ignored(count: int, crowd: int, said: int) -> None:
    image = record([(i, 5, i + 20, 25) for i in range(count)], crowd=crowd)
    problems, _ = convert([image])
    assert [p.reason for p in problems] == [MOSTLY_IGNORED] * said
    assert all(p.record.startswith(f"{crowd} of {count} object") for p in problems)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_on_stored_pixels_lie_on_the_same_pixels_upright(orientation: int) -> None:
    width, height = 12, 8
    stored = Image.new("L", (width, height))
    stored.paste(255, (2, 1, 7, 4))
    exif = stored.getexif()
    exif[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))
    ys, xs = np.nonzero(upright)
    expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    x1, y1, x2, y2 = turn_fractions((2 / width, 1 / height, 7 / width, 4 / height), orientation)
    found = (x1 * upright.shape[1], y1 * upright.shape[0], x2 * upright.shape[1], y2 * upright.shape[0])
    np.testing.assert_allclose(found, expected)


def test_images_rotated_by_exif_are_said_where_no_size_settles_it() -> None:
    free, yolo, told, upside_down = (record([(5, 5, 25, 25)], size) for size in (None, None, SIZE, SIZE))
    yolo.relative = True
    assert [p.reason for p in convert([free], orientation=6)[0]] == [TURNED]
    assert [p.reason for p in convert([yolo], orientation=6)[0]] == [TURNED_YOLO]
    assert convert([told], orientation=6)[0] == []
    assert [p.reason for p in convert([upside_down], orientation=3)[0]] == [TURNED]
    yolo.on_stored_pixels = True
    assert convert([yolo], orientation=6)[0] == []

"""Labels overlap no other label, hide little of any object, stay inside the image, and best ones come first."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from gfocal.visualize.drawing import Rect, overlap
from gfocal.visualize.labels import GAP, MAX_HIDDEN, MAX_LABELED, Label, draw_labels

RED = (200, 0, 0)
COORDINATE = st.floats(-300, 600, allow_nan=False)


def draw(texts: list[tuple[str, ...]], boxes: list[Rect], size: tuple[int, int] = (300, 300), **given) -> list:
    canvas = Image.new("RGB", size)
    labels = [Label(text, box, RED) for text, box in zip(texts, boxes, strict=True)]
    limits = (0.0, 0.0, float(size[0]), float(size[1]))
    return draw_labels(ImageDraw.Draw(canvas), labels, 14, limits, **given)


@settings(max_examples=80, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[COORDINATE] * 4), max_size=12),
    text=st.text(max_size=60),
    width=st.integers(1, 400),
    height=st.integers(1, 300),
    taken=st.lists(st.tuples(*[st.floats(0, 200)] * 4), max_size=3),
)
def test_labels_stay_inside_and_clear_of_each_other_and_of_objects(boxes, text, width, height, taken):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    taken = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in taken]
    placed = draw([(text, text[:3])] * len(boxes), boxes, (width, height), taken=taken)
    assert len(placed) == len(boxes)
    places = [place for place in placed if place is not None]
    for k, (x0, y0, x1, y1) in enumerate(places):
        assert -1e-6 <= x0 < x1 <= width + 1e-6
        assert -1e-6 <= y0 < y1 <= height + 1e-6
        assert all(overlap(places[k], other) < 1e-6 for other in [*places[:k], *taken])
    whole = (0.0, 0.0, float(width), float(height))
    for x0, y0, x1, y1 in boxes:
        seen = (max(x0, 0.0), max(y0, 0.0), min(x1, whole[2]), min(y1, whole[3]))
        area = max((seen[2] - seen[0]) * (seen[3] - seen[1]), 1.0) if seen[2] > seen[0] and seen[3] > seen[1] else 1.0
        assert sum(overlap(place, seen) for place in places) <= MAX_HIDDEN * area + 1e-6


def test_a_label_stands_above_its_box_if_there_is_room():
    (place,) = draw([("dog 0.90",)], [(50.0, 100.0, 200.0, 200.0)])
    assert (place[0], place[3]) == (50, 100)
    (below,) = draw([("dog 0.90",)], [(50.0, 3.0, 200.0, 200.0)])
    assert (below[0], below[1]) == (50, 200)
    (inside,) = draw([("dog 0.90",)], [(0.0, 0.0, 300.0, 300.0)])
    assert inside[:2] == (0, 0)


def test_labels_make_way_for_each_other_with_a_gap():
    placed = draw([("dog 0.9",)] * 3, [(50.0, 100.0, 200.0, 200.0)] * 3)
    assert None not in placed
    for i, (x0, y0, x1, y1) in enumerate(placed):
        wide = (x0 - GAP, y0 - GAP, x1 + GAP, y1 + GAP)
        assert not any(overlap(wide, other) for other in placed[:i])


def test_a_label_avoids_the_small_object_above():
    box, small = (50.0, 100.0, 250.0, 200.0), (55.0, 85.0, 70.0, 98.0)
    (plain,) = draw([("dog 0.90",)], [box])
    (moved,) = draw([("dog 0.90",)], [box], objects=[box, small])
    assert overlap(plain, small)
    assert not overlap(moved, small)


def test_a_shorter_text_where_the_whole_one_finds_no_place():
    # On a narrow image with a wall around the object there is room for one short label alone.
    (place,) = draw([("dog 0.90 of many words", "dog")], [(0.0, 0.0, 60.0, 40.0)], (60, 40), taken=[(45, 0, 60, 40)])
    (whole,) = draw([("dog",)], [(0.0, 0.0, 60.0, 40.0)], (60, 40), taken=[(45, 0, 60, 40)])
    assert place == whole is not None


def test_in_a_crowd_the_first_labels_are_written_and_most_of_the_image_stays_open():
    rng = random.Random(0)
    corners = [(rng.uniform(0, 760), rng.uniform(0, 560)) for _ in range(300)]
    boxes = [(x, y, x + 40, y + 40) for x, y in corners]
    placed = draw([(f"person 0.{99 - k // 4}", "person") for k in range(300)], boxes, (800, 600))
    written = [k for k, place in enumerate(placed) if place is not None]
    assert 30 < len(written) < 150
    assert sum(k < 50 for k in written) > 35
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in filter(None, placed))
    assert area < (MAX_LABELED + 0.01) * 800 * 600


@pytest.mark.parametrize("size", [(1, 1), (4000, 2), (3, 900)])
def test_no_room_for_any_text(size: tuple[int, int]):
    assert draw([("dog 0.90", "dog")], [(0.0, 0.0, float(size[0]), float(size[1]))], size) == [None]


def test_a_name_of_any_length_is_shortened():
    (place,) = draw([("long " * 5000,)], [(50.0, 100.0, 200.0, 200.0)])
    assert 200 < place[2] - place[0] <= 300

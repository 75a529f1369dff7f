"""Mosaic, mixup and copy-paste: the boxes of one image made of several are those of its pixels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import BLACK, boxes_are_those_of_masks, extent, is_sound, scene

from gfocal.data.augmentation.labeled_image import LabeledImage
from gfocal.data.augmentation.mixing import MAX_HIDDEN, copy_paste, find_copyable, mixup, mosaic
from gfocal.data.preprocess import resized_shape

SIDES = (96, 160)
OBJECTS = [[20, 30, 61, 57], [70, 10, 95, 80], [10, 70, 60, 95]]
FAINT = 60  # an image that shines through has at least 0.4 of 255


def empty(height: int, width: int) -> LabeledImage:
    return scene(height, width, [])


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("size", [(100, 130), (300, 200), (96, 96), (60, 400)])
@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_boxes_in_a_mosaic_are_those_of_the_pixels(number: int, size: tuple[int, int], shape: str) -> None:
    seen = 0
    for seed in range(10):
        images = [empty(90 + 20 * i, 120 - 10 * i) for i in range(4)]
        boxes = torch.tensor(OBJECTS) * torch.tensor([size[1], size[0]] * 2) / 100
        images[number] = scene(*size, boxes.tolist(), shape)
        torch.manual_seed(seed)
        item = mosaic(images, SIDES, BLACK)
        is_sound(item)
        assert item.size == resized_shape(*images[0].size, *SIDES)
        seen += boxes_are_those_of_masks(item)
    assert seen >= 5  # of 30


def test_a_mosaic_shows_all_four_in_their_quarters() -> None:
    """Windows of images of one ratio fill their tiles."""
    torch.manual_seed(3)
    images = []
    for gray in (50, 100, 150, 200):
        image = torch.full((3, 120, 160), gray, dtype=torch.uint8)
        images.append(empty(120, 160)._replace(image=image))
    for _ in range(10):
        item = mosaic(images, SIDES, BLACK)
        height, width = item.size
        corners = [item.image[0, y, x] for y in (0, height - 1) for x in (0, width - 1)]
        assert [int(corner) for corner in corners] == [50, 100, 150, 200]
        assert (item.image > 0).all()  # the images share a ratio, so nothing is left to fill
        for gray in (50, 100, 150, 200):
            x1, y1, x2, y2 = extent(item.image[0] == gray).tolist()
            assert 0.28 <= (x2 - x1) / width <= 0.72
            assert 0.28 <= (y2 - y1) / height <= 0.72


def test_tiles_have_half_to_full_scale() -> None:
    factors = []
    for seed in range(40):
        torch.manual_seed(seed)
        images = [scene(96, 128, [[60, 44, 68, 52]]) if i == 2 else empty(96, 128) for i in range(4)]
        item = mosaic(images, SIDES, BLACK)
        for box in item.boxes[~item.crowd]:
            factors.append(float(box[3] - box[1]) / 8)
    assert len(factors) >= 20
    assert 0.45 < min(factors) < 0.7
    assert 0.85 < max(factors) <= 1.01


def test_pixels_outside_of_all_images_are_filled() -> None:
    long = empty(10, 400)
    long = long._replace(image=torch.full((3, 10, 400), 255, dtype=torch.uint8))
    torch.manual_seed(0)
    item = mosaic([empty(96, 96), long, long, long], SIDES, (7.0, 8.0, 9.0))
    assert {7, 255, 0} >= {int(v) for v in item.image[0].unique()} > {7}


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_boxes_of_both_images_of_a_mixup(shape: str) -> None:
    for seed in range(12):
        first = scene(96, 128, [[20, 30, 61, 57]], shape)
        second = scene(200, 150, [[1, 1, 2, 2], [60, 40, 120, 110], [10, 120, 70, 190]], shape)
        second = LabeledImage(second.image, second.boxes[1:], second.labels[1:], second.crowd[1:])
        second.image[0] = 0
        torch.manual_seed(seed)
        item = mixup(first, second)
        is_sound(item)
        assert item.size == first.size
        assert item.labels.tolist() == [0, 1, 2]
        assert boxes_are_those_of_masks(item, threshold=FAINT) == 3


def test_mixup_leaves_both_images_visible_and_the_rest_unchanged() -> None:
    first = empty(96, 128)._replace(image=torch.full((3, 96, 128), 200, dtype=torch.uint8))
    second = empty(48, 48)
    for seed in range(20):
        torch.manual_seed(seed)
        values = mixup(first, second).image
        shone = values < 200
        assert int(shone[0].sum()) == 48 * 48  # it is not enlarged
        assert values.min() >= 200 * 0.4 - 1
        assert values[shone].max() <= 200 * 0.6 + 1


def test_pasted_objects_and_what_they_occlude() -> None:
    """A long low box, over whose ends something is pasted at times, and a large one."""
    pasted = shrunk = 0
    source = scene(100, 140, [[1, 1, 2, 2], [2, 2, 3, 3], [50, 30, 75, 65]])
    source = LabeledImage(source.image, source.boxes[2:], source.labels[2:], source.crowd[2:])
    source.image[:2] = 0
    for seed in range(60):
        target = scene(96, 128, [[10, 60, 120, 68], [30, 4, 95, 40]])
        torch.manual_seed(seed)
        item = copy_paste(target, source)
        is_sound(item)
        assert item.size == target.size
        boxes_are_those_of_masks(item)
        pasted += 2 in item.labels.tolist()
        kept = item.boxes[item.labels < 2]
        assert len(kept) == 2
        assert not item.crowd.any()
        shrunk += not torch.equal(kept, target.boxes)
        areas, before = ((b[:, 2:] - b[:, :2]).prod(-1) for b in (kept, target.boxes))
        assert (areas >= (1 - MAX_HIDDEN) * before).all()
    assert pasted >= 40
    assert shrunk >= 3


def test_a_pasted_object_is_opaque_and_its_surroundings_fade() -> None:
    source = empty(100, 100)._replace(
        image=torch.full((3, 100, 100), 255, dtype=torch.uint8),
        boxes=torch.tensor([[30.0, 30.0, 70.0, 70.0]]),
        labels=torch.tensor([5]),
        crowd=torch.tensor([False]),
    )
    torch.manual_seed(2)
    item = copy_paste(empty(120, 120), source)
    x1, y1, x2, y2 = (round(v) for v in item.boxes[0].tolist())
    assert (item.image[:, y1:y2, x1:x2] == 255).all()
    row = item.image[0, (y1 + y2) // 2].int()
    before = row[x1 - 4 : x1]
    assert (before.diff() > 0).all()
    assert before.min() < 230
    assert item.labels.tolist() == [5]
    assert not item.crowd.any()


def test_objects_that_overlap_others_are_not_copied() -> None:
    alone, pair, small = [10, 10, 30, 30], [[50, 50, 70, 70], [60, 52, 85, 80]], [5, 90, 8, 93]
    sample = scene(100, 100, [alone, *pair])
    assert find_copyable(sample) == [0]
    assert find_copyable(sample._replace(crowd=torch.tensor([True, False, False]))) == []
    near = scene(100, 100, [alone, [24, 8, 44, 34]])
    assert find_copyable(near) == []
    assert find_copyable(near._replace(crowd=torch.tensor([False, True]))) == []  # beside a region to be ignored
    assert find_copyable(scene(100, 100, [small])) == []
    assert find_copyable(scene(100, 100, [[10, 10, 60, 60], [20, 20, 30, 30]])) == []  # one in the other


def test_nothing_is_pasted_without_a_free_place() -> None:
    full = scene(60, 60, [[x, y, x + 6, y + 6] for x in range(0, 60, 6) for y in range(0, 60, 6)][:3])
    full = full._replace(
        boxes=torch.tensor([[x, y, x + 6, y + 6] for x in range(0, 60, 6) for y in range(0, 60, 6)]).float(),
        labels=torch.zeros(100, dtype=torch.int64),
        crowd=torch.zeros(100, dtype=torch.bool),
    )
    source = scene(60, 60, [[20, 20, 40, 40]])
    for seed in range(10):
        torch.manual_seed(seed)
        assert copy_paste(full, source) is full
    torch.manual_seed(0)
    tiny = empty(8, 8)
    assert copy_paste(tiny, source) is tiny
    assert copy_paste(full, empty(60, 60)) is full


def test_pasted_objects_do_not_overlap() -> None:
    source = scene(96, 96, [[5, 5, 25, 25], [60, 10, 80, 30], [30, 60, 60, 80]])
    several = 0
    for seed in range(40):
        torch.manual_seed(seed)
        item = copy_paste(empty(96, 96), source)
        several += len(item.boxes) > 1
        assert boxes_are_those_of_masks(item) == len(item.boxes)
    assert several >= 10


boxes_of = st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=12)
sizes = st.tuples(st.integers(1, 130), st.integers(1, 130))


def make_image(size: tuple[int, int], shares: list[tuple[float, float, float, float]]) -> LabeledImage:
    """Boxes anywhere in an image, some flat, some flagged."""
    height, width = size
    four = torch.tensor(shares, dtype=torch.float32).view(-1, 2, 2).sort(dim=1).values.view(-1, 4)
    boxes = four * torch.tensor([width, height, width, height])
    count = len(boxes)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return LabeledImage(image, boxes, torch.arange(count), torch.arange(count) % 3 == 2)


@pytest.mark.parametrize(
    "mix",
    [
        lambda parts: mosaic(parts, SIDES, BLACK),
        lambda parts: mixup(parts[0], parts[1]),
        lambda parts: copy_paste(parts[0], parts[1]),
    ],
    ids=["mosaic", "mixup", "copy_paste"],
)
@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.tuples(sizes, boxes_of), min_size=4, max_size=4), seed=st.integers(0, 2**31))
def test_images_of_any_size_and_number_of_boxes(
    mix: Callable[[list[LabeledImage]], LabeledImage],
    parts: list[tuple[tuple[int, int], list[tuple[float, float, float, float]]]],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    images = [make_image(size, shares) for size, shares in parts]
    before = [[part.clone() for part in image] for image in images]
    item = mix(images)
    is_sound(item)
    assert all(
        torch.equal(a, b) for old, new in zip(before, images, strict=True) for a, b in zip(old, new, strict=True)
    )

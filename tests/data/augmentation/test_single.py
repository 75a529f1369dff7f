"""Cuts, covers and turns: what becomes of a box when part of its object is no longer to be seen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import BLACK, boxes_are_those_of_masks, extent, is_sound, scene

from gfocal.data.augmentation.labeled_image import MIN_VISIBLE, LabeledImage, clip_boxes, crop_window, occlude
from gfocal.data.augmentation.single import affine_matrix, random_affine, random_crop, random_erase


def test_crop_keeps_objects_whose_center_is_inside_and_ignores_others() -> None:
    sample = scene(100, 100, [[10, 10, 30, 30], [34, 10, 54, 30], [60, 60, 90, 90]])
    part = crop_window(sample, 15, 0, 26, 60)  # x from 15 to 41: centers at 20, 44 and 75
    assert part.boxes.tolist() == [[0.0, 10.0, 15.0, 30.0], [19.0, 10.0, 26.0, 30.0]]
    assert part.labels.tolist() == [0, 1]
    assert part.crowd.tolist() == [False, True]
    assert torch.equal(part.image, sample.image[:, 0:60, 15:41])


def test_parts_thinner_than_a_pixel_are_dropped() -> None:
    sample = LabeledImage(
        torch.zeros(3, 50, 50, dtype=torch.uint8),
        torch.tensor([[-9.0, 10.0, 0.9, 30.0], [-9.0, 10.0, 1.1, 30.0], [-9.0, 10.0, 0.9, 30.0]]),
        torch.tensor([0, 1, 2]),
        torch.tensor([False, False, True]),
    )
    assert clip_boxes(sample).labels.tolist() == [1]


def test_clipped_ignored_region_stays_ignored() -> None:
    sample = scene(100, 100, [[0, 0, 60, 60]])._replace(crowd=torch.tensor([True]))
    for x in (0, 20, 40, 55):
        part = crop_window(sample, x, 0, 40, 40)
        assert part.crowd.tolist() == [True]
        assert part.boxes.tolist() == [[0.0, 0.0, min(60.0 - x, 40.0), 40.0]]


spans = st.tuples(st.integers(0, 38), st.integers(1, 30)).map(lambda t: (t[0], min(t[0] + t[1], 40)))


@settings(max_examples=150)
@given(x=spans, y=spans, covers=st.lists(st.tuples(spans, spans), min_size=1, max_size=4))
def test_occluded_box_is_that_of_the_visible_part(
    x: tuple[int, int], y: tuple[int, int], covers: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    sample = scene(40, 40, [[x[0], y[0], x[1], y[1]]])
    cover = torch.zeros(40, 40, dtype=torch.bool)
    for (x1, x2), (y1, y2) in covers:
        cover[y1:y2, x1:x2] = True
    seen = (sample.image[0] > 0) & ~cover
    left = occlude(sample, cover)
    if not seen.any():
        assert len(left.boxes) == 0
        return
    assert torch.equal(left.boxes[0], extent(seen))
    share = float(seen.sum()) / ((x[1] - x[0]) * (y[1] - y[0]))
    assert bool(left.crowd[0]) == (share < MIN_VISIBLE)


def test_uncovered_sides_between_pixels_do_not_move() -> None:
    sample = scene(40, 40, [[10.3, 10.6, 29.7, 29.2]])
    cover = torch.zeros(40, 40, dtype=torch.bool)
    cover[:, 25:] = True
    assert occlude(sample, cover).boxes[0].tolist() == pytest.approx([10.3, 10.6, 25.0, 29.2])


def test_affine_matrix_is_torchvisions() -> None:
    """The middle of every color goes where the matrix says."""
    for seed in range(8):
        torch.manual_seed(seed)
        sample = scene(120, 160, [[30, 30, 40, 40], [110, 40, 120, 50], [70, 90, 80, 100]])
        item = random_affine(sample, 20.0, 10.0, BLACK)
        torch.manual_seed(seed)
        angle, sx, sy = ((2 * torch.rand(3) - 1) * torch.tensor([20.0, 10.0, 10.0])).tolist()
        middle = torch.tensor([80.0, 60.0])
        centers = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2
        expected = (centers - middle) @ affine_matrix(angle, sx, sy).T + middle
        for k, point in enumerate(expected):
            mask = (item.image[k].float() / 255).clamp(0, 1)
            ys, xs = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
            found = torch.stack([(mask * xs).sum(), (mask * ys).sum()]) / mask.sum()
            torch.testing.assert_close(found, point, atol=0.3, rtol=0)


@pytest.mark.parametrize("size", [(120, 160), (161, 97)])
def test_box_of_a_rotated_ellipse_is_exact(size: tuple[int, int]) -> None:
    for seed in range(25):
        torch.manual_seed(seed)
        item = random_affine(
            scene(*size, [[30, 35, 70, 55], [25, 75, 40, 110], [60, 70, 90, 100]], "ellipse"), 30.0, 15.0, BLACK
        )
        is_sound(item)
        assert boxes_are_those_of_masks(item) >= 2


def test_box_of_a_rotated_rectangle_is_inside_that_of_its_mask() -> None:
    """It is the ellipse's: too small for what fills its corners, by no more than the sine of the angle allows."""
    for seed in range(25):
        torch.manual_seed(seed)
        item = random_affine(scene(160, 160, [[50, 60, 110, 100]]), 5.0, 0.0, BLACK)
        torch.manual_seed(seed)
        angle = abs(math.radians(float((2 * torch.rand(3) - 1)[0] * 5)))
        box, mask = item.boxes[0], extent(item.image[0] > 127)
        assert (box[:2] >= mask[:2] - 1).all()
        assert (box[2:] <= mask[2:] + 1).all()
        short = (box - mask).abs()
        assert (short[[0, 2]] <= 20 * math.sin(angle) + 1.2).all()  # half the height times the sine
        assert (short[[1, 3]] <= 30 * math.sin(angle) + 1.2).all()


def test_rotated_ignored_region_contains_its_rectangle() -> None:
    for seed in range(25):
        torch.manual_seed(seed)
        sample = scene(160, 160, [[50, 60, 110, 100]])._replace(crowd=torch.tensor([True]))
        item = random_affine(sample, 30.0, 10.0, BLACK)
        assert item.crowd.tolist() == [True]
        torch.testing.assert_close(item.boxes[0], extent(item.image[0] > 127), atol=1.5, rtol=0)


def test_rotation_fills_without_a_seam() -> None:
    """An even image on a canvas of its own color stays even: at its border nothing is blended with black."""
    image = torch.full((3, 60, 80), 120, dtype=torch.uint8)
    torch.manual_seed(1)
    empty = torch.zeros(0)
    item = random_affine(
        LabeledImage(image, torch.zeros(0, 4), empty.long(), empty.bool()), 20.0, 5.0, (120.0, 120.0, 120.0)
    )
    assert (item.image == 120).all()


def test_zero_rotation_changes_nothing() -> None:
    sample = scene(50, 60, [[10, 10, 30, 40]])
    item = random_affine(sample, 0.0, 0.0, BLACK)
    assert torch.equal(item.image, sample.image)
    torch.testing.assert_close(item.boxes, sample.boxes)


def test_crop_is_not_centered_on_an_ignored_region() -> None:
    sample = scene(200, 200, [[4, 4, 10, 10], [180, 180, 190, 190]])._replace(crowd=torch.tensor([True, False]))
    for seed in range(30):
        torch.manual_seed(seed)
        assert 1 in random_crop(sample).labels.tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (3, 200), (64, 64)])
def test_rectangles_and_rotations_of_any_size(size: tuple[int, int]) -> None:
    height, width = size
    for seed in range(10):
        torch.manual_seed(seed)
        is_sound(random_erase(scene(height, width, [[0, 0, width, height]]), BLACK))
        is_sound(random_affine(scene(height, width, [[0, 0, width, height]]), 45.0, 45.0, BLACK))

"""Boxes go where the pixels go: after every augmentation a box is still that of its rectangle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import GEOMETRIC, NONE, augmented, boxes_are_those_of_masks, extent, is_sound, scene

from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
from gfocal.data.preprocess import resized_shape, scale_xyxy

THREE = [[8, 10, 40, 44], [70, 12, 110, 36], [20, 80, 60, 112]]


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize(("height", "width"), [(96, 128), (131, 90)])
@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
def test_the_box_is_that_of_the_pixels(name: str, height: int, width: int, shape: str) -> None:
    if name == "erase" and shape == "ellipse":
        pytest.skip("what is left of a box is that of a rectangle")
    sample = scene(height, width, [[20, 30, 61, 57]], shape)
    seen = 0
    for seed in range(12):
        image = augmented(GEOMETRIC[name], sample, seed)
        is_sound(image)
        seen += boxes_are_those_of_masks(image)
    assert seen >= 10  # the only object is never lost on purpose


@pytest.mark.parametrize("name", GEOMETRIC)
def test_labels_stay_with_their_boxes(name: str) -> None:
    kept: set[int] = set()
    for seed in range(20):
        image = augmented(GEOMETRIC[name], scene(120, 120, THREE), seed)
        assert boxes_are_those_of_masks(image) >= 1
        kept |= set(image.labels.tolist())
    assert kept == {0, 1, 2}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_ignored_regions_are_transformed_and_stay_ignored(name: str) -> None:
    sample = scene(120, 120, THREE)._replace(crowd=torch.tensor([False, True, False]))
    followed = 0
    for seed in range(20):
        image = augmented(GEOMETRIC[name], sample, seed)
        boxes_are_those_of_masks(image)
        is_region = image.labels == 1
        assert image.crowd[is_region].all()
        if name == "erase":  # a region keeps its extent under what is laid over it
            assert is_region.any()
            continue
        for box in image.boxes[is_region]:
            followed += 1
            torch.testing.assert_close(box, extent(image.image[1] > 127), atol=1.5, rtol=0)
    assert followed >= 8 or name == "erase"


@settings(max_examples=60)
@given(
    height=st.integers(20, 200),
    width=st.integers(20, 200),
    short=st.integers(16, 120),
    extra=st.integers(0, 80),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(sorted(GEOMETRIC)),
)
def test_boxes_stay_inside_and_sizes_keep_the_ratio(
    height: int, width: int, short: int, extra: int, seed: int, name: str
) -> None:
    settings = replace(GEOMETRIC[name], short_sides=None)
    sample = scene(height, width, [[4, 4, 16, 18]])
    image = augmented(settings, sample, seed, short, short + extra)
    is_sound(image)
    new_height, new_width = image.size
    assert max(new_height, new_width) <= (short + extra) * (1 + settings.scale) + 1
    if name in ("nothing", "flip", "vertical_flip"):
        assert (new_height, new_width) == resized_shape(height, width, short, short + extra)


def test_short_sides_cover_their_range_and_no_more() -> None:
    sample = scene(100, 140, [[20, 20, 60, 60]])
    settings = AugmentSettings(flip=0.0, short_sides=(60, 63))
    shapes = {tuple(augmented(settings, sample, seed)[0].shape[-2:]) for seed in range(40)}
    assert shapes == {resized_shape(100, 140, side, 160) for side in range(60, 64)}


def test_half_of_the_images_are_rotated() -> None:
    sample = scene(96, 128, [[30, 30, 90, 60]], "ellipse")
    turns = 0
    for seed in range(60):
        image = augmented(replace(NONE, rotate=15.0, shear=5.0), sample, seed, 96, 128)
        assert boxes_are_those_of_masks(image) == 1
        turns += not torch.equal(image.boxes, sample.boxes)
    assert 20 <= turns <= 40


def test_scale_gives_factors_around_the_size() -> None:
    sample = scene(100, 150, [[20, 20, 60, 60]])
    sizes = [augmented(replace(NONE, scale=0.25), sample, seed, 100, 150).size for seed in range(60)]
    assert all(abs(width - 1.5 * height) <= 1 for height, width in sizes)
    sides = [height for height, _ in sizes]
    assert 75 <= min(sides) < 82
    assert 118 < max(sides) <= 125
    assert abs(sum(sides) / 60 - 100) < 6


def test_quarter_turns_have_all_three_angles() -> None:
    sample = scene(96, 96, [[10, 20, 40, 30]])
    corners = {tuple(augmented(GEOMETRIC["quarter_turns"], sample, seed).boxes[0].tolist()) for seed in range(30)}
    assert corners == {(20.0, 56.0, 30.0, 86.0), (56.0, 66.0, 86.0, 76.0), (66.0, 10.0, 76.0, 40.0)}


def test_zoom_out_shrinks_and_fills() -> None:
    sample = scene(96, 96, [[0, 0, 96, 96]])
    torch.manual_seed(0)
    augmentation = Augmentation(AugmentSettings(flip=0.0, zoom_out=1.0), 96, 96, fill=(7.0, 8.0, 9.0))
    changed, box, *_ = augmentation(*sample)
    beyond = torch.ones(96, 96, dtype=torch.bool)
    x1, y1, x2, y2 = box[0].round().long().tolist()
    beyond[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
    assert beyond.any()
    for channel, value in enumerate((7, 8, 9)):
        assert (changed[channel][beyond] == value).all()


@pytest.mark.parametrize("name", GEOMETRIC)
def test_images_without_objects(name: str) -> None:
    for seed in range(4):
        image = augmented(GEOMETRIC[name], scene(90, 120, []), seed)
        is_sound(image)
        assert len(image.boxes) == 0


def test_a_crop_of_small_objects_is_found() -> None:
    """A crop that asked for an IoU with the whole crop would be searched for ever."""
    sample = scene(240, 320, [[100, 100, 106, 106]])
    sizes = set()
    for seed in range(10):
        changed, kept, *_ = augmented(GEOMETRIC["crop"], sample, seed, 240, 320)
        assert len(kept) == 1
        assert changed.shape[1] in (239, 240)  # the crop has the image's ratio
        assert changed.shape[2] in (319, 320)
        sizes.add(round(float(kept[0, 2] - kept[0, 0]), 1))
    assert len(sizes) > 3
    assert min(sizes) >= 5.9
    assert max(sizes) <= 6 / 0.4 + 0.2


@pytest.mark.parametrize(("height", "width"), [(20, 300), (300, 20), (1, 40), (8, 8)])
def test_a_crop_of_a_long_narrow_image_is_found(height: int, width: int) -> None:
    sample = scene(height, width, [[0, 0, min(width, 6), min(height, 6)], [width - 1, height - 1, width, height]])
    for seed in range(6):
        image = augmented(GEOMETRIC["crop"], sample, seed)
        is_sound(image)
        assert len(image.boxes) >= 1


@pytest.mark.parametrize("name", [*GEOMETRIC, "color"])
def test_seed_determines_the_result(name: str) -> None:
    settings = GEOMETRIC.get(name, AugmentSettings(0.5, color=1.0))
    sample = scene(96, 128, [[20, 30, 60, 58], [70, 10, 120, 50]])
    one, two = augmented(settings, sample, 5), augmented(settings, sample, 5)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    others = [augmented(settings, sample, seed) for seed in range(20)]
    if name in ("crop", "zoom_out", "quarter_turns", "short_sides", "scale", "erase", "everything", "color"):
        assert any(a.size != one.size or not torch.equal(a.image, one.image) for a in others)


PIXELS = ("color", "distort", "gray", "blur", "noise", "jpeg")


@pytest.mark.parametrize("name", PIXELS)
def test_colors_and_sharpness_leave_boxes_and_size(name: str) -> None:
    sample = scene(96, 96, [[20, 30, 60, 58]])
    tint = torch.tensor([5, 60, 20], dtype=torch.uint8).view(3, 1, 1)
    sample = sample._replace(image=sample.image.clamp(max=150) + tint)
    changed = 0
    for seed in range(10):
        image = augmented(replace(NONE, **{name: 1.0}), sample, seed, 96, 96)
        is_sound(image)
        assert image.size == (96, 96)
        assert torch.equal(image.boxes, sample.boxes)
        assert torch.equal(image.labels, sample.labels)
        changed += not torch.equal(image.image, sample.image)
        assert (image.image.float() - sample.image).abs().mean() < 130
    assert changed >= 5  # of 10


def test_input_is_not_modified() -> None:
    sample = scene(96, 128, [[20, 30, 60, 58]])
    before = [part.clone() for part in sample]
    choices = [*GEOMETRIC.values(), replace(NONE, **dict.fromkeys(PIXELS, 1.0)), replace(NONE, rotate=9.0, shear=9.0)]
    for choice in choices:
        for seed in range(3):
            augmented(choice, sample, seed)
    assert all(torch.equal(a, b) for a, b in zip(before, sample, strict=True))


def test_boxes_that_shrink_to_nothing_are_dropped() -> None:
    sample = scene(96, 96, [[10, 10, 50, 50], [60, 60, 60, 80]])._replace(labels=torch.tensor([3, 4]))
    image = augmented(NONE, sample, 0, 96, 96)
    assert image.boxes.tolist() == [[10.0, 10.0, 50.0, 50.0]]
    assert image.labels.tolist() == [3]


def test_scale_xyxy() -> None:
    factors = scale_xyxy((100, 200), (50, 50))  # height, width
    assert factors.tolist() == [0.25, 0.5, 0.25, 0.5]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("flip", 2.0, r"flip must be in 0..1, not 2"),
        ("mosaic", -0.1, r"mosaic must be in 0..1, not -0.1"),
        ("scale", 1.0, "scale must be less than 1, not 1.0"),
        ("scale", float("nan"), "scale must be in 0..1, not nan"),
        ("rotate", 46.0, r"rotate must be in 0..45 degrees, not 46"),
        ("shear", -1.0, r"shear must be in 0..45 degrees, not -1"),
        ("close_epochs", -1, "close_epochs must be at least 0, not -1"),
        ("short_sides", (300, 200), "minimum and maximum"),
    ],
)
def test_out_of_range_settings_are_refused(name: str, value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(AugmentSettings(), **{name: value})  # type: ignore[arg-type]

"""Boxes go where the pixels go: after every augmentation a box is still that of its rectangle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.data.preparation import resized_shape
from gfocal.data.transforms import Augmentation, AugmentSettings, scale_xyxy

NONE = AugmentSettings(flip=0.0)
GEOMETRIC = {
    "nothing": NONE,
    "flip": AugmentSettings(flip=1.0),
    "vertical_flip": AugmentSettings(flip=0.0, vertical_flip=1.0),
    "crop": AugmentSettings(flip=0.0, crop=1.0),
    "zoom_out": AugmentSettings(flip=0.0, zoom_out=1.0),
    "quarter_turns": AugmentSettings(flip=0.0, quarter_turns=1.0),
    "short_sides": AugmentSettings(flip=0.0, short_sides=(60, 130)),
    "everything": AugmentSettings(0.5, 0.5, 0.0, 0.7, 0.7, 0.7, (60, 130)),
}
GREYS = (250, 180, 90)  # of the rectangles, by label


def scene(height: int, width: int, boxes: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """A black picture with a filled rectangle per box, each of a grey of its own."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for grey, (x1, y1, x2, y2) in zip(GREYS, boxes, strict=False):
        image[:, y1:y2, x1:x2] = grey
    return image, torch.tensor(boxes, dtype=torch.float32).view(-1, 4), torch.arange(len(boxes))


def extent(mask: Tensor) -> Tensor:
    """The tight box of a mask (H, W), xyxy."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def augmented(
    settings: AugmentSettings,
    sample: tuple[Tensor, Tensor, Tensor],
    seed: int,
    short: int = 96,
    long: int = 160,
) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    return Augmentation(settings, short, long, fill=(0.0, 0.0, 0.0))(*sample)


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize(("height", "width"), [(96, 128), (131, 90)])
def test_the_box_is_that_of_the_pixels(name: str, height: int, width: int) -> None:
    sample = scene(height, width, [[20, 30, 61, 57]])
    seen = 0
    for seed in range(12):
        image, boxes, labels = augmented(GEOMETRIC[name], sample, seed)
        assert image.dtype == torch.uint8
        assert len(boxes) == len(labels)
        for box in boxes:
            seen += 1
            torch.testing.assert_close(box, extent(image[0] > 125), atol=1.5, rtol=0)
    assert seen >= 10  # the only object is never lost on purpose


@pytest.mark.parametrize("name", GEOMETRIC)
def test_labels_stay_with_their_boxes(name: str) -> None:
    sample = scene(120, 120, [[8, 10, 40, 44], [70, 12, 110, 36], [20, 80, 60, 112]])
    kept = set()
    for seed in range(12):
        image, boxes, labels = augmented(GEOMETRIC[name], sample, seed)
        assert len(boxes) >= 1
        for box, label in zip(boxes, labels.tolist(), strict=True):
            x, y = ((box[:2] + box[2:]) / 2).long().tolist()
            assert abs(int(image[0, y, x]) - GREYS[label]) < 30
            kept.add(label)
    assert kept == {0, 1, 2}


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
    image, boxes, _ = augmented(settings, sample, seed, short, short + extra)
    new_height, new_width = image.shape[-2:]
    assert max(new_height, new_width) <= short + extra
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= new_width + 1e-3).all()
    assert (boxes[:, 1::2] <= new_height + 1e-3).all()
    if name in ("nothing", "flip", "vertical_flip"):
        assert (new_height, new_width) == resized_shape(height, width, short, short + extra)


def test_short_sides_cover_their_range_and_no_more() -> None:
    sample = scene(100, 140, [[20, 20, 60, 60]])
    settings = AugmentSettings(flip=0.0, short_sides=(60, 63))
    shapes = {tuple(augmented(settings, sample, seed)[0].shape[-2:]) for seed in range(40)}
    assert shapes == {resized_shape(100, 140, side, 160) for side in range(60, 64)}


def test_quarter_turns_take_all_three_angles() -> None:
    sample = scene(96, 96, [[10, 20, 40, 30]])
    corners = {tuple(augmented(GEOMETRIC["quarter_turns"], sample, seed)[1][0].tolist()) for seed in range(30)}
    assert corners == {(20.0, 56.0, 30.0, 86.0), (56.0, 66.0, 86.0, 76.0), (66.0, 10.0, 76.0, 40.0)}


def test_zoom_out_shrinks_and_fills() -> None:
    image, boxes, labels = scene(96, 96, [[0, 0, 96, 96]])
    torch.manual_seed(0)
    augmentation = Augmentation(AugmentSettings(flip=0.0, zoom_out=1.0), 96, 96, fill=(7.0, 8.0, 9.0))
    changed, box, _ = augmentation(image, boxes, labels)
    beyond = torch.ones(96, 96, dtype=torch.bool)
    x1, y1, x2, y2 = box[0].round().long().tolist()
    beyond[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
    assert beyond.any()
    for channel, value in enumerate((7, 8, 9)):
        assert (changed[channel][beyond] == value).all()


@pytest.mark.parametrize("name", GEOMETRIC)
def test_pictures_without_objects(name: str) -> None:
    for seed in range(4):
        image, boxes, labels = augmented(GEOMETRIC[name], scene(90, 120, []), seed)
        assert image.ndim == 3
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)


def test_a_crop_of_small_objects_is_found() -> None:
    """A crop that asked for an IoU with the whole crop would be searched for ever."""
    image, boxes, labels = scene(240, 320, [[100, 100, 106, 106]])
    sizes = set()
    for seed in range(10):
        changed, kept, _ = augmented(AugmentSettings(flip=0.0, crop=1.0), (image, boxes, labels), seed, 240, 320)
        assert len(kept) == 1
        assert changed.shape[1] in (239, 240)  # the crop has the picture's ratio
        assert changed.shape[2] in (319, 320)
        sizes.add(round(float(kept[0, 2] - kept[0, 0]), 1))
    assert len(sizes) > 3
    assert min(sizes) >= 5.9
    assert max(sizes) <= 6 / 0.4 + 0.2


@pytest.mark.parametrize(("height", "width"), [(20, 300), (300, 20), (1, 40), (8, 8)])
def test_a_crop_of_a_long_narrow_picture_is_found(height: int, width: int) -> None:
    sample = scene(height, width, [[0, 0, min(width, 6), min(height, 6)], [width - 1, height - 1, width, height]])
    for seed in range(6):
        _, boxes, labels = augmented(AugmentSettings(flip=0.0, crop=1.0), sample, seed)
        assert len(boxes) == len(labels) >= 1


@pytest.mark.parametrize("name", [*GEOMETRIC, "colour"])
def test_the_seed_decides(name: str) -> None:
    settings = GEOMETRIC.get(name, AugmentSettings(0.5, colour=1.0))
    sample = scene(96, 128, [[20, 30, 60, 58], [70, 10, 120, 50]])
    one, two = augmented(settings, sample, 5), augmented(settings, sample, 5)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    others = [augmented(settings, sample, seed) for seed in range(20)]
    if name in ("crop", "zoom_out", "quarter_turns", "short_sides", "everything", "colour"):
        assert any(a[0].shape != one[0].shape or not torch.equal(a[0], one[0]) for a in others)


def test_colour_changes_pixels_only() -> None:
    image, boxes, labels = scene(96, 96, [[20, 30, 60, 58]])
    image = image + torch.tensor([5, 60, 20], dtype=torch.uint8).view(3, 1, 1)
    changed = 0
    for seed in range(10):
        new, new_boxes, new_labels = augmented(
            AugmentSettings(flip=0.0, colour=1.0), (image, boxes, labels), seed, 96, 96
        )
        assert new.shape == image.shape
        assert torch.equal(new_boxes, boxes)
        assert torch.equal(new_labels, labels)
        changed += not torch.equal(new, image)
    assert changed >= 5  # of 10


def test_the_input_is_left_alone() -> None:
    image, boxes, labels = scene(96, 128, [[20, 30, 60, 58]])
    before = image.clone(), boxes.clone(), labels.clone()
    for choice in GEOMETRIC.values():
        augmented(choice, (image, boxes, labels), 1)
    assert all(torch.equal(a, b) for a, b in zip(before, (image, boxes, labels), strict=True))


def test_boxes_that_shrink_to_nothing_are_dropped() -> None:
    image, boxes, _ = scene(96, 96, [[10, 10, 50, 50], [60, 60, 60, 80]])
    _, kept, labels = augmented(NONE, (image, boxes, torch.tensor([3, 4])), 0, 96, 96)
    assert kept.tolist() == [[10.0, 10.0, 50.0, 50.0]]
    assert labels.tolist() == [3]


def test_scale_xyxy() -> None:
    factors = scale_xyxy((100, 200), (50, 50))  # height, width
    assert factors.tolist() == [0.25, 0.5, 0.25, 0.5]


def test_out_of_range_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flip lies in 0..1, not 2"):
        AugmentSettings(flip=2)
    with pytest.raises(ValueError, match="least and most"):
        AugmentSettings(short_sides=(300, 200))

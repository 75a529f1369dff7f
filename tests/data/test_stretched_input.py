"""Images stretched to a fixed size: shapes, boxes there and back, augmentation and batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.augmentation.labeled_image import LabeledImage
from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, AugmentSettings, augmentation_for
from gfocal.data.dataset import FileData, Sample
from gfocal.data.loading import TrainingItems, evaluation_loader, training_loader
from gfocal.data.preprocess import (
    InputSettings,
    input_shape,
    normalize_batch,
    resize,
    resize_to_input,
    resized_shape,
    scale_xyxy,
)
from gfocal.data.warp import warp
from gfocal.models.predict import stack_inputs
from gfocal.ops.box_coders import DiracDistances
from gfocal.ops.decoding import decode
from gfocal.structures import HeadOutputs, Points

SQUARE = InputSettings(short_side=96, long_side=96, stretch=True)
SIZES = ((60, 120), (150, 50), (96, 96), (40, 41))


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    short=st.integers(1, 900),
    extra=st.integers(0, 500),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_boxes_there_and_back(
    height: int, width: int, short: int, extra: int, box: tuple[float, float, float, float]
) -> None:
    settings = InputSettings(short_side=short, long_side=short + extra, stretch=True)
    new = input_shape((height, width), settings)
    assert new == resized_shape(height, width, short, short + extra, stretch=True) == (short, short + extra)
    x1, y1, x2, y2 = box
    boxes = torch.tensor([[x1 * width, y1 * height, x2 * width, y2 * height], [0, 0, width, height]])
    there = boxes * scale_xyxy((height, width), new)
    torch.testing.assert_close(there[1], torch.tensor([0.0, 0, new[1], new[0]]))
    back = there * scale_xyxy(new, (height, width))
    torch.testing.assert_close(back, boxes, rtol=1e-6, atol=1e-6 * max(height, width))


@given(height=st.integers(2, 900), width=st.integers(2, 900), data=st.data())
def test_decoding_maps_back_each_axis_by_its_own_factor(height: int, width: int, data: st.DataObject) -> None:
    """A point predicts the stretched box: the detection is the box in the file, clipped, with bins of both axes."""
    xs, ys = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in (width, height)
    )
    boxes = torch.tensor([[xs[0], ys[0], xs[1], ys[1]]], dtype=torch.float32)
    stretched = boxes * scale_xyxy((height, width), (96, 96))
    center = (stretched[:, :2] + stretched[:, 2:]) / 2
    points = Points(center, torch.tensor([8.0]), torch.zeros(1, 2, dtype=torch.int64), ((1, 1),), (8,))
    distances = torch.cat([center - stretched[:, :2], stretched[:, 2:] - center], 1)
    outputs = HeadOutputs(torch.full((1, 1, 1), 3.0), distances.log().view(1, 1, 4, 1), points)
    sizes, original = torch.tensor([[96, 96]]), torch.tensor([[height, width]])
    (found,) = decode(outputs, DiracDistances(in_pixels=True), sizes, original, ["a"])
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-5, atol=1e-5 * max(height, width))
    assert found.size == (height, width)
    bins = torch.tensor([[8 * width / 96, 8 * height / 96] * 2])
    torch.testing.assert_close(found.bin_sizes, bins)


def test_a_batch_of_several_aspect_ratios_needs_no_padding() -> None:
    images = [noise(*size) for size in SIZES]
    batch = stack_inputs(range(4), images, SQUARE)
    assert batch.images.shape == (4, 3, 96, 96)
    assert batch.sizes.tolist() == [[96, 96]] * 4
    assert batch.original_sizes.tolist() == [list(size) for size in SIZES]
    for one, image in zip(batch.images, images, strict=True):
        assert torch.equal(one, normalize_batch([warp(image, (96, 96))], SQUARE)[0])


def test_a_size_that_is_no_multiple_of_32_is_padded() -> None:
    settings = replace(SQUARE, short_side=70, long_side=100)
    images = [noise(*size) for size in SIZES]
    batch = stack_inputs(range(4), images, settings)
    assert batch.images.shape == (4, 3, 96, 128)
    assert batch.sizes.tolist() == [[70, 100]] * 4
    assert (batch.images[:, :, 70:] == 0).all()
    assert (batch.images[:, :, :, 100:] == 0).all()


def test_antialias_and_stretch() -> None:
    image = noise(300, 200)
    for antialias in (True, False):
        settings = replace(SQUARE, antialias=antialias)
        assert torch.equal(resize_to_input(image, settings), warp(image, (96, 96)))
        kept = replace(settings, stretch=False)
        assert torch.equal(resize_to_input(image, kept), resize(image, (96, 64), antialias))


def scene(height: int, width: int) -> LabeledImage:
    """Black, with one red rectangle."""
    box = torch.tensor([[width // 4, height // 3, 3 * width // 4, 2 * height // 3]])
    x1, y1, x2, y2 = box[0].tolist()
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0, y1:y2, x1:x2] = 255
    return LabeledImage(image, box.float(), torch.tensor([0]), torch.tensor([False]))


def shows_its_boxes(image: LabeledImage) -> bool:
    """Whether there is a box, and it is that of what is red.

    Corners of images are aligned and not those of pixels: what is enlarged k times is seen (k - 1) / 2 pixels off.
    """
    if len(image.boxes) != 1 or bool(image.crowd.any()):
        return False
    rows, columns = (image.image[0] > 127).any(1).nonzero(), (image.image[0] > 127).any(0).nonzero()
    seen = torch.tensor([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1]).float()
    torch.testing.assert_close(image.boxes[0], seen, rtol=0, atol=3.5)
    return True


OPERATIONS = {
    "nothing": AugmentSettings(flip=0.0),
    "flip": AugmentSettings(flip=1.0),
    "crop": AugmentSettings(flip=0.0, crop=1.0),
    "zoom_out": AugmentSettings(flip=0.0, zoom_out=1.0),
    "quarter_turns": AugmentSettings(flip=0.0, quarter_turns=1.0),
    "color": AugmentSettings(flip=0.0, color=0.5),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_after_augmentation_images_have_the_fixed_size_and_boxes_fit(name: str, size: tuple[int, int]) -> None:
    augmentation = replace(augmentation_for(OPERATIONS[name], SQUARE), fill=(0.0, 0.0, 0.0))
    shown = 0
    for seed in range(8):
        torch.manual_seed(seed)
        image = augmentation(*scene(*size))
        assert image.size == (96, 96)
        shown += shows_its_boxes(image)
    assert shown >= 6


@pytest.mark.parametrize("settings", [SQUARE, replace(SQUARE, long_side=144)])
def test_random_sizes_keep_the_shape_of_the_input(settings: InputSettings) -> None:
    ratio = settings.long_side / settings.short_side
    for changed, low, high in (
        (AugmentSettings(flip=0.0, short_sides=(64, 128)), 64, 128),
        (AugmentSettings(flip=0.0, scale=0.25), 72, 120),
        (AugmentSettings(flip=0.0, short_sides=(80, 90), scale=0.1), 72, 99),
    ):
        sides = set()
        for seed in range(30):
            torch.manual_seed(seed)
            image = augmentation_for(changed, settings)(*scene(60, 130))
            height, width = image.size
            assert low <= height <= high
            assert abs(width - height * ratio) <= 1.3
            assert shows_its_boxes(image)
            sides.add(height)
        assert len(sides) > 5


def test_mixed_images_have_the_fixed_size() -> None:
    augmentation = augmentation_for(replace(AUGMENT_PRESETS["strong"], scale=0.0), SQUARE)
    mixing = replace(augmentation, settings=replace(augmentation.settings, mosaic=0.6, mixup=0.5, copy_paste=0.5))
    sizes = iter(SIZES * 100)
    for seed in range(30):
        torch.manual_seed(seed)
        image = mixing(*scene(*SIZES[seed % 4]), others=lambda: scene(*next(sizes)))
        assert image.size == (96, 96)
        assert (image.boxes >= 0).all()
        assert (image.boxes <= 96 + 1e-3).all()


def test_tiles_of_a_mosaic_are_stretched_as_the_whole_image_is() -> None:
    """A wide image's square is a narrow rectangle in the input, in a mosaic too."""
    augmentation = augmentation_for(AugmentSettings(flip=0.0, mosaic=1.0), SQUARE)
    wide = LabeledImage(
        torch.zeros(3, 100, 400, dtype=torch.uint8),
        torch.tensor([[float(x), 10.0, x + 40.0, 50.0] for x in range(20, 340, 60)]),
        torch.zeros(6, dtype=torch.int64),
        torch.zeros(6, dtype=torch.bool),
    )
    ratios = []
    for seed in range(10):
        torch.manual_seed(seed)
        image = augmentation(*wide, others=lambda: wide)
        inner = image.boxes[((image.boxes > 1) & (image.boxes < 95)).all(1)]  # not cut by a border of the canvas
        ratios += ((inner[:, 2] - inner[:, 0]) / (inner[:, 3] - inner[:, 1])).tolist()
    assert torch.tensor(ratios).median().item() == pytest.approx(0.25, abs=0.05)


@pytest.fixture
def photos(tmp_path: Path) -> FileData:
    samples = []
    for number, (height, width) in enumerate(SIZES):
        image, boxes, labels, crowd = scene(height, width)
        path = tmp_path / f"{number}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        samples.append(Sample(number, path, boxes, labels, crowd, (height, width)))
    return FileData(("a",), (1,), samples)


def test_loaders_give_batches_of_the_fixed_size(photos: FileData) -> None:
    (batch,) = evaluation_loader(photos, SQUARE, batch_size=4)
    assert batch.images.shape == (4, 3, 96, 96)
    assert batch.sizes.tolist() == [[96, 96]] * 4
    assert batch.original_sizes.tolist() == [list(size) for size in SIZES]
    for i, size in enumerate(SIZES):
        want = scene(*size).boxes * scale_xyxy(size, (96, 96))
        torch.testing.assert_close(batch.targets.boxes[i, :1], want)
    batches, order = training_loader(photos, augmentation_for(AugmentSettings(), SQUARE), SQUARE, 2, seed=0)
    order.epoch = 0
    seen = 0
    for batch in batches:
        assert batch.images.shape == (2, 3, 96, 96)
        seen += len(batch.image_ids)
    assert seen == 4


def test_training_without_augmentation_sees_what_evaluation_sees(photos: FileData) -> None:
    items = TrainingItems(photos, augmentation_for(AugmentSettings(flip=0.0), SQUARE), SQUARE, seed=0)
    (batch,) = evaluation_loader(photos, SQUARE, batch_size=4)
    for i in range(4):
        assert torch.equal(normalize_batch([items[0, i].image], SQUARE)[0], batch.images[i])
        torch.testing.assert_close(items[0, i].boxes, batch.targets.boxes[i, :1])


def test_an_unreadable_image_counts_at_the_fixed_size(photos: FileData) -> None:
    path = photos.samples[0].path
    assert path is not None
    path.write_bytes(b"no image")
    with pytest.warns(UserWarning, match="count as missed"):
        (batch,) = evaluation_loader(photos, SQUARE, batch_size=4)
    assert batch.sizes.tolist() == [[96, 96]] * 4
    assert batch.original_sizes[0].tolist() == list(SIZES[0])

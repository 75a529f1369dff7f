"""Random sizes: of each image, or one for all images of a batch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from PIL import Image

from gfocal.data.augmentation.pipeline import AugmentSettings, augmentation_for
from gfocal.data.dataset import FileData, Sample
from gfocal.data.loading import TrainingItems, training_loader
from gfocal.data.preprocess import InputSettings, resized_shape
from gfocal.data.samplers import BatchOrder, EpochOrder
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.structures import Batch

INPUT = InputSettings(short_side=64, long_side=96)
SCALED = AugmentSettings(flip=0.0, scale=0.5, size_per_batch=True)
SCENES = SyntheticScenes(12, size=96)


def shapes(batch: Batch) -> set[tuple[int, ...]]:
    return {tuple(size) for size in batch.sizes.tolist()}


def of_epoch(settings: AugmentSettings, epoch: int = 0, first: int = 0, workers: int = 0) -> Iterable[Batch]:
    loader, order = training_loader(SCENES, augmentation_for(settings, INPUT), INPUT, 4, 5, workers)
    order.epoch = epoch
    assert isinstance(loader.batch_sampler, BatchOrder)
    loader.batch_sampler.first = first
    return list(loader)


def test_images_of_a_batch_have_one_size_and_batches_have_many() -> None:
    drawn = [shapes(batch) for epoch in range(6) for batch in of_epoch(SCALED, epoch)]
    assert {len(found) for found in drawn} == {1}
    sides = sorted(short for found in drawn for short, _ in found)
    assert 32 <= sides[0] < 45
    assert 80 < sides[-1] <= 96
    assert len(set(sides)) > 12  # of 18
    per_image = AugmentSettings(flip=0.0, scale=0.5)
    assert max(len(shapes(batch)) for batch in of_epoch(per_image)) > 1


@pytest.mark.parametrize(
    "settings", [SCALED, AugmentSettings(short_sides=(33, 64), size_per_batch=True, mosaic=0.5, crop=0.5)]
)
def test_sizes_do_not_depend_on_workers_and_resuming(settings: AugmentSettings) -> None:
    whole = list(of_epoch(settings, 2))
    for again, rest in ((of_epoch(settings, 2, workers=1), whole), (of_epoch(settings, 2, first=1), whole[1:])):
        for one, two in zip(again, rest, strict=True):
            assert one.image_ids == two.image_ids
            assert torch.equal(one.images, two.images)
            assert torch.equal(one.targets.boxes, two.targets.boxes)


def test_processes_that_share_a_batch_draw_the_same_size() -> None:
    whole = BatchOrder(EpochOrder(12, 0), [False] * 12, 6, numbered=True)
    shares = [BatchOrder(EpochOrder(12, 0), [False] * 12, 3, rank, 2, numbered=True) for rank in range(2)]
    for together, *parts in zip(whole, *shares, strict=True):
        assert sorted(together) == sorted(entry for part in parts for entry in part)
        assert len({number for _, _, number in together}) == 1
    assert [number for *_, number in (batch[0] for batch in whole)] == [0, 1]
    assert all(len(entry) == 2 for batch in BatchOrder(EpochOrder(12, 0), [False] * 12, 6) for entry in batch)


def test_an_image_without_a_batch_draws_its_own_size() -> None:
    """As the sheets of augmented images show them."""
    items = TrainingItems(SCENES, augmentation_for(SCALED, INPUT), INPUT, seed=1)
    assert len({items[0, index].image.shape for index in range(6)}) > 3
    assert items[0, 0, 7].image.shape == items[0, 1, 7].image.shape != items[0, 0, 8].image.shape


def test_portraits_and_landscapes_keep_their_shape_in_the_size_of_their_batch(tmp_path) -> None:
    samples = []
    for number, size in enumerate([(80, 60), (60, 80), (96, 48), (48, 96)] * 2):
        Image.new("RGB", size).save(path := tmp_path / f"{number}.png")
        box = torch.tensor([[2.0, 2, 30, 30]])
        samples.append(Sample(number, path, box, torch.zeros(1, dtype=torch.long), torch.tensor([False]), size[::-1]))
    data = FileData(("a",), (1,), samples)
    augmentation = augmentation_for(SCALED, INPUT)
    loader, _ = training_loader(data, augmentation, INPUT, 2, 0)
    for number, batch in enumerate(loader):
        items = TrainingItems(data, augmentation, INPUT, seed=0)
        short, long = items._sides(0, number)
        expected = [resized_shape(*size, short, long, False) for size in batch.original_sizes.tolist()]
        assert batch.sizes.tolist() == [list(shape) for shape in expected]
        assert len({height > width for height, width in expected}) == 1


def test_a_long_side_that_is_full_limits_a_larger_short_side() -> None:
    """As published: 480 to 800 pixels, but no longer than 1333; ``scale`` moves both."""
    image = torch.zeros(3, 60, 90, dtype=torch.uint8)
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.bool))
    larger = augmentation_for(AugmentSettings(flip=0.0, short_sides=(90, 90)), INPUT)
    assert larger(image, *nothing).size == (64, 96)
    torch.manual_seed(0)
    scaled = augmentation_for(AugmentSettings(flip=0.0, scale=0.5), INPUT)
    assert max(scaled(image, *nothing).size[0] for _ in range(20)) > 80

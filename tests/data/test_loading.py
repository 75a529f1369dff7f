"""Order, augmentation and batches: what an image looks like depends on seed, epoch and its number alone."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, Augmentation, AugmentSettings
from gfocal.data.dataset import FileData, Sample
from gfocal.data.loading import MAX_UNREADABLE, Item, TrainingItems, evaluation_loader, read_or_next, training_loader
from gfocal.data.preprocess import InputSettings
from gfocal.data.samplers import BatchOrder, EpochOrder
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import DataError
from gfocal.structures import Batch

INPUT = InputSettings(short_side=64, long_side=96)
AUGMENT = Augmentation(AugmentSettings(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, (48, 64)), 64, 96)
PLAIN = Augmentation(AugmentSettings(flip=0.0), 64, 96)
MOSAIC = Augmentation(AugmentSettings(flip=0.0, mosaic=1.0), 64, 96)
SCENES = SyntheticScenes(6, size=96)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if hasattr(value, "__dataclass_fields__"):
        return [t for f in fields(value) for t in tensors(getattr(value, f.name))]
    return []


def same(one: Any, two: Any) -> bool:
    pairs = list(zip(tensors(one), tensors(two), strict=True))
    return bool(pairs) and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@given(count=st.integers(1, 60), seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_an_epoch_shows_every_image_once(count: int, seed: int, epoch: int) -> None:
    order = EpochOrder(count, seed)
    order.epoch = epoch
    drawn = list(order)
    assert sorted(index for _, index in drawn) == list(range(count))
    assert {e for e, _ in drawn} == {epoch}
    assert len(order) == count


def test_the_order_changes_with_the_epoch_and_the_seed_only() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochOrder(50, seed)
        sampler.epoch = epoch
        return [index for _, index in sampler]

    assert sorted(order(0, 0)) == list(range(50))
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(0, e)) for e in range(5)} | {tuple(order(1, e)) for e in range(5)}) == 10
    assert order(0, 0) != list(range(50))
    assert [i for _, i in EpochOrder(5, 0, shuffle=False)] == [0, 1, 2, 3, 4]


@given(
    upright=st.lists(st.booleans(), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_batches_have_one_orientation_and_are_distributed(
    upright: list[bool], batch_size: int, world: int, epoch: int
) -> None:
    order = EpochOrder(len(upright), 7)
    order.epoch = epoch
    whole = list(BatchOrder(order, upright, batch_size * world))
    assert len(whole) == len(BatchOrder(order, upright, batch_size * world))
    assert sorted(entry for batch in whole for entry in batch) == sorted(order)
    assert all(len(batch) == batch_size * world for batch in whole[:-1])
    mixed = [batch for batch in whole if len({upright[index] for _, index in batch}) > 1]
    assert len(mixed) <= 1
    shares = [BatchOrder(order, upright, batch_size, rank, world) for rank in range(world)]
    for number, parts in enumerate(zip(*shares, strict=True)):  # no process waits for one that has more
        busy = [part for share, part in zip(shares, parts, strict=True) if not share.is_idle(number)]
        assert sorted(entry for part in busy for entry in part) == sorted(whole[number])
        assert all(len(part) >= 1 for part in parts)


def test_portrait_and_landscape_images_are_in_separate_batches(tmp_path: Path) -> None:
    sizes = [(40, 80), (80, 40)] * 4
    data = FileData(("a",), (1,), [image_file(tmp_path / f"{i}.png", i, size) for i, size in enumerate(sizes)])
    loader, _ = training_loader(data, PLAIN, INPUT, 2, 0)
    assert len(loader) == 4
    for batch in loader:
        assert batch.images.shape[2:] in ((64, 96), (96, 64))


def batches_of(num_workers: int, epochs: int = 2, seed: int = 3) -> list[Batch]:
    loader, order = training_loader(SCENES, AUGMENT, INPUT, 2, seed, num_workers)
    found: list[Batch] = []
    for epoch in range(epochs):
        order.epoch = epoch
        torch.manual_seed(epoch * 77 + num_workers)  # the state of the caller's generator has no say
        found += list(loader)
    return found


def test_workers_change_nothing() -> None:
    alone, together = batches_of(0), batches_of(2)
    assert [b.image_ids for b in alone] == [b.image_ids for b in together]
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_an_item_depends_on_seed_epoch_and_index() -> None:
    items = TrainingItems(SCENES, AUGMENT, INPUT, seed=1)
    first = items[0, 4]
    for other in ((0, 1), (3, 4), (0, 5)):
        assert not same(items[other], first)  # and what is drawn in between
    assert same(items[0, 4], first)
    assert not same(TrainingItems(SCENES, AUGMENT, INPUT, seed=2)[0, 4], first)


def test_loading_leaves_the_callers_random_state() -> None:
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    TrainingItems(SCENES, AUGMENT, INPUT, seed=1)[0, 0]
    assert torch.equal(torch.rand(3), expected)


def image_file(
    path: Path, number: int, size: tuple[int, int] = (60, 80), crowd: tuple[bool, ...] = (False,)
) -> Sample:
    height, width = size
    Image.new("RGB", (width, height), (25 * number + 40, 90, 30)).save(path)
    count = len(crowd)
    return Sample(
        image_id=100 + number,
        path=path,
        boxes=torch.tensor([[10.0, 10.0, 40.0, 50.0]]).repeat(count, 1),
        labels=torch.arange(count),
        crowd=torch.tensor(crowd, dtype=torch.bool),
        size=size,
    )


def test_crowd_regions_are_ignored(tmp_path: Path) -> None:
    data = FileData(("a", "b"), (1, 2), [image_file(tmp_path / "p.png", 0, crowd=(True, False))])
    item = TrainingItems(data, PLAIN, INPUT, 0)[0, 0]
    assert item.labels.tolist() == [0, 1]
    assert item.ignored.tolist() == [True, False]
    for loader in (training_loader(data, PLAIN, INPUT, 1, 0)[0], evaluation_loader(data, INPUT, 1)):
        (batch,) = loader
        assert batch.targets.valid[0, :3].tolist() == [False, True, False]
        assert batch.targets.ignored[0, :3].tolist() == [True, False, False]


MIXED = Augmentation(replace(AUGMENT_PRESETS["strong"], mosaic=0.6, mixup=0.5, copy_paste=0.5), 64, 96)


def grays(folder: Path, count: int) -> FileData:
    """Even images, each of a gray of its own, 30 apart, with an object on the whole of them."""
    samples = []
    for number in range(count):
        Image.new("RGB", (80, 60), (30 * (number + 1),) * 3).save(folder / f"{number}.png")
        whole = torch.tensor([[0.0, 0.0, 80.0, 60.0]])
        samples.append(
            Sample(number, folder / f"{number}.png", whole, torch.tensor([number]), torch.tensor([False]), (60, 80))
        )
    return FileData(tuple("abcdefgh"[:count]), tuple(range(count)), samples)


def shown(item: Item) -> set[int]:
    """Which of the gray images are to be seen in an item."""
    values = item.image[0]
    return {int(v) // 30 - 1 for v in values.unique() if int((values == v).sum()) > 40 and int(v) % 30 == 0}


def test_other_images_depend_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    items = TrainingItems(grays(tmp_path, 6), MOSAIC, INPUT, seed=1)
    first = items[0, 4]
    assert len(shown(first)) >= 2
    assert set(first.labels.tolist()) == shown(first)
    for other in ((0, 1), (3, 4), (0, 5)):
        assert not same(items[other], first)
    torch.manual_seed(99)
    assert same(TrainingItems(grays(tmp_path, 6), MOSAIC, INPUT, seed=1)[0, 4], first)
    seen = set().union(*(shown(items[epoch, 0]) for epoch in range(12)))
    assert seen == set(range(6))


def test_workers_change_nothing_where_images_are_mixed() -> None:
    found = []
    for num_workers in (0, 2):
        loader, order = training_loader(SCENES, MIXED, INPUT, 2, 3, num_workers)
        batches = []
        for epoch in range(2):
            order.epoch = epoch
            batches += list(loader)
        found.append(batches)
    assert all(same(a, b) for a, b in zip(*found, strict=True))
    assert len(found[0]) == 6


def test_synthetic_images_are_mixed_with_those_of_their_epoch() -> None:
    """As many as are drawn for it: of two scenes, a mosaic shows objects of both and of no other epoch."""
    items = TrainingItems(SyntheticScenes(2, size=96), MOSAIC, INPUT, seed=1)
    drawn = [len(SyntheticScenes(2, size=96).at_epoch(5).sample(i).labels) for i in range(2)]
    assert 1 <= len(items[5, 0].labels) <= 4 * max(drawn)


@pytest.mark.parametrize("close", [0, 2, 9])
def test_last_epochs_have_no_mixed_images(tmp_path: Path, close: int) -> None:
    data = grays(tmp_path, 6)
    closing = Augmentation(replace(MOSAIC.settings, close_epochs=close), 64, 96)
    items = TrainingItems(data, closing, INPUT, seed=1, epochs=6)
    for epoch in range(6):
        is_open = epoch < 6 - close
        for index in range(3):
            assert (len(shown(items[epoch, index])) > 1) == is_open
    loader, order = training_loader(data, closing, INPUT, 6, seed=1, epochs=6)
    order.epoch = 5
    (batch,) = loader
    assert (int(batch.targets.valid.sum()) > 6) == (close == 0)
    endless = TrainingItems(data, closing, INPUT, seed=1)
    assert len(shown(endless[500, 0])) > 1


def test_closed_epochs_change_nothing_else(tmp_path: Path) -> None:
    """What is drawn for an epoch that mixes nothing is what a run without mixing draws."""
    data = grays(tmp_path, 3)
    plain = Augmentation(AugmentSettings(flip=0.5, crop=0.5, scale=0.2), 64, 96)
    closing = Augmentation(replace(plain.settings, mosaic=1.0, mixup=1.0, close_epochs=9), 64, 96)
    for index in range(3):
        one = TrainingItems(data, plain, INPUT, 1, epochs=3)[2, index]
        assert same(one, TrainingItems(data, closing, INPUT, 1, epochs=3)[2, index])


@pytest.fixture
def broken(tmp_path: Path) -> FileData:
    """Four images; that of image id 101 is cut off in the middle."""
    data = FileData(("a",), (1,), [image_file(tmp_path / f"{i}.png", i) for i in range(4)])
    bad = data.samples[1].path
    assert bad is not None
    bad.write_bytes(bad.read_bytes()[:60])
    return data


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_file_is_replaced_by_the_next_one(broken: FileData, num_workers: int) -> None:
    loader, _ = training_loader(broken, PLAIN, INPUT, 2, 0, num_workers)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ids = sorted(i for batch in loader for i in batch.image_ids)
    assert ids == [100, 102, 102, 103]
    if num_workers == 0:  # a worker says it on its own standard error
        (message,) = [str(w.message) for w in told]
        assert message.startswith(str(broken.samples[1].path))
        assert message.endswith("the next image takes its place")


def test_unreadable_file_is_replaced_in_a_mosaic(broken: FileData) -> None:
    items = TrainingItems(broken, MOSAIC, INPUT, seed=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for epoch in range(6):
            items[epoch, 0]
    assert told
    assert all(str(w.message).endswith("the next image takes its place") for w in told)


def test_many_unreadable_files_in_a_row_are_an_error(tmp_path: Path) -> None:
    gone = [replace(image_file(tmp_path / "x.png", i), path=tmp_path / f"gone{i}.png") for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=rf"{MAX_UNREADABLE} images in a row cannot be read; .*gone.*png"):
            read_or_next(FileData(("a",), (1,), gone), 0)


def test_an_unreadable_file_does_not_end_an_evaluation(broken: FileData) -> None:
    with pytest.warns(UserWarning, match=r"1\.png: .*its objects count as missed"):
        batches = list(evaluation_loader(broken, INPUT, 2))
    assert [i for b in batches for i in b.image_ids] == [100, 101, 102, 103]
    shown = batches[0].images[1, :, :60, :80]
    assert shown.abs().max() < 0.02  # the mean color: nothing to be found
    assert batches[0].original_sizes[1].tolist() == [60, 80]


def test_batches_are_padded_to_multiples_of_32_with_the_mean_color(tmp_path: Path) -> None:
    sizes = [(60, 80), (64, 64), (50, 200)]
    data = FileData(("a",), (1,), [image_file(tmp_path / f"{i}.png", i, size) for i, size in enumerate(sizes)])
    (batch,) = evaluation_loader(data, INPUT, 3)
    assert batch.images.shape == (3, 3, 64, 96)
    assert batch.sizes.tolist() == [[64, 85], [64, 64], [24, 96]]
    assert batch.original_sizes.tolist() == [list(size) for size in sizes]
    for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True):
        beyond = torch.ones(64, 96, dtype=torch.bool)
        beyond[:height, :width] = False
        assert (image[:, beyond] == 0).all()
        assert (image[:, ~beyond].abs() > 0.01).all()
    # The ground truth is in the pixels of the input.
    torch.testing.assert_close(
        batch.targets.boxes[0, 0], torch.tensor([10 * 85 / 80, 10 * 64 / 60, 40 * 85 / 80, 50 * 64 / 60])
    )


def test_evaluation_keeps_the_order_of_the_data() -> None:
    for num_workers in (0, 2):
        ids = [i for batch in evaluation_loader(SCENES, INPUT, 4, num_workers) for i in batch.image_ids]
        assert ids == [SCENES.sample(i).image_id for i in range(len(SCENES))]


def test_synthetic_images_are_new_in_every_epoch() -> None:
    loader, order = training_loader(SCENES, PLAIN, INPUT, 3, 0)
    first = {i for batch in loader for i in batch.image_ids}
    order.epoch = 1
    second = {i for batch in loader for i in batch.image_ids}
    assert first == set(range(6))
    assert second == set(range(6, 12))

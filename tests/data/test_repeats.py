"""Rare classes are seen more often: repeat factors, and an epoch that shows images by them."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.dataset import FileData, Sample
from gfocal.data.samplers import BatchOrder, EpochOrder, dataset_repeat_factors, repeat_factors, sample_counts


def labels_of(*images: list[int]) -> list[torch.Tensor]:
    return [torch.tensor(labels, dtype=torch.int64) for labels in images]


def test_factors_are_those_of_lvis() -> None:
    """Class 0 in 8 of 10 images, class 1 in 2, class 2 in 1."""
    labels = labels_of(*[[0, 0]] * 7, [0, 1], [1, 2, 2], [])
    found = repeat_factors(labels, 3, 0.4)
    assert found.tolist() == pytest.approx([1.0] * 7 + [2**0.5, 2.0, 1.0])
    assert repeat_factors(labels, 3, 0.05).tolist() == [1.0] * 10
    assert repeat_factors(labels, 3, 1.0)[:2].tolist() == pytest.approx([(1 / 0.8) ** 0.5] * 2)


def test_crowd_regions_do_not_count() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    samples = [Sample(i, None, boxes, torch.tensor([int(i == 0)]), torch.tensor([i == 0])) for i in range(4)]
    assert dataset_repeat_factors(FileData(("a", "b"), (1, 2), samples), 1.0).tolist() == pytest.approx(
        [1, *[(4 / 3) ** 0.5] * 3]
    )


def test_mean_repeats_of_an_image_are_its_factor() -> None:
    order = EpochOrder(4, 0)
    order.repeats = torch.tensor([1.0, 1.5, 2.25, 3.0])
    assert len(order) == 8
    shown: Counter[int] = Counter()
    for order.epoch in range(400):
        entries = list(order)
        assert len(entries) == 8
        assert len(set(entries)) == 8  # what comes again is augmented anew
        assert {epoch for epoch, _ in entries} == {order.epoch}
        times = Counter(index % 4 for _, index in entries)
        assert times[0] == 1
        assert 1 <= times[1] <= 2
        assert times[3] in (3, 4)
        shown.update(times)
    excess = [shown[i] / 400 - 1 for i in range(4)]
    # 4 places for an excess of 3.75.
    assert excess == pytest.approx([0, 0.5 * 4 / 3.75, 1.25 * 4 / 3.75, 2 * 4 / 3.75], abs=0.08)


def test_epochs_differ_and_depend_on_the_seed() -> None:
    def epoch(seed: int, number: int) -> list[tuple[int, int]]:
        order = EpochOrder(20, seed)
        order.repeats, order.epoch = torch.full((20,), 1.5), number
        return list(order)

    assert epoch(1, 2) == epoch(1, 2)
    assert len({tuple(sorted(i for _, i in epoch(1, n))) for n in range(5)}) > 1
    assert epoch(1, 2) != epoch(2, 2)


def test_factors_of_one_change_nothing() -> None:
    plain, balanced = EpochOrder(30, 5), EpochOrder(30, 5)
    balanced.repeats = torch.ones(30)
    assert list(plain) == list(balanced)


@pytest.mark.parametrize("world", [1, 3])
def test_batches_are_distributed_to_processes(world: int) -> None:
    upright = [i % 3 == 0 for i in range(10)]
    shares = []
    for rank in range(world):
        order = EpochOrder(10, 0)
        order.repeats = torch.linspace(1, 3, 10)
        batches = BatchOrder(order, upright, 4, rank, world)
        shares.append(list(batches))
        assert len(shares[-1]) == len(batches)
    seen = set(chain(*chain(*shares)))
    assert len(seen) == len(order)
    assert {index % 10 for _, index in seen} == set(range(10))


def test_repeated_images_are_batched_by_orientation() -> None:
    upright = [i < 4 for i in range(8)]
    order = EpochOrder(8, 0)
    order.repeats = torch.full((8,), 3.0)
    for order.epoch in range(5):
        batches = list(BatchOrder(order, upright, 3))
        assert len(batches) == 8
        assert all(len({upright[index % 8] for _, index in batch}) == 1 for batch in batches)


@pytest.mark.parametrize(("repeats", "shown"), [([1.0, 1.3], 3), ([1.5, 1.5], 3), ([1.0, 1.0], 2), ([2.0, 1.6], 4)])
def test_an_epoch_is_no_shorter_than_its_factors(repeats: list[float], shown: int) -> None:
    order = EpochOrder(2, 0)
    order.repeats = torch.tensor(repeats)
    assert len(order) == len(list(order)) == shown


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), st.integers(0, 2**31))
def test_sample_counts_have_the_sum_and_are_next_to_their_share(expected: list[float], seed: int) -> None:
    whole = torch.tensor(expected, dtype=torch.float64)
    total = -int(-whole.sum() // 1)
    counts = sample_counts(whole, total, torch.Generator().manual_seed(seed))
    assert int(counts.sum()) == total
    share = whole * (total / max(float(whole.sum()), 1e-12))
    assert ((counts - share).abs() < 1 + 1e-6).all()

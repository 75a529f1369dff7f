"""The class loss of SSD: against torch's cross-entropy, and the choice of negatives against sorting by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gfocal.losses.ssd import background_cross_entropy, hard_negatives


def test_three_numbers_by_hand() -> None:
    """exp: 1 of the background, 2, 5."""
    logits = torch.tensor([[math.log(2), math.log(5)]] * 3)
    loss = background_cross_entropy(logits, torch.tensor([-1, 0, 1]))
    assert loss.tolist() == pytest.approx([math.log(8), math.log(4), math.log(8 / 5)])


def test_equals_a_cross_entropy_whose_background_has_a_number_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    all_logits = torch.randn(2, 7, 5, generator=generator) * 4  # the background comes first
    labels = torch.randint(-1, 4, (2, 7), generator=generator)
    got = background_cross_entropy(all_logits[..., 1:] - all_logits[..., :1], labels)
    want = F.cross_entropy(all_logits.flatten(0, 1), labels.flatten() + 1, reduction="none").view(2, 7)
    torch.testing.assert_close(got, want)


def test_its_gradient_is_probability_minus_one_hot_and_finite_at_the_ends() -> None:
    logits = torch.tensor([[1e4, -1e4, 3.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    background_cross_entropy(logits, torch.tensor([1, -1])).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1, 0], [0, 0, 0]]))


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    labels = torch.tensor([-1, 0, 1, 2, -1, 0])
    loss = background_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, background_cross_entropy(logits.float(), labels))


def slow_choice(loss: list[float], positive: list[bool], negative: list[bool], ratio: float) -> list[bool]:
    ranked = sorted((i for i, n in enumerate(negative) if n), key=lambda i: -loss[i])
    chosen = ranked[: math.ceil(ratio * sum(positive))]
    return [i in chosen for i in range(len(loss))]


@given(st.data(), st.integers(1, 12), st.sampled_from([1.0, 2.5, 3.0]))
def test_the_hardest_negatives_of_each_image_are_chosen(data: st.DataObject, num_points: int, ratio: float) -> None:
    kinds = data.draw(
        st.lists(st.lists(st.sampled_from("+-."), min_size=num_points, max_size=num_points), min_size=1)
    )
    loss = [[float(v) for v in data.draw(st.permutations(range(num_points)))] for _ in kinds]
    positive, negative = ([[kind == sign for kind in row] for row in kinds] for sign in "+-")
    got = hard_negatives(torch.tensor(loss), torch.tensor(positive), torch.tensor(negative), ratio)
    assert got.tolist() == [
        slow_choice(*rows, ratio) for rows in zip(loss, positive, negative, strict=True)
    ]  # row by row: an image has no share in another's


def test_equal_losses_are_not_chosen_all() -> None:
    positive = torch.tensor([[True] + [False] * 9])
    chosen = hard_negatives(torch.ones(1, 10), positive, ~positive)
    assert chosen.sum().item() == 3


@pytest.mark.parametrize("count", [0, 2])
def test_what_takes_no_part_is_never_chosen(count: int) -> None:
    """The hardest points lie in the padding; where negatives run out, nothing takes their place."""
    loss = torch.tensor([[9.0, 8, 7, 1, 2, 0]])
    positive = torch.tensor([[False] * 5 + [True]])
    negative = torch.tensor([[False] * 3 + [i < count for i in range(2)] + [False]])
    assert hard_negatives(loss, positive, negative).tolist() == negative.tolist()


def test_the_choice_passes_no_gradient_and_takes_infinite_losses() -> None:
    loss = torch.tensor([[math.inf, 1.0, 2.0]], requires_grad=True)
    chosen: Tensor = hard_negatives(
        loss, torch.tensor([[False, True, False]]), torch.tensor([[True, False, True]]), 1
    )
    assert chosen.tolist() == [[True, False, False]]
    assert not chosen.requires_grad

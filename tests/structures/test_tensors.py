"""Padding of ground truth, moving a batch, and the sum of losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.structures import Batch, Losses, pad_targets


def ground_truth(count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 4), torch.arange(count)


@pytest.mark.parametrize(("counts", "length"), [((0, 0), 8), ((3, 8), 8), ((9, 0, 1), 16), ((16,), 16)])
def test_ground_truth_is_padded_to_one_length(counts: tuple[int, ...], length: int) -> None:
    ground_truths = [ground_truth(count) for count in counts]
    boxes, labels = [b for b, _ in ground_truths], [c for _, c in ground_truths]
    targets = pad_targets(boxes, labels)
    assert targets.boxes.shape == (len(counts), length, 4)
    assert targets.labels.dtype == torch.int64
    assert targets.valid.sum(1).tolist() == list(counts)
    for i, count in enumerate(counts):
        assert torch.equal(targets.boxes[i, :count], boxes[i])
        assert torch.equal(targets.labels[i, :count], labels[i])
        assert targets.valid[i, :count].all()
        assert targets.boxes[i, count:].abs().sum() == 0


def test_the_multiple_of_padding() -> None:
    boxes, labels = ground_truth(3)
    assert pad_targets([boxes], [labels], multiple=1).boxes.shape == (1, 3, 4)
    assert pad_targets([boxes[:0]], [labels[:0]], multiple=1).boxes.shape == (1, 1, 4)
    assert pad_targets([boxes], [labels], multiple=5).boxes.shape == (1, 5, 4)


def test_boxes_and_labels_of_unequal_number_of_images_are_refused() -> None:
    boxes, labels = ground_truth(2)
    with pytest.raises(ValueError):
        pad_targets([boxes], [labels, labels])


def test_a_batch_moves_with_all_its_tensors() -> None:
    sizes = torch.tensor([[32, 32]])
    targets = pad_targets([torch.rand(1, 4)], [torch.tensor([0])])
    batch = Batch(torch.zeros(1, 3, 32, 32), targets, sizes, sizes, (7,))
    moved = batch.to("meta")
    for tensor in (moved.images, moved.targets.boxes, moved.targets.labels, moved.targets.valid):
        assert tensor.device.type == "meta"
    assert moved.sizes.device.type == moved.original_sizes.device.type == "meta"
    assert moved.image_ids == (7,)


def test_losses_add_up_and_report_without_a_graph() -> None:
    cls = torch.tensor([1.0, 2.0], requires_grad=True)
    losses = Losses(cls * 2, torch.tensor([0.5, 0.0]), torch.tensor([0.25, 0.25]), torch.tensor(3.0))
    assert losses.total.item() == 7.0
    terms = losses.terms()
    assert {name: value.item() for name, value in terms.items()} == {"cls": 6.0, "box": 0.5, "dfl": 0.5}
    assert not terms["cls"].requires_grad

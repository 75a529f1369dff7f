"""Padding of ground truth, and selection of detections with all their columns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Batch, Detections, Losses, pad_targets


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


def detections(count: int = 4) -> Detections:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Detections(
        boxes=rand(count, 4),
        scores=torch.tensor([0.9, 0.5, 0.5, 0.1])[:count],
        labels=torch.tensor([1, 0, 1, 0])[:count],
        edges=rand(count, 4, 5).softmax(-1),
        points=rand(count, 2),
        bin_sizes=rand(count, 4) + 1,
        names=("cat", "dog"),
        size=(30, 40),
    )


def columns(found: Detections) -> list[Tensor]:
    return [found.boxes, found.scores, found.labels, found.edges, found.points, found.bin_sizes]


@pytest.mark.parametrize(
    "keep", [torch.tensor([False, True, False, True]), torch.tensor([3, 0]), torch.zeros(4, dtype=torch.bool)]
)
def test_select_takes_the_same_rows_of_every_column(keep: Tensor) -> None:
    found = detections()
    kept = found.select(keep)
    for before, after in zip(columns(found), columns(kept), strict=True):
        assert torch.equal(after, before[keep])
    assert (kept.names, kept.size) == (found.names, found.size)
    assert len(kept) == len(kept.boxes)


def test_detections_print_as_one_line() -> None:
    assert repr(detections()) == "Detections(4 in 40x30 pixels: 2 dog, 2 cat)"
    assert repr(detections(0)) == "Detections(0 in 40x30 pixels)"
    many = replace(detections(), labels=torch.tensor([2, 2, 0, 1]), names=("cat", "dog", "owl"))
    assert repr(many) == "Detections(4 in 40x30 pixels: 2 owl, 1 cat, 1 dog)"
    generator = torch.rand(7, 4)
    seven = Detections(
        generator,
        generator[:, 0],
        torch.arange(7),
        torch.rand(7, 4, 5),
        generator[:, :2],
        generator,
        tuple("abcdefg"),
        (3, 4),
    )
    assert repr(seven) == "Detections(7 in 4x3 pixels: 1 a, 1 b, 1 c, 1 d, 1 e, ...)"


def test_above_is_strict() -> None:
    assert detections().above(0.5).scores.tolist() == pytest.approx([0.9])
    assert len(detections().above(0.0)) == 4
    assert len(detections().above(1.0)) == 0


def test_above_takes_a_threshold_for_each_class() -> None:
    found = detections()
    thresholds = [0.0] * len(found.names)
    thresholds[int(found.labels[0])] = 0.95
    kept = found.above(thresholds)
    assert kept.scores.tolist() == found.scores[found.labels != found.labels[0]].tolist()
    assert 0 < len(kept) < len(found)
    with pytest.raises(ValueError, match="1 thresholds for"):
        found.above((0.5,))


def test_names_follow_the_labels() -> None:
    assert detections().class_names == ["dog", "cat", "dog", "cat"]


def test_edge_std_is_that_of_the_distribution_in_pixels() -> None:
    found = detections()
    in_bins = GeneralDistribution(4).std(found.edges)
    torch.testing.assert_close(found.edge_std, in_bins * found.bin_sizes)


def test_edge_std_of_a_certain_and_of_a_torn_edge() -> None:
    found = detections(1)
    edges = torch.zeros(1, 4, 5)
    edges[0, :, 2] = 1  # certain
    edges[0, 3] = torch.tensor([0.5, 0, 0, 0, 0.5])  # torn between 0 and 4 bins
    torn = Detections(**{**vars(found), "edges": edges, "bin_sizes": torch.tensor([[8.0, 8, 8, 3]])})
    assert torn.edge_std.tolist() == [[0, 0, 0, 6]]

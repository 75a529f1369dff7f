"""The loss of SSD, with softmax and with QFL: a slow reimplementation, padding, and images without objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.autograd.profiler import profile

from gfocal.criteria.ssd import SSDCriterion
from gfocal.models.ssd import default_boxes, ssd512_vgg16
from gfocal.ops.box_coders import AnchorDeltas
from gfocal.ops.points import inside_own_padding
from gfocal.structures import HeadOutputs, Targets, pad_targets

Quality = Literal["none", "joint"]
QUALITIES: tuple[Quality, ...] = ("none", "joint")
STDS = (0.1, 0.1, 0.2, 0.2)
SIZES = torch.tensor([[64, 96], [40, 64], [64, 64]])  # the second and third are padded in the batch
BOXES: Sequence[Sequence[Sequence[float]]] = (
    [[3.1, 5.2, 26.3, 25.4], [40.5, 10.6, 90.7, 60.8], [10.2, 33.3, 40.4, 63.5]],
    [[8.3, 4.2, 30.1, 26.7]],
    [],
)
LABELS: Sequence[Sequence[int]] = ([0, 2, 1], [2], [])


def ground_truth(
    boxes: Sequence[Sequence[Sequence[float]]] = BOXES, labels: Sequence[Sequence[int]] = LABELS
) -> Targets:
    return pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.tensor(c, dtype=torch.int64) for c in labels]
    )


def random_outputs(num_images: int = 3) -> HeadOutputs:
    """Two levels, of two and three default boxes per cell."""
    shapes = [torch.tensor([[20.0, 20], [28, 20]]), torch.tensor([[40.0, 40], [56, 28], [28, 56]])]
    points = default_boxes([(8, 12), (4, 6)], (8, 16), shapes)
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(num_images, len(points.xy), 3, generator=generator) * 2 - 1
    box = torch.randn(num_images, len(points.xy), 4, 1, generator=generator)
    return HeadOutputs(cls.requires_grad_(), box.requires_grad_(), points)


def criterion(quality: Quality = "none") -> SSDCriterion:
    return SSDCriterion(AnchorDeltas(STDS), quality=quality)


def slow_losses(outputs: HeadOutputs, targets: Targets, gt_index: Tensor, quality: Quality) -> dict[str, list[float]]:
    """The formulas once more, number by number."""
    points = outputs.points
    assert points.anchors is not None
    level_of = [level for level, count in enumerate(points.counts) for _ in range(count)]
    cls, box = ([0.0] * len(points.counts) for _ in range(2))
    normalizer = 0
    for image in range(len(gt_index)):
        positives, negatives = [], []
        for p, g in enumerate(gt_index[image].tolist()):
            logits = outputs.cls_logits[image, p].tolist()
            quality_of = [0.0] * len(logits)
            if g >= 0:
                x1, y1, x2, y2 = targets.boxes[image, g].tolist()
                ax1, ay1, ax2, ay2 = points.anchors[p].tolist()
                w, h = ax2 - ax1, ay2 - ay1
                wanted = (
                    (x1 + x2 - ax1 - ax2) / 2 / w / STDS[0],
                    (y1 + y2 - ay1 - ay2) / 2 / h / STDS[1],
                    math.log((x2 - x1) / w) / STDS[2],
                    math.log((y2 - y1) / h) / STDS[3],
                )
                said = outputs.box_logits[image, p, :, 0].tolist()
                for a, b in zip(said, wanted, strict=True):
                    d = abs(a - b)
                    box[level_of[p]] += d * d / 2 if d < 1 else d - 0.5
                cx, cy = (ax1 + ax2) / 2 + said[0] * STDS[0] * w, (ay1 + ay2) / 2 + said[1] * STDS[1] * h
                pw, ph = w * math.exp(said[2] * STDS[2]), h * math.exp(said[3] * STDS[3])
                shared_w = min(cx + pw / 2, x2) - max(cx - pw / 2, x1)
                shared_h = min(cy + ph / 2, y2) - max(cy - ph / 2, y1)
                shared = max(shared_w, 0) * max(shared_h, 0)
                quality_of[int(targets.labels[image, g])] = shared / (pw * ph + (x2 - x1) * (y2 - y1) - shared)
            if g == -2:
                continue
            if quality == "joint":
                for x, y in zip(logits, quality_of, strict=True):
                    s = 1 / (1 + math.exp(-x))
                    cls[level_of[p]] -= abs(y - s) ** 2 * ((1 - y) * math.log(1 - s) + y * math.log(s))
            else:
                own = logits[int(targets.labels[image, g])] if g >= 0 else 0.0
                entropy = math.log(1 + sum(map(math.exp, logits))) - own
                (positives if g >= 0 else negatives).append((entropy, p))
        normalizer += max(1, int((gt_index[image] >= 0).sum()))
        for entropy, p in positives + sorted(negatives, reverse=True)[: 3 * len(positives)]:
            cls[level_of[p]] += entropy
    return {"cls": [v / normalizer for v in cls], "box": [v / normalizer for v in box]}


@pytest.mark.parametrize("quality", QUALITIES)
def test_equals_the_slow_way_on_every_level(quality: Quality) -> None:
    outputs, targets, ours = random_outputs(), ground_truth(), criterion(quality)
    losses = ours(outputs, targets, SIZES)
    gt_index = ours.assign(outputs.points, targets, inside_own_padding(outputs.points, SIZES)).gt_index
    want = slow_losses(outputs, targets, gt_index, quality)
    assert losses.cls.tolist() == pytest.approx(want["cls"], rel=1e-4)
    assert losses.box.tolist() == pytest.approx(want["box"], rel=1e-4)
    assert losses.num_positives.item() == (gt_index >= 0).sum().item() > 5
    assert all(v > 0 for v in want["box"])  # else the sums per level would go untested
    assert losses.dfl.tolist() == [0, 0]


def test_of_equally_good_default_boxes_one_alone_predicts_a_small_object() -> None:
    """Its IoU with four of them is far below one half."""
    outputs = random_outputs(1)
    losses = criterion()(outputs, ground_truth([[[30.0, 30, 34, 34]]], [[1]]), torch.tensor([[64, 96]]))
    assert losses.num_positives.item() == 1


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_batch_without_objects_is_finite(quality: Quality) -> None:
    """The softmax learns nothing of it, as published; QFL that nothing is there."""
    outputs = random_outputs()
    losses = criterion(quality)(outputs, ground_truth([[]] * 3, [[]] * 3), SIZES)
    assert losses.num_positives.item() == losses.box.sum().item() == 0
    cls, box = torch.autograd.grad(losses.total, (outputs.cls_logits, outputs.box_logits))
    assert (box == 0).all()
    assert cls.isfinite().all()
    assert bool((cls != 0).any()) == (quality == "joint")


@pytest.mark.parametrize("quality", QUALITIES)
def test_what_lies_in_the_padding_has_no_influence(quality: Quality) -> None:
    outputs = random_outputs()
    beyond = ~inside_own_padding(outputs.points, SIZES)
    assert beyond.any()
    cls, box = outputs.cls_logits.detach().clone(), outputs.box_logits.detach().clone()
    cls[beyond], box[beyond] = 50.0, -30.0
    before = criterion(quality)(outputs, ground_truth(), SIZES)
    after = criterion(quality)(HeadOutputs(cls, box, outputs.points), ground_truth(), SIZES)
    assert before.total.item() == after.total.item()
    for gradient in torch.autograd.grad(before.total, (outputs.cls_logits, outputs.box_logits)):
        assert gradient.isfinite().all()
        assert (gradient[beyond] == 0).all()


def test_no_more_than_three_negatives_for_each_positive_have_a_gradient() -> None:
    outputs = random_outputs()
    losses = criterion()(outputs, ground_truth(), SIZES)
    (cls,) = torch.autograd.grad(losses.cls.sum(), outputs.cls_logits)
    assert (cls != 0).any(-1).sum().item() == 4 * losses.num_positives.item()


def test_the_normalizer_is_summed_over_processes_and_weights_scale_their_own_term() -> None:
    outputs, targets = random_outputs(), ground_truth()
    base = replace(criterion(), sum_over_processes=lambda own: torch.full_like(own, 10.0))
    ten = base(outputs, targets, SIZES)
    twenty = replace(base, sum_over_processes=lambda own: torch.full_like(own, 20.0))(outputs, targets, SIZES)
    heavy = replace(base, cls_weight=3.0)(outputs, targets, SIZES)
    torch.testing.assert_close(ten.cls, 2 * twenty.cls)
    torch.testing.assert_close(ten.box, 2 * twenty.box)
    torch.testing.assert_close(heavy.cls, 3 * ten.cls)
    torch.testing.assert_close(heavy.box, ten.box)


@pytest.mark.parametrize("quality", QUALITIES)
def test_nothing_in_the_loss_waits_for_the_device(quality: Quality) -> None:
    outputs, targets, ours = random_outputs(), ground_truth(), criterion(quality)
    with profile() as record:
        ours(outputs, targets, SIZES).total.backward()
    names = {event.name.removeprefix("aten::") for event in record.function_events}
    assert "scatter" in " ".join(names)
    assert not names & {"item", "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}


def test_the_quality_target_passes_no_gradient() -> None:
    outputs = random_outputs()
    losses = criterion("joint")(outputs, ground_truth(), SIZES)
    (box,) = torch.autograd.grad(losses.cls.sum(), outputs.box_logits, allow_unused=True)
    assert box is None or (box == 0).all()


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_training_step_lowers_the_loss(quality: Quality) -> None:
    torch.manual_seed(0)
    model = ssd512_vgg16(3, pretrained=False, softmax=quality == "none").train()
    ours = SSDCriterion(model.box_coder, quality=quality)
    images, sizes = torch.randn(1, 3, 288, 288), torch.tensor([[288, 288]])
    targets = ground_truth([[[20.0, 30, 120, 140], [100, 40, 280, 250]]], [[0, 2]])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = ours(model(images), targets, sizes)
    before.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    with torch.no_grad():
        after = ours(model(images), targets, sizes)
    assert after.total.item() < before.total.item()

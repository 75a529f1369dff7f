"""The training loss: a case computed by hand, a slow reimplementation, and images without objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gfocal.criteria.gfl import GFLCriterion, level_of_point, rows, sum_per_level
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding, make_points
from gfocal.structures import Assignment, HeadOutputs, Losses, Points, Targets, pad_targets

Boxes = Sequence[Sequence[Sequence[float]]]
Labels = Sequence[Sequence[int]]

STRIDES = (8, 16, 32)
SIZES = torch.tensor([[64, 96], [40, 64], [64, 64]])  # the second and third are padded in the batch
BOXES: Boxes = (
    [[3.1, 5.2, 40.3, 44.4], [20.5, 10.6, 90.7, 60.8], [-31.2, -33.3, 95.4, 93.5]],
    [[8.3, 4.2, 30.1, 36.7]],
    [],
)
LABELS: Labels = ([0, 2, 1], [2], [])


def ground_truth(boxes: Boxes = BOXES, labels: Labels = LABELS) -> Targets:
    return pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.tensor(c, dtype=torch.int64) for c in labels]
    )


def random_outputs(
    num_images: int = 3, num_classes: int = 3, num_bins: int = 5, dtype: torch.dtype = torch.float32
) -> HeadOutputs:
    points = make_points([(8, 12), (4, 6), (2, 3)], STRIDES)
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(num_images, len(points.xy), num_classes, generator=generator) * 2 - 1
    box = torch.randn(num_images, len(points.xy), 4, num_bins, generator=generator) * 2
    return HeadOutputs(cls.to(dtype).requires_grad_(), box.to(dtype).requires_grad_(), points)


def gradients(outputs: HeadOutputs, loss: Tensor) -> tuple[Tensor, Tensor]:
    cls, box = torch.autograd.grad(loss, (outputs.cls_logits, outputs.box_logits))
    return cls, box


def test_a_case_computed_by_hand() -> None:
    """Four points, all logits 0, one box; its point is (8, 8), one stride from the corner."""
    points = make_points([(2, 2)], [8])
    outputs = HeadOutputs(torch.zeros(1, 4, 2), torch.zeros(1, 4, 4, 5), points)

    def assign(points: Points, targets: Targets, taking_part: Tensor) -> Assignment:
        gt_index = torch.tensor([[-1, -1, -1, 0]])
        return Assignment(gt_index, torch.tensor([[2, 3]]), torch.tensor([[False, True]]))

    criterion = GFLCriterion(GeneralDistribution(4), assign=assign)
    losses = criterion(outputs, ground_truth([[[4.0, 4, 16, 16]]], [[1]]), torch.tensor([[16, 16]]))
    # Uniform edges lie at 2 strides: the box is (-1, -1, 3, 3), of area 16, around the ground truth of area 1.5^2.
    iou = 2.25 / 16
    assert losses.cls.tolist() == pytest.approx([(7 * 0.5**2 + (0.5 - iou) ** 2) * math.log(2)])
    assert losses.box.tolist() == pytest.approx([2 * 0.5 * (1 - iou)])  # lambda_0 w GIoU loss / max(1, w)
    assert losses.dfl.tolist() == pytest.approx([0.25 * 0.5 * math.log(5)])
    assert losses.num_positives.item() == 1
    assert losses.total.item() == pytest.approx(sum(t.item() for t in losses.terms().values()))


def slow_losses(
    outputs: HeadOutputs, targets: Targets, sizes: Tensor, gt_index: Tensor, law: GeneralDistribution
) -> dict[str, list[float]]:
    """Eq. 8 for one point after the other, in plain Python."""
    cls, box, dfl = ([0.0] * len(STRIDES) for _ in range(3))
    positives, weights = [0] * len(sizes), 0.0
    for i, image in enumerate(gt_index.tolist()):
        for p, g in enumerate(image):
            if g == -2:
                continue
            stride, level = outputs.points.strides[p].item(), STRIDES.index(int(outputs.points.strides[p]))
            x, y = (outputs.points.xy[p] / stride).tolist()
            scores = outputs.cls_logits[i, p].detach().sigmoid().tolist()
            quality = [0.0] * len(scores)
            if g >= 0:
                probabilities = outputs.box_logits[i, p].detach().softmax(-1).tolist()
                left, top, right, bottom = (
                    sum(k * law.delta * q for k, q in enumerate(side)) for side in probabilities
                )
                x1, y1, x2, y2 = (targets.boxes[i, g] / stride).tolist()
                shared = max(0, min(x + right, x2) - max(x - left, x1)) * max(
                    0, min(y + bottom, y2) - max(y - top, y1)
                )
                union = (left + right) * (top + bottom) + (x2 - x1) * (y2 - y1) - shared
                hull = (max(x + right, x2) - min(x - left, x1)) * (max(y + bottom, y2) - min(y - top, y1))
                quality[int(targets.labels[i, g])] = shared / union
                weight = max(scores)
                positives[i] += 1
                weights += weight
                box[level] += weight * (1 - shared / union + (hull - union) / hull)
                for side, distance in zip(probabilities, (x - x1, y - y1, x2 - x, y2 - y), strict=True):
                    at = min(max(distance / law.delta, 0), law.n - 0.1)
                    k = int(at)
                    dfl[level] -= weight / 4 * ((k + 1 - at) * math.log(side[k]) + (at - k) * math.log(side[k + 1]))
            for s, q in zip(scores, quality, strict=True):
                cls[level] -= abs(q - s) ** 2 * ((1 - q) * math.log(1 - s) + q * math.log(s))
    count = sum(max(1, n) for n in positives)
    return {
        "cls": [v / count for v in cls],
        "box": [2 * v / max(1, weights) for v in box],
        "dfl": [v / 4 / max(1, weights) for v in dfl],
    }


@pytest.mark.parametrize("delta", [1.0, 0.5, 2.0])
def test_equals_the_slow_way_on_every_level(delta: float) -> None:
    law, outputs, targets = GeneralDistribution(4, delta), random_outputs(), ground_truth()
    criterion = GFLCriterion(law)
    losses = criterion(outputs, targets, SIZES)
    gt_index = criterion.assign(outputs.points, targets, inside_own_padding(outputs.points, SIZES)).gt_index
    want = slow_losses(outputs, targets, SIZES, gt_index, law)
    for name in ("cls", "box", "dfl"):
        assert getattr(losses, name).tolist() == pytest.approx(want[name], rel=1e-4, abs=1e-7), name
    assert losses.num_positives.item() == (gt_index >= 0).sum().item() > 5
    assert sum(v > 0 for v in want["box"]) >= 2  # else the sums per level would go untested


def test_an_image_without_objects_costs_only_its_scores() -> None:
    outputs = random_outputs(1)
    losses = GFLCriterion(GeneralDistribution(4))(outputs, ground_truth([[]], [[]]), SIZES[:1])
    assert losses.box.tolist() == losses.dfl.tolist() == [0, 0, 0]
    assert (losses.cls > 0).all()
    assert losses.num_positives.item() == 0
    cls, box = gradients(outputs, losses.total)
    assert cls.isfinite().all()
    assert (cls > 0).all()  # every score is to fall
    assert (box == 0).all()


def test_in_a_mixed_batch_all_gradients_are_finite_and_each_empty_image_counts_one() -> None:
    outputs = random_outputs()
    criterion = GFLCriterion(GeneralDistribution(4))
    losses = criterion(outputs, ground_truth(), SIZES)
    for gradient in gradients(outputs, losses.total):
        assert gradient.isfinite().all()
    # Without the empty third image: the same sum over one location less in the normalizer.
    part = replace(outputs, cls_logits=outputs.cls_logits[:2], box_logits=outputs.box_logits[:2])
    without = criterion(part, ground_truth(BOXES[:2], LABELS[:2]), SIZES[:2])
    alone = criterion(
        replace(outputs, cls_logits=outputs.cls_logits[2:], box_logits=outputs.box_logits[2:]),
        ground_truth([[]], [[]]),
        SIZES[2:],
    )
    positives = losses.num_positives.item()
    torch.testing.assert_close(losses.cls * (positives + 1), without.cls * positives + alone.cls)
    torch.testing.assert_close(losses.box, without.box)
    torch.testing.assert_close(losses.dfl, without.dfl)


def test_a_batch_without_any_object_is_an_ordinary_batch() -> None:
    outputs = random_outputs()
    losses = GFLCriterion(GeneralDistribution(4))(outputs, ground_truth([[]] * 3, [[]] * 3), SIZES)
    assert losses.box.sum().item() == losses.dfl.sum().item() == 0
    cls, box = gradients(outputs, losses.total)
    assert losses.total.isfinite()
    assert cls.isfinite().all()
    assert cls.abs().sum().item() > 0
    assert (box == 0).all()


def test_what_lies_in_the_padding_has_no_influence() -> None:
    outputs, criterion = random_outputs(), GFLCriterion(GeneralDistribution(4))
    beyond = ~inside_own_padding(outputs.points, SIZES)
    assert beyond.any()
    cls, box = outputs.cls_logits.detach().clone(), outputs.box_logits.detach().clone()
    cls[beyond], box[beyond] = 50.0, -30.0
    changed = HeadOutputs(cls, box, outputs.points)
    before, after = criterion(outputs, ground_truth(), SIZES), criterion(changed, ground_truth(), SIZES)
    assert before.total.item() == after.total.item()
    for gradient in gradients(outputs, before.total):
        assert (gradient[beyond] == 0).all()


def fixed(value: float) -> GFLCriterion:
    """A criterion whose normalizers are, over all processes, this value."""
    return GFLCriterion(GeneralDistribution(4), sum_over_processes=lambda own: torch.full_like(own, value))


def test_normalizers_are_summed_over_processes_and_that_of_boxes_is_at_least_one() -> None:
    outputs, targets = random_outputs(), ground_truth()
    ten, twenty, tenth = (fixed(v)(outputs, targets, SIZES) for v in (10, 20, 0.1))
    for name in ("cls", "box", "dfl"):
        torch.testing.assert_close(getattr(ten, name), 2 * getattr(twenty, name))
    torch.testing.assert_close(tenth.box, 10 * ten.box)  # 0.1 is raised to 1
    torch.testing.assert_close(tenth.dfl, 10 * ten.dfl)
    torch.testing.assert_close(tenth.cls, 100 * ten.cls)


def test_early_in_training_box_losses_are_plain_weighted_sums() -> None:
    """All scores at 0.01: the weights of the positives sum to less than one and do not divide."""
    outputs = random_outputs()
    timid = replace(outputs, cls_logits=torch.full_like(outputs.cls_logits, -math.log(99)))
    bold = replace(outputs, cls_logits=torch.full_like(outputs.cls_logits, 20.0))
    criterion = GFLCriterion(GeneralDistribution(4))
    small, large = (criterion(o, ground_truth(), SIZES) for o in (timid, bold))
    torch.testing.assert_close(small.box, large.box * large.num_positives * 0.01, rtol=1e-4, atol=1e-7)


def test_the_weights_scale_their_own_term_only() -> None:
    outputs, targets = random_outputs(), ground_truth()
    base = GFLCriterion(GeneralDistribution(4))
    before = base(outputs, targets, SIZES)
    for name in ("cls", "box", "dfl"):
        heavier: GFLCriterion = replace(base, **{f"{name}_weight": 3 * getattr(base, f"{name}_weight")})
        after: Losses = heavier(outputs, targets, SIZES)
        for other in ("cls", "box", "dfl"):
            factor = 3 if other == name else 1
            torch.testing.assert_close(getattr(after, other), factor * getattr(before, other))


def test_the_quality_target_and_the_weight_pass_no_gradient() -> None:
    outputs = random_outputs()
    losses = GFLCriterion(GeneralDistribution(4))(outputs, ground_truth(), SIZES)
    cls, box = torch.autograd.grad(
        losses.cls.sum(), (outputs.cls_logits, outputs.box_logits), retain_graph=True, allow_unused=True
    )
    assert cls.abs().sum().item() > 0
    assert box is None or (box == 0).all()
    cls, box = torch.autograd.grad(
        losses.box.sum() + losses.dfl.sum(), (outputs.cls_logits, outputs.box_logits), allow_unused=True
    )
    assert cls is None or (cls == 0).all()
    assert box.abs().sum().item() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    half = random_outputs(dtype=dtype)
    full = HeadOutputs(half.cls_logits.float(), half.box_logits.float(), half.points)
    criterion = GFLCriterion(GeneralDistribution(4))
    assert torch.equal(criterion(half, ground_truth(), SIZES).total, criterion(full, ground_truth(), SIZES).total)


def test_the_order_of_boxes_and_their_padding_do_not_matter() -> None:
    outputs, criterion = random_outputs(), GFLCriterion(GeneralDistribution(4))
    before = criterion(outputs, ground_truth(), SIZES)
    turned = criterion(outputs, ground_truth([b[::-1] for b in BOXES], [c[::-1] for c in LABELS]), SIZES)
    torch.testing.assert_close(before.total, turned.total)
    wide = ground_truth((*BOXES[:2], [[0.0, 0, 1, 1]] * 17), (*LABELS[:2], [0] * 17))
    wide = replace(wide, valid=wide.valid & torch.tensor([True, True, False]).unsqueeze(1))
    torch.testing.assert_close(before.total, criterion(outputs, wide, SIZES).total)


def test_the_small_functions() -> None:
    values = torch.arange(12).view(1, 3, 4)
    index = torch.tensor([[2, 0]])
    assert rows(values, index).tolist() == [[[8, 9, 10, 11], [0, 1, 2, 3]]]
    assert rows(torch.tensor([[5, 6, 7]]), index).tolist() == [[7, 5]]
    assert rows(torch.arange(12).view(2, 3, 2), torch.tensor([[0], [2]])).tolist() == [[[0, 1]], [[10, 11]]]
    level = level_of_point([3, 1], torch.device("cpu"))
    assert level.tolist() == [0, 0, 0, 1]
    assert sum_per_level(torch.tensor([[1.0, 2, 4, 8]]), level[None], 3).tolist() == [7, 8, 0]

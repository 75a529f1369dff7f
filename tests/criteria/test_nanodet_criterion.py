"""The loss of NanoDet-Plus: a slow reimplementation, gradients in float64, who decides, images without objects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_gfl_criterion import BOXES, LABELS, SIZES, STRIDES, ground_truth, random_outputs
from torch import Tensor

from device_waits import waits
from gfocal.assigners.dsla import assign_dsla
from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.criteria.gfl import rows
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.models.zoo import create
from gfocal.ops.boxes import iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Assignment, HeadOutputs, Points, Targets

LAW = GeneralDistribution(4)
TERMS = ("cls", "box", "dfl")


def guided(num_images: int = 3, dtype: torch.dtype = torch.float32) -> HeadOutputs:
    """Outputs of a main head, with those of an auxiliary head that predicts something else."""
    main = random_outputs(num_images, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    cls, box = (torch.randn(x.shape, generator=generator) * 1.5 for x in (main.cls_logits, main.box_logits))
    other = HeadOutputs(cls.to(dtype).requires_grad_(), box.to(dtype).requires_grad_(), main.points)
    return replace(main, auxiliary=other)


def leaves(outputs: HeadOutputs) -> list[Tensor]:
    heads = [outputs] if outputs.auxiliary is None else [outputs, outputs.auxiliary]
    return [logits for head in heads for logits in (head.cls_logits, head.box_logits)]


def predicted_boxes(outputs: HeadOutputs, law: GeneralDistribution = LAW) -> list[list[list[float]]]:
    return law.boxes(outputs.box_logits.detach(), outputs.points).tolist()


def overlap_and_union(a: list[float], b: list[float]) -> tuple[float, float]:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap


def slow_losses(
    head: HeadOutputs, deciding: HeadOutputs, targets: Targets, gt_index: Tensor, law: GeneralDistribution
) -> dict[str, list[float]]:
    """Of one head, for one point after the other, in plain Python."""
    cls, box, dfl = ([0.0] * len(STRIDES) for _ in range(3))
    own_boxes, deciding_boxes = predicted_boxes(head, law), predicted_boxes(deciding, law)
    count, weights = 0, 0.0
    for i, image in enumerate(gt_index.tolist()):
        for p, g in enumerate(image):
            if g == -2:
                continue
            stride = head.points.strides[p].item()
            level, (x, y) = STRIDES.index(int(stride)), head.points.xy[p].tolist()
            scores = head.cls_logits[i, p].detach().sigmoid().tolist()
            quality = [0.0] * len(scores)
            if g >= 0:
                gt, own = targets.boxes[i, g].tolist(), own_boxes[i][p]
                overlap, union = overlap_and_union(deciding_boxes[i][p], gt)
                quality[int(targets.labels[i, g])] = overlap / union
                weight = max(scores)
                count, weights = count + 1, weights + weight
                overlap, union = overlap_and_union(own, gt)
                hull = (max(own[2], gt[2]) - min(own[0], gt[0])) * (max(own[3], gt[3]) - min(own[1], gt[1]))
                box[level] += weight * (1 - overlap / union + (hull - union) / hull)
                probabilities = head.box_logits[i, p].detach().softmax(-1).tolist()
                for side, distance in zip(probabilities, (x - gt[0], y - gt[1], gt[2] - x, gt[3] - y), strict=True):
                    at = min(max(distance / stride / law.delta, 0), law.n - 0.1)
                    k = int(at)
                    dfl[level] -= weight / 4 * ((k + 1 - at) * math.log(side[k]) + (at - k) * math.log(side[k + 1]))
            for s, q in zip(scores, quality, strict=True):
                cls[level] -= abs(q - s) ** 2 * ((1 - q) * math.log(1 - s) + q * math.log(s))
    return {
        "cls": [v / max(1, count) for v in cls],
        "box": [2 * v / max(1, weights) for v in box],
        "dfl": [v / 4 / max(1, weights) for v in dfl],
    }


@pytest.mark.parametrize("delta", [1.0, 0.5])
@pytest.mark.parametrize("is_guided", [False, True])
def test_equals_the_slow_way_on_every_level(is_guided: bool, delta: float) -> None:
    law, targets = GeneralDistribution(4, delta), ground_truth()
    outputs = guided() if is_guided else random_outputs()
    criterion = NanoDetCriterion(law)
    deciding = outputs.auxiliary or outputs
    boxes = law.boxes(deciding.box_logits.detach(), outputs.points)
    taking_part = inside_own_padding(outputs.points, SIZES)
    gt_index = assign_dsla(outputs.points, targets, taking_part, deciding.cls_logits, boxes).gt_index
    losses = criterion(outputs, targets, SIZES)
    heads = [outputs, outputs.auxiliary] if outputs.auxiliary else [outputs]
    wanted = [slow_losses(head, deciding, targets, gt_index, law) for head in heads]
    for name in TERMS:
        want = [sum(of_heads) for of_heads in zip(*(w[name] for w in wanted), strict=True)]
        assert getattr(losses, name).tolist() == pytest.approx(want, rel=1e-4, abs=1e-7), name
    assert losses.num_positives.item() == (gt_index >= 0).sum().item() > 5
    assert sum(v > 0 for v in wanted[0]["box"]) >= 2  # else the sums per level would go untested


def test_the_auxiliary_head_decides_and_the_main_head_has_no_say() -> None:
    outputs, criterion, targets = guided(), NanoDetCriterion(LAW), ground_truth()
    assert outputs.auxiliary is not None
    match = criterion.match(outputs, targets, SIZES)
    other = replace(outputs, cls_logits=-outputs.cls_logits, box_logits=-outputs.box_logits)
    same = criterion.match(other, targets, SIZES)
    assert torch.equal(match.assignment.gt_index, same.assignment.gt_index)
    assert torch.equal(match.quality, same.quality)
    alone = criterion.match(outputs.auxiliary, targets, SIZES)
    assert torch.equal(match.assignment.gt_index, alone.assignment.gt_index)
    itself = criterion.match(replace(outputs, auxiliary=None), targets, SIZES)
    assert not torch.equal(match.assignment.gt_index, itself.assignment.gt_index)


def test_the_losses_of_both_heads_are_added() -> None:
    outputs, criterion, targets = guided(), NanoDetCriterion(LAW), ground_truth()
    assert outputs.auxiliary is not None
    match = criterion.match(outputs, targets, SIZES)
    main, other = (criterion.head_losses(head, match) for head in (outputs, outputs.auxiliary))
    both = criterion(outputs, targets, SIZES)
    half = replace(criterion, auxiliary_weight=0.5)(outputs, targets, SIZES)
    for name in TERMS:
        torch.testing.assert_close(getattr(both, name), getattr(main, name) + getattr(other, name))
        torch.testing.assert_close(getattr(half, name), getattr(main, name) + getattr(other, name) / 2)
    assert main.num_positives == other.num_positives == both.num_positives
    torch.testing.assert_close(both.total, main.total + other.total)


def test_the_gradients_are_those_of_finite_differences_in_float64() -> None:
    """The match is fixed: nothing that it is made of has a gradient."""
    outputs = guided(dtype=torch.float64)
    criterion, targets = NanoDetCriterion(LAW), ground_truth()
    targets = replace(targets, boxes=targets.boxes.double())
    match = criterion.match(outputs, targets, SIZES)
    assert outputs.auxiliary is not None
    for head in (outputs, outputs.auxiliary):
        weight = head.cls_logits.detach().clone()  # the scores that weight the boxes are no variables

        def total(cls: Tensor, box: Tensor, weight: Tensor = weight) -> Tensor:
            losses = criterion.head_losses(HeadOutputs(cls, box, outputs.points), match)
            fixed = criterion.head_losses(HeadOutputs(weight, box, outputs.points), match)
            return losses.cls.sum() + fixed.box.sum() + fixed.dfl.sum()

        generator = torch.Generator().manual_seed(2)
        inputs = [x.detach().clone().requires_grad_() for x in (head.cls_logits, head.box_logits)]
        found = torch.autograd.grad(total(*inputs), inputs)
        for _ in range(10):
            steps = [torch.randn(x.shape, generator=generator, dtype=x.dtype) * 1e-6 for x in inputs]
            up = total(*(x + d for x, d in zip(inputs, steps, strict=True)))
            down = total(*(x - d for x, d in zip(inputs, steps, strict=True)))
            want = sum((2 * g * d).sum() for g, d in zip(found, steps, strict=True))
            assert (up - down).item() == pytest.approx(want.item(), rel=1e-5, abs=1e-12)  # type: ignore[union-attr]


def test_the_total_has_the_gradient_of_the_heads_alone() -> None:
    outputs, criterion, targets = guided(), NanoDetCriterion(LAW), ground_truth()
    match = criterion.match(outputs, targets, SIZES)
    assert outputs.auxiliary is not None
    total = torch.autograd.grad(criterion(outputs, targets, SIZES).total, leaves(outputs))
    alone = torch.autograd.grad(
        criterion.head_losses(outputs, match).total + criterion.head_losses(outputs.auxiliary, match).total,
        leaves(outputs),
    )
    for a, b in zip(total, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_images_without_objects_and_batches_of_them() -> None:
    outputs, criterion = guided(), NanoDetCriterion(LAW)
    losses = criterion(outputs, ground_truth([[]] * 3, [[]] * 3), SIZES)
    assert losses.box.tolist() == losses.dfl.tolist() == [0, 0, 0]
    assert losses.num_positives.item() == 0
    found = torch.autograd.grad(losses.total, leaves(outputs))
    assert all(gradient.isfinite().all() for gradient in found)
    assert (found[1] == 0).all()
    assert (found[3] == 0).all()

    # In contrast to GFL, an image without objects counts nothing in the normalizer.
    losses = criterion(outputs, ground_truth(), SIZES)
    parts = [part_of(outputs, i) for i in range(3)]
    each = [criterion(part, ground_truth([BOXES[i]], [LABELS[i]]), SIZES[i : i + 1]) for i, part in enumerate(parts)]
    number = losses.num_positives
    assert number == sum(one.num_positives for one in each) > 0
    assert each[2].num_positives == 0
    torch.testing.assert_close(losses.cls * number, sum(one.cls * one.num_positives.clamp(min=1) for one in each))


def part_of(outputs: HeadOutputs, image: int) -> HeadOutputs:
    rest = None if outputs.auxiliary is None else part_of(outputs.auxiliary, image)
    here = slice(image, image + 1)
    return HeadOutputs(outputs.cls_logits[here], outputs.box_logits[here], outputs.points, auxiliary=rest)


def test_points_beyond_the_padding_have_no_loss() -> None:
    outputs, criterion = guided(), NanoDetCriterion(LAW)
    beyond = ~inside_own_padding(outputs.points, SIZES)
    assert beyond.any()
    for gradient in torch.autograd.grad(criterion(outputs, ground_truth(), SIZES).total, leaves(outputs)):
        assert (gradient[beyond] == 0).all()


def test_normalizers_are_summed_over_processes_and_are_at_least_one() -> None:
    outputs, targets = guided(), ground_truth()

    def fixed(value: float) -> NanoDetCriterion:
        return NanoDetCriterion(LAW, sum_over_processes=lambda own: torch.full_like(own, value))

    ten, twenty, tenth, one = (fixed(v)(outputs, targets, SIZES) for v in (10, 20, 0.1, 1))
    for name in TERMS:
        torch.testing.assert_close(getattr(ten, name), 2 * getattr(twenty, name))
        torch.testing.assert_close(getattr(tenth, name), getattr(one, name))


def test_two_processes_have_together_the_losses_of_one() -> None:
    outputs, targets = guided(), ground_truth()
    whole = NanoDetCriterion(LAW)(outputs, targets, SIZES)
    own: list[list[Tensor]] = [[], []]
    halves = ([0], [1, 2])
    parts = []
    for images in halves:
        rows = [part_of(outputs, i) for i in images]

        def joined(heads: list[HeadOutputs]) -> HeadOutputs:
            cls, box = (torch.cat([getattr(h, name) for h in heads]) for name in ("cls_logits", "box_logits"))
            return HeadOutputs(cls, box, outputs.points)

        others = [row.auxiliary for row in rows if row.auxiliary is not None]
        parts.append(replace(joined(rows), auxiliary=joined(others)))
    truths = [ground_truth([BOXES[i] for i in images], [LABELS[i] for i in images]) for images in halves]

    def record(rank: int, value: Tensor) -> Tensor:
        own[rank].append(value)
        return value

    def following(given: Iterator[Tensor], value: Tensor) -> Tensor:
        return next(given)

    for rank, (part, truth, images) in enumerate(zip(parts, truths, halves, strict=True)):
        collect = NanoDetCriterion(LAW, sum_over_processes=partial(record, rank))
        collect(part, truth, SIZES[images])
    sums = [a + b for a, b in zip(*own, strict=True)]
    total = torch.zeros(())
    for part, truth, images in zip(parts, truths, halves, strict=True):
        shared = NanoDetCriterion(LAW, sum_over_processes=partial(following, iter(sums)))
        total = total + shared(part, truth, SIZES[images]).total
    torch.testing.assert_close(total, whole.total)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    half = guided(dtype=dtype)
    assert half.auxiliary is not None
    full = replace(as_float32(half), auxiliary=as_float32(half.auxiliary))
    criterion = NanoDetCriterion(LAW)
    assert torch.equal(criterion(half, ground_truth(), SIZES).total, criterion(full, ground_truth(), SIZES).total)


def as_float32(outputs: HeadOutputs) -> HeadOutputs:
    return HeadOutputs(outputs.cls_logits.float(), outputs.box_logits.float(), outputs.points)


def test_the_order_of_boxes_and_their_padding_do_not_matter() -> None:
    outputs, criterion = guided(), NanoDetCriterion(LAW)
    before = criterion(outputs, ground_truth(), SIZES)
    turned = criterion(outputs, ground_truth([b[::-1] for b in BOXES], [c[::-1] for c in LABELS]), SIZES)
    torch.testing.assert_close(before.total, turned.total)
    wide = ground_truth((*BOXES[:2], [[0.0, 0, 1, 1]] * 17), (*LABELS[:2], [0] * 17))
    wide = replace(wide, valid=wide.valid & torch.tensor([True, True, False]).unsqueeze(1))
    torch.testing.assert_close(before.total, criterion(outputs, wide, SIZES).total)


def test_the_assigner_is_told_what_the_deciding_head_predicts() -> None:
    outputs, seen = guided(), []

    def assign(points: Points, targets: Targets, part: Tensor, cls_logits: Tensor, boxes: Tensor) -> Assignment:
        seen.append((cls_logits, boxes))
        return assign_dsla(points, targets, part, cls_logits, boxes)

    NanoDetCriterion(LAW, assign=assign)(outputs, ground_truth(), SIZES)
    assert outputs.auxiliary is not None
    ((cls_logits, boxes),) = seen
    assert torch.equal(cls_logits, outputs.auxiliary.cls_logits)
    assert boxes.tolist() == predicted_boxes(outputs.auxiliary)
    assert not boxes.requires_grad


def test_it_is_the_same_in_all_epochs() -> None:
    criterion = NanoDetCriterion()
    assert criterion.at_epoch(3, 10) is criterion
    assert criterion.box_coder == GeneralDistribution(7)


def test_nothing_waits_for_the_device() -> None:
    outputs, targets, criterion = guided(), ground_truth(), NanoDetCriterion(LAW)
    assert waits(lambda: criterion(outputs, targets, SIZES).total.backward()) == Counter()


@pytest.mark.slow
def test_it_compiles_into_one_graph() -> None:
    outputs, targets, criterion = guided(), ground_truth(), NanoDetCriterion(LAW)

    def loss(outputs: HeadOutputs, targets: Targets, sizes: Tensor) -> Tensor:
        return criterion(outputs, targets, sizes).total

    torch._dynamo.reset()
    want = loss(outputs, targets, SIZES)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(outputs, targets, SIZES)
    torch.testing.assert_close(got, want)
    pairs = (torch.autograd.grad(total, leaves(outputs)) for total in (want, got))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_a_whole_step_never_waits_and_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = create("nanodet_plus_m", 3, pretrained=False, channels=32).train()
    criterion, images = build_criterion(model, MethodSettings()), torch.randn(3, 3, 64, 96)
    assert waits(lambda: criterion(model(images), ground_truth(), SIZES).total.backward()) == Counter()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
def test_fifty_steps_learn_three_scenes() -> None:
    """Bright rectangles on black, over and over, are found by the main head, which the auxiliary head guides."""
    torch.manual_seed(0)
    model = create("nanodet_plus_m", 3, pretrained=False, channels=32).train()
    criterion, targets = build_criterion(model, MethodSettings()), ground_truth()
    assert isinstance(criterion, NanoDetCriterion)
    images = torch.zeros(3, 3, 64, 96)
    for i, boxes in enumerate(BOXES):
        for box, label in zip(boxes, LABELS[i], strict=True):
            x1, y1, x2, y2 = (max(0, round(edge)) for edge in box)
            images[i, label, y1:y2, x1:x2] = 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    overlaps, totals, scores = [], [], []
    for _ in range(50):
        outputs = model(images)
        losses, match = criterion(outputs, targets, SIZES), criterion.match(outputs, targets, SIZES)
        predicted = criterion.box_coder.boxes(outputs.box_logits.detach(), outputs.points)
        positive = match.assignment.slot_positive
        overlaps.append(iou(rows(predicted, match.assignment.slots), match.gt_boxes)[positive].mean().item())
        scores.append(criterion.head_losses(outputs, match).cls.sum().item())
        totals.append(losses.total.item())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert all(map(math.isfinite, totals))
    assert totals[-1] < 0.5 * totals[0]
    assert scores[-1] < 0.1 * scores[0]
    assert overlaps[-1] > 0.8 > 0.65 > overlaps[0]

"""The loss of SAPD: a slow reimplementation, the selector's loss, and images without objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from gfocal.criteria.gfl import GFLCriterion
from gfocal.criteria.sapd import SAPDCriterion, sapd_levels
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.sapd import PUBLISHED, sapd_r50_fpn
from gfocal.ops.box_coders import DiracDistances
from gfocal.ops.points import inside_own_padding, make_points
from gfocal.structures import HeadOutputs, Targets, pad_targets

SIZES = torch.tensor([[64, 96], [40, 64], [64, 64]])  # the second and third are padded in the batch
BOXES: Sequence[Sequence[Sequence[float]]] = (
    [[0.5, 1.0, 62.3, 63.4], [20.5, 10.6, 90.7, 60.8], [-21.2, -3.3, 95.4, 93.5]],
    # No point lies in the middle of the second; of those in the third's, half are in the padding.
    [[8.3, 4.2, 47.1, 36.7], [0, 0, 4, 4], [34, 4, 94, 60]],
    [],
)
LABELS: Sequence[Sequence[int]] = ([0, 2, 1], [2, 0, 1], [])


def ground_truth(
    boxes: Sequence[Sequence[Sequence[float]]] = BOXES, labels: Sequence[Sequence[int]] = LABELS
) -> Targets:
    return pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.tensor(c, dtype=torch.int64) for c in labels]
    )


class Fixed(nn.Module):
    """A selector that says the same of every box."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.3, 1.2, -0.5]))

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor) -> Tensor:
        return self.logits.expand(*boxes.shape[:2], -1) + 0 * pyramid[0].sum()


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.selector = Fixed()


def criterion(soft: bool = True, topk: int = 2) -> SAPDCriterion:
    """Of a detector that is never run."""
    body = nn.Identity()
    model = Detector(body, body, Head(), ("a", "b", "c"), DiracDistances(), InputSettings(), {}, PUBLISHED)
    return SAPDCriterion(model, soft=soft, topk=topk)


def random_outputs(num_images: int = 3) -> HeadOutputs:
    points = make_points([(8, 12), (4, 6), (2, 3)], (8, 16, 32), "center")
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(num_images, len(points.xy), 3, generator=generator) * 2 - 1
    box = torch.randn(num_images, len(points.xy), 4, 1, generator=generator) * 0.5 - 0.9
    pyramid = (torch.zeros(num_images, 1, 8, 12, requires_grad=True),)
    return HeadOutputs(cls.requires_grad_(), box.requires_grad_(), points, pyramid=pyramid)


def focal(x: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-x))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def log_iou(outputs: HeadOutputs, image: int, p: int, gt: list[float]) -> float:
    box = DiracDistances().boxes(outputs.box_logits[image, p], outputs.points.select(torch.tensor(p)))
    bx1, by1, bx2, by2 = box.tolist()
    x1, y1, x2, y2 = gt
    shared = max(0, min(bx2, x2) - max(bx1, x1)) * max(0, min(by2, y2) - max(by1, y1))
    return -math.log(shared / ((bx2 - bx1) * (by2 - by1) + (x2 - x1) * (y2 - y1) - shared))


def middle(xy: list[float], gt: list[float]) -> bool:
    """Whether a point lies in the fifth of each side around the middle."""
    x1, y1, x2, y2 = gt
    return abs(xy[0] - (x1 + x2) / 2) < (x2 - x1) / 10 and abs(xy[1] - (y1 + y2) / 2) < (y2 - y1) / 10


def slow_costs(outputs: HeadOutputs, targets: Targets, image: int, g: int, counts: bool) -> list[float]:
    """Mean loss of each level on a box; ``counts`` of points instead."""
    taking_part = inside_own_padding(outputs.points, SIZES)
    gt, label = targets.boxes[image, g].tolist(), int(targets.labels[image, g])
    found, start = [], 0
    for count in outputs.points.counts:
        costs = [
            sum(focal(x, c == label) for c, x in enumerate(outputs.cls_logits[image, p].tolist()))
            + log_iou(outputs, image, p, gt)
            for p in range(start, start + count)
            if taking_part[image, p] and middle(outputs.points.xy[p].tolist(), gt)
        ]
        start += count
        found.append(len(costs) if counts else sum(costs) / len(costs) if costs else math.inf)
    return found


def slow_losses(outputs: HeadOutputs, targets: Targets, soft: bool, topk: int) -> dict[str, list[float]]:
    """The formulas once more, number by number."""
    points = outputs.points
    level_of = [level for level, count in enumerate(points.counts) for _ in range(count)]
    taking_part = inside_own_padding(points, SIZES)
    total = math.exp(0.3) + math.exp(1.2) + math.exp(-0.5)
    said = [math.exp(v) / total for v in (0.3, 1.2, -0.5)]
    cls, box, quality = ([0.0] * 3 for _ in range(3))
    sum_of_weights, trained = 0.0, 0
    for image in range(len(SIZES)):
        boxes = [g for g in range(targets.valid.shape[1]) if targets.valid[image, g]]
        level_weights = {}
        for g in boxes:
            costs = slow_costs(outputs, targets, image, g, counts=False)
            best = costs.index(min(costs))
            if min(costs) < math.inf:
                quality[best] -= 0.1 * math.log(said[best])
                trained += 1
            named = sorted(range(3), key=lambda level: -said[level])[:topk]
            level_weights[g] = [
                (said[level] if level in named else 0) if soft else float(level == best) for level in range(3)
            ]
        for p in range(len(points.xy)):
            if not taking_part[image, p]:
                continue
            xy = points.xy[p].tolist()
            claims = []
            for g in boxes:
                x1, y1, x2, y2 = targets.boxes[image, g].tolist()
                if level_weights[g][level_of[p]] > 0 and middle(xy, [x1, y1, x2, y2]):
                    claims.append(((x2 - x1) * (y2 - y1), g))
            weight, label = 1.0, -1
            if claims:
                g = min(claims)[1]
                x1, y1, x2, y2 = gt = targets.boxes[image, g].tolist()
                ltrb = xy[0] - x1, xy[1] - y1, x2 - xy[0], y2 - xy[1]
                nearer = min(ltrb[0], ltrb[2]) * min(ltrb[1], ltrb[3])
                weight = nearer / (max(ltrb[0], ltrb[2]) * max(ltrb[1], ltrb[3])) * level_weights[g][level_of[p]]
                label = int(targets.labels[image, g])
                box[level_of[p]] += weight * log_iou(outputs, image, p, gt)
                sum_of_weights += weight
            scores = outputs.cls_logits[image, p].tolist()
            cls[level_of[p]] += weight * sum(focal(x, c == label) for c, x in enumerate(scores))
    normalizer = max(1.0, sum_of_weights)
    return {
        "cls": [v / normalizer for v in cls],
        "box": [v / normalizer for v in box],
        "quality": [v / trained for v in quality],
    }


@pytest.mark.parametrize(("soft", "topk"), [(True, 3), (True, 2), (False, 3)])
def test_equals_the_slow_way_on_every_level(soft: bool, topk: int) -> None:
    outputs, targets = random_outputs(), ground_truth()
    losses = criterion(soft, topk)(outputs, targets, SIZES)
    want = slow_losses(outputs, targets, soft, topk)
    for name in ("cls", "box", "quality"):
        value = getattr(losses, name)
        assert value is not None
        assert value.tolist() == pytest.approx(want[name], rel=1e-4, abs=1e-7), name
    assert losses.num_positives.item() > 5
    assert sum(v > 0 for v in want["box"]) >= 2  # else the sums per level would go untested


def test_the_cost_of_each_level_and_where_it_has_no_point() -> None:
    outputs, targets = random_outputs(), ground_truth()
    ours = criterion()
    boxes = DiracDistances().boxes(outputs.box_logits, outputs.points)
    costs = ours.loss_per_level(outputs, boxes, targets, inside_own_padding(outputs.points, SIZES))
    assert costs.shape == (3, 8, 3)
    assert not costs.requires_grad
    for image, g in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)):
        want = slow_costs(outputs, targets, image, g, counts=False)
        assert costs[image, g].tolist() == pytest.approx(want, rel=1e-4)
    assert costs[1, 1].isinf().all()
    assert max(slow_costs(outputs, targets, 0, 2, counts=True)) > 3


def test_the_selector_is_trained_on_the_level_of_least_cost_and_by_nothing_else() -> None:
    outputs, targets, ours = random_outputs(), ground_truth(), criterion()
    losses = ours(outputs, targets, SIZES)
    assert losses.quality is not None
    (logits,) = ours.model.head.parameters()
    assert torch.autograd.grad(losses.cls.sum() + losses.box.sum(), logits, allow_unused=True, retain_graph=True) == (
        None,
    )
    (gradient,) = torch.autograd.grad(losses.quality.sum(), logits)
    best = []
    for image, g in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2)):
        costs = slow_costs(outputs, targets, image, g, counts=False)
        best.append(costs.index(min(costs)))
    want = logits.detach().softmax(0) - torch.bincount(torch.tensor(best), minlength=3) / 5
    torch.testing.assert_close(gradient, 0.1 * want)


def test_a_batch_without_objects_is_finite() -> None:
    outputs, ours = random_outputs(), criterion()
    losses = ours(outputs, ground_truth([[]] * 3, [[]] * 3), SIZES)
    assert losses.num_positives.item() == losses.box.sum().item() == 0
    assert losses.quality is not None
    assert losses.quality.tolist() == [0, 0, 0]
    (logits,) = ours.model.head.parameters()
    cls, box, selector = torch.autograd.grad(losses.total, (outputs.cls_logits, outputs.box_logits, logits))
    assert (cls[inside_own_padding(outputs.points, SIZES)] > 0).all()  # every score is to fall
    assert (box == 0).all()
    assert (selector == 0).all()


@pytest.mark.parametrize("soft", [True, False])
def test_what_lies_in_the_padding_has_no_influence(soft: bool) -> None:
    outputs, ours = random_outputs(), criterion(soft)
    beyond = ~inside_own_padding(outputs.points, SIZES)
    assert beyond.any()
    cls, box = outputs.cls_logits.detach().clone(), outputs.box_logits.detach().clone()
    cls[beyond], box[beyond] = 50.0, 8.0
    before = ours(outputs, ground_truth(), SIZES)
    after = ours(replace(outputs, cls_logits=cls, box_logits=box), ground_truth(), SIZES)
    assert before.total.item() == after.total.item()
    for gradient in torch.autograd.grad(before.total, (outputs.cls_logits, outputs.box_logits)):
        assert gradient.isfinite().all()
        assert (gradient[beyond] == 0).all()


def test_the_normalizer_is_summed_over_processes_and_at_least_one() -> None:
    outputs, targets, ours = random_outputs(), ground_truth(), criterion()
    ten, tenth, one = (
        replace(ours, sum_over_processes=lambda own, v=v: torch.full_like(own, v))(outputs, targets, SIZES)
        for v in (10.0, 0.1, 1.0)
    )
    torch.testing.assert_close(one.box, 10 * ten.box)
    torch.testing.assert_close(one.cls, 10 * ten.cls)
    assert torch.equal(one.total, tenth.total)


def test_a_model_that_evaluates_gives_no_pyramid() -> None:
    with pytest.raises(ValueError, match=r"training mode: model\.train"):
        criterion()(replace(random_outputs(), pyramid=None), ground_truth(), SIZES)


def test_padding_rows_have_no_weight() -> None:
    targets = ground_truth()
    costs = torch.rand(3, 8, 3, generator=torch.Generator().manual_seed(0))
    for soft in (True, False):
        weights, _ = sapd_levels(Fixed(), random_outputs(), targets, costs, topk=2, soft=soft)
        assert torch.equal((weights > 0).any(-1), targets.valid)
        assert ((weights > 0).sum(-1)[targets.valid] == (2 if soft else 1)).all()


@pytest.mark.parametrize("soft", [True, False])
def test_a_training_step_lowers_the_loss(soft: bool) -> None:
    torch.manual_seed(0)
    model = sapd_r50_fpn(3, pretrained=False, channels=32, num_convs=1, body="resnet18").train()
    ours = SAPDCriterion(model, soft=soft, topk=5)
    images = torch.randn(3, 3, 64, 96)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    before = ours(model(images), ground_truth(), SIZES)
    before.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    after = ours(model(images), ground_truth(), SIZES)
    assert after.total.item() < before.total.item()


def test_nothing_in_the_loss_waits_for_the_device() -> None:
    model = sapd_r50_fpn(3, pretrained=False, channels=32, num_convs=1, body="resnet18").train()
    images, targets = torch.randn(3, 3, 64, 96), ground_truth()
    with profile() as record:
        SAPDCriterion(model, soft=True)(model(images), targets, SIZES).total.backward()
    names = {event.name.removeprefix("aten::") for event in record.function_events}
    assert "roi_align" in " ".join(names)
    assert not names & {"item", "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}


@pytest.mark.parametrize(("epochs", "first_soft"), [(12, 6), (5, 3), (1, 1)])
def test_the_selector_has_its_say_in_the_second_half(epochs: int, first_soft: int) -> None:
    staged = criterion(soft=False)
    soft = [staged.at_epoch(epoch, epochs).soft for epoch in range(epochs)]  # type: ignore[attr-defined]
    assert soft == [epoch >= first_soft for epoch in range(epochs)]
    assert staged.at_epoch(epochs, epochs).topk == 2  # type: ignore[attr-defined]
    assert not staged.soft


def test_other_criteria_are_the_same_in_every_epoch() -> None:
    same = GFLCriterion()
    assert same.at_epoch(3, 4) is same

"""The criterion of many detectors: with GFL's choices it is GFL's, and each other choice is checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gfocal.criteria.dense import DenseCriterion, centerness
from gfocal.criteria.gfl import GFLCriterion
from gfocal.losses import focal_loss, giou_loss
from gfocal.losses.box import SmoothL1Loss, gaussian_loss, log_iou_loss
from gfocal.ops.box_coders import AnchorDeltas, DiracDistances, GaussianDistances, LogDistances
from gfocal.ops.boxes import iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import inside_own_padding, make_points
from gfocal.structures import PADDING, Assignment, HeadOutputs, Losses, Points, Targets, pad_targets

STRIDES = (8, 16, 32)
SIZES = torch.tensor([[64, 96], [40, 64], [64, 64]])
BOXES = (
    [[3.1, 5.2, 40.3, 44.4], [20.5, 10.6, 90.7, 60.8], [-31.2, -33.3, 95.4, 93.5]],
    [[8.3, 4.2, 30.1, 36.7]],
    [],
)
LABELS = ([0, 2, 1], [2], [])
GENERAL = GeneralDistribution(4)


def ground_truth(empty: bool = False) -> Targets:
    boxes = [[] for _ in BOXES] if empty else BOXES
    labels = [[] for _ in LABELS] if empty else LABELS
    return pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.tensor(c, dtype=torch.int64) for c in labels]
    )


def grid(with_anchors: bool = False) -> Points:
    points = make_points([(8, 12), (4, 6), (2, 3)], STRIDES)
    if not with_anchors:
        return points
    half = points.strides.unsqueeze(-1) * 4
    return replace(points, anchors=torch.cat((points.xy - half, points.xy + half), -1))


def random_outputs(num_bins: int, points: Points | None = None, branch: bool = False) -> HeadOutputs:
    points = points or grid()
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(3, len(points.xy), 3, generator=generator) * 2 - 1
    box = torch.randn(3, len(points.xy), 4, num_bins, generator=generator) * 0.7 + 0.5
    quality = torch.randn(3, len(points.xy), generator=generator).requires_grad_() if branch else None
    return HeadOutputs(cls.requires_grad_(), box.requires_grad_(), points, quality)


def positives(criterion: DenseCriterion, outputs: HeadOutputs, targets: Targets) -> list[tuple[int, int, int]]:
    """(image, point, ground-truth box) of every positive."""
    gt_index = criterion.assign(outputs.points, targets, inside_own_padding(outputs.points, SIZES)).gt_index
    return [(i, p, g) for i, row in enumerate(gt_index.tolist()) for p, g in enumerate(row) if g >= 0]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("delta", [1.0, 2.0])
def test_with_the_choices_of_gfl_it_is_gfls_criterion(beta: float, delta: float) -> None:
    law = GeneralDistribution(4, delta)
    outputs, targets = random_outputs(law.num_bins), ground_truth()
    ours = DenseCriterion(law, dfl_weight=0.25, beta=beta)(outputs, targets, SIZES)
    gfl = GFLCriterion(law, beta=beta)(outputs, targets, SIZES)
    for name in ("cls", "box", "dfl", "num_positives"):
        torch.testing.assert_close(getattr(ours, name), getattr(gfl, name), rtol=1e-5, atol=1e-7)
    inputs = (outputs.cls_logits, outputs.box_logits)
    for a, b in zip(torch.autograd.grad(ours.total, inputs), torch.autograd.grad(gfl.total, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert ours.quality is None


def test_atss_with_a_centerness_branch_equals_the_slow_way() -> None:
    law = AnchorDeltas((0.1, 0.1, 0.2, 0.2))
    outputs, targets = random_outputs(1, grid(with_anchors=True), branch=True), ground_truth()
    criterion = DenseCriterion(law, quality="branch", measure="centerness")
    losses = criterion(outputs, targets, SIZES)
    found = positives(criterion, outputs, targets)
    assert len(found) > 5
    taking_part = inside_own_padding(outputs.points, SIZES)
    one_hot = torch.zeros_like(outputs.cls_logits)
    box = quality = weights = 0.0
    assert outputs.quality_logits is not None
    for i, p, g in found:
        one_hot[i, p, targets.labels[i, g]] = 1
        x, y = outputs.points.xy[p].tolist()
        x1, y1, x2, y2 = targets.boxes[i, g].tolist()
        left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
        center = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
        dx, dy, dw, dh = (outputs.box_logits[i, p, :, 0] * torch.tensor([0.1, 0.1, 0.2, 0.2])).tolist()
        side = 8 * outputs.points.strides[p].item()
        cx, cy, w, h = x + dx * side, y + dy * side, side * math.exp(dw), side * math.exp(dh)
        box_of = torch.tensor([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        box += center * giou_loss(box_of, targets.boxes[i, g]).item()
        weights += center
        quality += F.binary_cross_entropy_with_logits(outputs.quality_logits[i, p], torch.tensor(center)).item()
    count = len(found) + 1  # the image without objects counts one
    cls = (focal_loss(outputs.cls_logits, one_hot, 2.0, 0.25) * taking_part.unsqueeze(-1)).sum() / count
    assert losses.cls.sum().item() == pytest.approx(cls.item(), rel=1e-5)
    assert losses.box.sum().item() == pytest.approx(2 * box / max(weights, 1), rel=1e-4)
    assert losses.quality is not None
    assert losses.quality.sum().item() == pytest.approx(quality / len(found), rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(v.item() for v in losses.terms().values()), rel=1e-6)
    (gradient,) = torch.autograd.grad(losses.total, outputs.quality_logits)
    assert gradient.count_nonzero().item() == len(found)


def test_the_iou_branch_learns_the_iou_of_the_predicted_box_and_passes_it_no_gradient() -> None:
    outputs, targets = random_outputs(1, branch=True), ground_truth()
    criterion = DenseCriterion(DiracDistances(), quality="branch", measure="iou")
    losses = criterion(outputs, targets, SIZES)
    said, wanted = [], []
    for i, p, g in positives(criterion, outputs, targets):
        box = DiracDistances().boxes(outputs.box_logits[i, p], outputs.points.select(torch.tensor(p)))
        assert outputs.quality_logits is not None
        said.append(outputs.quality_logits[i, p])
        wanted.append(iou(box, targets.boxes[i, g]).detach())
    want = F.binary_cross_entropy_with_logits(torch.stack(said), torch.stack(wanted))
    assert losses.quality is not None
    torch.testing.assert_close(losses.quality.sum(), want)
    (box_gradient,) = torch.autograd.grad(losses.quality.sum(), outputs.box_logits, allow_unused=True)
    assert box_gradient is None or (box_gradient == 0).all()


@pytest.mark.parametrize("measure", ["iou", "centerness"])
def test_guided_weighs_the_positives_and_leaves_the_background_as_it_is(measure: str) -> None:
    outputs, targets = random_outputs(1), ground_truth()
    guided = DenseCriterion(DiracDistances(), quality="guided", measure=measure)  # type: ignore[arg-type]
    plain = replace(guided, quality="none")
    (with_weights,) = torch.autograd.grad(guided(outputs, targets, SIZES).cls.sum(), outputs.cls_logits)
    (without,) = torch.autograd.grad(plain(outputs, targets, SIZES).cls.sum(), outputs.cls_logits)
    is_positive = torch.zeros(outputs.cls_logits.shape[:2], dtype=torch.bool)
    for i, p, g in positives(guided, outputs, targets):
        is_positive[i, p] = True
        at = outputs.points.select(torch.tensor(p))
        if measure == "iou":
            value = iou(DiracDistances().boxes(outputs.box_logits[i, p], at), targets.boxes[i, g])
        else:
            box = targets.boxes[i, g]
            value = centerness(torch.cat((at.xy - box[:2], box[2:] - at.xy)))
        torch.testing.assert_close(with_weights[i, p], without[i, p] * value, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(with_weights[~is_positive], without[~is_positive])


def test_without_a_quality_every_positive_box_counts_one() -> None:
    outputs, targets = random_outputs(1), ground_truth()
    criterion = DenseCriterion(DiracDistances(), quality="none", box_loss=log_iou_loss, box_weight=1.0)
    found = positives(criterion, outputs, targets)
    want = 0.0
    for i, p, g in found:
        box = DiracDistances().boxes(outputs.box_logits[i, p], outputs.points.select(torch.tensor(p)))
        want -= math.log(max(iou(box, targets.boxes[i, g]).item(), 1e-6))
    losses = criterion(outputs, targets, SIZES)
    assert losses.box.sum().item() == pytest.approx(want / len(found), rel=1e-4)
    assert losses.dfl.sum().item() == 0


def test_joint_with_centerness_teaches_the_score_to_be_the_centerness() -> None:
    outputs, targets = random_outputs(GENERAL.num_bins), ground_truth()
    criterion = DenseCriterion(GENERAL, measure="centerness")
    wanted = torch.zeros_like(outputs.cls_logits)
    for i, p, g in positives(criterion, outputs, targets):
        xy, box = outputs.points.xy[p], targets.boxes[i, g]
        wanted[i, p, targets.labels[i, g]] = centerness(torch.cat((xy - box[:2], box[2:] - xy)))
    said = torch.special.logit(wanted.clamp(1e-7, 1 - 1e-7))
    perfect = replace(outputs, cls_logits=said)
    assert criterion(perfect, targets, SIZES).cls.sum().item() < 1e-6
    assert replace(criterion, measure="iou")(perfect, targets, SIZES).cls.sum().item() > 1e-2


@pytest.mark.parametrize("law", [AnchorDeltas(), LogDistances(2.0)])
def test_coded_losses_are_zero_at_the_ground_truth_and_smooth_l1_elsewhere(law: AnchorDeltas | LogDistances) -> None:
    points, box = grid(with_anchors=True), torch.tensor([3.1, 5.2, 40.3, 44.4])
    at = points.select(torch.tensor(27))
    numbers = law.encode(box, at)
    loss = SmoothL1Loss(0.11)
    torch.testing.assert_close(law.boxes(numbers.unsqueeze(-1), at), box, rtol=1e-4, atol=1e-3)
    assert loss(numbers.unsqueeze(-1), law, at, box, box).item() == pytest.approx(0, abs=1e-6)
    off = numbers + torch.tensor([1.0, -0.05, 0.0, 0.0])
    want = (1 - 0.055) + 0.5 * 0.05**2 / 0.11
    assert loss(off.unsqueeze(-1), law, at, box, box).item() == pytest.approx(want, rel=1e-3)


def test_the_gaussian_loss_is_its_negative_log_likelihood() -> None:
    law, points = GaussianDistances(), grid()
    at, box = points.select(torch.tensor(27)), torch.tensor([3.1, 5.2, 40.3, 44.4])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    ltrb = torch.cat((at.xy - box[:2], box[2:] - at.xy)) / at.strides
    normal = torch.distributions.Normal(law.mean(logits), (law.log_variance(logits) / 2).exp())
    want = -normal.log_prob(ltrb).mean().item() - 0.5 * math.log(2 * math.pi)
    assert gaussian_loss(logits, law, at, box, box).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("quality", ["none", "branch", "guided", "joint"])
@pytest.mark.parametrize("empty", [False, True])
def test_every_choice_is_finite_with_and_without_objects(quality: str, empty: bool) -> None:
    for law, loss in (
        (DiracDistances(), log_iou_loss),
        (GaussianDistances(), gaussian_loss),
        (AnchorDeltas(), SmoothL1Loss()),
        (LogDistances(), SmoothL1Loss(0.11)),
    ):
        outputs = random_outputs(law.num_bins, grid(with_anchors=True), branch=True)
        criterion = DenseCriterion(law, quality=quality, box_loss=loss)  # type: ignore[arg-type]
        losses = criterion(outputs, ground_truth(empty), SIZES)
        total = losses.total + 0 * outputs.box_logits.sum()
        for gradient in torch.autograd.grad(total, (outputs.cls_logits, outputs.box_logits)):
            assert gradient.isfinite().all(), (law, quality)
        assert (losses.box.sum().item() != 0) != empty


def test_points_that_take_no_part_have_no_influence_and_images_may_count() -> None:
    points, targets = grid(), ground_truth()
    ignored = torch.zeros(3, len(points.xy), dtype=torch.bool)
    ignored[:, 5:20] = True

    def assign(points: Points, targets: Targets, taking_part: Tensor) -> Assignment:
        gt_index = torch.full(ignored.shape, -1).masked_fill(ignored, PADDING)
        slots = torch.zeros(3, 1, dtype=torch.int64)
        return Assignment(gt_index, slots, torch.zeros(3, 1, dtype=torch.bool))

    outputs = random_outputs(1, points)
    criterion = DenseCriterion(DiracDistances(), assign, quality="none")
    losses: Losses = criterion(outputs, targets, SIZES)
    (gradient,) = torch.autograd.grad(losses.cls.sum(), outputs.cls_logits)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).all()
    counted = replace(criterion, count_images=True)(outputs, targets, SIZES)
    torch.testing.assert_close(counted.cls * 2, losses.cls)  # 3 images and 3 "positives" instead of 3


def test_dfl_without_bins_and_a_missing_branch_are_refused() -> None:
    with pytest.raises(ValueError, match="General distribution"):
        DenseCriterion(DiracDistances(), dfl_weight=0.25)
    with pytest.raises(ValueError, match="no quality branch"):
        DenseCriterion(DiracDistances(), quality="branch")(random_outputs(1), ground_truth(), SIZES)


def test_centerness_by_hand() -> None:
    ltrb = torch.tensor([[2.0, 2, 2, 2], [1, 1, 3, 3], [1, 2, 4, 2], [-1, 2, 3, 2], [0, 0, 0, 0]])
    assert centerness(ltrb).tolist() == pytest.approx([1, 1 / 3, 0.5, 0, 0])

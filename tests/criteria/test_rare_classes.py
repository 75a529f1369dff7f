"""What keeps rare classes from being lost: a warm-up of beta, and an equal share of the box losses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from device_waits import waits
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import GFLCriterion
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import HeadOutputs, Targets
from small_batches import SIZES, ground_truth, random_outputs

GENERAL = GeneralDistribution(4)


def criterion(warmup: float = 0.5) -> DenseCriterion:
    return DenseCriterion(GENERAL, dfl_weight=0.25, beta_warmup=warmup)


@pytest.mark.parametrize(("epoch", "share"), [(0, 1.0), (3, 0.5), (6, 0.0), (11, 0.0)])
def test_the_factor_of_positives_is_faded_in_during_its_share_of_the_run(epoch: int, share: float) -> None:
    assert criterion().at_epoch(epoch, 12).unmodulated == pytest.approx(share)
    assert criterion(0.0).at_epoch(epoch, 12) == criterion(0.0)


def test_after_the_warm_up_the_losses_are_gfls() -> None:
    outputs, targets = random_outputs(), ground_truth()
    found = criterion().at_epoch(6, 12)(outputs, targets, SIZES)
    wanted = GFLCriterion(GENERAL)(outputs, targets, SIZES)
    for name in ("cls", "box", "dfl"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-7)


def test_a_positive_learns_its_quality_sooner_and_background_as_before() -> None:
    outputs, targets = random_outputs(), ground_truth()
    before, after = (
        torch.autograd.grad(one(outputs, targets, SIZES).cls.sum(), outputs.cls_logits)[0]
        for one in (criterion().at_epoch(6, 12), criterion().at_epoch(0, 12))
    )
    differs = (before - after).abs() > 1e-9
    assert 0 < differs.sum() < 100
    # In the same direction, to the same target.
    assert (before[differs].sign() == after[differs].sign()).all()
    assert after[differs].abs().sum() > 2 * before[differs].abs().sum()


def test_low_scores_of_an_object_no_longer_silence_its_box_losses() -> None:
    outputs, targets = random_outputs(), ground_truth()
    x, y = outputs.points.xy.unbind(-1)
    inside = (x > 60) & (x < 75) & (y > 2) & (y < 18)  # the third object's points
    lowered = replace(outputs, cls_logits=torch.where(inside[:, None], -7.0, outputs.cls_logits.detach()))

    def share(weights: str) -> float:
        """Of these points in the gradient of the edges, now that their scores are low."""
        chosen = DenseCriterion(GENERAL, dfl_weight=0.25, box_weights=weights)  # type: ignore[arg-type]
        losses = chosen(lowered, targets, SIZES)
        (gradient,) = torch.autograd.grad(losses.dfl.sum(), outputs.box_logits)
        sizes = gradient[0].abs().sum((-2, -1))
        return (sizes[inside].sum() / sizes.sum()).item()

    assert share("equal") > 10 * share("quality") > 0


@pytest.mark.parametrize("count", [0, 3])
def test_both_wait_for_nothing_and_compile_into_one_graph(count: int) -> None:
    chosen = replace(criterion(), box_weights="equal").at_epoch(1, 12)
    outputs, targets = random_outputs(), ground_truth(count)

    def loss(outputs: HeadOutputs, targets: Targets) -> torch.Tensor:
        return chosen(outputs, targets, SIZES).total

    assert waits(lambda: loss(outputs, targets).backward()) == Counter()
    torch._dynamo.reset()
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(outputs, targets)
    torch.testing.assert_close(found, loss(outputs, targets))
    assert found.isfinite()

"""A calibration of detections whose errors have a known law: what it promises holds, and nothing was seen twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from calibrations import Annotated, calibration, detections, scenes, true_positives
from gfocal.calibration import calibrate as module
from gfocal.calibration.calibrate import calibrate, correlation_of, divide_images
from gfocal.calibration.guarantees import MIN_BOXES_OF_CLASS, guarantees
from gfocal.calibration.held_out import HeldOutIntervals
from gfocal.calibration.matched import TruePositives
from gfocal.calibration.spread import MIN_BOXES_TO_FIT
from gfocal.errors import CalibrationError
from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration, SpreadRule


def made(num_images: int, seed: int = 0, **law: float) -> module.CalibrationResult:
    data, found = scenes(num_images, seed=seed, **law)
    return calibrate(data, found, 0.3, "made up", "digest")


def covered(calibration: Calibration, found: dict[int, Detections], data: Annotated, coverage: float = 0.9) -> float:
    """Share of the true positives of other images whose ground truth lies within the intervals."""
    from gfocal.calibration.measure import coverage_of, match_detections

    positives, _ = match_detections(data, found, 0.3)
    return coverage_of(positives, calibration, [coverage], "box")[0].boxes


def test_what_is_promised_holds_on_other_images():
    result = made(100)
    assert result.calibration.is_fitted
    data, found = scenes(200, seed=9)
    assert covered(result.calibration, found, data) == pytest.approx(0.9, abs=0.03)
    assert result.held_out is not None
    assert result.held_out.summary().boxes == pytest.approx(0.9, abs=0.02)
    assert result.scores_after.la_ece < result.scores_before.la_ece
    assert result.scores_after.d_ece < 0.08


def test_what_it_was_made_from():
    result = made(20)
    calibration = result.calibration
    assert (calibration.num_images, calibration.data, calibration.weights) == (20, "made up", "digest")
    assert calibration.num_boxes == len(result.found) < MIN_BOXES_TO_FIT
    assert not calibration.is_fitted
    assert calibration.spread == SpreadRule()
    assert (calibration.iou_threshold, calibration.score_threshold) == (0.5, 0.3)
    assert result.num_counted_images == 20


def test_few_images_and_the_rule_are_described():
    few, many = made(20), made(100)
    assert few.describe_few_images() == (
        "boxes of one image err alike: of 20 images the promise is rough; annotate 30 or more"
    )
    assert many.describe_few_images() == ""
    assert few.describe_rule().startswith(
        "standard, with no fitted numbers: the spread of its distribution, the side"
    )
    assert many.describe_rule().startswith("fitted to 40% of the images, which are not counted: ")


def test_the_same_seed_is_the_same_calibration():
    assert made(60).calibration == made(60).calibration


def test_images_that_rules_are_fitted_to_are_not_counted(monkeypatch: pytest.MonkeyPatch):
    seen: list[TruePositives] = []
    counted: list[TruePositives] = []
    choose, measure = module.choose_spread_rule, module.hold_out

    def choosing(fit: TruePositives, coverage: float) -> SpreadRule:
        seen.append(fit)
        return choose(fit, coverage)

    def measuring(rest: TruePositives, *others: Any) -> tuple[HeldOutIntervals, ...]:
        counted.append(rest)
        return measure(rest, *others)

    monkeypatch.setattr(module, "choose_spread_rule", choosing)
    monkeypatch.setattr(module, "hold_out", measuring)
    result = made(100)
    fit, rest = seen[0], counted[0]
    assert not set(fit.image.tolist()) & set(rest.image.tolist())
    assert len(fit) + len(rest) == len(result.found)
    assert result.calibration.boxes.count == result.calibration.num_boxes == len(rest)
    assert len(fit.image.unique()) == 40


@pytest.mark.parametrize("num_images", [1, 2, 3, 10])
def test_few_images_with_many_boxes_leave_enough_to_be_counted(num_images: int):
    found = true_positives(60)
    crowded = replace(found, image=torch.arange(len(found)) % num_images)
    fit, rest = divide_images(crowded, 9)
    assert len(rest) >= 18
    if fit is not None:
        assert len(fit.image.unique()) >= 2
    # One image that has nearly all boxes.
    lopsided = replace(found, image=torch.where(torch.arange(len(found)) > 15, 1000, torch.arange(len(found))))
    for seed in range(10):
        fit, rest = divide_images(lopsided, 9, seed)
        assert len(rest) >= 18


def test_too_few_none_and_foreign_data():
    data, found = scenes(2, per_image=2)
    with pytest.raises(CalibrationError, match=r"a coverage of 0.99 needs at least 99 true positives, and there are"):
        calibrate(data, found, 0.3, "made up", "", 0.99)
    nothing = {key: one.select(slice(0, 0)) for key, one in found.items()}
    foreign = {key: replace(one, boxes=one.boxes + 5000) for key, one in found.items()}
    for several in ({}, nothing, foreign):
        with pytest.raises(CalibrationError, match="no detection above the score threshold is right"):
            calibrate(data, several, 0.3, "made up", "")
    bare = {key: replace(one, edges=torch.zeros(len(one), 4, 0)) for key, one in found.items()}
    with pytest.raises(CalibrationError, match="no edge distributions"):
        calibrate(data, bare, 0.3, "made up", "")


def test_images_with_just_enough_boxes():
    data, found = scenes(2, per_image=12, seed=1)
    result = calibrate(data, found, 0.3, "made up", "", 0.9)
    assert result.num_counted_images == 2
    assert 9 <= result.calibration.num_boxes <= 24


def test_exact_edges_are_calibrated_without_division_by_zero():
    data, _ = scenes(10)
    exact = {
        image: detections(s.boxes, torch.full((len(s.boxes),), 0.9), s.labels) for image, s in enumerate(data.samples)
    }
    result = calibrate(data, exact, 0.3, "made up", "")
    assert result.calibration.std_factor == 0
    assert result.calibration.boxes.quantile(0.9) == 0
    assert torch.isfinite(torch.tensor(result.calibration.correlation)).all()


def share_covered(labels: torch.Tensor, ratios: torch.Tensor, test_labels: torch.Tensor, test: torch.Tensor) -> float:
    boxes, edges, own = guarantees(ratios.unsqueeze(1).expand(-1, 4), labels, 9)
    one = replace(calibration(), boxes=boxes, edges=edges, boxes_of_class=own)
    return float((test <= one.factors(test_labels, 0.9, "box")[:, 0]).double().mean())


@pytest.mark.parametrize("num_rare", [0, 5, 20, 60, 99, 100, 300])
def test_easy_classes_with_guarantees_of_their_own_leave_enough_to_the_difficult(num_rare: int):
    # Were rare classes covered by the quantile of all boxes, the easy class would stand for nine tenths of it, and
    # nearly no box of the difficult ones would be covered: 81 % in all, not 90.
    generator = torch.Generator().manual_seed(num_rare)
    shares = []
    for _ in range(40):
        labels = torch.cat([torch.zeros(900), torch.randint(1, 4, (num_rare,), generator=generator)]).long()
        sizes = torch.where(labels > 0, 50.0, 1.0)
        ratios = (torch.rand(len(labels), generator=generator) + 0.5) * sizes
        others = (torch.rand(len(labels), generator=generator) + 0.5) * sizes
        shares.append(share_covered(labels, ratios.double(), labels, others.double()))
    assert sum(shares) / len(shares) >= 0.9 - 0.006


def test_classes_with_enough_boxes_have_a_guarantee_of_their_own():
    labels = torch.tensor([0] * 150 + [1] * 120 + [2] * 130 + [3] * 60 + [4] * 50)
    ratios = torch.rand(len(labels), 4, generator=torch.Generator().manual_seed(0)).double()
    boxes, edges, own = guarantees(ratios, labels, 9)
    assert {label: one.count for label, one in own.items()} == {0: 150, 1: 120, 2: 130, -1: 110}
    assert boxes.count == len(labels)
    assert [one.count for one in edges] == [len(labels)] * 4
    # 60 boxes of class 3 alone are too few: the smallest class joins them.
    _, _, own = guarantees(ratios[:460], labels[:460], 9)
    assert {label: one.count for label, one in own.items()} == {0: 150, 2: 130, -1: 180}
    _, _, own = guarantees(ratios[:150], labels[:150], 9)
    assert own == {}
    _, _, own = guarantees(ratios, labels, 140)
    assert {label: one.count for label, one in own.items()} == {0: 150, -1: 360}


def test_what_is_kept_of_many_classes_is_bounded():
    labels = torch.arange(300).repeat_interleave(MIN_BOXES_OF_CLASS * 3)
    ratios = torch.rand(len(labels), 4).double()
    _, _, own = guarantees(ratios, labels, 9)
    assert len(own) == 300
    assert sum(len(one.ranks) for one in own.values()) <= 300 * 200


def test_correlation_is_that_of_coordinates():
    found = true_positives(60)
    shift = torch.randn(len(found), 2, generator=torch.Generator().manual_seed(0)).repeat(1, 2).double()
    moved = replace(found, boxes=found.gt_boxes + shift * found.bin_sizes)
    table = torch.tensor(correlation_of(moved, SpreadRule()))
    assert float(table[0, 2]) > 0.8
    assert abs(float(table[0, 1])) < 0.2
    assert torch.equal(table, table.T)
    assert torch.equal(table.diagonal(), torch.ones(4))
    assert float(torch.linalg.eigvalsh(table.double())[0]) > -1e-9
    assert correlation_of(found.select(torch.arange(2)), SpreadRule()) == tuple(map(tuple, torch.eye(4).tolist()))


def test_thresholds_of_each_class_are_kept():
    data, found = scenes(20)
    result = calibrate(data, found, [0.3, 0.6], "made up", "")
    assert result.calibration.score_threshold == (0.3, 0.6)
    assert float(result.found.scores[result.found.labels == 1].min()) > 0.6

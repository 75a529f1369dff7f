"""Regions to be ignored, in the loss of every detector: no ground truth, and no background either."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import test_dense_criterion
import test_gfl_criterion
import test_nanodet_criterion
import test_sapd_criterion
import test_ssd_criterion
import torch
from torch import Tensor

from device_waits import waits
from gfocal.assigners.fcos import assign_fcos
from gfocal.build import build_criterion
from gfocal.config.config import ConfigError, MethodSettings, config_names, read_config
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import Criterion, GFLCriterion
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.losses.box import log_iou_loss
from gfocal.models.zoo import create
from gfocal.ops.box_coders import DiracDistances
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import exclude_ignored, make_points
from gfocal.structures import BACKGROUND, PADDING, Assignment, HeadOutputs, Losses, Targets, pad_targets

SIZES = torch.tensor([[64, 96], [40, 64], [64, 64]])
REGIONS = [[[50.0, 5, 96, 62]], [[0, 0, 64, 40]], [[10, 10, 40, 50]]]  # one in each image


def with_regions(targets: Targets, regions: list[list[list[float]]] = REGIONS) -> Targets:
    """The same ground truth with regions behind it."""
    boxes, labels, ignored = [], [], []
    for i, region in enumerate(regions):
        own = targets.valid[i]
        boxes.append(torch.cat((targets.boxes[i][own], torch.tensor(region).reshape(-1, 4))))
        labels.append(torch.cat((targets.labels[i][own], torch.ones(len(region), dtype=torch.int64))))
        ignored.append(torch.arange(len(boxes[-1])) >= int(own.sum()))
    return pad_targets(boxes, labels, ignored)


def dense(quality: str) -> tuple[DenseCriterion, HeadOutputs]:
    fcos = DenseCriterion(
        DiracDistances(), assign_fcos, quality="branch", measure="centerness", box_loss=log_iou_loss
    )
    if quality == "branch":
        return fcos, test_dense_criterion.random_outputs(1, branch=True)
    general = DenseCriterion(GeneralDistribution(4), quality="joint", dfl_weight=0.25)
    return general, test_dense_criterion.random_outputs(5)


CASES = {
    "gfl": lambda: (GFLCriterion(GeneralDistribution(4)), test_gfl_criterion.random_outputs()),
    "joint": lambda: dense("joint"),
    "branch": lambda: dense("branch"),
    "sapd": lambda: (test_sapd_criterion.criterion(), test_sapd_criterion.random_outputs()),
    "nanodet": lambda: (NanoDetCriterion(GeneralDistribution(4)), test_nanodet_criterion.guided()),
    "ssd": lambda: (test_ssd_criterion.criterion(), test_ssd_criterion.random_outputs()),
    "ssd with qfl": lambda: (test_ssd_criterion.criterion("joint"), test_ssd_criterion.random_outputs()),
}


def at_points(criterion: Criterion, outputs: HeadOutputs, targets: Targets) -> tuple[Losses, Tensor]:
    """The losses, and how much the class loss moves the logits of each point. (B, P)"""
    losses = criterion(outputs, targets, SIZES)
    (gradient,) = torch.autograd.grad(losses.cls.sum(), outputs.cls_logits, retain_graph=True)
    return losses, gradient.abs().sum(-1)


def inside(outputs: HeadOutputs) -> Tensor:
    """Which points lie inside the region of their image, point by point. (B, P)"""
    return torch.tensor(
        [[x1 <= x <= x2 and y1 <= y <= y2 for x, y in outputs.points.xy.tolist()] for ((x1, y1, x2, y2),) in REGIONS]
    )


@pytest.mark.parametrize("case", CASES)
def test_background_in_an_ignored_region_has_no_loss_and_all_else_the_same(case: str) -> None:
    criterion, outputs = CASES[case]()
    plain = test_gfl_criterion.ground_truth()
    before, moved_before = at_points(criterion, outputs, plain)
    after, moved = at_points(criterion, outputs, with_regions(plain))
    assert before.num_positives == after.num_positives > 0
    torch.testing.assert_close(before.box, after.box)
    torch.testing.assert_close(before.dfl, after.dfl)
    region = inside(outputs)
    spared = region & (moved == 0) & (moved_before > 0)
    assert spared.any(1).tolist() == [True, True, case != "ssd"]  # whose softmax learns no image without objects
    if case != "ssd":  # which takes other hard negatives instead
        torch.testing.assert_close(moved[~region], moved_before[~region])
        stays = region & (moved > 0)  # the positives
        torch.testing.assert_close(moved[stays], moved_before[stays])
        assert 0 < stays.sum() < after.num_positives + 1
    assert (moved[region] > 0).sum() <= after.num_positives
    assert before.quality is None or torch.equal(before.quality, after.quality)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_as_published_a_region_is_background(case: str) -> None:
    criterion, outputs = CASES[case]()
    criterion = replace(criterion, exclude_ignored=False)  # type: ignore[type-var]
    before, moved_before = at_points(criterion, outputs, test_gfl_criterion.ground_truth())
    after, moved = at_points(criterion, outputs, with_regions(test_gfl_criterion.ground_truth()))
    torch.testing.assert_close(before.total, after.total)
    torch.testing.assert_close(moved, moved_before)


def test_which_points_are_spared() -> None:
    points = make_points([(1, 6)], [8])  # at x = 0, 8, ..., 40
    regions = [torch.tensor([[8.0, -5, 24, 5], [30, 1, 50, 9]]), torch.tensor([[0.0, 0, 1, 1]])]
    labels = [torch.zeros(2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)]
    flags = [torch.tensor([True, True]), torch.tensor([False])]
    targets = pad_targets(regions, labels, flags)
    gt_index = torch.tensor([[0, BACKGROUND, 0, BACKGROUND, BACKGROUND, PADDING], [BACKGROUND] * 6])
    given = Assignment(gt_index, torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.bool))
    found = exclude_ignored(given, points, targets)
    # The second and third lie on the edges of the first region, a positive stays; the second region has none.
    assert found.gt_index.tolist() == [[0, PADDING, 0, PADDING, BACKGROUND, PADDING], [BACKGROUND] * 6]
    assert (found.slots is given.slots, found.slot_positive is given.slot_positive) == (True, True)


def test_ignored_regions_are_padded_with_the_ground_truth() -> None:
    targets = with_regions(test_gfl_criterion.ground_truth())
    assert targets.valid.sum(1).tolist() == [3, 1, 0]
    assert targets.ignored.sum(1).tolist() == [1, 1, 1]
    assert not (targets.valid & targets.ignored).any()
    assert targets.boxes[targets.ignored].tolist() == [region for (region,) in REGIONS]
    assert targets.to("meta").ignored.device.type == "meta"
    assert not test_gfl_criterion.ground_truth().ignored.any()


def test_nothing_waits_for_regions() -> None:
    criterion, outputs = CASES["gfl"]()
    targets = with_regions(test_gfl_criterion.ground_truth())
    assert waits(lambda: criterion(outputs, targets, SIZES).total.backward()) == Counter()


@pytest.mark.parametrize("preset", ["gfl_r18_fpn", "atss_r50_fpn", "ssd512_vgg16", "sapd_r50_fpn"])
def test_a_config_decides(preset: str) -> None:
    small = {} if preset == "ssd512_vgg16" else {"channels": 32, "num_convs": 1}
    model = create(preset, 2, pretrained=False, **small)
    for wanted in (True, False):
        criterion = build_criterion(model, MethodSettings(exclude_ignored=wanted))
        assert criterion.exclude_ignored is wanted  # type: ignore[attr-defined]
        assert isinstance(criterion, GFLCriterion) == (preset == "gfl_r18_fpn")
    if preset == "sapd_r50_fpn":
        with pytest.raises(ConfigError, match="takes no beta"):
            build_criterion(model, MethodSettings(beta=1.0))


def test_the_published_configs_keep_to_what_was_published() -> None:
    spared = {name: read_config(name).method.exclude_ignored for name in config_names()}
    assert {name for name, is_spared in spared.items() if not is_spared} == {
        n for n in spared if n.startswith("coco_")
    }
    assert len(spared) > 8

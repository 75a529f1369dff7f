"""What the check assigns for a detector whose own predictions decide: the points that could predict a box best."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import CocoSet

from gfocal.build import build_criterion
from gfocal.checks.geometry import DetectorGeometry, assign_by_reach, read_geometry
from gfocal.checks.regression_range import BY_PREDICTIONS
from gfocal.config.config import MethodSettings
from gfocal.criteria.distillation import DistillingCriterion
from gfocal.models.zoo import create
from gfocal.ops.boxes import distances_to_edges
from gfocal.ops.points import make_points
from gfocal.structures import BACKGROUND, PADDING, Targets, pad_targets

STRIDES = (8, 16, 32, 64)
POINTS = make_points([(-(-320 // s), -(-480 // s)) for s in STRIDES], STRIDES)
WHOLE = torch.ones(1, len(POINTS.xy), dtype=torch.bool)
Run = Callable[..., tuple[int, str, str]]


def targets_of(*boxes: list[float]) -> Targets:
    return pad_targets([torch.tensor(boxes)], [torch.zeros(len(boxes), dtype=torch.int64)])


def farthest(gt_index: torch.Tensor, targets: Targets, g: int) -> torch.Tensor:
    """Distance in strides from each point of a box to its farthest edge."""
    mine = gt_index[0] == g
    distances = distances_to_edges(POINTS.xy[mine], targets.boxes[0, g]) / POINTS.strides[mine].unsqueeze(1)
    assert (distances > 0).all()  # only points inside
    return distances.amax(1)


def test_a_box_gets_points_whose_range_reaches_its_edges_if_there_are_some() -> None:
    targets = targets_of([100.0, 100, 164, 164], [20, 20, 460, 300], [20, 300, 460, 318])
    gt_index = assign_by_reach(POINTS, targets, WHOLE, 7.0).gt_index
    for g in (0, 1):
        assert 12 <= len(farthest(gt_index, targets, g)) <= 13  # the first may take one of the second
        assert (farthest(gt_index, targets, g) <= 7).all()
    # No level has 13 points in the bar that reach both its ends, 440 pixels apart: the best are those of the middle.
    assert (farthest(gt_index, targets, 2) > 7).any()
    wide = assign_by_reach(POINTS, targets, WHOLE, 60.0).gt_index
    assert (farthest(wide, targets, 2) <= 60).all()


def test_a_box_between_points_gets_none_and_of_identical_boxes_the_first_gets_all() -> None:
    between, box = [17.0, 17, 23, 23], [100.0, 100, 164, 164]
    gt_index = assign_by_reach(POINTS, targets_of(between, box, box), WHOLE, 7.0).gt_index
    assert set(gt_index[0].tolist()) == {BACKGROUND, 1}


def test_padding_takes_no_part() -> None:
    part = WHOLE & (POINTS.xy[:, 0] < 130)
    gt_index = assign_by_reach(POINTS, targets_of([100.0, 100, 164, 164]), part, 7.0).gt_index
    assert (gt_index[~part] == PADDING).all()
    assert (gt_index == 0).any()


@given(seed=st.integers(0, 10**6), count=st.integers(1, 10))
def test_no_box_has_more_than_thirteen_points_of_which_each_lies_inside(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([400.0, 260])
    boxes = torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * 80), 1)
    targets = pad_targets([boxes], [torch.zeros(count, dtype=torch.int64)])
    assignment = assign_by_reach(POINTS, targets, WHOLE, 7.0)
    for g in range(count):
        assert len(farthest(assignment.gt_index, targets, g)) <= 13 * count
    assert assignment.slot_positive.sum() == (assignment.gt_index >= 0).sum() <= 13 * count


def test_the_geometry_of_nanodet_says_that_predictions_decide() -> None:
    model = create("nanodet_plus_m", 1, pretrained=False, n=9, channels=32)
    geometry = read_geometry(model, build_criterion(model, MethodSettings()))
    assert geometry is not None
    assert geometry.by_predictions
    assert (geometry.strides, geometry.origin, geometry.n) == (STRIDES, "corner", 9)
    assert isinstance(geometry.assign, partial)
    assert geometry.assign.keywords == {"regression_range": 9.0}
    gfl = create("gfl_r18_fpn", 1, pretrained=False, channels=32, num_convs=1)
    other = read_geometry(gfl, build_criterion(gfl, MethodSettings()))
    assert isinstance(other, DetectorGeometry)
    assert not other.by_predictions


@pytest.mark.parametrize("preset", ["nanodet_plus_m", "gfl_r18_fpn"])
def test_a_teacher_changes_no_geometry(preset: str) -> None:
    model = create(preset, 1, pretrained=False, channels=32, **({} if preset != "gfl_r18_fpn" else {"num_convs": 1}))
    criterion = build_criterion(model, MethodSettings())
    alone, taught = (read_geometry(model, one) for one in (criterion, DistillingCriterion(criterion, model)))
    assert alone is not None
    assert taught is not None
    assert (taught.by_predictions, type(taught.assign)) == (alone.by_predictions, type(alone.assign))
    assert getattr(taught.assign, "func", taught.assign) is getattr(alone.assign, "func", alone.assign)


def test_the_command_says_so(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco").write()
    for preset, is_said in (("nanodet_plus_m", True), ("gfl_light_fpn", False)):
        settings = ("--set", f"model.preset={preset}", "--set", "model.options={}", "--set", "size.long_side=320")
        code, out, err = run(
            "check", made, "--fast", *settings, "--json", tmp_path / "found.json", "--html", tmp_path / "p"
        )
        assert code == 0, err
        assert (" ".join(BY_PREDICTIONS.split()) in " ".join(out.split())) == is_said
        assert json.loads((tmp_path / "found.json").read_text())["regression_range"]["by_predictions"] is is_said

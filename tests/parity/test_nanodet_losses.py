"""NanoDet-Plus's assignment, losses and gradients against the numbers of the reference, from the same logits.

Cases: a many objects, with duplicates, boxes between points, and an ignored region; b an image without objects; c no
object at all; d an image whose only box covers no point; f a box of zero area. Each with the main head's own
predictions (self) and with those of the auxiliary head (agm). The logits of case e, on another image, are
those of our network: the recorded ones are not complete.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nanodet_numbers import LEVELS, STRIDES, Numbers, ground_truth, read_numbers, recorded_outputs, relative
from test_nanodet_network import in_training, rgb, script

from gfocal.assigners.dsla import class_cost, number_of_points
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.interop.any_checkpoint import import_any
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import HeadOutputs, Targets

CASES = [f"{case}_{mode}" for case in "abcd" for mode in ("self", "agm")] + ["f_agm"]
PUBLISHED = NanoDetCriterion(exclude_ignored=False)
SIZES = torch.tensor([[224, 288]] * 2)


@pytest.fixture(scope="module")
def numbers(shared: Path) -> Numbers:
    return read_numbers(shared)


def scene(numbers: Numbers, case: str) -> tuple[HeadOutputs, Targets]:
    with_ignored = True  # which the published method takes for background
    return recorded_outputs(numbers, case.endswith("agm")), ground_truth(numbers, case[0], with_ignored)


@pytest.mark.parametrize("case", CASES)
def test_assignment(numbers: Numbers, case: str) -> None:
    outputs, targets = scene(numbers, case)
    match = PUBLISHED.match(outputs, targets, SIZES)
    for i, ours in enumerate(match.assignment.gt_index):
        assert ours.tolist() == numbers[f"{case}_assigned_gt_{i}"].tolist()
        points = match.assignment.slots[i][match.assignment.slot_positive[i]]
        order = points.argsort()
        assert points[order].tolist() == numbers[f"{case}_positive_points_{i}"].tolist()
        assert len(points) == numbers[f"{case}_num_pos"][i]
        if not len(points):
            continue
        quality = torch.zeros(len(ours)).scatter(0, points, match.quality[i][match.assignment.slot_positive[i]])
        torch.testing.assert_close(quality, torch.from_numpy(numbers[f"{case}_qfl_target_{i}"]), rtol=1e-5, atol=1e-6)
        gt_boxes = match.gt_boxes[i][match.assignment.slot_positive[i]][order]
        xy, strides = outputs.points.xy[points[order]], outputs.points.strides[points[order]]
        distances = (distances_to_edges(xy, gt_boxes) / strides.unsqueeze(1)).clamp(0, 6.9)
        wanted = torch.from_numpy(numbers[f"{case}_dist_targets_{i}"])
        torch.testing.assert_close(distances, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_number_of_points_of_each_box(numbers: Numbers, case: str) -> None:
    outputs, targets = scene(numbers, case)
    deciding = outputs.auxiliary or outputs
    boxes = GeneralDistribution(7).boxes(deciding.box_logits.detach(), outputs.points)
    inside = distances_to_edges(outputs.points.xy, targets.boxes.unsqueeze(2)).amin(-1) > 0
    candidates = (inside & targets.valid.unsqueeze(2)).any(1, keepdim=True)
    overlaps = iou(boxes.unsqueeze(1), targets.boxes.unsqueeze(2)) * candidates
    for i, number in enumerate(number_of_points(overlaps)):
        if candidates[i].any():
            assert number[targets.valid[i]].tolist() == numbers[f"{case}_dynamic_k_{i}"].tolist()


def test_costs(numbers: Numbers) -> None:
    outputs, targets = scene(numbers, "a_agm")
    assert outputs.auxiliary is not None
    candidates = torch.from_numpy(numbers["a_agm_cost_points_0"]).long()
    boxes = GeneralDistribution(7).boxes(outputs.auxiliary.box_logits.detach(), outputs.points)[:1]
    overlaps = iou(boxes.unsqueeze(1), targets.boxes[:1].unsqueeze(2))
    cost = class_cost(outputs.auxiliary.cls_logits.detach()[:1], targets.labels[:1], overlaps)
    cost = cost - 3 * (overlaps + 1e-7).log()
    wanted_iou, wanted = (torch.from_numpy(numbers[f"a_agm_{name}_0"]).T for name in ("iou", "cost"))
    number = len(wanted)
    torch.testing.assert_close(overlaps[0, :number, candidates], wanted_iou, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cost[0, :number, candidates], wanted, rtol=1e-5, atol=1e-4)


def names_of(case: str) -> dict[str, str]:
    """What stands before the name of a loss, or of a gradient, of each head."""
    return {"": f"{case}_", "aux": f"{case}_aux_"} if case.endswith("agm") else {"": f"{case}_"}


@pytest.mark.parametrize("case", CASES)
def test_losses(numbers: Numbers, case: str) -> None:
    outputs, targets = scene(numbers, case)
    match = PUBLISHED.match(outputs, targets, SIZES)
    for head, prefix in names_of(case).items():
        logits = outputs.auxiliary if head else outputs
        assert logits is not None
        losses = PUBLISHED.head_losses(logits, match)
        for ours, theirs in ((losses.cls, "qfl"), (losses.box, "bbox"), (losses.dfl, "dfl")):
            wanted = numbers[f"{prefix}loss_{theirs}"].item()
            assert ours.sum().item() == pytest.approx(wanted, rel=1e-5, abs=1e-9), theirs
    total = PUBLISHED(outputs, targets, SIZES).total.item()
    assert total == pytest.approx(numbers[f"{case}_loss"].item(), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_every_level(numbers: Numbers, case: str) -> None:
    outputs, targets = scene(numbers, case)
    total = PUBLISHED(outputs, targets, SIZES).total
    for head, prefix in names_of(case).items():
        logits = outputs.auxiliary if head else outputs
        assert logits is not None
        found = torch.autograd.grad(total, (logits.cls_logits, logits.box_logits), retain_graph=True)
        for name, gradient in zip(("cls", "reg"), found, strict=True):
            for level, part in zip(LEVELS, gradient.double().split(outputs.points.counts, 1), strict=True):
                norm = numbers[f"{prefix}{name}_grad_norm_{level}"].item()
                assert part.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-9)
                # Those of a softmax add up to nothing but rounding.
                wanted = numbers[f"{prefix}{name}_grad_sum_{level}"].item()
                assert part.sum().item() == pytest.approx(wanted, rel=1e-4, abs=1e-6 * max(norm, 1))


def test_points_and_boxes(numbers: Numbers) -> None:
    outputs = recorded_outputs(numbers, is_guided=False)
    wanted = torch.from_numpy(numbers["points"])
    assert torch.equal(torch.cat((outputs.points.xy, outputs.points.strides.unsqueeze(1)), 1), wanted)
    assert outputs.points.level_strides == STRIDES
    boxes = GeneralDistribution(7).boxes(outputs.box_logits.detach(), outputs.points)
    assert relative(boxes, torch.from_numpy(numbers["boxes_all"])) < 1e-6


@pytest.fixture(scope="module")
def square(shared: Path, numbers: Numbers, tmp_path_factory: pytest.TempPathFactory) -> HeadOutputs:
    """Outputs of our network, with the reference's made-up weights, on the image of case e."""
    keys = json.loads((shared / "parity" / "nanodet" / "keys_nanodet_plus_m.json").read_text())
    path = tmp_path_factory.mktemp("nanodet") / "made_up.pth"
    torch.save(script(shared, "make_checkpoint").make(keys, "pth"), path)
    with torch.no_grad():
        return in_training(import_any(path).model)(rgb(numbers["sq_images"]))


@pytest.mark.parametrize("mode", ["self", "agm"])
def test_from_an_image_to_losses(numbers: Numbers, square: HeadOutputs, mode: str) -> None:
    outputs = square if mode == "agm" else replace(square, auxiliary=None)
    targets, sizes = ground_truth(numbers, "e", with_ignored=True), torch.tensor([[416, 416]])
    match = PUBLISHED.match(outputs, targets, sizes)
    assert match.assignment.gt_index[0].tolist() == numbers[f"e_{mode}_assigned_gt_0"].tolist()
    assert match.assignment.slot_positive.sum() == numbers[f"e_{mode}_num_pos"][0]
    main = PUBLISHED.head_losses(outputs, match)
    for ours, theirs in ((main.cls, "qfl"), (main.box, "bbox"), (main.dfl, "dfl")):
        assert ours.sum().item() == pytest.approx(numbers[f"e_{mode}_loss_{theirs}"].item(), rel=1e-5)
    total = PUBLISHED(outputs, targets, sizes).total.item()
    assert total == pytest.approx(numbers[f"e_{mode}_loss"].item(), rel=1e-5)

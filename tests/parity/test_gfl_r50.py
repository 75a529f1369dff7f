"""GFL ResNet-50 against the numbers of the reference implementation, from the same weights and images.

Two images of different size in a batch, with objects (``small``), and with one image that has none
(``empty``). The weights are made up, the same on every machine; MMDetection 3.3.0 made the numbers.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from gfocal.criteria.gfl import GFLCriterion
from gfocal.interop.mmdet import import_checkpoint
from gfocal.models.detector import Detector
from gfocal.ops.decoding import decode
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Detections, HeadOutputs, Targets, pad_targets

LEVELS = range(5)
# The reference divides boxes by this; its original sizes would not be whole numbers.
SCALE_FACTOR = 1.25


@dataclass(frozen=True)
class Case:
    name: str
    numbers: dict[str, npt.NDArray[Any]]
    outputs: HeadOutputs  # ours

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.numbers[key])

    @property
    def sizes(self) -> Tensor:
        return self.tensor("image_shapes").long()

    @property
    def targets(self) -> Targets:
        images = range(len(self.sizes))
        return pad_targets(
            [self.tensor(f"gt_boxes_{i}") for i in images],
            [self.tensor(f"gt_labels_{i}").long() for i in images],
        )

    @property
    def reference(self) -> HeadOutputs:
        """The head outputs of the reference implementation, in our layout."""
        cls, box = (
            torch.cat([self.tensor(f"{name}_logits_{i}").permute(0, 2, 3, 1).flatten(1, 2) for i in LEVELS], 1)
            for name in ("cls", "reg")
        )
        return replace(self.outputs, cls_logits=cls, box_logits=box.unflatten(-1, (4, 17)))


@pytest.fixture(scope="module")
def model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Our network with the weights of the reference, read from a checkpoint in its published layout."""
    script = shared / "parity" / "make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", script)
    assert spec is not None
    assert spec.loader is not None
    made_up = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made_up)
    keys = json.loads((shared / "parity" / "keys_gfl_r50.json").read_text())
    path = tmp_path_factory.mktemp("parity") / "gfl_r50.pth"
    torch.save({"state_dict": {key: made_up.draw(key, *value) for key, value in keys.items()}}, path)
    return import_checkpoint(path).model


@pytest.fixture(scope="module", params=["small", "empty"])
def case(shared: Path, model: Detector, request: pytest.FixtureRequest) -> Case:
    with np.load(shared / "parity" / f"gfl_r50_{request.param}.npz") as file:
        numbers = dict(file)
    with torch.no_grad():
        outputs = model(torch.from_numpy(numbers["images"]))
    return Case(request.param, numbers, outputs)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def test_head_outputs(case: Case) -> None:
    for name in ("cls_logits", "box_logits"):
        ours, theirs = getattr(case.outputs, name), getattr(case.reference, name)
        for part, want in zip(*(x.split(case.outputs.points.counts, 1) for x in (ours, theirs)), strict=True):
            assert part.shape == want.shape
            assert relative(part, want) < 1e-4


def test_in_float64_the_logits_stay_as_near(case: Case, model: Detector) -> None:
    """The exact network lies near to both; prints which is nearer."""
    if case.name == "empty":
        pytest.skip("once is enough")
    images = case.tensor("images")
    with torch.no_grad():
        exact = model.double()(images.double())
    model.float()
    for name in ("cls_logits", "box_logits"):
        ground_truth = getattr(exact, name).double()
        ours, theirs = (relative(getattr(x, name).double(), ground_truth) for x in (case.outputs, case.reference))
        nearer = "ours" if ours < theirs else "the reference's"
        print(f"{name}: {nearer} are nearer to float64: {ours:.1e} against {theirs:.1e}")
        assert max(ours, theirs) < 1e-4


def test_assignment(case: Case) -> None:
    points = case.outputs.points
    got = GFLCriterion().assign(points, case.targets, inside_own_padding(points, case.sizes))
    for i, ours in enumerate(got.gt_index):
        assert ours.tolist() == case.numbers[f"assigned_gt_{i}"].tolist()
    assert (got.gt_index >= 0).any()


def test_losses_of_every_level_and_their_gradients(case: Case) -> None:
    reference = case.reference
    outputs = replace(
        reference,
        cls_logits=reference.cls_logits.requires_grad_(),
        box_logits=reference.box_logits.requires_grad_(),
    )
    losses = GFLCriterion()(outputs, case.targets, case.sizes)
    for ours, theirs in ((losses.cls, "loss_cls"), (losses.box, "loss_bbox"), (losses.dfl, "loss_dfl")):
        assert ours.tolist() == pytest.approx(case.numbers[theirs].tolist(), rel=1e-5, abs=1e-9), theirs
    cls_grad, box_grad = torch.autograd.grad(losses.total, (outputs.cls_logits, outputs.box_logits))
    counts = outputs.points.counts
    for i, (cls, box) in enumerate(zip(cls_grad.split(counts, 1), box_grad.split(counts, 1), strict=True)):
        assert cls.norm().item() == pytest.approx(case.numbers[f"cls_grad_norm_{i}"].item(), rel=1e-4)
        assert cls.sum().item() == pytest.approx(case.numbers[f"cls_grad_sum_{i}"].item(), rel=1e-4)
        assert box.norm().item() == pytest.approx(case.numbers[f"reg_grad_norm_{i}"].item(), rel=1e-4, abs=1e-9)


def test_detections(case: Case, model: Detector) -> None:
    """From images to boxes. Scores lie close together, so boxes are matched, not compared by rank."""
    found = decode(case.outputs, model.box_coder, case.sizes, case.sizes, model.names)
    for i, detections in enumerate(found):
        boxes, scores, labels = (case.tensor(f"{name}_{i}") for name in ("boxes", "scores", "labels"))
        assert len(detections) == len(boxes)
        check_matched(detections, boxes, scores, labels)


def check_matched(found: Detections, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
    """Every detection of the reference has one of ours, and no two have the same."""
    distance = (found.boxes / SCALE_FACTOR - boxes.unsqueeze(1)).abs().amax(-1)  # (theirs, ours)
    fits = (distance < 1e-2) & (found.labels == labels.unsqueeze(1))
    fits &= (found.scores - scores.unsqueeze(1)).abs() < 1e-4
    assert fits.any(1).all()
    assert fits.any(0).all()
    matches = torch.where(fits, distance, torch.inf).argmin(1)
    assert matches.unique().numel() == len(boxes)

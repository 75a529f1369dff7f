"""What is frozen is not trained, keeps its statistics, and lies before all that is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gfocal
from gfocal.models.detector import Detector
from gfocal.models.finetuning import freeze


def small() -> Detector:
    return gfocal.create("gfl_r18_fpn", 2, pretrained=False, channels=32, num_convs=1)


def trained_parts(model: Detector) -> set[str]:
    """The first two words of the names of what is trained."""
    return {
        ".".join(name.split(".")[: 3 if "body" in name else 1])
        for name, p in model.named_parameters()
        if p.requires_grad
    }


STAGES = [f"backbone.body.layer{i}" for i in (1, 2, 3, 4)]
STEM = ["backbone.body.conv1", "backbone.body.bn1"]


@pytest.mark.parametrize(
    ("upto", "trained"),
    [
        ("none", [*STEM, *STAGES, "neck", "head"]),
        (0, [*STEM, *STAGES, "neck", "head"]),
        ("stem", [*STAGES, "neck", "head"]),
        (2, [*STAGES[2:], "neck", "head"]),
        (4, ["neck", "head"]),
        ("backbone", ["neck", "head"]),
        ("neck", ["head"]),
    ],
)
def test_up_to_a_part(upto: str | int, trained: list[str]) -> None:
    model = small()
    freeze(model, "neck")  # what was frozen before does not stay so
    freeze(model, upto)  # type: ignore[arg-type]
    assert trained_parts(model) == set(trained)


def test_frozen_norms_keep_their_statistics_and_others_do_not() -> None:
    model = small()
    freeze(model, "stem")
    model.train()
    model(torch.randn(2, 3, 64, 64))
    moved = {
        name: bool((norm.running_mean != 0).any())
        for name, norm in model.backbone.named_modules()
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    }
    assert not moved["body.bn1"]
    assert all(moved[name] for name in moved if name != "body.bn1")
    freeze(model, "backbone")
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.train()(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[key], value) for key, value in model.backbone.state_dict().items())


@pytest.mark.parametrize("upto", [5, -1])
def test_stages_that_are_not_there(upto: int) -> None:
    with pytest.raises(ValueError, match=f"4 stages to freeze, not {upto}"):
        freeze(small(), upto)


def test_a_backbone_without_stages_is_frozen_as_a_whole() -> None:
    with torch.device("meta"):
        model = gfocal.create("ssd512_vgg16", 2, pretrained=False)
    with pytest.raises(ValueError, match="as a whole"):
        freeze(model, "stem")
    freeze(model, "backbone")
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.head.parameters())
    freeze(model, "none")
    assert all(p.requires_grad for p in model.parameters())

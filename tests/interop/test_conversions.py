"""Detections as objects of supervision and torchvision."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch

import gfocal
from gfocal.errors import MissingExtraError
from gfocal.structures import Detections


@pytest.fixture
def found() -> Detections:
    return Detections(
        boxes=torch.tensor([[1.0, 2, 30, 40], [0, 0, 9, 9], [5, 5, 6, 7]]),
        scores=torch.tensor([0.9, 0.5, 0.25]),
        labels=torch.tensor([1, 0, 1]),
        edges=torch.softmax(torch.arange(3 * 4 * 5.0).reshape(3, 4, 5).sin(), -1),
        points=torch.zeros(3, 2),
        bin_sizes=torch.full((3, 4), 8.0),
        names=("cat", "Hündin"),
        size=(50, 60),
    )


def test_torchvision_moves_the_boxes_with_the_image(found: Detections) -> None:
    from torchvision.transforms.v2 import functional as transforms

    target = gfocal.to_torchvision(found)
    assert list(target) == ["boxes", "scores", "labels"]
    assert torch.equal(target["boxes"], found.boxes)
    assert torch.equal(target["scores"], found.scores)
    assert torch.equal(target["labels"], found.labels)
    flipped = transforms.horizontal_flip(target["boxes"])
    assert flipped.tolist()[0] == [60 - 30, 2, 60 - 1, 40]
    assert len(gfocal.to_torchvision(found.above(0.99))["boxes"]) == 0


@pytest.mark.filterwarnings("ignore")
def test_supervision(found: Detections) -> None:
    supervision = pytest.importorskip("supervision")
    there = gfocal.to_supervision(found)
    assert isinstance(there, supervision.Detections)
    assert there.xyxy.tolist() == found.boxes.tolist()
    assert there.confidence.tolist() == found.scores.tolist()
    assert there.class_id.tolist() == [1, 0, 1]
    assert there["class_name"].tolist() == ["Hündin", "cat", "Hündin"]
    sure = there[there.confidence > 0.4]  # what is in data goes along
    torch.testing.assert_close(torch.from_numpy(sure["edge_std"]), found.edge_std[:2])
    both = supervision.Detections.merge([there, gfocal.to_supervision(found.above(0.99))])
    assert len(both) == 3
    assert len(gfocal.to_supervision(found.above(0.99))) == 0


def test_without_supervision_the_extra_is_named(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "supervision":
            raise ModuleNotFoundError("No module named 'supervision'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'gfocal\[supervision\]'"):
        gfocal.to_supervision(found)

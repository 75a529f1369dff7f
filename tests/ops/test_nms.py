"""Non-maximum suppression: torchvision's results to the last bit, without the import of torchvision."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torchvision import ops

from gfocal.ops.nms import batched_nms, nms


def some_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 300
    boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 80), 1)
    return boxes, torch.rand(count, generator=generator), torch.randint(0, 5, (count,), generator=generator)


@pytest.mark.parametrize("count", [0, 1, 40, 1000, 1001, 1500])
def test_results_are_those_of_torchvision(count: int) -> None:
    boxes, scores, labels = some_boxes(count)
    for threshold in (0.3, 0.6):
        assert torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))
        found = batched_nms(boxes, scores, labels, threshold)
        assert torch.equal(found, ops.batched_nms(boxes, scores, labels, threshold))
        assert found.dtype == torch.int64


PROGRAM = """
import sys, torch
from gfocal.ops.nms import nms
boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]), torch.tensor([0.5, 0.9, 0.1])
before = nms(boxes, scores, 0.5).tolist()
assert "torchvision" not in sys.modules, "imported"
import torchvision
assert before == torchvision.ops.nms(boxes, scores, 0.5).tolist() == nms(boxes, scores, 0.5).tolist() == [1, 2]
"""


def test_torchvision_is_not_imported_and_can_be_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr

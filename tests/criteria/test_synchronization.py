"""A training step has no shape that depends on data: nothing waits for the device, and it compiles whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from device_waits import waits
from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.models.detector import Detector
from gfocal.models.zoo import gfl_r18_fpn
from gfocal.structures import Targets, pad_targets

SIZES = torch.tensor([[64, 64], [50, 40], [64, 64]])


def tiny_detector() -> Detector:
    torch.manual_seed(0)
    names = ("cat", "dog", "owl")
    return gfl_r18_fpn(3, names=names, pretrained=False, channels=32, num_convs=1)


def batch() -> tuple[Tensor, Targets]:
    """Three images: two objects, one object in a padded image, none."""
    boxes = [[[3.0, 5, 40, 50], [20, 20, 60, 62]], [[4, 6, 33, 44]], []]
    labels = [[0, 2], [1], []]
    targets = pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.tensor(c, dtype=torch.int64) for c in labels]
    )
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)), targets


@pytest.mark.parametrize("box_loss", [None, "none"])
def test_forward_criterion_and_backward_never_wait(box_loss: Literal["none"] | None) -> None:
    model = tiny_detector()
    criterion = build_criterion(model, MethodSettings(box_loss=box_loss))
    images, targets = batch()

    def step() -> None:
        criterion(model(images), targets, SIZES).total.backward()

    assert waits(step) == Counter()
    assert all(p.grad is not None for p in model.parameters())


def prod_gradient() -> None:
    torch.ones(2, 2, requires_grad=True).prod(-1).sum().backward()


@pytest.mark.parametrize(
    "waiting",
    [
        lambda: torch.ones(3).sum().item(),
        lambda: torch.ones(3)[torch.ones(3) > 0],
        lambda: torch.ones(3).nonzero(),
        lambda: torch.ones(3).masked_select(torch.ones(3) > 0),
        lambda: bool((torch.ones(3) > 0).all()),
        lambda: torch.ones(3).unique(),
        lambda: torch.equal(torch.ones(3), torch.ones(3)),
        lambda: F.one_hot(torch.tensor([1]), 3),
        prod_gradient,
    ],
)
def test_the_counter_counts(waiting: Callable[[], object]) -> None:
    assert waits(waiting).total() > 0


def test_the_counter_counts_nothing_else() -> None:
    assert waits(lambda: torch.where(torch.ones(3) > 0, torch.ones(3), 0.0).topk(2)).total() == 0


@pytest.mark.slow
@pytest.mark.parametrize("box_loss", [None, "none"])
def test_the_step_compiles_into_one_graph(box_loss: Literal["none"] | None) -> None:
    """With the loss, the gradients and the statistics of the plain step."""
    images, targets = batch()
    criterion = build_criterion(tiny_detector(), MethodSettings(box_loss=box_loss))
    plain, compiled = tiny_detector(), tiny_detector()

    def loss(model: Detector, images: Tensor, targets: Targets, sizes: Tensor) -> Tensor:
        return criterion(model(images), targets, sizes).total

    torch._dynamo.reset()
    want = loss(plain, images, targets, SIZES)
    want.backward()
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled, images, targets, SIZES)
    got.backward()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).norm() <= 1e-4 * a.grad.norm() + 1e-7, name
    for (name, mine), other in zip(plain.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(mine, other, msg=name)

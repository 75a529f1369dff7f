"""Training steps that several processes share, for ``test_distributed.py``: each process runs this file.

    RANK=0 WORLD_SIZE=2 ... python shared_steps.py OUT [CASE ...]

Everything is computed in float64, the losses too, so that what differs is more than rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]  # losses say .float()

from gfocal.build import build_criterion  # noqa: E402
from gfocal.config.config import MethodSettings  # noqa: E402
from gfocal.criteria.distillation import DistillingCriterion, Taught  # noqa: E402
from gfocal.models.backbone import TimmBackbone  # noqa: E402
from gfocal.models.detector import Detector  # noqa: E402
from gfocal.models.zoo import create  # noqa: E402
from gfocal.structures import Batch, pad_targets  # noqa: E402
from gfocal.training.distributed import Devices  # noqa: E402
from gfocal.training.step import training_step  # noqa: E402
from gfocal.training.teaching import with_teacher  # noqa: E402

SIDE = 64
SMALL = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "gfl": ("gfl_light_fpn", SMALL),
    "timid": ("gfl_light_fpn", SMALL),  # the weights of its boxes sum to less than 1
    "atss": ("atss_r50_fpn", SMALL),  # with a quality branch, whose loss has a normalizer of its own
    "fovea": ("foveabox_r50_fpn", SMALL),  # counts images
    "sapd": ("sapd_r50_fpn", SMALL),  # whose selector stands beside the network
}
# Name -> which detector, and the images of each batch of a step: their numbers of objects.
CASES: dict[str, tuple[str, list[list[int]]]] = {
    "even": ("gfl", [[2, 1, 3, 1, 2, 1, 1, 2]]),
    "uneven": ("gfl", [[2, 1, 3, 1, 2]]),
    "idle": ("gfl", [[2]]),
    "one process without objects": ("gfl", [[2, 0, 3, 0, 1, 0, 1, 0]]),
    "no objects at all": ("gfl", [[0, 0, 0, 0]]),
    "timid": ("timid", [[2, 1, 3, 1]]),
    "accumulated": ("gfl", [[2, 1, 3, 1], [1, 2, 1], [1]]),
    "atss": ("atss", [[2, 1, 1]]),
    "fovea": ("fovea", [[2, 1, 1], [1]]),
    "sapd": ("sapd", [[2, 1, 1], [1]]),
    "taught": ("gfl", [[2, 1, 3, 0, 2], [1]]),  # by a teacher, whose terms have normalizers of their own
}


def detector(name: str) -> Detector:
    """With statistics of BatchNorm that stay; scores are in the middle, so that box losses weigh, or tiny."""
    torch.manual_seed(0)
    preset, options = DETECTORS[name]
    model = create(preset, 3, pretrained=False, **options)
    assert isinstance(model.backbone, TimmBackbone)
    model.backbone.freeze(0, norm_eval=True)
    for key, value in model.named_parameters():
        if key.endswith("cls_out.bias"):
            nn.init.constant_(value, -7.0 if name == "timid" else -0.5)
        if key.startswith("backbone.") and not value.any():
            nn.init.constant_(value, 0.5)  # what stands before a weight of 0 would have no gradient
    return model.double().train()


def images(counts: list[int], seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Images, boxes and labels."""
    torch.manual_seed(seed)
    found = []
    for count in counts:
        corner, size = torch.rand(count, 2) * 30, 16 + torch.rand(count, 2) * 16
        found.append((torch.randn(3, SIDE, SIDE), torch.cat([corner, corner + size], 1), torch.arange(count) % 3))
    return found


def batch_of(chosen: list[tuple[Tensor, Tensor, Tensor]]) -> Batch:
    images, boxes, labels = zip(*chosen, strict=True)
    sizes = torch.full((len(chosen), 2), SIDE)
    return Batch(torch.stack(images), pad_targets(boxes, labels), sizes, sizes, tuple(range(len(chosen))))


class Seen(torch.optim.SGD):
    """Keeps the gradients of its step."""

    gradients: dict[int, Tensor]

    def step(self, closure: Any = None) -> Any:
        groups = [p for group in self.param_groups for p in group["params"]]
        self.gradients = {i: p.grad.clone() for i, p in enumerate(groups) if p.grad is not None}
        return super().step(closure)


def gradients(
    detector_name: str, batches: list[list[int]], clip: float = 0.0, is_taught: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Gradients of one step by parameter, and the losses that all processes together have."""
    model = detector(detector_name)
    devices = Devices(grad_accum_steps=len(batches), cpu=True)
    criterion: Any = build_criterion(model, MethodSettings())
    if is_taught:
        assert isinstance(criterion, Taught)
        torch.manual_seed(1)
        teacher = create(DETECTORS[detector_name][0], 3, pretrained=False, **SMALL | {"channels": 64}).double()
        criterion = DistillingCriterion(criterion, teacher)
    criterion = replace(criterion, sum_over_processes=devices.sum_over_processes)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    inner = Seen([p for p in model.parameters() if p.requires_grad], lr=0.0)
    wrapped, optimizer = devices.prepare(with_teacher(model, criterion, model), inner)
    total = torch.zeros(())
    for number, counts in enumerate(batches):
        every = images(counts, number)
        mine = every[devices.rank :: devices.world_size]
        devices.is_idle = not mine
        losses = training_step(wrapped, criterion, batch_of(mine or every[:1]), optimizer, devices, clip)
        assert devices.is_step_end == (number + 1 == len(batches))
        total += devices.sum_over_processes(losses.total.detach())
    yield "loss", total
    assert sorted(inner.gradients) == [*range(len(names))], "a parameter without a gradient: processes would wait"
    yield from ((name, inner.gradients[i]) for i, name in enumerate(names))


def main() -> None:
    wanted = sys.argv[2:] or [*CASES, "clipped"]
    found = {name: dict(gradients(*CASES[name], is_taught=name == "taught")) for name in wanted if name in CASES}
    if "clipped" in wanted:
        found["clipped"] = dict(gradients(*CASES["uneven"], clip=0.5))
    if Devices(cpu=True).is_main:
        torch.save(found, Path(sys.argv[1]))


if __name__ == "__main__":
    main()

"""Speed of gfocal's ResNet-50 GFL beside torchvision's FCOS and RetinaNet, interleaved in one process.

    python benchmarks/speed.py --rounds 5

Prints medians and the ratio of each to torchvision's FCOS. Timings of one machine compare only with each other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torchvision.models import detection

from gfocal.criteria.gfl import GFLCriterion
from gfocal.models.zoo import gfl_r50_fpn
from gfocal.structures import Batch, pad_targets


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--size", type=int, default=320, help="side of the training images")
    chosen = arguments.parse_args()
    size = chosen.size
    torch.manual_seed(0)
    boxes = torch.rand(2, 20, 2) * size * 0.7
    boxes = torch.cat([boxes, boxes + 8 + torch.rand(2, 20, 2) * size * 0.25], -1)
    labels = torch.randint(0, 80, (2, 20))
    images = torch.rand(2, 3, size, size)

    def ours() -> Callable[[], object]:
        model = gfl_r50_fpn(80, pretrained=False).train().to(memory_format=torch.channels_last)
        criterion = GFLCriterion(box_coder=model.box_coder)
        sizes = torch.full((2, 2), size)
        targets = pad_targets(list(boxes), list(labels))
        inputs = images.contiguous(memory_format=torch.channels_last)
        batch = Batch(inputs, targets, sizes, sizes, (0, 1))

        def step() -> None:
            criterion(model(batch.images), batch.targets, batch.sizes).total.backward()
            model.zero_grad()

        return step

    def theirs(build: Callable[..., torch.nn.Module]) -> Callable[[], object]:
        model = build(weights=None, weights_backbone=None, num_classes=81, min_size=size, max_size=size).train()
        ground_truth = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels + 1, strict=True)]

        def step() -> None:
            sum(model(list(images), ground_truth).values()).backward()
            model.zero_grad()

        return step

    steps = {
        "gfocal GFL R-50": ours(),
        "torchvision FCOS R-50": theirs(detection.fcos_resnet50_fpn),
        "torchvision RetinaNet R-50": theirs(detection.retinanet_resnet50_fpn),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(chosen.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    table = Table("training step, batch 2", "median s", "ratio to FCOS", title=f"{size} x {size}, 20 boxes an image")
    reference = median(times["torchvision FCOS R-50"])
    for name, values in times.items():
        table.add_row(name, f"{median(values):.2f}", f"{median(values) / reference:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""What a further level of stride 4 costs: forward and backward of a preset with it, against the same without.

    python benchmarks/finer_level.py

The presets take turns, the least of the rounds counts. On a 320x416 input, two images, random weights.
"""

from __future__ import annotations

import argparse
import time

import torch
from rich.console import Console
from rich.table import Table

from gfocal.models.detector import Detector
from gfocal.models.zoo import create

PRESETS = ("gfl_light_fpn", "gfl_r18_fpn", "gfl_r50_fpn")


def seconds(model: Detector, images: torch.Tensor) -> float:
    start = time.perf_counter()
    outputs = model(images)
    (outputs.cls_logits.sum() + outputs.box_logits.sum()).backward()
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description="time of a preset with a level of stride 4, against without")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 320, 416)
    table = Table("preset", "points", "with stride 4", "ratio of time")
    for preset in PRESETS:
        usual, finer = (create(preset, 3, pretrained=False, finest=stride).train() for stride in (8, 4))
        points = [model(images).cls_logits.shape[1] for model in (usual, finer)]
        rounds = [(seconds(usual, images), seconds(finer, images)) for _ in range(chosen.rounds)]
        least = [min(column) for column in zip(*rounds, strict=True)]
        table.add_row(preset, f"{points[0]:,}", f"{points[1]:,}", f"{least[1] / least[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""How long a training step takes in float32 and in bfloat16 on this machine, as a ratio.

    python benchmarks/precision.py --preset gfl_light_fpn --rounds 6

They take turns, so that a busy machine slows all. "bf16 throughout" leaves depthwise convolutions as
autocast has them, which gfocal does not (src/gfocal/models/convolutions.py says why).
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.models.convolutions import convolve
from gfocal.models.zoo import create
from gfocal.structures import Batch, pad_targets
from gfocal.training.distributed import Devices
from gfocal.training.environment import keep_freed_memory
from gfocal.training.step import training_step


def throughout(network: nn.Module) -> None:
    """Undo what keeps depthwise convolutions in float32."""
    for module in network.modules():
        if getattr(module.__dict__.get("forward"), "func", None) is convolve:
            del module.forward


def make_step(preset: str, precision: str, batch: Batch):
    torch.manual_seed(0)
    model = create(preset, 6, pretrained=False).to(memory_format=torch.channels_last).train()
    if precision == "bf16 throughout":
        throughout(model)
    criterion = build_criterion(model, MethodSettings())
    devices = Devices("no" if precision == "float32" else "bf16", 1, cpu=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    wrapped, optimizer = devices.prepare(model, optimizer)
    return lambda: training_step(wrapped, criterion, batch, optimizer, devices, 10.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--preset", default="gfl_light_fpn")
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--size", type=int, nargs=2, default=(320, 448), metavar=("HEIGHT", "WIDTH"))
    chosen = options.parse_args()
    keep_freed_memory()
    height, width = chosen.size
    boxes = torch.tensor([[20.0, 20, 200, 200], [100, 50, 300, 250]])
    batch = Batch(
        images=torch.randn(chosen.batch_size, 3, height, width).contiguous(memory_format=torch.channels_last),
        targets=pad_targets([boxes] * chosen.batch_size, [torch.tensor([0, 1])] * chosen.batch_size),
        sizes=torch.tensor([chosen.size] * chosen.batch_size),
        original_sizes=torch.tensor([chosen.size] * chosen.batch_size),
        image_ids=tuple(range(chosen.batch_size)),
    )
    kinds = ("float32", "bf16", "bf16 throughout")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    steps = {kind: make_step(chosen.preset, kind, batch) for kind in kinds}
    for step in steps.values():
        step()
        step()
    for _ in range(chosen.rounds):
        for kind, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[kind].append(time.perf_counter() - start)
    base = statistics.median(seconds["float32"])
    print(f"{chosen.preset}, {chosen.batch_size} images of {height}x{width}, {torch.get_num_threads()} threads")
    print(f"{'':16} {'ms a step':>10} {'against float32':>16}")
    for kind in kinds:
        median = statistics.median(seconds[kind])
        print(f"{kind:16} {median * 1e3:10.0f} {base / median:15.2f}x")


if __name__ == "__main__":
    main()

"""What a part of the method costs in time: the same network with it and without it, taking turns.

    python benchmarks/part_costs.py dgqp --pairs 15                # detection, quality from distributions (GFLv2)
    python benchmarks/part_costs.py teacher --pairs 15             # a training step, localization distillation

Of each pair the ratio of the two times is taken; printed are the median of these ratios and its spread over halves of
the pairs. Weights are random, with one thread the time is that of the processor. "dgqp": one image through the
inference copy of the network in float32, decoding left out, which is the same in both. "teacher": gfl_r18_fpn, taught
by gfl_r50_fpn, a batch of two, forward, loss, backward and optimizer step; a teacher adds a forward pass of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from gfocal.criteria.distillation import DistillingCriterion
from gfocal.criteria.gfl import GFLCriterion
from gfocal.models.inference_copy import inference_network
from gfocal.models.zoo import create
from gfocal.structures import Batch, pad_targets
from gfocal.training.distributed import Devices
from gfocal.training.environment import keep_freed_memory
from gfocal.training.step import training_step
from gfocal.training.teaching import with_teacher

CLASSES = 80


def detecting(preset: str, height: int, width: int, has_part: bool) -> Callable[[], object]:
    """One image through the network, with or without DGQP."""
    torch.manual_seed(0)
    network = inference_network(create(preset, CLASSES, pretrained=False, dgqp=has_part).eval(), "float32")
    assert network is not None, "every preset has an inference copy in float32"
    image = torch.randn(1, 3, height, width)

    def detect() -> object:
        with torch.inference_mode():
            return network(image)

    return detect


def training(preset: str, height: int, width: int, has_part: bool) -> Callable[[], object]:
    """A training step of a batch of two, with or without a teacher."""
    torch.manual_seed(0)
    model = create(preset, CLASSES, pretrained=False).train().to(memory_format=torch.channels_last)
    devices = Devices(cpu=True)
    plain = GFLCriterion(box_coder=model.box_coder)  # type: ignore[arg-type]
    criterion = DistillingCriterion(plain, create("gfl_r50_fpn", CLASSES, pretrained=False)) if has_part else plain
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    network, optimizer = devices.prepare(with_teacher(model, criterion, model), optimizer)
    corner = torch.rand(2, 8, 2) * torch.tensor([width / 2, height / 2])
    boxes = torch.cat((corner, corner + 20 + torch.rand(2, 8, 2) * 0.4 * min(height, width)), -1)
    labels = torch.randint(CLASSES, (2, 8))
    sizes = torch.tensor([[height, width]] * 2)
    images = torch.randn(2, 3, height, width).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, pad_targets(list(boxes), list(labels)), sizes, sizes, (1, 2))
    return lambda: training_step(network, criterion, batch, optimizer, devices, clip_norm=35.0)


def compare(runs: tuple[Callable[[], object], Callable[[], object]], pairs: int) -> list[tuple[float, float]]:
    """Seconds without and with the part, of each pair; which comes first alternates."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found = []
    for run in runs:
        run()
        run()
    for number in range(pairs):
        took = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            before = clock()
            runs[which]()
            took[which] = clock() - before
        found.append((took[0], took[1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("dgqp", "teacher"))
    parser.add_argument("--preset", help="(default: gfl_r50_fpn, of teacher gfl_r18_fpn)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    preset = args.preset or ("gfl_r50_fpn" if args.part == "dgqp" else "gfl_r18_fpn")
    make = detecting if args.part == "dgqp" else training
    found = compare((make(preset, *args.size, False), make(preset, *args.size, True)), args.pairs)
    ratios = [after / before for before, after in found]
    without, with_it = (1e3 * median(column) for column in zip(*found, strict=True))
    halves = [100 * (median(half) - 1) for half in (ratios[::2], ratios[1::2]) if half]
    print(
        f"{args.part}, {preset} at {args.size[0]} x {args.size[1]}, {args.threads} thread(s), {args.pairs} pairs: "
        f"{without:.1f} ms without, {with_it:.1f} ms with; median of the ratios {100 * (median(ratios) - 1):+.2f} % "
        f"(halves of the pairs: {', '.join(f'{half:+.2f} %' for half in halves)})"
    )


if __name__ == "__main__":
    main()

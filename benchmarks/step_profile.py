"""Where the time of a training step goes: reading, augmentation, network, criterion, optimizer.

    python benchmarks/step_profile.py PATH/TO/images --config light --config nano --rounds 20

The configs take turns, one batch each, with the same images. Times are medians in ms per step, images read and
augmented in the process itself; "ratio" compares the whole step with the first config's. With ``--threads 1`` it is
processor time, which a busy machine changes less.
Initial weights are not fetched: they do not change the time. Parts that a config freezes are frozen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from gfocal.build import build_criterion, build_model
from gfocal.config.config import read_config, with_changes
from gfocal.data.augmentation.pipeline import augmentation_for
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data
from gfocal.data.loading import Collate, Item
from gfocal.models.finetuning import freeze
from gfocal.training.distributed import Devices
from gfocal.training.ema import WeightAverage
from gfocal.training.environment import keep_freed_memory
from gfocal.training.optim import make_optimizer

PARTS = ("read", "augment", "stack", "network", "criterion", "backward", "optimizer", "average")


class Stopwatch:
    """Milliseconds of each part of one step."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self.last = self.clock()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = self.clock()
        self.parts[part] += (now - self.last) * 1e3
        self.last = now


def make_step(name: str, data: ImageData, changes: dict[str, str]) -> Callable[[int], Stopwatch]:
    """A function that makes the step of a config on the images that start at an index."""
    config = with_changes(read_config(name), changes)
    init = replace(config.model, pretrained=False, weights=None, init_from=None)
    model = build_model(replace(config, model=init), data.names)
    if name == "light" and config.model.freeze is None:
        freeze(model, 2)  # as with ImageNet weights
    model.to(memory_format=torch.channels_last).train()
    criterion = build_criterion(model, config.method)
    devices = Devices(config.run.precision, 1, cpu=True)
    optimizer = make_optimizer(model, config.optimizer, config.run.batch_size)
    network, optimizer = devices.prepare(model, optimizer)
    average = WeightAverage(model, config.run.ema_decay)
    augmentation = augmentation_for(config.augment, model.input_settings)
    collate = Collate(model.input_settings)

    def step(start: int) -> Stopwatch:
        watch, items = Stopwatch(), []
        for i in range(config.run.batch_size):
            image, sample = data.read((start + i) % len(data))
            watch.lap("read")
            size = (int(image.shape[-2]), int(image.shape[-1]))
            image, boxes, labels, ignored = augmentation(image, sample.boxes, sample.labels, sample.crowd, None)
            watch.lap("augment")
            items.append(Item(image, boxes, labels, ignored, size, sample.image_id))
            watch.lap("stack")
        batch = collate(items)
        watch.lap("stack")
        outputs = network(batch.images)
        watch.lap("network")
        losses = criterion(outputs, batch.targets, batch.sizes)
        watch.lap("criterion")
        devices.backward(losses.total)
        watch.lap("backward")
        devices.clip_grad_norm(network, config.optimizer.clip_norm or 1e9)
        optimizer.step()
        optimizer.zero_grad()
        watch.lap("optimizer")
        if config.run.ema_decay:
            average.update(model)
        watch.lap("average")
        return watch

    return step


def main() -> None:
    """Take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--config", action="append", metavar="NAME", help="may be repeated (default: light, nano)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every config")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    data = read_data(args.data, args.split)
    changes = dict(pair.split("=", 1) for pair in args.set)
    steps = {name: make_step(name, data, changes) for name in args.config or ["light", "nano"]}
    laps: dict[str, list[Stopwatch]] = {name: [] for name in steps}
    for number in range(-2, args.rounds):
        for name, step in steps.items():
            watch = step((number + 2) * 8)
            if number >= 0:
                laps[name].append(watch)
    table = Table("config", *PARTS, "step", "ratio", title=f"ms per step, {args.threads} threads")
    totals = {name: median(sum(watch.parts.values()) for watch in own) for name, own in laps.items()}
    base = next(iter(totals.values()))
    for name, own in laps.items():
        cells = [f"{median(watch.parts[part] for watch in own):.0f}" for part in PARTS]
        table.add_row(name, *cells, f"{totals[name]:.0f}", f"{totals[name] / base:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

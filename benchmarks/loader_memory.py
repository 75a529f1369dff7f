"""Memory of the processes that load images, over many annotations: python benchmarks/loader_memory.py

A dataset of 20,000 images with 5 boxes each (100,000 annotations) goes through ``training_loader`` for a whole
epoch. No image is read: each is the same small gray one, so that what grows is the ground truth. Measured is the
proportional set size of the process and its workers together (a page that k processes share counts 1/k in each; the
sum is the memory really taken), from /proc/PID/smaps_rollup, when the epoch is over and the workers still live. Pages
of files, which are those of libraries and are shared with whatever else runs on the machine, are left out.

Three datasets: ``tiny`` has as many images, but they share the ground truth of 64, and stands for everything that is
not annotations (Python, torch, the loader); ``table`` is gfocal's ``FileData``; ``objects`` is the same as a list of
``Sample``, one Python object for each image, as most loaders keep it. What is above ``tiny`` with as many workers is
the part of the annotations.

Each number is of a process of its own, in which the allocator gives back what is free, so that chance has little to
say. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
from gfocal.data.dataset import FileData, ImageData, Sample, SampleTable
from gfocal.data.loading import training_loader
from gfocal.data.preprocess import InputSettings

SIDE = 16  # pixels of an image
NAMES = tuple(f"class {i}" for i in range(80))
KINDS = ("tiny", "table", "objects")


class Gray(FileData):
    """A dataset of files whose pixels are not read."""

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """The same gray image, with its ground truth."""
        return torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8), self.sample(index)


@dataclass
class Objects:
    """The same, with a Python object for each sample; those of a short list come again and again."""

    samples: list[Sample]
    images: int
    names: tuple[str, ...] = NAMES
    category_ids: tuple[int, ...] = tuple(range(1, len(NAMES) + 1))
    files = None

    def __len__(self) -> int:
        return self.images

    def sample(self, index: int) -> Sample:
        """The ground truth of one image."""
        return self.samples[index % len(self.samples)]

    def read(self, index: int) -> tuple[Tensor, Sample]:
        """The same gray image, with its ground truth."""
        return torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8), self.sample(index)

    def at_epoch(self, epoch: int) -> Objects:
        """Itself."""
        return self


def made(kind: str, images: int, boxes_each: int) -> ImageData:
    """A dataset of a kind."""
    images, length = 64 if kind == "tiny" else images, images
    generator = torch.Generator().manual_seed(0)
    low, sides = torch.rand(2, images * boxes_each, 2, generator=generator) * (SIDE / 2 - 2)
    table = SampleTable.from_arrays(
        image_ids=range(images),
        paths=[Path(f"/data/coco/train2017/{i:012d}.jpg") for i in range(images)],
        sizes=[(SIDE, SIDE)] * images,
        counts=[boxes_each] * images,
        boxes=torch.cat((low, low + sides + 2), 1),  # of 2 pixels at least: thinner ones are left out
        labels=torch.randint(len(NAMES), (len(low),), generator=generator),
        crowd=torch.zeros(len(low), dtype=torch.bool),
        areas=(sides + 2).prod(1).double(),
    )
    if kind != "table":
        return Objects(list(table), length)
    return Gray(NAMES, tuple(range(1, len(NAMES) + 1)), table)


# The allocator would keep more or less of what was freed, as it happens.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def pss(process: int) -> int:
    """Proportional set size of a process without pages of files, in bytes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"]) * 1024


def family() -> list[int]:
    """This process and the workers that it has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
    return [os.getpid(), *map(int, children)]


def measured(kind: str, num_workers: int, images: int, boxes_each: int) -> int:
    """Memory of all processes after an epoch, in bytes."""
    torch.set_num_threads(1)
    data = made(kind, images, boxes_each)
    size = InputSettings(short_side=SIDE, long_side=SIDE)
    augmentation = Augmentation(AugmentSettings(), SIDE, SIDE)
    loader, _ = training_loader(data, augmentation, size, batch_size=64, seed=0, num_workers=num_workers)
    seen = sum(int(batch.targets.valid.sum()) for batch in loader)
    assert seen == len(data) * boxes_each, f"{seen} boxes came through"
    return sum(map(pss, family()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all lines, or the one that --one names, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--boxes-each", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "WORKERS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        torch.multiprocessing.set_start_method("fork")
        print(json.dumps(measured(chosen.one[0], int(chosen.one[1]), chosen.images, chosen.boxes_each)))
        return
    print(f"{chosen.images:,} images, {chosen.images * chosen.boxes_each:,} annotations; MB")
    print(f"{'num_workers':>7} {'tiny':>8} {'table':>8} {'objects':>8} {'table - tiny':>14} {'objects - tiny':>16}")
    parts: dict[tuple[str, int], float] = {}
    for num_workers in (0, 1, 2):
        total = {}
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind, str(num_workers)]
            command += ["--images", str(chosen.images), "--boxes-each", str(chosen.boxes_each)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR)
            total[kind] = json.loads(run.stdout) / 1e6
        for kind in KINDS[1:]:
            parts[kind, num_workers] = total[kind] - total["tiny"]
        cells = [f"{total[kind]:8.1f}" for kind in KINDS]
        other = f"{parts['table', num_workers]:14.1f} {parts['objects', num_workers]:16.1f}"
        print(f"{num_workers:7d} {' '.join(cells)} {other}")
    for kind in KINDS[1:]:
        ratios = " and ".join(f"{parts[kind, n] / parts[kind, 0]:.2f}" for n in (1, 2))
        print(f"{kind}: with 1 and 2 workers the annotations take {ratios} times what they take without")
        print(f"{kind}: 2 workers take {parts[kind, 2] / parts[kind, 1]:.2f} times what 1 takes")


if __name__ == "__main__":
    main()

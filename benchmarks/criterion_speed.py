"""Time of GFL's criterion with assignment, forward and backward: gfocal, an earlier checkout of it, MMDetection.

    python benchmarks/criterion_speed.py [--before FOLDER] [--mmdet-python PYTHON] [--objects 20 100 300]

Two images of 800x1216 and 80 classes by default. Every program runs in a process of its own and they take turns, one
call each; the table has medians in ms of wall and of processor time, and ratios of both. FOLDER is a checkout:

    git worktree add /somewhere 13baa11

PYTHON is an interpreter that has mmdet 3.3.0, as ``mmdetection_side.py`` explains. MMDetection's loss begins with the
maps of the levels, gfocal's with the logits of all points, which its head has joined.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

STRIDES, CLASSES, BINS = (8, 16, 32, 64, 128), 80, 17
Call = Callable[[], float]


def made_up(objects: int, height: int, width: int, images: int) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Maps of class and box logits, and the boxes of each image, from a seed."""
    generator = torch.Generator().manual_seed(objects)
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    cls, box = (
        [torch.randn(images, channels, *shape, generator=generator) + shift for shape in shapes]
        for channels, shift in ((CLASSES, -4.0), (4 * BINS, 0.0))
    )
    boxes = []
    for _ in range(images):
        side = torch.exp(torch.rand(objects, 2, generator=generator) * 3.2 + 2.8)  # 16 to 400 pixels
        center = torch.rand(objects, 2, generator=generator) * torch.tensor([width, height])
        limit = torch.tensor([width, height, width, height])
        boxes.append(torch.cat((center - side / 2, center + side / 2), 1).clamp(min=0).minimum(limit))
    return [cls, box], boxes


def timed(loss: Callable[[], Tensor], leaves: list[Tensor]) -> Call:
    """A call that returns its loss."""

    def call() -> float:
        total = loss()
        torch.autograd.grad(total, leaves)
        return float(total)

    return call


def make_gfocal(objects: int, height: int, width: int, images: int) -> Call:
    """One call of ``GFLCriterion`` and its gradient; of the gfocal that is imported."""
    from gfocal.criteria.gfl import GFLCriterion
    from gfocal.ops.points import make_points
    from gfocal.structures import HeadOutputs, pad_targets
    from gfocal.training.environment import keep_freed_memory

    keep_freed_memory()  # as a training run does
    maps, boxes = made_up(objects, height, width, images)
    cls, box = (torch.cat([m.permute(0, 2, 3, 1).flatten(1, 2) for m in kind], 1).requires_grad_() for kind in maps)
    points = make_points([(int(m.shape[2]), int(m.shape[3])) for m in maps[0]], STRIDES)
    labels = [torch.arange(len(some)) % CLASSES for some in boxes]
    targets, sizes = pad_targets(boxes, labels), torch.tensor([[height, width]] * images)
    criterion = GFLCriterion()
    outputs = HeadOutputs(cls, box.unflatten(-1, (4, BINS)), points)
    return timed(lambda: criterion(outputs, targets, sizes).total, [cls, box])


def make_mmdetection(objects: int, height: int, width: int, images: int) -> Call:
    """One call of MMDetection's ``GFLHead.loss_by_feat`` and its gradient."""
    from mmdetection_side import import_mmdetection

    configs = import_mmdetection()
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    config = Config.fromfile(configs / "gfl/gfl_r50_fpn_1x_coco.py").model
    config.backbone.init_cfg = None
    head = MODELS.build(config).bbox_head
    maps, boxes = made_up(objects, height, width, images)
    leaves = [m.requires_grad_() for kind in maps for m in kind]
    truth = [InstanceData(bboxes=some, labels=torch.arange(len(some)) % CLASSES) for some in boxes]
    shape = (height, width)
    metas: list[dict[str, Any]] = [{"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape}] * images
    return timed(lambda: sum(sum(part) for part in head.loss_by_feat(*maps, truth, metas).values()), leaves)


def work(program: str, arguments: argparse.Namespace) -> None:
    """Answer each line "objects" by wall and processor milliseconds of one call."""
    make = make_mmdetection if program == "MMDetection" else make_gfocal
    calls: dict[int, Call] = {}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        objects = int(line)
        if objects not in calls:
            calls[objects] = make(objects, *arguments.size, arguments.images)
            calls[objects]()
        wall, processor = time.perf_counter(), time.process_time()
        loss = calls[objects]()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{wall * 1e3} {processor * 1e3} {loss}", file=answers, flush=True)


def start(program: str, python: str, source: Path | None) -> subprocess.Popen[str]:
    """A worker."""
    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = str(source / "src")
    command = [python, __file__, *sys.argv[1:], "--worker", program]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(worker: subprocess.Popen[str], objects: int) -> list[float]:
    """Wall and processor time of one call, and its loss."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(objects, file=worker.stdin, flush=True)
    return [float(word) for word in worker.stdout.readline().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="checkout of an earlier gfocal")
    parser.add_argument("--mmdet-python", help="interpreter that has mmdet 3.3.0")
    parser.add_argument("--objects", type=int, nargs="+", default=[20, 100, 300])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1216), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        work(arguments.worker, arguments)
        return
    workers = {"gfocal": start("gfocal", sys.executable, None)}
    if arguments.before is not None:
        workers["before"] = start("before", sys.executable, arguments.before)
    if arguments.mmdet_python:
        workers["MMDetection"] = start("MMDetection", arguments.mmdet_python, None)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for number in range(-1, arguments.rounds):
        for objects in arguments.objects:
            for name, worker in workers.items():
                answer = ask(worker, objects)
                if number >= 0:
                    found.setdefault((name, objects), []).append(answer)
    report(found, arguments)
    for worker in workers.values():
        worker.terminate()


def report(found: dict[tuple[str, int], list[list[float]]], arguments: argparse.Namespace) -> None:
    """The table."""
    height, width = arguments.size
    print(
        f"{arguments.images} images of {height}x{width}, {arguments.threads} threads, medians of {arguments.rounds}"
    )
    print(f"{'program':14}{'objects':>8}{'wall ms':>10}{'cpu ms':>10}{'gfocal is':>12}{'(cpu)':>8}{'loss':>12}")
    medians = {key: [median(column) for column in zip(*rows, strict=True)] for key, rows in found.items()}
    for (name, objects), (wall, processor, loss) in medians.items():
        own = medians["gfocal", objects]
        ratios = f"{own[0] / wall:12.3f}{own[1] / processor:8.3f}"
        print(f"{name:14}{objects:8d}{wall:10.1f}{processor:10.1f}{ratios}{loss:12.6f}")
    few, many = min(arguments.objects), max(arguments.objects)
    for name in {name: None for name, _ in medians}:
        growth = [b / a for a, b in zip(medians[name, few][:2], medians[name, many][:2], strict=True)]
        print(
            f"{name}: {many} objects take {growth[0]:.2f} times as long as {few}, {growth[1]:.2f} in processor time"
        )


if __name__ == "__main__":
    main()

"""gfocal beside MMDetection, torchvision and exported files: detection and a training step, as ratios.

    python benchmarks/against_peers.py --mmdetection PYTHON --exported r50.onnx r50.xml
    python benchmarks/against_peers.py --task train

PYTHON is an interpreter that has mmdet 3.3.0; exported files are those of ``gfocal export`` of a GFL R-50. Every one
runs in a process of its own, and they take turns. Networks have a ResNet-50, 80 classes and random weights; stem and
stage 1 are frozen in training, as published, with BatchNorm in evaluation mode. A thousand (point, class) pairs of
gfocal's and MMDetection's heads score above 0.05. Ratios are to MMDetection, else to torchvision's FCOS; those of the
wall clock hold on a quiet machine, those of processor time (cpu) on a busy one too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from inference_speed import CONFIG, image_of, make_candidates

MMDETECTION, FCOS, RETINANET = "MMDetection GFL", "torchvision FCOS", "torchvision RetinaNet"
OURS = {"gfocal GFL float32": "float32", "gfocal GFL bf16": "bf16"}
CLASSES, OBJECTS, BATCH = 80, 20, 2
Step = Callable[[], object]


def ground_truth(side: int) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes and labels of a training batch."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(BATCH, OBJECTS, 2, generator=generator) * side * 0.7
    boxes = torch.cat((corner, corner + 8 + torch.rand(BATCH, OBJECTS, 2, generator=generator) * side * 0.25), -1)
    return list(boxes), list(torch.randint(0, CLASSES, (BATCH, OBJECTS), generator=generator))


def ours(precision: str, size: tuple[int, int] | None) -> Step:
    from gfocal.models.inference_copy import inference_network
    from gfocal.models.zoo import create
    from gfocal.ops.decoding import decode

    model = create("gfl_r50_fpn", CLASSES, pretrained=False)
    if size is None:
        return our_training(model, precision)
    model.eval()
    images, sizes = image_of(*size), torch.tensor([size])
    with torch.inference_mode():
        logits = model(image_of(640, 640)).cls_logits
    make_candidates(logits, [p for n, p in model.named_parameters() if "cls_out" in n and "bias" in n])
    network = inference_network(model, precision)
    assert network is not None

    def detect() -> None:
        with torch.inference_mode():
            decode(network(images), model.box_coder, sizes, sizes, model.names)

    return detect


def our_training(model: Any, precision: str) -> Step:
    from gfocal.build import build_criterion
    from gfocal.config.config import MethodSettings
    from gfocal.structures import Batch, pad_targets
    from gfocal.training.distributed import Devices
    from gfocal.training.environment import keep_freed_memory
    from gfocal.training.optim import OptimizerSettings, make_optimizer
    from gfocal.training.step import training_step

    keep_freed_memory()
    model.backbone.freeze(1, True)
    model.to(memory_format=torch.channels_last).train()
    criterion = build_criterion(model, MethodSettings())
    devices = Devices("no" if precision == "float32" else "bf16", 1, cpu=True)
    settings = OptimizerSettings(lr=1e-4, lr_batch=BATCH, weight_decay=0.0)
    network, optimizer = devices.prepare(model, make_optimizer(model, settings, BATCH))
    sizes = torch.full((BATCH, 2), TRAIN_SIDE)
    images = torch.randn(BATCH, 3, TRAIN_SIDE, TRAIN_SIDE).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, pad_targets(*ground_truth(TRAIN_SIDE)), sizes, sizes, tuple(range(BATCH)))
    return lambda: training_step(network, criterion, batch, optimizer, devices, 35.0)


def exported(path: str, size: tuple[int, int]) -> Step:
    from gfocal.models.exported import load_exported
    from gfocal.models.predict import ImageBatch

    model = load_exported(path)
    batch = ImageBatch((0,), image_of(*size), torch.tensor([size]), torch.tensor([size]))
    return lambda: model.predict_batch(batch, model.decode_settings)


def torchvisions(name: str, size: tuple[int, int] | None) -> Step:
    from torchvision.models import detection

    build = detection.fcos_resnet50_fpn if name == FCOS else detection.retinanet_resnet50_fpn
    sides = size or (TRAIN_SIDE, TRAIN_SIDE)
    model = build(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=min(sides), max_size=max(sides)
    )
    if size is not None:
        model.eval()
        image = image_of(*size)[0].sigmoid()

        def detect() -> None:
            with torch.inference_mode():
                model([image])

        return detect
    images = list(torch.rand(BATCH, 3, TRAIN_SIDE, TRAIN_SIDE))
    boxes, labels = ground_truth(TRAIN_SIDE)
    targets = [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, labels, strict=True)]
    body = model.backbone.body
    return train_theirs(
        model.train(), [body.conv1, body.bn1, body.layer1], lambda: sum(model(images, targets).values())
    )


def mmdetections(size: tuple[int, int] | None) -> Step:
    from mmdetection_side import import_mmdetection

    configs = import_mmdetection()
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.structures import InstanceData

    config = Config.fromfile(configs / CONFIG).model
    config.backbone.init_cfg = None
    model = MODELS.build(config)

    def sample(sides: tuple[int, int]) -> Any:
        about = {"img_shape": sides, "ori_shape": sides, "pad_shape": sides, "batch_input_shape": sides}
        return DetDataSample(metainfo=about | {"scale_factor": (1.0, 1.0)})

    if size is not None:
        model.eval()
        with torch.no_grad():
            maps = model.bbox_head(model.extract_feat(image_of(640, 640)))[0]
        make_candidates(torch.cat([m.flatten() for m in maps]), [model.bbox_head.gfl_cls.bias])
        images, samples = image_of(*size), [sample(size)]

        def detect() -> None:
            with torch.no_grad():
                model.predict(images, samples)

        return detect
    samples = [sample((TRAIN_SIDE, TRAIN_SIDE)) for _ in range(BATCH)]
    for one, boxes, labels in zip(samples, *ground_truth(TRAIN_SIDE), strict=True):
        one.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    images = torch.randn(BATCH, 3, TRAIN_SIDE, TRAIN_SIDE)

    def total() -> Tensor:
        losses = model.loss(images, samples)
        return sum(sum(loss) if isinstance(loss, list) else loss for loss in losses.values())

    return train_theirs(model.train(), [], total)  # its configuration freezes


def train_theirs(model: nn.Module, frozen: list[nn.Module], loss: Callable[[], Any]) -> Step:
    """A step of SGD with clipped gradients; BatchNorm in evaluation mode."""
    for module in frozen:
        module.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, 1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(weights, 35.0)
        optimizer.step()

    return step


TRAIN_SIDE = 320


def make(side: str, size: tuple[int, int] | None) -> Step:
    """One side's detection at a size, or its training step."""
    torch.manual_seed(0)
    if side in OURS:
        return ours(OURS[side], size)
    if side == MMDETECTION:
        return mmdetections(size)
    if side in (FCOS, RETINANET):
        return torchvisions(side, size)
    assert size is not None
    return exported(side, size)


def serve(side: str, size: tuple[int, int] | None, threads: int) -> None:
    """Run once for each line read; print the seconds, wall clock and processor."""
    torch.set_num_threads(threads)
    step = make(side, size)
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


def compare(sides: dict[str, str], size: str, chosen: argparse.Namespace) -> None:
    """Start every side, let them take turns, print the table."""
    processes: dict[str, Any] = {}
    for side, python in sides.items():
        command = [python, __file__, "--serve", side, "--size", size, "--threads", str(chosen.threads)]
        processes[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for side, process in processes.items():
        while (line := process.stdout.readline().strip()) != "ready":
            if not line and process.poll() is not None:
                sys.exit(f"{side} did not start")
    for turn in range(chosen.rounds + 2):  # two warm up
        for side, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            wall, processor = map(float, process.stdout.readline().split())
            if turn >= 2:
                times[side].append((wall, processor))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    reference = MMDETECTION if MMDETECTION in sides else FCOS
    base = [median(values) for values in zip(*times[reference], strict=True)]
    what = "training step, 2 images of 320x320" if size == "train" else f"detection, {size}"
    print(f"\n| {what} | wall ms | cpu ms | faster by wall | by cpu |\n|---|--:|--:|--:|--:|")
    for side, pairs in times.items():
        wall, processor = (median(values) for values in zip(*pairs, strict=True))
        ratios = f"{base[0] / wall:.2f} | {base[1] / processor:.2f}"
        print(f"| {Path(side).name} | {1e3 * wall:.0f} | {1e3 * processor:.0f} | {ratios} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", choices=("detect", "train"), default="detect")
    options.add_argument("--sizes", nargs="+", default=["640x640", "800x1216"], metavar="HxW")
    options.add_argument("--mmdetection", metavar="PYTHON")
    options.add_argument("--exported", nargs="*", default=[], metavar="FILE")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--serve", metavar="SIDE", help=argparse.SUPPRESS)
    options.add_argument("--size", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve is not None:
        size = None if chosen.size == "train" else tuple(map(int, chosen.size.split("x")))
        serve(chosen.serve, size, chosen.threads)  # type: ignore[arg-type]
        return
    sides = {MMDETECTION: chosen.mmdetection} if chosen.mmdetection else {}
    sides |= dict.fromkeys((FCOS, RETINANET, *OURS), sys.executable)
    if chosen.task == "train":
        compare(sides, "train", chosen)
        return
    for size in chosen.sizes:
        compare(sides | dict.fromkeys(chosen.exported, sys.executable), size, chosen)


if __name__ == "__main__":
    main()

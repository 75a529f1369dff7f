"""Cost of the augmentation presets: images per second of the loader, measured in turn in one run.

    python benchmarks/augmentation.py PATH/TO/bccd --split train

With --rotations it measures instead the error of the boxes of rotated objects, compared with rotated outlines:

    python benchmarks/augmentation.py --rotations PATH/TO/coco/annotations/instances.json ...
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, Augmentation, AugmentSettings
from gfocal.data.augmentation.single import affine_matrix
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data
from gfocal.data.loading import training_loader
from gfocal.data.preprocess import InputSettings
from gfocal.ops.boxes import iou

MIN_OUTLINE = 8.0  # pixels; edges of smaller outlines are too inaccurate
DEGREES = (1.0, 2.0, 3.0, 5.0, 10.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", nargs="+", type=Path)
    arguments.add_argument("--split")
    arguments.add_argument("--sides", type=int, nargs=2, default=(240, 320), help="short and long side of the input")
    arguments.add_argument("--num-workers", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5, help="each preset in turn, so many times")
    arguments.add_argument("--rotations", action="store_true", help="DATA are COCO annotations with outlines")
    chosen = arguments.parse_args()
    if chosen.rotations:
        Console().print(rotation_table(chosen.data))
        return
    data = read_data(chosen.data[0], chosen.split)
    settings = {"flip": AugmentSettings()} | AUGMENT_PRESETS
    speeds: dict[str, list[float]] = {name: [] for name in settings}
    padded: dict[str, list[float]] = {name: [] for name in settings}
    for epoch in range(chosen.rounds):
        for name, augment in settings.items():
            images_per_second, pixels = measure_speed(data, augment, tuple(chosen.sides), chosen.num_workers, epoch)
            speeds[name].append(images_per_second)
            padded[name].append(pixels)
    of_light = speeds["light"]
    title = f"{len(data)} images, num_workers = {chosen.num_workers}"
    table = Table(
        "", "images per second", "time relative to light", "pixels of a batch relative to light", title=title
    )
    for name, values in speeds.items():
        ratios = [light / value for light, value in zip(of_light, values, strict=True)]  # of the same round
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        table.add_row(name, f"{median(values):.0f}", spread, f"{sum(padded[name]) / sum(padded['light']):.2f}")
    Console().print(table)


def measure_speed(
    data: ImageData, augment: AugmentSettings, sides: tuple[int, int], num_workers: int, epoch: int
) -> tuple[float, float]:
    """Images per second of one epoch after its first batch, and the mean number of pixels of a padded batch."""
    size = InputSettings(short_side=sides[0], long_side=sides[1])
    loader, order = training_loader(data, Augmentation(augment, *sides), size, 8, 0, num_workers)
    order.epoch = epoch
    batches = iter(loader)
    next(batches)
    started, seen, pixels = time.perf_counter(), 0, []
    for batch in batches:
        seen += len(batch.image_ids)
        pixels.append(batch.images.shape[-2] * batch.images.shape[-1])
    return seen / (time.perf_counter() - started), sum(pixels) / len(pixels)


def rotation_table(files: Sequence[Path]) -> Table:
    """IoU with the box of the rotated outline, and the mean error of an edge in percent of the box's side."""
    outlines = [outline for file in files for outline in load_outlines(file)]
    title = f"{len(outlines)} outlines: IoU, error of an edge in percent of the side"
    table = Table("degrees", "ellipse", "rectangle", "unchanged", title=title)
    for degrees in DEGREES:
        errors: dict[str, list[tuple[float, float]]] = {}
        matrix = affine_matrix(degrees, 0.0, 0.0)
        for outline in outlines:
            low, high = outline.amin(0), outline.amax(0)
            halves = (high - low) / 2
            rotated = (outline - (low + high) / 2) @ matrix.T
            ground_truth = torch.cat([rotated.amin(0), rotated.amax(0)])
            half_sizes = {
                "ellipse": (halves**2 @ (matrix**2).T).sqrt(),
                "rectangle": halves @ matrix.abs().T,
                "unchanged": halves,
            }
            for name, half in half_sizes.items():
                box = torch.cat([-half, half])
                error = ((box - ground_truth).abs() / (2 * halves).repeat(2)).mean()
                errors.setdefault(name, []).append((float(iou(box, ground_truth)), float(error)))
        cells = []
        for rows in errors.values():
            overlaps, shares = zip(*rows, strict=True)
            cells.append(f"{sum(overlaps) / len(rows):.3f}, {100 * sum(shares) / len(rows):.1f} %")
        table.add_row(f"{degrees:g}", *cells)
    return table


def load_outlines(file: Path) -> list[Tensor]:
    """Points (P, 2) of the outlines of a COCO file, of large enough objects that are not crowds."""
    found = []
    for annotation in json.loads(file.read_text(encoding="utf-8"))["annotations"]:
        parts = annotation.get("segmentation")
        if isinstance(parts, list) and parts and not annotation.get("iscrowd"):
            outline = torch.cat([torch.tensor(part).view(-1, 2) for part in parts])
            if min((outline.amax(0) - outline.amin(0)).tolist()) >= MIN_OUTLINE and math.isfinite(outline.sum()):
                found.append(outline)
    return found


if __name__ == "__main__":
    main()

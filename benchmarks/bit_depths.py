"""AP from 8-, 12- and 14-bit copies of one grayscale dataset: after training on each, and of one model on all.

    python benchmarks/bit_depths.py --out runs/bit_depths [--epochs 9] [--threads 1]

The copies have the same upper 8 bits; the lower bits of the deeper ones are random, as of a sensor. Every value is
written as it is into files of 16 bits, where 4095 or 16383 of 65535 would be nearly black.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from gfocal.config.config import read_config
from gfocal.data.dataset import ImageData
from gfocal.data.discovery import read_data
from gfocal.data.survey import choose_for_images, image_paths, with_value_range
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.evaluation.detections import evaluate_model
from gfocal.models.model_file import load_model
from gfocal.run import run_training
from gfocal.run_folder import RunFolder

DEPTHS = (8, 12, 14)


def write_copy(folder: Path, scenes: SyntheticScenes, bits: int) -> None:
    """One split as COCO with PNG files of one channel; 8 bits in 8, more in 16."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(bits)
    images, annotations = [], []
    for i in range(len(scenes)):
        image, sample = scenes.read(i)
        gray = image.float().mean(0).round().numpy().astype(np.uint16)
        low: NDArray[np.uint16] = rng.integers(0, 1 << (bits - 8), gray.shape).astype(np.uint16)
        values = (gray << (bits - 8)) | low
        Image.fromarray(values if bits > 8 else values.astype(np.uint8)).save(folder / "images" / f"{i:05d}.png")
        images.append({"id": i, "file_name": f"{i:05d}.png", "height": scenes.size, "width": scenes.size})
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            note = {"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "iscrowd": 0}
            annotations.append(note | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    categories = [{"id": i, "name": name} for i, name in enumerate(scenes.names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    """Make the copies, train on each, evaluate each model on each copy, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bit_depths"))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    copies: dict[int, tuple[ImageData, ImageData]] = {}
    for bits in DEPTHS:
        for split, count in (("train", args.images), ("val", 200)):
            folder = args.out / "data" / str(bits) / split
            if not folder.exists():
                write_copy(folder, SyntheticScenes(count, 192, 0, "train" if split == "train" else "test"), bits)
        root = args.out / "data" / str(bits)
        copies[bits] = read_data(root / "train"), read_data(root / "val")
    table = Table("trained on", *(f"AP on {bits} bits" for bits in DEPTHS))
    config = read_config("demo")
    config = replace(config, run=replace(config.run, epochs=args.epochs, num_workers=0))
    for bits in DEPTHS:
        run = RunFolder(args.out / f"trained_{bits}")
        if not run.result.exists():
            run_training(config, *copies[bits], run.path, data_name=f"{bits} bits")
        model = load_model(run.last)
        cells = []
        for _, val_data in copies.values():
            choice = choose_for_images(image_paths((val_data,)), model.input_settings, None, Console(stderr=True))
            result = evaluate_model(model, with_value_range(val_data, choice.value_range), 16)
            cells.append(f"{result.ap:.6f}")
        table.add_row(f"{bits} bits", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()

"""How fast gfocal detect goes through a folder, and that its memory does not grow with it.

    python benchmarks/detecting.py PATH/TO/bccd/JPEGImages 200 6000 --short-side 64
    python benchmarks/detecting.py PATH/TO/bccd/JPEGImages 300 --num-workers 0

For each count a process of its own looks through so many images (links to those of the folder, again and again)
with an untrained light detector, drawing none, and says images per second and its peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from gfocal.data.paths import list_images
from gfocal.data.preprocess import InputSettings
from gfocal.inference.files import detect_files
from gfocal.models.zoo import create

BODY = "mobilenetv4_conv_small.e2400_r224_in1k"  # small enough that reading counts


def measure(folder: Path, count: int, num_workers: int, short_side: int) -> str:
    """One line about so many images."""
    torch.manual_seed(0)
    model = create("gfl_light_fpn", 2, names=("a", "b"), pretrained=False, body=BODY, channels=32, num_convs=1).eval()
    model.input_settings = InputSettings(short_side=short_side, long_side=2 * short_side)
    sources = list_images(folder)
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "w", encoding="utf-8") as nowhere:
        images = Path(name, "images")
        images.mkdir()
        for number in range(count):
            source = sources[number % len(sources)].resolve()
            (images / f"{number:06d}{source.suffix}").symlink_to(source)
        begin = time.perf_counter()
        detect_files(
            model, [images], Path(name, "out"), score_threshold=0.0101, batch_size=4, num_workers=num_workers,
            images=False, console=Console(file=nowhere),
        )  # fmt: skip
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB; macOS counts in bytes
    return f"{count} images, {num_workers} workers: {count / seconds:.1f} images/s, peak memory {peak} MB"


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("folder", type=Path)
    reader.add_argument("counts", type=int, nargs="+")
    reader.add_argument("--num-workers", type=int, default=2)
    reader.add_argument("--short-side", type=int, default=320)
    chosen = reader.parse_args()
    if len(chosen.counts) > 1:
        for count in chosen.counts:
            options = ["--num-workers", str(chosen.num_workers), "--short-side", str(chosen.short_side)]
            subprocess.run([sys.executable, __file__, str(chosen.folder), str(count), *options], check=True)
    else:
        print(measure(chosen.folder, chosen.counts[0], chosen.num_workers, chosen.short_side))


if __name__ == "__main__":
    main()

"""Large images: how much memory one takes, and whether tiles find what the whole image at the same scale has.

    python benchmarks/tiles.py memory --width 30000 --height 20000
    python benchmarks/tiles.py seams MODEL DATA --images 50

``memory`` writes a TIFF by strips and another image of a quarter of its size, detects in both with ``gfocal detect
--tile`` in processes of their own, and prints their peak memory. The model is a light one with random weights.

``seams`` makes images of some images of a dataset side by side, detects in each at the scale at which the model saw
its training images, as a whole and in tiles, and matches the two sets of detections one to one: same class, IoU of at
least 0.5. Precision is the share of the detections of tiles that have a partner, recall that of the whole image.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

import gfocal
from gfocal.data.images import read_pixels
from gfocal.data.preprocess import input_shape
from gfocal.models.tiled import detect_tiled
from gfocal.ops.tiles import Tiling, count_tiles
from gfocal.structures import Detections

PEAK = """
import resource, sys
from gfocal.cli.main import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    memory = commands.add_parser("memory")
    memory.set_defaults(run=measure_memory)
    memory.add_argument("--width", type=int, default=30_000)
    memory.add_argument("--height", type=int, default=20_000)
    memory.add_argument("--tile", type=int, default=1024)
    memory.add_argument("--kind", choices=("tif", "deflate", "jpg"), default="tif")
    seams = commands.add_parser("seams")
    seams.set_defaults(run=measure_seams)
    seams.add_argument("model")
    seams.add_argument("data", type=Path)
    seams.add_argument("--split", default="val")
    seams.add_argument("--images", type=int, default=50)
    seams.add_argument("--grid", type=int, default=3, help="images side by side, in rows and columns")
    seams.add_argument("--tile", type=int, default=672)
    seams.add_argument("--overlap", type=float, default=0.4)
    seams.add_argument("--levels", type=int)
    seams.add_argument("--score-threshold", type=float, default=0.3)
    args = parser.parse_args()
    args.run(args)


def write_large(path: Path, width: int, height: int, kind: str) -> None:
    """An image of colored stripes and squares, by strips of 64 rows where the format allows."""
    if kind == "jpg":
        import pyvips

        block = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        tiled = pyvips.Image.new_from_array(block).replicate(-(-width // 512), -(-height // 512))
        tiled.crop(0, 0, width, height).jpegsave(str(path))
        return
    numbers = np.random.default_rng(0)
    offsets, counts = [], []
    with path.open("wb") as file:
        file.write(b"II*\0\0\0\0\0")
        for top in range(0, height, 64):
            rows = numbers.integers(0, 256, (min(64, height - top), width // 50 + 1, 3)).astype(np.uint8)
            stored = rows.repeat(50, 1)[:, :width].tobytes()
            stored = zlib.compress(stored, 1) if kind == "deflate" else stored
            offsets.append(file.tell())
            counts.append(len(stored))
            file.write(stored)
        tags = [(256, [width]), (257, [height]), (258, [8, 8, 8]), (259, [8 if kind == "deflate" else 1]), (262, [2])]
        tags += [(273, offsets), (277, [3]), (278, [64]), (279, counts)]
        behind = file.tell()
        values, entries = b"", b""
        for number, content in tags:
            short = number in (258, 259, 262, 277)
            packed = struct.pack(f"<{len(content)}{'H' if short else 'I'}", *content)
            if len(packed) > 4:
                place, values = struct.pack("<I", behind + len(values)), values + packed
            else:
                place = packed.ljust(4, b"\0")
            entries += struct.pack("<HHI", number, 3 if short else 4, len(content)) + place
        directory = behind + len(values)
        file.write(values + struct.pack("<H", len(tags)) + entries + b"\0" * 4)
        file.seek(4)
        file.write(struct.pack("<I", directory))


def measure_memory(args: argparse.Namespace) -> None:
    suffix = ".jpg" if args.kind == "jpg" else ".tif"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
        model = gfocal.create("gfl_light_fpn", num_classes=3, pretrained=False, **options)
        model.input_settings = replace(model.input_settings, short_side=320, long_side=320)
        gfocal.save(model, folder / "model.safetensors")
        for shrink in (2, 1):
            width, height = args.width // shrink, args.height // shrink
            path = folder / f"image_{shrink}{suffix}"
            write_large(path, width, height, args.kind)
            out = folder / f"found_{shrink}"
            command = [*("detect", folder / "model.safetensors", path, "--out", out, "--tile", args.tile)]
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", PEAK, *map(str, command)], capture_output=True, text=True, check=False
            )
            seconds = time.perf_counter() - start
            if done.returncode:
                sys.exit(done.stderr)
            peak = int(done.stdout.split("peak ")[1])
            found = json.loads((out / "detections.json").read_text())
            tiles = count_tiles((height, width), Tiling(args.tile))
            megapixels, file_size = width * height / 1e6, os.path.getsize(path) / 1e6
            print(
                f"{width} x {height} = {megapixels:.0f} megapixels, {args.kind}, {file_size:.0f} MB: {tiles} tiles, "
                f"{len(found['annotations'])} detections, {seconds:.0f} s, peak {peak / 2**20:.0f} MiB"
            )


def measure_seams(args: argparse.Namespace) -> None:
    model = gfocal.load(args.model)
    data = gfocal.read_data(args.data, args.split)
    paths = [data.files.table.path(i) for i in range(len(data))]
    first = read_pixels(paths[0])
    size = (int(first.shape[1]), int(first.shape[2]))
    scale = input_shape(size, model.input_settings)[0] / size[0]
    model.decode_settings = replace(model.decode_settings, max_detections=2000, per_level=5000)
    whole_settings = replace(
        model.input_settings,
        short_side=round(scale * args.grid * min(size)),
        long_side=round(scale * args.grid * max(size)),
    )
    side = round(scale * args.tile)
    tile_settings = replace(model.input_settings, short_side=side, long_side=side)
    tiling = Tiling(args.tile, args.overlap, args.levels)
    numbers = torch.Generator().manual_seed(0)
    totals = np.zeros(4, int)
    for _ in range(args.images):
        image = compose(paths, size, args.grid, numbers)
        model.input_settings = whole_settings
        whole = model.detect(image, args.score_threshold, precision="float32")
        model.input_settings = tile_settings
        tiled = detect_tiled(model, image, tiling, args.score_threshold, precision="float32")
        pairs = [match(whole, tiled, iou) for iou in (0.5, 0.75)]
        totals += [len(whole), len(tiled), *pairs]
    num_whole, num_tiled, *matched = totals.tolist()
    print(
        f"{args.images} images of {args.grid * size[1]} x {args.grid * size[0]}, {args.tile} pixels a tile, overlap "
        f"{args.overlap:g}, scale {scale:.3f}: {num_whole} detections in whole images, {num_tiled} in tiles"
    )
    for iou, count in zip((0.5, 0.75), matched, strict=True):
        print(f"IoU {iou}: recall {count / num_whole:.4f}, precision {count / num_tiled:.4f}")


def compose(paths: Sequence[Path], size: tuple[int, int], grid: int, numbers: torch.Generator) -> Tensor:
    """Images side by side. (3, H, W) uint8"""
    chosen = torch.randint(len(paths), (grid * grid,), generator=numbers).tolist()
    parts = [read_pixels(paths[i])[:, : size[0], : size[1]] for i in chosen]
    rows = [torch.cat(parts[i : i + grid], 2) for i in range(0, grid * grid, grid)]
    return torch.cat(rows, 1).contiguous()


def match(a: Detections, b: Detections, threshold: float) -> int:
    """How many detections have a partner of the same class, one to one, best IoU first."""
    if not len(a) or not len(b):
        return 0
    ious = box_iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels[None])
    count = 0
    while float(ious.max()) >= threshold:
        i, j = divmod(int(ious.argmax()), ious.shape[1])
        ious[i], ious[:, j] = 0, 0
        count += 1
    return count


if __name__ == "__main__":
    main()

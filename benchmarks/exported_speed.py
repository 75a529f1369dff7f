"""A model, its exported files and an earlier gfocal side by side: detection in one image, with its NMS.

    python benchmarks/exported_speed.py runs/mine mine.onnx mine.xml --size 640x640 --before CHECKOUT

CHECKOUT is an earlier gfocal (git worktree add CHECKOUT 13baa11), whose network runs as it is trained: NCHW, float32.
Each runs in a process of its own, and all take turns, so that a busy machine slows all alike; an engine disturbs
another one in the same process. Ratios are to the first line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

BEFORE, PRECISIONS = "before", ("float32", "bf16")
MIN_SECONDS = 0.1  # of a turn: a light network runs several times


def write_images(path: Path, height: int, width: int) -> None:
    """A synthetic scene as input of a network, normalized by ImageNet's mean and deviation."""
    from gfocal.data.synthetic.scenes import SyntheticScenes

    image = SyntheticScenes(1, size=192, purpose="test").read(0)[0][None].float()
    image = torch.nn.functional.interpolate(image, (height, width), mode="bilinear")
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    torch.save((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1), path)


def make(side: str, model_file: str, images: torch.Tensor) -> Callable[[], Any]:
    """Detection in the image by one side; returns the detections."""
    sizes = torch.tensor([images.shape[-2:]])
    if side not in (BEFORE, *PRECISIONS):
        from gfocal.models.exported import load_exported
        from gfocal.models.predict import ImageBatch

        exported = load_exported(side)
        batch = ImageBatch((0,), images, sizes, sizes)
        return lambda: exported.predict_batch(batch, exported.decode_settings)[0]
    from gfocal.models.model_file import load_model
    from gfocal.ops.decoding import decode

    model = load_model(model_file).eval()
    network: Any = model
    if side != BEFORE:
        from gfocal.models.inference_copy import inference_network

        network = inference_network(model, side)

    def detect() -> Any:
        with torch.inference_mode():
            return decode(network(images), model.box_coder, sizes, sizes, model.names, model.decode_settings)[0]

    return detect


def serve(side: str, model_file: str, images: Path, threads: int) -> None:
    """Print the seconds of a detection for each line read: wall clock, processor, and how many were found."""
    torch.set_num_threads(threads)
    detect = make(side, model_file, torch.load(images))
    detect()
    begin = time.perf_counter()
    detect()
    calls = max(1, int(MIN_SECONDS / (time.perf_counter() - begin)))
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(calls):
            found = detect()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(wall / calls, processor / calls, len(found), flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", help="a model file")
    options.add_argument("exported", nargs="*", help="files of 'gfocal export' of it")
    options.add_argument("--size", default="640x640", metavar="HxW")
    options.add_argument("--before", type=Path, metavar="CHECKOUT")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--serve", nargs=2, metavar=("SIDE", "IMAGES"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve[0], chosen.model, Path(chosen.serve[1]), chosen.threads)
        return
    sides = [*([BEFORE] if chosen.before else []), *PRECISIONS, *chosen.exported]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images.pt")
        write_images(images, *map(int, chosen.size.split("x")))
        times = take_turns(sides, images, chosen)
    base = None
    for side, runs in times.items():
        wall, processor, count = (median(values) for values in zip(*runs, strict=True))
        base = base or (wall, processor)
        ratios = f"{base[0] / wall:6.2f}x {base[1] / processor:6.2f}x"
        figures = f"{wall * 1e3:8.1f} {processor * 1e3:8.1f} ms (wall, cpu)  {ratios}"
        print(f"{chosen.size:9} {Path(side).name:24} {figures}  {count:.0f} detections", flush=True)


def take_turns(sides: list[str], images: Path, chosen: argparse.Namespace) -> dict[str, list[tuple[float, ...]]]:
    """What each side measured, round by round."""
    processes: dict[str, Any] = {}
    for side in sides:
        environment = dict(os.environ, OMP_NUM_THREADS=str(chosen.threads))
        if side == BEFORE:
            environment["PYTHONPATH"] = str(chosen.before / "src")
        command = [sys.executable, __file__, chosen.model, "--serve", side, str(images)]
        command += ["--threads", str(chosen.threads)]
        processes[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        while (line := processes[side].stdout.readline().strip()) != "ready":
            if not line and processes[side].poll() is not None:
                sys.exit(f"{side} did not start")
    times: dict[str, list[tuple[float, ...]]] = {side: [] for side in sides}
    for turn in range(chosen.rounds + 1):
        for side, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            measured = tuple(map(float, process.stdout.readline().split()))
            if turn:
                times[side].append(measured)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return times


if __name__ == "__main__":
    main()

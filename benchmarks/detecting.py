"""How fast gfocal detect goes through a folder, that its memory does not grow with it, and how fast it starts.

    python benchmarks/detecting.py PATH/TO/images 500 --preset gfl_light_fpn --before /somewhere
    python benchmarks/detecting.py PATH/TO/images 200 6000 --short-side 64      # does memory grow?
    python benchmarks/detecting.py PATH/TO/images 1 --start-up                  # the command, from start to end

/somewhere is an earlier checkout (git worktree add /somewhere 13baa11), which takes turns with this one. Each run is
a process of its own, which looks through so many images (those of the folder, again and again, stretched to 640x480)
with an untrained detector, drawing none. Printed are medians: images per second of the wall clock, and of processor
time, which holds on a busy machine too; and the peak memory.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any


def detect(images: Path, model_file: Path, count: int, chosen: argparse.Namespace) -> dict[str, float]:
    """Detect in so many images; seconds and MB."""
    from rich.console import Console

    from gfocal.inference.files import detect_files
    from gfocal.models.model_file import load_model

    model = load_model(model_file)
    options: dict[str, Any] = {"draw": False, "num_workers": chosen.num_workers, "batch_size": chosen.batch_size}
    if chosen.precision:
        options["precision"] = chosen.precision
    files = sorted(images.iterdir())[:count]
    with tempfile.TemporaryDirectory() as folder:
        console = Console(file=io.StringIO())
        detect_files(model, files[:4], Path(folder, "warm"), console=console, **options)
        wall, processor = time.perf_counter(), time.process_time()
        detect_files(model, files, Path(folder, "out"), console=console, **options)
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - processor}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # macOS counts in bytes
    return {"images/s": count / seconds["wall"], "images/cpu s": count / seconds["cpu"], "peak MB": peak}


def start(images: Path, model_file: Path, checkout: Path) -> dict[str, float]:
    """The seconds of a whole command that detects in one image and draws it, of the wall clock and the processor."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "gfocal",
            "detect",
            str(model_file),
            str(min(images.iterdir())),
            "--out",
            folder,
        ]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment(checkout))
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall s": wall, "cpu s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def environment(checkout: Path) -> dict[str, str]:
    """That of a process which imports gfocal from a checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout / "src")}


def prepare(chosen: argparse.Namespace, images: Path, model_file: Path) -> None:
    """Write the images and the model, which both checkouts read."""
    import torch
    from PIL import Image

    from gfocal.data.paths import list_images
    from gfocal.models.model_file import save_model
    from gfocal.models.zoo import create

    sources = list_images(chosen.folder)
    images.mkdir()
    for number in range(max(chosen.counts)):
        target = images / f"{number:06d}.jpg"
        if number < len(sources):
            Image.open(sources[number]).convert("RGB").resize((640, 480)).save(target, quality=90)
        else:
            target.symlink_to(images / f"{number % len(sources):06d}.jpg")
    torch.manual_seed(0)
    model = create(chosen.preset, 5, pretrained=False)
    if chosen.short_side:
        model.input_settings = model.input_settings.with_short_side(chosen.short_side)
    save_model(model, model_file)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("counts", type=int, nargs="+")
    options.add_argument("--before", type=Path, metavar="CHECKOUT")
    options.add_argument("--preset", default="gfl_light_fpn")
    options.add_argument(
        "--precision", default="", help="of this checkout: float32 or bf16 (default: its own choice)"
    )
    options.add_argument("--short-side", type=int)
    options.add_argument("--batch-size", type=int, default=1)
    options.add_argument("--num-workers", type=int, default=2)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--start-up", action="store_true")
    options.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        print(json.dumps(detect(Path(chosen.serve[0]), Path(chosen.serve[1]), chosen.counts[0], chosen)))
        return
    checkouts = {"now": Path(__file__).resolve().parents[1]} | ({"before": chosen.before} if chosen.before else {})
    with tempfile.TemporaryDirectory() as folder:
        images, model_file = Path(folder, "images"), Path(folder, "model.safetensors")
        prepare(chosen, images, model_file)
        for count in chosen.counts:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
            for _ in range(chosen.rounds):
                for name, checkout in checkouts.items():
                    if chosen.start_up:
                        found[name].append(start(images, model_file, checkout))
                        continue
                    command = [sys.executable, __file__, str(chosen.folder), str(count)]
                    command += ["--serve", str(images), str(model_file), "--batch-size", str(chosen.batch_size)]
                    command += ["--num-workers", str(chosen.num_workers)]
                    command += ["--precision", chosen.precision] if chosen.precision and name == "now" else []
                    output = subprocess.check_output(command, text=True, env=environment(checkout))
                    found[name].append(json.loads(output.splitlines()[-1]))
            report(f"{count} images" if not chosen.start_up else "the command with one image", found)


def report(what: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and of two checkouts how many times the first figure is the second."""
    medians = {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
    for name, values in medians.items():
        print(f"{what}, {name}: " + ", ".join(f"{value:.2f} {key}" for key, value in values.items()), flush=True)
    if "before" in medians:
        ratios = [f"{medians['now'][key] / medians['before'][key]:.2f} {key}" for key in medians["now"]]
        print(f"{what}, now / before: {', '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()

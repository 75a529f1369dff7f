"""gfocal benchmark: how fast detectors are on this machine, as a table to paste into an issue."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import __version__
from gfocal.cli import DONE
from gfocal.cli.early import say_beginning
from gfocal.cli.inputs import select_device, standard_output
from gfocal.cli.options import add_device, int_at_least
from gfocal.console import say
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.inference.benchmark import Job, Measured
    from gfocal.models.precision import Precision

PRECISIONS = ("float32", "bf16")
ENGINES = {".onnx": "onnxruntime", ".xml": "openvino"}  # by the suffix of an exported file
NUM_SYNTHETIC, SYNTHETIC_SIZE = 8, (480, 640)  # images where none are given, and their height and width


def add(commands: Any) -> None:
    """Declare the command and its options."""
    benchmark = commands.add_parser(
        "benchmark",
        help="how fast detectors are on this machine, by precision and engine",
        description="Measure detectors on this machine, each in a process of its own and all in turns: latency, "
        "images per second, peak memory, and the share of each stage, as a table to paste into an issue. Exported "
        "files run in their engine, onnxruntime or OpenVINO.",
    )
    benchmark.set_defaults(run=run)
    benchmark.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a model file, the folder of a run, published weights by name, or a file of 'gfocal export'",
    )
    benchmark.add_argument(
        "--images", type=Path, metavar="FOLDER", help="images to detect in (default: synthetic ones of 640x480)"
    )
    benchmark.add_argument(
        "--max-images", type=int_at_least(1), default=16, metavar="N", help="of the folder (default: 16)"
    )
    benchmark.add_argument(
        "--size", type=_size, metavar="HxW", help="height and width of the network's input (default: the model's own)"
    )
    benchmark.add_argument("--batch-size", type=int_at_least(1), default=1, help="images per pass (default: 1)")
    benchmark.add_argument(
        "--precision",
        type=_list_of(PRECISIONS),
        default=PRECISIONS,
        metavar="P,P",
        help="float32, bf16 or both, of models that are not exported (default: both)",
    )
    benchmark.add_argument(
        "--engine",
        type=_list_of(("torch", *ENGINES.values())),
        metavar="E,E",
        help="measure only those MODELs that run in these engines: torch, onnxruntime, openvino (default: all)",
    )
    benchmark.add_argument(
        "--rounds",
        type=int_at_least(1),
        default=7,
        metavar="N",
        help="times that all images are measured (default: 7)",
    )
    add_device(benchmark)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal benchmark."""
    from gfocal.errors import DataError
    from gfocal.models.names import require_model

    engines = {model: ENGINES.get(Path(model).suffix.lower(), "torch") for model in args.models}
    models = [model for model in engines if args.engine is None or engines[model] in args.engine]
    if not models:
        raise DataError(
            f"--engine {','.join(args.engine)}: none of the models runs in it; they run in torch, but "
            "those of 'gfocal export' in onnxruntime (.onnx) or openvino (.xml)"
        )
    for model in models:
        require_model(model)
    say_beginning(f"measuring {', '.join(models)}", console)
    from gfocal.inference.benchmark import measure

    with tempfile.TemporaryDirectory() as folder:
        images = find_images(args.images, args.max_images) if args.images else make_images(Path(folder), args)
        jobs = make_jobs(models, engines, images, args)
        measured = measure(jobs, args.rounds)
    output = standard_output()
    for line in describe(measured, args):
        say(output, line)
    return DONE


def find_images(folder: Path, most: int) -> list[str]:
    """Images of a folder, evenly spaced among all of them. Raises DataError where there are none."""
    from gfocal.data.paths import list_images
    from gfocal.errors import DataError

    if not folder.is_dir():
        raise DataError(f"--images {folder}: no such folder")
    found = list_images(folder, deep=True)
    if not found:
        raise DataError(f"--images {folder}: no images in this folder")
    count = min(most, len(found))
    return [str(found[i * len(found) // count]) for i in range(count)]


def make_images(folder: Path, args: argparse.Namespace) -> list[str]:
    """Write synthetic images into a folder, as many as fill whole batches."""
    from gfocal.data.synthetic.scenes import SyntheticScenes
    from gfocal.visualize.drawing import as_pil_image

    height, width = args.size or SYNTHETIC_SIZE
    count = -(-NUM_SYNTHETIC // args.batch_size) * args.batch_size
    scenes = SyntheticScenes(count, size=min(640, max(96, height, width)))
    paths = []
    for i in range(count):
        image = as_pil_image(scenes.read(i)[0])
        side = max(height, width, image.width)
        path = folder / f"{i}.jpg"
        image.resize((side, side)).crop((0, 0, width, height)).save(path, quality=90)
        paths.append(str(path))
    return paths


def make_jobs(
    models: Sequence[str], engines: dict[str, str], images: Sequence[str], args: argparse.Namespace
) -> list[Job]:
    """Each model in each precision; exported files have one of their own."""
    from gfocal.inference.benchmark import Job

    device = str(select_device(args.device))
    own: tuple[Precision, ...] = ("auto",)  # of an exported file
    return [
        Job(model, precision, tuple(images), args.batch_size, args.size, device)
        for model in models
        for precision in (args.precision if engines[model] == "torch" else own)
    ]


def describe(measured: Sequence[Measured], args: argparse.Namespace) -> list[str]:
    """The machine, what was measured, and a table in Markdown."""
    from gfocal.inference.benchmark import STAGES, percentile

    job = measured[0].job
    images = (
        f"{pluralize(len(job.images), 'image')} of {args.images}"
        if args.images
        else f"{len(job.images)} synthetic images"
    )
    size = f", input {job.size[0]}x{job.size[1]}" if job.size else ""
    lines = [
        f"{machine()}",
        f"{images}{size}, batch size {job.batch_size}, {pluralize(args.rounds, 'round')}; "
        "latency is of a batch, from pixels to detections",
        "",
        "| model | engine | precision | latency, median ms | 95 % ms | images/s | memory MB | "
        + " | ".join(f"{stage} %" for stage in STAGES)
        + " |",
        "|---|---|---|" + "--:|" * (4 + len(STAGES)),
    ]
    for one in measured:
        numbers = [
            f"{1e3 * percentile(one.latencies, 0.5):.1f}",
            f"{1e3 * percentile(one.latencies, 0.95):.1f}",
            f"{one.images_per_second:.1f}",
            f"{one.peak_memory / 1e6:.0f}",
            *(f"{100 * one.shares[stage]:.0f}" for stage in STAGES),
        ]
        lines.append(f"| {Path(one.job.model).name} | {one.engine} | {one.precision} | {' | '.join(numbers)} |")
    return lines


def machine() -> str:
    """Processor, cores, threads and the versions of what computes, in a line."""
    import torch

    from gfocal.cli.doctor import installation, version_of

    about = dict(installation())
    packages = ("torch", "onnxruntime", "openvino")
    versions = [f"{name} {version}" for name in packages if (version := version_of(name))]
    versions = [f"gfocal {__version__}", f"Python {about['Python'].partition(' ')[0]}", *versions]
    return f"{about['CPU']}, {pluralize(torch.get_num_threads(), 'thread')}; {', '.join(versions)}"


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    if found is None or not all(32 <= int(side) <= 8192 for side in found.groups()):
        raise argparse.ArgumentTypeError(f"takes HEIGHTxWIDTH in pixels, 32 to 8192 each, not {text!r}")
    return int(found[1]), int(found[2])


def _list_of(choices: Sequence[str]) -> Any:
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
        if not set(chosen) <= set(choices):
            raise argparse.ArgumentTypeError(f"takes some of {', '.join(choices)}, separated by commas, not {text!r}")
        return chosen

    return read

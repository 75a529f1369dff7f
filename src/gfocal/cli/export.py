"""gfocal export."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.cli.early import require_data, say_beginning
from gfocal.console import say
from gfocal.models.names import require_model

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.data.dataset import ImageData
    from gfocal.models.detector import Detector


def add(commands: Any) -> None:
    """Declare the command and its options."""
    export = commands.add_parser(
        "export",
        help="write a model as a file for ONNX Runtime, OpenVINO or torch.export",
        usage="gfocal export MODEL --to onnx|openvino|torch [options]",
        description="Write a model as a file for another engine, with its class names, input size, thresholds and "
        "decoding in the metadata. The file is run beside the model on images, and the differences are printed and "
        "stored; beyond a bound of its precision nothing is written. 'gfocal detect' and 'gfocal eval' take .onnx "
        "and .xml files as a MODEL.",
    )
    export.set_defaults(run=run)
    export.add_argument(
        "model", metavar="MODEL", help="a model file, the folder of a run, or published weights by name"
    )
    export.add_argument("--to", required=True, choices=("onnx", "openvino", "torch"), help="the engine")
    export.add_argument(
        "--precision",
        choices=("float32", "bf16", "int8"),
        default="float32",
        help="of the network; the final layers and the decoding stay in float32. bf16 is for openvino, int8 for onnx "
        "and openvino (default: float32)",
    )
    export.add_argument(
        "--calibrate",
        metavar="DATA",
        help="for int8: a folder of images like those that it will see; annotations are not needed",
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="annotated images, on which model and file are compared, AP included (default: the images of "
        "--calibrate, else synthetic ones, without AP)",
    )
    export.add_argument("--split", metavar="NAME", help="of --data (default: test, else val, else all)")
    export.add_argument(
        "--nms",
        action="store_true",
        help="with selection and non-maximum suppression inside, so that the outputs are final objects",
    )
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="(default: the name of the model, with .onnx, .xml or .pt2)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal export."""
    require_model(args.model)
    require_data([data for data in (args.calibrate, args.data) if data is not None])
    say_beginning(f"loading {args.model}", console)
    from gfocal.export.export import SUFFIX, ExportOptions, export_model
    from gfocal.interop.published_weights import load
    from gfocal.models.exported import files_of

    out = args.out or Path(default_name(args.model) + SUFFIX[args.to])
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder; name a file")
    ExportOptions(args.to, args.precision, args.nms, [None]).check()  # before anything is read
    model = load(args.model)
    calibration, others = split_images(find_images(args.calibrate, console)) if args.calibrate else ([], [])
    data = None if args.data is None else read_annotated(args, model, console)
    images = others if data is None else [data.read(i)[0] for i in spread(len(data), 16)]
    options = ExportOptions(args.to, args.precision, args.nms, calibration, images, data)
    differences = export_model(model, out, options, lambda text: say(console, text))
    print_differences(differences, args, data)
    parts = files_of(out)
    size = sum(part.stat().st_size for part in parts) / 1e6
    say(console, f"{' and '.join(map(str, parts))}: {size:.1f} MB")
    return DONE


def default_name(model: str) -> str:
    """The name of a file for a model: that of its file, of its run's folder, or of published weights."""
    path = Path(model)
    return path.stem if path.is_file() else path.name


def find_images(folder: str, console: Console) -> list[str]:
    """The image files below a folder. Raises DataError where there are none."""
    from gfocal.console import note
    from gfocal.errors import DataError
    from gfocal.inference.sources import find_images

    if folder == "synthetic":
        raise DataError(
            "--calibrate: takes a folder of images like those that the model will see, not synthetic ones"
        )
    found = find_images([folder], Path(folder) / "no such folder")
    for text in (*found.notes, *found.failures):
        note(console, text)
    if not found.files:
        raise DataError(f"--calibrate {folder}: no images were found")
    return found.files


def spread(count: int, most: int) -> list[int]:
    """Up to ``most`` of the numbers below ``count``, evenly spread."""
    step = max(count / most, 1)
    return [int(i * step) for i in range(min(count, most))]


def split_images(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images to calibrate on, and others to compare on; the same where there are few."""
    if len(files) < 8:
        return list(files), list(files)
    return [f for i, f in enumerate(files) if i % 5], list(files[::5])


def read_annotated(args: argparse.Namespace, model: Detector, console: Console) -> ImageData:
    """The annotated images of --data, with the classes of the model."""
    from gfocal.cli.counting import rename_as_in_training
    from gfocal.cli.inputs import read_datasets, select_splits

    parts = select_splits([args.data], args.split, "test", "val")
    renames = rename_as_in_training(parts, model, [], console)
    return read_datasets(parts, console, None, model.names, renames, share="any")


def print_differences(differences: Any, args: argparse.Namespace, data: ImageData | None) -> None:
    """The table of differences between file and model."""
    from rich.table import Table

    from gfocal.cli.inputs import standard_output

    source = "annotated images" if data is not None else "images" if args.calibrate else "synthetic images"
    table = Table(
        title=f"{args.to} {args.precision} against the model in float32: the {differences.num_points:,} best points "
        f"of {differences.num_images} {source}",
        title_justify="left",
    )
    table.add_column("difference")
    table.add_column("mean", justify="right")
    table.add_column("largest", justify="right")
    for row in differences.rows():
        table.add_row(*row)
    standard_output().print(table)

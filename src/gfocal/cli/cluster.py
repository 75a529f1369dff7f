"""gfocal detect --engine ray."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli.options import Options, int_at_least

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.models.exported import AnyDetector

# Options of detect that are of one process alone: (attribute, value that leaves it out, as the user writes it).
_OF_ONE_PROCESS = (
    ("tile", None, "--tile"),
    ("submission", None, "--submission"),
    ("viewer", None, "--viewer"),
    ("compile", False, "--compile"),
)


def add_cluster(group: Options) -> None:
    """Declare the options."""
    group.add_argument(
        "--engine",
        choices=("ray",),
        help="detect on a Ray cluster (pip install 'gfocal[ray]'): IMAGE may also be parquet files or addresses "
        "(s3://...), DIR/parts has the results as parquet",
    )
    group.add_argument(
        "--merge",
        metavar="DIR",
        help="only write the results of --engine ray in DIR in other formats: into DIR, of an address into --out",
    )
    group.add_argument(
        "--address", metavar="HOST:PORT", help="of a running cluster, or auto (default: Ray on this machine)"
    )
    group.add_argument(
        "--workers",
        type=int_at_least(1),
        metavar="N",
        help="processes (default: as many as the cluster has CPUs for)",
    )
    group.add_argument("--threads", type=int_at_least(1), metavar="N", help="CPUs of each process (default: 1)")
    group.add_argument("--gpus", type=_gpus, metavar="N", help="GPUs of each process, or a share of one (default: 0)")
    group.add_argument(
        "--part-size",
        type=int_at_least(1),
        metavar="N",
        help="images that a process does at once, which make a file of results (default: 256)",
    )


def folder_or_address(text: str) -> Path | str:
    """A folder, or an address (s3://...), which a Path would spoil."""
    return text if "://" in text else Path(text)


def _gpus(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (0 <= number < 1 or number.is_integer()) or number < 0:
        raise argparse.ArgumentTypeError(f"takes a whole number, or a share below 1, not {text!r}")
    return number


def check_engine(args: argparse.Namespace) -> bool:
    """Whether the images go to a cluster; raises DataError for options that do not go together."""
    from gfocal.errors import DataError

    if args.engine is None:
        named = ("address", "workers", "threads", "gpus", "part_size")
        if given := [name for name in named if getattr(args, name) is not None]:
            raise DataError(f"--{given[0].replace('_', '-')}: is of a cluster; add --engine ray")
        if isinstance(args.out, str):
            raise DataError(f"--out {args.out}: an address, which needs --engine ray; name a folder, or add that")
        return False
    for name, nothing, option in _OF_ONE_PROCESS:
        if getattr(args, name) != nothing:
            raise DataError(f"{option}: not with --engine ray; leave one of them out")
    if args.model is None or not (args.images or args.list):
        raise DataError("--engine ray: name a MODEL and images: gfocal detect MODEL IMAGE ... --engine ray --out DIR")
    return True


def detect_on_cluster(args: argparse.Namespace, model: AnyDetector, console: Console) -> int:
    """Detect in the images of a command line; returns how many failed."""
    from gfocal.data.classes import map_classes
    from gfocal.inference.ray_engine import PART_SIZE, Workers, detect_on_ray

    workers: dict[str, Any] = {"count": args.workers, "threads": args.threads or 1, "gpus": args.gpus or 0.0}
    return detect_on_ray(
        model,
        args.images,
        args.out if isinstance(args.out, str) else str(args.out),
        lists=args.list,
        address=args.address,
        workers=Workers(**workers, part_size=args.part_size or PART_SIZE, batch_size=args.batch_size),
        score_threshold=args.score_threshold,
        value_range=args.value_range,
        classes=map_classes(model.names, dict(args.rename), args.classes),
        precision=args.precision,
        coverage=args.coverage,
        resume=args.resume,
        console=console,
    )

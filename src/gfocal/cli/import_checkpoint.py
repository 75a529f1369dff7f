"""gfocal import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE
from gfocal.console import say

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command and its options."""
    bring = commands.add_parser(
        "import",
        help="make a model file of a published MMDetection or GFocal checkpoint",
        description="Make a model file of a published checkpoint of MMDetection (GFL, ATSS, FCOS, FoveaBox, "
        "RetinaNet) or of the original GFocal repository.",
    )
    bring.set_defaults(run=run)
    bring.add_argument("checkpoint", type=Path, metavar="FILE.pth", help="only tensors are read, no code is run")
    bring.add_argument(
        "--out", type=Path, default=Path("model.safetensors"), metavar="FILE", help="(default: model.safetensors)"
    )
    bring.add_argument(
        "--points",
        choices=("corner", "legacy", "center"),
        help="of GFL: where a cell's point lies; legacy is the original GFocal repository (default: by the file's "
        "version)",
    )
    bring.add_argument(
        "--caffe",
        action=argparse.BooleanOptionalAction,
        help="of FCOS: whether the backbone is of the Caffe kind (default: by the file's config, else yes)",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal import."""
    from gfocal.interop.mmdet import import_checkpoint
    from gfocal.models.model_file import save_model

    if args.out.is_dir():
        raise IsADirectoryError(f"{args.out}: is a folder; name a file")
    if args.out.exists() and args.checkpoint.exists() and args.out.samefile(args.checkpoint):
        raise FileExistsError(f"{args.out}: is the checkpoint itself, which would be lost; give another --out")
    imported = import_checkpoint(args.checkpoint, args.points, args.caffe)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_model(imported.model, args.out)
    told = [
        f"{args.checkpoint}: {imported.num_tensors} tensors, every one in its place in {imported.preset}",
        *imported.notes,
        *(f"left out: {reason}" for reason in imported.left_out),
        f"model file: {args.out}",
    ]
    for line in told:
        say(console, line)
    return DONE

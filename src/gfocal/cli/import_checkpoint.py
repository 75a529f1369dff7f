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
    command = commands.add_parser(
        "import",
        help="convert a published checkpoint of MMDetection, GFocal or NanoDet-Plus to a model file",
        description="Convert a published checkpoint of MMDetection (GFL, ATSS, FCOS, FoveaBox, RetinaNet), of the "
        "original GFocal repository or of NanoDet-Plus (.ckpt, .pth, or safetensors with folded BatchNorm) to a "
        "model file.",
    )
    command.set_defaults(run=run)
    command.add_argument("checkpoint", type=Path, metavar="FILE", help="only its tensors are read, no code is run")
    command.add_argument(
        "--out", type=Path, default=Path("model.safetensors"), metavar="FILE", help="(default: model.safetensors)"
    )
    command.add_argument(
        "--names",
        metavar="A,B,...|FILE",
        help="names of the classes in the order of training, or a text file with one on each line (default: those in "
        "the file, which must be as many as its head has classes)",
    )
    command.add_argument(
        "--points",
        choices=("corner", "legacy", "center"),
        help="for GFL: where in its cell a point lies; legacy is that of the original GFocal repository (default: by "
        "the version in the file)",
    )
    command.add_argument(
        "--caffe",
        action=argparse.BooleanOptionalAction,
        help="for FCOS: whether the backbone is a Caffe-style ResNet (default: by the config in the file, else yes)",
    )
    command.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="for NanoDet-Plus: side of its square input (default: 320 or 416 by the file's name, else 416)",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal import."""
    from gfocal.interop.any_checkpoint import import_any
    from gfocal.models.model_file import save_model

    if args.out.is_dir():
        raise IsADirectoryError(f"{args.out}: is a folder; name a file")
    if args.out.exists() and args.checkpoint.exists() and args.out.samefile(args.checkpoint):
        raise FileExistsError(f"{args.out}: is the checkpoint itself, which would be overwritten; give another --out")
    imported = import_any(
        args.checkpoint, origin=args.points, caffe=args.caffe, names=read_names(args.names), side=args.size
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_model(imported.model, args.out)
    lines = [
        f"{args.checkpoint}: {imported.num_tensors} tensors, all assigned to {imported.preset}",
        *imported.notes,
        *(f"left out: {reason}" for reason in imported.left_out),
        f"model file: {args.out}",
    ]
    for line in lines:
        say(console, line)
    return DONE


def read_names(text: str | None) -> list[str] | None:
    """The names of --names: of the lines of a file if there is one of this name, else between the commas."""
    if text is None:
        return None
    is_file = "," not in text and Path(text).is_file()
    parts = Path(text).read_text(encoding="utf-8-sig", errors="replace").splitlines() if is_file else text.split(",")
    return [name for part in parts if (name := part.strip())]

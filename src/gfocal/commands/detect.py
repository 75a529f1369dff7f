"""gfocal detect."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.commands import DONE, SOME_FAILED
from gfocal.commands.options import add_device, share, whole
from gfocal.commands.sources import chosen_device

if TYPE_CHECKING:
    from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command and its options."""
    detect = commands.add_parser(
        "detect",
        help="find objects in pictures",
        description="Find objects in pictures. DIR/detections.json has them as COCO does, with a score and, in "
        "edge_std, how sure each edge is. Its category ids are 1 to N in the model's order, as its categories list "
        "them; 'gfocal eval --results' writes those of the data.",
    )
    detect.set_defaults(run=run)
    detect.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    detect.add_argument("images", nargs="+", metavar="IMAGE", help="picture files or folders of them")
    detect.add_argument("--out", type=Path, default=Path("detections"), metavar="DIR", help="(default: detections)")
    detect.add_argument("--score", type=share, default=0.3, metavar="S", help="least score (default: 0.3)")
    detect.add_argument("--no-pictures", action="store_true", help="write only the json")
    detect.add_argument(
        "--edges",
        choices=("none", "std", "distribution"),
        default="none",
        help="draw how sure each edge is: a band of one standard deviation, or the whole distribution",
    )
    detect.add_argument("--batch-size", type=whole(1), default=1)
    detect.add_argument(
        "--submission",
        type=Path,
        metavar="INFO.json",
        help="COCO's image_info_test-dev2017.json: detect in its pictures, which lie in the folder IMAGE, and "
        "write the json and zip that the evaluation server takes",
    )
    add_device(detect)


def run(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal detect."""
    from gfocal.detect_files import detect_files
    from gfocal.models.files import load_model

    model = load_model(chosen.model, chosen_device(chosen))
    if chosen.submission:
        from gfocal.submission import write_submission

        return SOME_FAILED if write_submission(model, chosen.submission, chosen.images, chosen.out, console) else DONE
    failed = detect_files(
        model,
        [Path(name) for name in chosen.images],
        chosen.out,
        score_threshold=chosen.score,
        batch_size=chosen.batch_size,
        pictures=not chosen.no_pictures,
        edges=chosen.edges,
        console=console,
    )
    return SOME_FAILED if failed else DONE

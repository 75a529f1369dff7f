"""gfocal detect."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.inputs import chosen_device
from gfocal.cli.options import add_device, share, whole
from gfocal.console import say

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.inference.shards import Shard


FORMATS = ("coco", "yolo", "voc", "csv")


def add(commands: Any) -> None:
    """Declare the command and its options."""
    detect = commands.add_parser(
        "detect",
        help="find objects in images",
        usage="gfocal detect MODEL IMAGE ... [--out DIR] [options]",
        description="Find objects in images. DIR/detections.json has them as COCO does, with a score and, in "
        "edge_std, how sure each edge is. Its category ids are 1 to N in the model's order, as its categories list "
        "them; 'gfocal eval --results' writes those of the data. Every image that is done stands in "
        "DIR/detections.jsonl until all are: stopped or killed, the same command goes on with --resume. Under "
        "torchrun or accelerate launch every process takes its share.",
    )
    detect.set_defaults(run=run)
    detect.add_argument("model", nargs="?", metavar="MODEL", help="a model file or the folder of a run")
    detect.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files, folders of them, patterns ('a/**/*.jpg'), lists (@list.txt), or - for a list on "
        "standard input; a list has a path in each line, as one would write it here",
    )
    detect.add_argument("--list", type=Path, action="append", default=[], metavar="FILE", help="the same as @FILE")
    detect.add_argument("--out", type=Path, default=Path("detections"), metavar="DIR", help="(default: detections)")
    detect.add_argument(
        "--score-threshold",
        type=share,
        metavar="S",
        help="least score (default: the model's own threshold of each class, where eval has stored some, else 0.3)",
    )
    detect.add_argument(
        "--format",
        type=_formats,
        default=("coco",),
        metavar="F,F",
        help="what is written: coco (detections.json), yolo (labels/*.txt), voc (Annotations/*.xml), csv "
        "(detections.csv); several with commas (default: coco)",
    )
    detect.add_argument("--no-images", action="store_true", help="draw no images")
    detect.add_argument(
        "--edges",
        choices=("none", "std", "distribution"),
        default="none",
        help="draw how sure each edge is: a band of one standard deviation, or the whole distribution",
    )
    detect.add_argument("--batch-size", type=whole(1), default=1)
    detect.add_argument(
        "--num-workers", type=whole(0), default=2, help="threads that read ahead and draw; 0: none (default: 2)"
    )
    detect.add_argument("--resume", action="store_true", help="go on with a run that was stopped in DIR")
    detect.add_argument(
        "--shard", type=_shard, metavar="K/N", help="look through every N-th image from the K-th on, as one of N"
    )
    detect.add_argument("--merge", type=Path, metavar="DIR", help="write the results of the shards in DIR, no more")
    detect.add_argument(
        "--submission",
        type=Path,
        metavar="INFO.json",
        help="COCO's image_info_test-dev2017.json: detect in its images, which lie in the folder IMAGE, and "
        "write the json and zip that the evaluation server takes",
    )
    add_device(detect)


def _formats(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    if not set(kinds) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"takes some of {', '.join(FORMATS)} with commas between them, not {text!r}")
    return kinds


def _shard(text: str) -> Shard:
    from gfocal.inference.shards import parse_shard

    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal detect."""
    from gfocal.errors import DataError
    from gfocal.inference.files import detect_files, merge
    from gfocal.inference.shards import Shard, launched_shard
    from gfocal.models.model_file import load_model

    if args.merge is not None:
        if args.model is not None:
            raise DataError(f"--merge {args.merge}: takes no MODEL and no IMAGE: all is in the journals of DIR")
        written = merge(args.merge, args.format)
        assert written is not None, "it is an error where shards are missing"
        for line in (*(f"note: {note}" for note in written.notes), str(written)):
            say(console, line)
        return SOME_FAILED if written.failed else DONE
    if args.model is None or not (args.images or args.list):
        raise DataError("name a MODEL and images: gfocal detect MODEL IMAGE...")
    shard = args.shard or launched_shard()
    model = load_model(args.model, chosen_device(_on_own_device(args)))
    if args.submission:
        from gfocal.inference.coco_submission import write_submission

        return SOME_FAILED if write_submission(model, args.submission, args.images, args.out, console) else DONE
    is_launched = args.shard is None and shard != Shard()
    with _sigterm_stops():
        failed = detect_files(
            model,
            args.images,
            args.out,
            lists=args.list,
            score_threshold=args.score_threshold,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            draw=not args.no_images,
            edges=args.edges,
            formats=args.format,
            # A process that torchrun starts again finds its own journal.
            resume=args.resume or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0,
            shard=shard,
            console=console,
        )
    # A launcher takes an exit code for a crash, and ends the other processes for one broken image.
    return SOME_FAILED if failed and not is_launched else DONE


def _on_own_device(args: argparse.Namespace) -> argparse.Namespace:
    """Processes of a launcher share out the GPUs of a machine."""
    import torch

    rank = os.environ.get("LOCAL_RANK", "")
    if args.device is None and rank.isdecimal() and torch.cuda.is_available():
        args.device = f"cuda:{int(rank) % torch.cuda.device_count()}"
    return args


class _Terminated(KeyboardInterrupt):
    code = 143


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """What a scheduler sends before it kills does what Ctrl-C does, with an exit code of its own."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as end:
        if asked:
            raise _Terminated(str(end)) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

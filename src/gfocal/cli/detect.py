"""gfocal detect."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gfocal import launch
from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.cluster import add_cluster, check_engine, detect_on_cluster, folder_or_address
from gfocal.cli.early import require_model_and_images, say_beginning
from gfocal.cli.inputs import load_detector, prepare_compiling
from gfocal.cli.options import (
    Options,
    add_classes,
    add_device,
    add_image_reading,
    add_nms,
    add_precision,
    add_rename,
    add_viewer,
    coverage,
    fraction,
    int_at_least,
    viewer_file,
    with_nms,
)
from gfocal.cli.video import add_video, detect_in_videos, named_videos
from gfocal.console import note, say

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.models.exported import AnyDetector
    from gfocal.ops.tiles import Tiling


FORMATS = ("coco", "yolo", "voc", "csv", "cvat", "label-studio", "fiftyone")
ORDERS = ("uncertainty", "files")


def add(commands: Any) -> None:
    """Declare the command and its options."""
    detect = commands.add_parser(
        "detect",
        help="detect objects in images and videos",
        usage="gfocal detect MODEL IMAGE|VIDEO|camera ... [--out DIR] [options]",
        description="Detect objects in images. DIR/detections.json has them in COCO's layout, with a score and the "
        "standard deviations of the four edges (edge_std); of a calibrated model also intervals that hold them and "
        "calibrated scores. Its category ids are 1 to N in the order of the model's "
        "classes, of those that --classes chooses; 'gfocal eval --results' writes those of the dataset. Finished "
        "images are recorded in DIR/detections.jsonl: after an interruption, the same command with --resume "
        "continues. Of videos, DIR/NAME.jsonl has a line for each frame, and DIR/NAME.mp4 shows what was found. "
        "--engine ray uses all cores of this machine, or a cluster.",
    )
    detect.set_defaults(run=run)
    detect.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a model file, the folder of a run, published weights by name (see 'gfocal models'), or a .onnx or .xml "
        "file of 'gfocal export'",
    )
    detect.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files, folders of them, patterns ('a/**/*.jpg'), lists (@list.txt), or - for a list on "
        "standard input; a list has a path in each line, relative to the current folder; or videos: files, "
        "streams (rtsp://...), cameras (camera, camera:1)",
    )
    detect.add_argument("--list", type=Path, action="append", default=[], metavar="FILE", help="the same as @FILE")
    detect.add_argument("--batch-size", type=int_at_least(1), default=1, help="images per pass (default: 1)")
    detect.add_argument(
        "--num-workers",
        type=int_at_least(0),
        default=2,
        help="threads that read images ahead and draw; 0: none (default: 2)",
    )
    add_image_reading(detect)
    add_device(detect)
    add_precision(detect)
    _add_tiles(detect.add_argument_group("large images"))
    add_video(detect.add_argument_group("videos and cameras"))
    _add_output(detect.add_argument_group("output"))
    _add_drawing(detect.add_argument_group("drawn images"))
    _add_interruptions(detect.add_argument_group("interruptions"))
    add_cluster(detect.add_argument_group("clusters"))


def _add_tiles(group: Options) -> None:
    group.add_argument(
        "--tile",
        type=int_at_least(1),
        metavar="PIXELS",
        help="cut images into squares of so many pixels, detect in each as in an image of that size, and merge what "
        "is found; --batch-size then counts tiles, and --max-detections is the maximum of a tile",
    )
    group.add_argument(
        "--overlap",
        type=fraction,
        metavar="SHARE",
        help="of neighboring tiles, as a share of their size; objects should be no larger (default: 0.2)",
    )
    group.add_argument(
        "--tile-levels",
        type=int_at_least(1),
        metavar="N",
        help="for objects larger than the overlap, detect also in tiles of the image at 1/2, 1/4, ... of its size; "
        "1: only at its own size (default: until one tile has the whole image)",
    )


def _add_output(group: Options) -> None:
    group.add_argument(
        "--out", type=folder_or_address, default=Path("detections"), metavar="DIR", help="(default: detections)"
    )
    group.add_argument(
        "--score-threshold",
        type=fraction,
        metavar="S",
        help="minimum score, 0..1 (default: the model's own threshold of each class, as stored by 'gfocal eval', "
        "else 0.3)",
    )
    group.add_argument(
        "--max-detections",
        type=int_at_least(1),
        metavar="N",
        help="maximum number of detections in an image, best first (default: the model's, 100 unless it was changed)",
    )
    group.add_argument(
        "--coverage",
        type=coverage,
        metavar="SHARE",
        help="of a calibrated model ('gfocal calibrate'): the probability that all four edges of an object lie "
        "within the intervals that are written beside its box (default: 0.9)",
    )
    add_nms(group)
    add_rename(group, "model")
    add_classes(group, "model", "others are not reported")
    group.add_argument(
        "--format",
        type=_formats,
        default=("coco",),
        metavar="F,F",
        help="formats, separated by commas: coco (detections.json), yolo (labels/*.txt), voc (Annotations/*.xml), "
        "csv (detections.csv), or for labeling tools, in a folder of each, with images: cvat, label-studio, fiftyone "
        "(default: coco)",
    )
    group.add_argument(
        "--order",
        choices=ORDERS,
        default="uncertainty",
        help="of the images for cvat and label-studio: what the model is most uncertain of first, as by 'gfocal "
        "select'; or that of the files (default: uncertainty)",
    )
    add_viewer(group, "the images and what was found")
    group.add_argument(
        "--submission",
        type=Path,
        metavar="INFO.json",
        help="COCO's image_info_test-dev2017.json: detect in the images that it lists, in the folder IMAGE, and "
        "write the json and zip that the evaluation server expects",
    )


def _add_drawing(group: Options) -> None:
    group.add_argument("--no-images", action="store_true", help="do not draw images, and write no annotated video")
    group.add_argument(
        "--labels",
        choices=("none", "name", "score", "name+score"),
        default="name+score",
        help="what stands at each box (default: name+score)",
    )
    group.add_argument(
        "--edges",
        choices=("none", "std", "distribution", "interval"),
        default="none",
        help="draw the uncertainty of each edge: a band of one standard deviation; the whole distribution; or of a "
        "calibrated model where it lies, between an inner and an outer box (default: none)",
    )
    group.add_argument(
        "--line-width",
        type=int_at_least(1),
        metavar="PIXELS",
        help="of boxes (default: by the size of the image and the number of objects)",
    )
    group.add_argument(
        "--font-size",
        type=int_at_least(1),
        metavar="PIXELS",
        help="of labels (default: by the size of the image and the number of objects)",
    )
    group.add_argument(
        "--font",
        metavar="FILE",
        help="a .ttf, .otf or .ttc file for labels (default: Pillow's own, or one of the system's for names that it "
        "cannot write)",
    )


def _add_interruptions(group: Options) -> None:
    group.add_argument("--resume", action="store_true", help="continue an interrupted run in DIR")


def _formats(text: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    if not set(kinds) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"takes some of {', '.join(FORMATS)}, separated by commas, not {text!r}")
    return kinds


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal detect."""
    if launch.world_size() > 1:
        _refuse_launch()
    if args.merge is not None:
        return _merge(args, console)
    is_on_cluster = check_engine(args)
    videos = [] if is_on_cluster else named_videos(args)
    if not videos and not is_on_cluster:
        require_model_and_images(args.model, args.images, args.list)
    say_beginning(f"loading {args.model}", console)
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        if is_on_cluster:
            with _interrupt_on_sigterm():
                return SOME_FAILED if detect_on_cluster(args, _load(args), console) else DONE
        return _detect_videos(args, videos, console) if videos else _detect(args, console)


def _tiling(args: argparse.Namespace) -> Tiling | None:
    """How images are cut into tiles."""
    from gfocal.errors import DataError
    from gfocal.ops.tiles import Tiling

    if args.tile is None:
        if args.overlap is not None or args.tile_levels is not None:
            raise DataError("--overlap and --tile-levels are of tiles: name their size (--tile 1024)")
        return None
    if args.submission:
        raise DataError("--submission: COCO's images are detected in as a whole; no --tile")
    try:
        return Tiling(args.tile, 0.2 if args.overlap is None else args.overlap, args.tile_levels)
    except ValueError as error:
        raise DataError(f"--tile {args.tile}: {error}") from error


def _load(args: argparse.Namespace) -> AnyDetector:
    model = load_detector(args.model, args.device)
    model.decode_settings = with_nms(model.decode_settings, args)
    if args.max_detections is not None:
        per_level = max(model.decode_settings.per_level, args.max_detections)
        model.decode_settings = replace(
            model.decode_settings, max_detections=args.max_detections, per_level=per_level
        )
    return model


def _detect_videos(args: argparse.Namespace, videos: Sequence[str], console: Console) -> int:
    if args.compile:
        prepare_compiling()
    with _interrupt_on_sigterm():
        return SOME_FAILED if detect_in_videos(args, videos, _load(args), console) else DONE


def _detect(args: argparse.Namespace, console: Console) -> int:
    from gfocal.data.classes import map_classes
    from gfocal.errors import DataError
    from gfocal.inference.files import detect_files
    from gfocal.visualize.annotate import DrawStyle

    viewer = viewer_file(args)
    if args.compile:
        prepare_compiling()
    tiling = _tiling(args)
    model = _load(args)
    if args.submission:
        from gfocal.inference.coco_submission import write_submission

        if viewer is not None:
            raise DataError("--submission: writes no viewer; leave --viewer out, or detect without --submission")
        if args.classes or args.rename:
            raise DataError(
                "--submission: the server takes all classes by their own names; no --classes, no --rename"
            )
        failed = write_submission(
            model, args.submission, args.images, args.out, console, args.precision, args.compile
        )
        return SOME_FAILED if failed else DONE
    with _interrupt_on_sigterm():
        num_failed = detect_files(
            model,
            args.images,
            args.out,
            lists=args.list,
            score_threshold=args.score_threshold,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            draw=not args.no_images,
            style=DrawStyle(args.edges, args.labels, args.line_width, args.font_size, args.font),
            value_range=args.value_range,
            formats=args.format,
            classes=map_classes(model.names, dict(args.rename), args.classes),
            resume=args.resume,
            console=console,
            precision=args.precision,
            compiled=args.compile,
            coverage=args.coverage,
            tiling=tiling,
            viewer=viewer,
            order=args.order,
        )
    return SOME_FAILED if num_failed else DONE


def _refuse_launch() -> NoReturn:
    """Raise a DataError that says what to use instead of several launched processes, which do not share images."""
    from gfocal.errors import DataError

    if not launch.is_main():
        time.sleep(5)  # torchrun ends all processes when one fails: the error is printed once
    raise DataError(
        f"gfocal detect was launched as {launch.world_size()} processes, which do not share images; launch one: "
        "gfocal detect MODEL IMAGE ... --engine ray uses all cores of this machine, or its GPUs (--gpus 1), or with "
        "--address a cluster (pip install 'gfocal[ray]')"
    )


def _merge(args: argparse.Namespace, console: Console) -> int:
    """gfocal detect --merge."""
    from gfocal.errors import DataError
    from gfocal.inference.ray_engine import merge_parts

    if args.model is not None:
        raise DataError(f"--merge {args.merge}: takes no MODEL and no IMAGE; DIR/parts holds everything")
    if args.viewer is not None:
        raise DataError("--merge: writes no viewer, as parquet has no images; leave --viewer out")
    target = args.out if "://" in args.merge else Path(args.merge)
    if isinstance(target, str):
        raise DataError(f"--out {target}: an address, where --merge cannot write; name a folder")
    written = merge_parts(args.merge, target, args.format, args.order)
    for text in written.notes:
        note(console, text)
    say(console, str(written))
    return SOME_FAILED if written.num_failed else DONE


class _Terminated(KeyboardInterrupt):
    """An interruption by SIGTERM, with its exit code."""

    code = 143


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM, which a scheduler sends before it kills, acts as Ctrl-C does, but for the exit code."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_terminated = False

    def interrupt(*_: object) -> None:
        nonlocal is_terminated
        is_terminated = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as end:
        if is_terminated:
            raise _Terminated(str(end)) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

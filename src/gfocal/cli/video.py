"""gfocal detect, of videos: files, streams and cameras."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gfocal.cli.options import Options, int_at_least

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.models.exported import AnyDetector

# Options of images that videos do not have: name in the arguments -> as the user writes it.
OF_IMAGES = {
    "list": "--list",
    "tile": "--tile",
    "value_range": "--value-range",
    "viewer": "--viewer",
    "submission": "--submission",
}


def add_video(group: Options) -> None:
    """Declare the options of videos."""
    group.add_argument(
        "--every",
        type=int_at_least(1),
        metavar="N",
        help="use every N-th frame, beginning with the first; the annotated video has these alone (default: 1)",
    )
    group.add_argument(
        "--track",
        action="store_true",
        help="give each object an id that it keeps from frame to frame, and color boxes by it (extra: track)",
    )


def named_videos(args: argparse.Namespace) -> list[str]:
    """The videos that the arguments name; none where they name images.

    Raises:
        DataError: images beside videos; no such file; an option that videos do not have; or one that images do not.
        MissingExtraError: a package for video or tracks is not installed.
    """
    from gfocal.data.paths import no_such_path
    from gfocal.errors import DataError
    from gfocal.inference.sources import video_kind, without_password
    from gfocal.models.names import require_model

    videos = [text for text in args.images if video_kind(text) is not None]
    if not videos:
        if args.track or args.every is not None:
            raise DataError("--every and --track are of videos, and no video is named")
        return []
    first = without_password(videos[0])
    if len(videos) < len(args.images):
        other = next(text for text in args.images if text not in videos)
        raise DataError(f"{other}: is no video, as {first} is; detect in images and in videos one after another")
    for name, option in OF_IMAGES.items():
        if getattr(args, name):
            raise DataError(f"{option}: is of images, and {first} is a video; leave it out")
    if tuple(args.format) != ("coco",):
        raise DataError(f"--format: is of images; of {first}, a video, there are json lines")
    for text in videos:
        if video_kind(text) == "file" and "://" not in text and not os.path.isfile(text):
            raise DataError(no_such_path(text))
    require_model(args.model)
    _require_packages(args.track, first)
    return videos


def _require_packages(track: bool, video: str) -> None:
    from gfocal.errors import MissingExtraError

    if find_spec("av") is None:
        raise MissingExtraError(f"{video}: video needs the package av: pip install 'gfocal[video]'")
    if track and find_spec("trackers") is None:
        raise MissingExtraError("--track needs the package trackers: pip install 'gfocal[track]'")


def detect_in_videos(args: argparse.Namespace, videos: Sequence[str], model: AnyDetector, console: Console) -> int:
    """How many videos could not be read to their end."""
    from gfocal.data.classes import map_classes
    from gfocal.inference.video import detect_videos
    from gfocal.visualize.annotate import DrawStyle

    return detect_videos(
        model,
        videos,
        args.out,
        score_threshold=args.score_threshold,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        draw=not args.no_images,
        style=DrawStyle(args.edges, args.labels, args.line_width, args.font_size, args.font),
        classes=map_classes(model.names, dict(args.rename), args.classes),
        every=args.every or 1,
        track=args.track,
        resume=args.resume,
        console=console,
        precision=args.precision,
        compiled=args.compile,
        coverage=args.coverage,
    )

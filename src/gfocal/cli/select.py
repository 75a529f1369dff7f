"""gfocal select."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli import DONE, SOME_FAILED
from gfocal.cli.early import require_data, require_model_and_images, say_beginning
from gfocal.cli.inputs import load_detector, standard_output
from gfocal.cli.options import (
    Options,
    add_device,
    add_image_reading,
    add_nms,
    add_number_format,
    fraction,
    int_at_least,
    with_nms,
)
from gfocal.cli.seen_images import read_trained_images
from gfocal.console import fail, note, say
from gfocal.text import pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from gfocal.models.detector import Detector
    from gfocal.selection.pool import Pool
    from gfocal.selection.tasks import Chosen

STRATEGIES = ("both", "uncertainty", "diversity")
TOOLS = ("label-studio", "cvat")


def add(commands: Any) -> None:
    """Declare the command and its options."""
    select = commands.add_parser(
        "select",
        help="choose the images that are worth labeling next",
        usage="gfocal select MODEL IMAGE ... [--number 100] [--already DATA] [--to TOOL] [options]",
        description="Choose images to label: those whose objects the model is most uncertain of, by score and by the "
        "spread of their edges, and which differ from each other and from the images that are labeled already. "
        "DIR/selected.csv says of each why it was chosen, DIR/selected.txt is a list of the files; --to writes tasks "
        "of a labeling tool with the objects that were found, to be corrected. Images that the model was trained on "
        "are left out, as far as its run knows them.",
    )
    select.set_defaults(run=run)
    select.add_argument("model", metavar="MODEL", help="a model file, the folder of a run, or published weights")
    select.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="the images to choose from: files, folders, patterns ('a/**/*.jpg'), lists (@list.txt), or - for a list "
        "on standard input",
    )
    select.add_argument("--list", type=Path, action="append", default=[], metavar="FILE", help="the same as @FILE")
    _add_choice(select)
    _add_output(select.add_argument_group("output"))
    _add_model(select.add_argument_group("model"))


def _add_choice(command: Options) -> None:
    command.add_argument(
        "--number", type=int_at_least(1), default=100, metavar="N", help="images to choose (default: 100)"
    )
    command.add_argument(
        "--already",
        action="append",
        default=[],
        metavar="DATA",
        help="images that are labeled already: an annotated dataset, all its splits, or a list (@list.txt), such as "
        "selected.txt of an earlier choice; they are left out, and what resembles them counts for less; may be "
        "repeated",
    )
    command.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="both",
        help="uncertainty: the most uncertain images; diversity: each as far as possible from those before; both: "
        "uncertainty times that distance (default: both)",
    )
    command.add_argument(
        "--seed", type=int_at_least(0), default=0, help="decides where nothing else does (default: 0)"
    )


def _add_output(group: Options) -> None:
    group.add_argument(
        "--out", type=Path, default=Path("selected"), metavar="DIR", help="a new or empty folder (default: selected)"
    )
    group.add_argument(
        "--to",
        choices=TOOLS,
        help="write tasks of a labeling tool too: DIR/label-studio/tasks.json with predictions, or "
        "DIR/cvat/annotations.xml, each with the images",
    )
    group.add_argument(
        "--score-threshold",
        type=fraction,
        metavar="S",
        help="minimum score of the objects in tasks, 0..1 (default: the model's own of each class, else 0.3)",
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--copy", dest="copying", action="store_const", const="copy", default="copy", help="copy images (default)"
    )
    how.add_argument(
        "--link", dest="copying", action="store_const", const="link", help="link images, which takes no disk space"
    )
    how.add_argument(
        "--no-images", dest="copying", action="store_const", const="none", help="write tasks without the images"
    )


def _add_model(group: Options) -> None:
    group.add_argument("--batch-size", type=int_at_least(1), default=8, help="images per pass (default: 8)")
    group.add_argument(
        "--num-workers",
        type=int_at_least(0),
        default=2,
        help="threads that read images ahead; 0: none (default: 2)",
    )
    add_image_reading(group)
    add_nms(group)
    add_device(group)
    add_number_format(group)


def run(args: argparse.Namespace, console: Console) -> int:
    """gfocal select."""
    require_model_and_images(args.model, args.images, args.list, "select")
    require_data([text for text in args.already if not text.startswith("@")])
    say_beginning(f"loading {args.model}", console)
    from gfocal.data.images import pixel_limit

    with pixel_limit(args.max_megapixels):
        return _select(args, console)


def _select(args: argparse.Namespace, console: Console) -> int:
    from gfocal.errors import DataError
    from gfocal.models.detector import Detector
    from gfocal.selection.choice import choose
    from gfocal.selection.tasks import check_tool, list_chosen, require_new, write_choice

    require_new(args.out)
    model = load_detector(args.model, args.device)
    if not isinstance(model, Detector):
        raise DataError(f"{args.model}: an exported file does not say what an image looks like; give the model file")
    if args.to is not None:
        check_tool(model.names, args.to)
    model.decode_settings = with_nms(model.decode_settings, args)
    labeled = find_labeled(args.already, args.out, console)
    files, num_failed = find_candidates(args, labeled, console)
    known, failed = scan(args, model, labeled, "labeled images", console)
    pool, failed_too = scan(args, model, files, "images to choose from", console)
    if not pool.images:
        raise DataError(f"none of {pluralize(len(files), 'image')} could be read; nothing was written")
    doubt = [image.uncertainty for image in pool.images]
    features = known.features if known.images else None
    choice = choose(doubt, pool.features, args.number, args.strategy, features, args.seed)
    chosen = list_chosen(choice, pool, known.images)
    paths = write_choice(chosen, args.out)
    report(args, chosen, pool, console)
    say(console, f"written: {', '.join(map(str, paths))}")
    if args.to is not None:
        _write_tasks(args, chosen, model, console)
    return SOME_FAILED if num_failed + failed + failed_too else DONE


def find_labeled(already: Sequence[str], out: Path, console: Console) -> list[str]:
    """The images of --already."""
    from gfocal.cli.inputs import read_dataset
    from gfocal.data.discovery import list_splits
    from gfocal.data.survey import image_paths
    from gfocal.inference.sources import find_images

    found: dict[str, None] = {}
    for text in already:
        if text.startswith("@"):
            listed = find_images([text], out)
            for line in (*listed.notes, *listed.failures):
                note(console, line)
            paths = listed.files
        else:
            splits: list[str | None] = [*list_splits(Path(text))] or [None]
            paths = list(map(str, image_paths([read_dataset(text, split, console) for split in splits])))
        found.update(dict.fromkeys(paths))
    return list(found)


def find_candidates(args: argparse.Namespace, labeled: Sequence[str], console: Console) -> tuple[list[str], int]:
    """The images to choose from, and how many arguments named none.

    Copies of labeled images and of those that the model was trained on are left out, wherever they are.

    Raises:
        DataError: there is none, or all are labeled.
    """
    from gfocal.data.identity import digest_image
    from gfocal.errors import DataError
    from gfocal.inference.sources import find_images

    found = find_images(args.images, args.out, args.list)
    for text in found.notes:
        note(console, text)
    for text in found.failures:
        fail(console, text)
    if not found.files:
        raise DataError("no images were found; nothing was written")
    trained = read_trained_images(args.model) or set()
    gone = trained | {digest for path in labeled if (digest := digest_image(Path(path))) is not None}
    files = [path for path in found.files if digest_image(Path(path)) not in gone] if gone else found.files
    if left_out := len(found.files) - len(files):
        note(console, f"{pluralize(left_out, 'image')} left out: labeled already, or trained on by {args.model}")
    if trained and not args.already:
        note(console, "--already DATA, the data that the model was trained on, makes the choice differ from them")
    if not files:
        raise DataError(f"all of {pluralize(len(found.files), 'image')} are labeled already; give others")
    return files, len(found.failures)


def scan(
    args: argparse.Namespace, model: Detector, files: Sequence[str], what: str, console: Console
) -> tuple[Pool, int]:
    """Run images through the model; and how many of them cannot be read, which is said."""
    from gfocal.console import progress_bar
    from gfocal.data.survey import choose_for_images
    from gfocal.errors import DataError
    from gfocal.models.predict import resolve_threshold
    from gfocal.selection.pool import scan_files

    errors: list[DataError] = []

    def report_error(error: DataError) -> None:
        errors.append(error)
        fail(console, error)

    if not files:
        return scan_files(model, [], score_threshold=0.0), 0
    say(console, f"detecting in {len(files):,} {what}")
    choice = choose_for_images(files, model.input_settings, args.value_range, console)
    with progress_bar(console, "detecting", len(files)) as bar:
        pool = scan_files(
            model,
            files,
            score_threshold=resolve_threshold(model, args.score_threshold),
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            value_range=choice.value_range,
            precision=args.precision,
            on_images=bar.advance,
            on_error=report_error,
        )
    return pool, len(errors)


def report(args: argparse.Namespace, chosen: Sequence[Chosen], pool: Pool, console: Console) -> None:
    """What was chosen, beside the mean of all images."""
    from statistics import fmean

    total, images = len(pool.images), [one.image for one in chosen]
    if len(chosen) < args.number:
        note(console, f"only {pluralize(total, 'image')} to choose from, fewer than --number {args.number}: all are")
    own, of_all = (
        (fmean(image.uncertainty for image in group), fmean(len(image.objects) for image in group))
        for group in (images, pool.images)
    )
    say(
        standard_output(),
        f"{len(chosen):,} of {pluralize(total, 'image')} chosen by "
        f"{'uncertainty and diversity' if args.strategy == 'both' else args.strategy}; uncertainty {own[0]:.2f} in "
        f"the mean (all: {of_all[0]:.2f}), {own[1]:.1f} objects found in an image (all: {of_all[1]:.1f})",
    )
    if not any(image.uncertainty for image in pool.images) and args.strategy != "diversity":
        note(console, "the model sees nothing in any image: the choice is by diversity alone")


def _write_tasks(args: argparse.Namespace, chosen: Sequence[Chosen], model: Detector, console: Console) -> None:
    from gfocal.selection.tasks import TASKS, write_tasks

    folder = args.out / args.to
    for line in write_tasks(chosen, model.names, args.to, folder, args.copying, args.model):
        note(console, line)
    file = folder / ("annotations.xml" if args.to == "cvat" else TASKS)
    count = sum(len(one.image.objects) for one in chosen)
    say(console, f"{file}: {pluralize(len(chosen), 'task')} with {pluralize(count, 'object')} to be corrected")

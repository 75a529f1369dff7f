"""The review of annotations of ``gfocal check``: by a model that has not seen the images, or by folds."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.cli.held_out import run_folder_of
from gfocal.cli.inputs import load_detector
from gfocal.cli.options import add_device, int_at_least
from gfocal.cli.seen_images import read_trained_images
from gfocal.console import note, say
from gfocal.text import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.checks.check import CheckResult
    from gfocal.checks.label_review import LabelReview
    from gfocal.checks.proposals import Proposals
    from gfocal.config.config import Config
    from gfocal.data.dataset import FileData, ImageData
    from gfocal.models.exported import AnyDetector

PAGE = "review.html"
FOLDS = "folds"  # folder of the runs of --folds
BATCH = 8  # images per pass


def add_review(check: argparse.ArgumentParser) -> None:
    """The options of the review."""
    group = check.add_argument_group(
        "review of annotations",
        "A model with classes of the data also looks for wrong annotations, in images that it was not trained on: "
        "other classes, missing boxes, boxes too many, misplaced edges, each ranked by its evidence. --folds reviews "
        "all images.",
    )
    group.add_argument(
        "--no-review", action="store_true", help="take detector and input size of --model alone; so does --fast"
    )
    group.add_argument(
        "--folds",
        type=int_at_least(2),
        metavar="K",
        help="train K models, each without one of K parts of the images, and let each review its part: with the "
        "config of the run of --model, or of --config. Near-duplicates stay together; takes K times a training. Not "
        "with --fast or --no-review",
    )
    group.add_argument(
        "--epochs", type=int_at_least(1), help="of each model of --folds (default: of the config; a third often does)"
    )
    group.add_argument(
        "--review",
        type=Path,
        metavar="DIR",
        help="write the review there: review.html with drawn images, suspects.csv, suspects.json; with --folds also "
        "the runs, which the same command then does not train again. Needs --model or --folds; not with --fast or "
        "--no-review, which review nothing",
    )
    group.add_argument(
        "--export",
        action="append",
        choices=("cvat", "label-studio"),
        default=[],
        help="write the suspicious images with their annotations for this tool, in a folder of --review; may be "
        "repeated",
    )
    group.add_argument(
        "--seen-images",
        action="store_true",
        help="review images that the model was trained on too: it has learned their errors, and finds few",
    )
    add_device(group)


def refuse_contradictions(args: argparse.Namespace) -> None:
    """ConfigError for options of a review where there is none, and for exports that would overwrite one."""
    from gfocal.errors import ConfigError

    if args.export and args.review is None:
        raise ConfigError("--export writes into the folder of --review DIR; give both")
    if args.epochs is not None and args.folds is None:
        raise ConfigError("--epochs is of the models that --folds K trains; give both")
    wanted = next((name for name in ("folds", "review") if getattr(args, name) is not None), None)
    if wanted is not None and (args.fast or args.no_review):
        raise ConfigError(f"--{wanted} reviews annotations, which {'--fast' if args.fast else '--no-review'} skips")
    if args.seen_images and (args.model is None or args.folds is not None or args.fast or args.no_review):
        raise ConfigError(
            "--seen-images is of a review by --model alone; leave it out with --folds, --fast, --no-review"
        )
    for kind in args.export:
        folder = args.review / kind
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(f"{folder}: is not empty, and may be in use for correction; remove it, or name another")
    if args.review is not None and args.model is None and args.folds is None:
        raise ConfigError("--review needs a model that was not trained on these images: give --model, or --folds K")


def review_annotations(
    args: argparse.Namespace, result: CheckResult, config: Config, console: Console
) -> LabelReview | None:
    """The review that the options ask for; None where there is none, which is said.

    Raises:
        DataError: --folds of too few images, or from weights that were trained on them.
        ConfigError: the config of --folds is not known.
    """
    from gfocal.data.views import concatenate

    if args.fast or args.no_review or (args.model is None and args.folds is None):
        return None
    data = concatenate(list(result.splits.values()))
    data.value_range = result.value_range
    split_of = [name for name, one in result.splits.items() for _ in range(len(one))]
    if args.folds is None:
        found = _propose_unseen(args, data, console)
    else:
        found = _propose_by_folds(args, data, result, config, console)
    return None if found is None else _rank(found, data, split_of)


@dataclass(frozen=True)
class _Found:
    """What models found, and what is to be known of them."""

    proposals: list[Proposals | None]  # of each image
    names: Sequence[str]  # of the models' classes
    thresholds: list[float]  # by label of the data
    model: str  # which models, in a line


def _rank(found: _Found, data: FileData, split_of: Sequence[str]) -> LabelReview:
    from gfocal.checks.label_review import LabelReview
    from gfocal.checks.suspects import rank_suspects

    seen_as = _in_classes_of(found.names, data)
    assert seen_as is not None, "models of these classes"
    samples = [seen_as.sample(index) for index in range(len(seen_as))]
    ranking = rank_suspects(samples, found.proposals, [name in found.names for name in seen_as.names])
    return LabelReview(
        data=seen_as,
        split_of=split_of,
        ranking=ranking,
        reported=ranking.reported(found.thresholds),
        model=found.model,
        num_left_out=sum(one is None for one in found.proposals),
    )


def _propose_unseen(args: argparse.Namespace, data: FileData, console: Console) -> _Found | None:
    """What --model finds in the images that it was not trained on; None where it cannot review any."""
    from gfocal.checks.label_review import thresholds_of
    from gfocal.data.identity import digest_images

    model = load_detector(args.model, args.device)
    if (seen_as := _in_classes_of(model.names, data)) is None:
        note(console, f"annotations are not reviewed: {args.model} has none of the classes of the data")
        return None
    trained = read_trained_images(args.model)
    chosen = list(range(len(data)))
    if trained is None and (run_folder_of(args.model) / "config.toml").is_file():
        note(
            console,
            f"{args.model}: its run does not say which images it was trained on; on those it finds few errors",
        )
    elif trained is not None and not args.seen_images:
        chosen = [index for index, digest in enumerate(digest_images(data)) if digest not in trained]
        if left := len(data) - len(chosen):
            note(
                console,
                f"annotations of {left:,} of {pluralize(len(data), 'image')} are not reviewed: the model was trained "
                "on them, and has learned their errors; --folds 5 reviews them by models that have not seen them",
            )
    if not chosen:
        return None
    proposals: list[Proposals | None] = [None] * len(data)
    for index, one in zip(chosen, _detect(model, seen_as.select(chosen), console), strict=True):
        proposals[index] = one
    return _Found(proposals, model.names, thresholds_of(model, seen_as.names), str(args.model))


def _in_classes_of(names: Sequence[str], data: FileData) -> FileData | None:
    """The data, for a class-agnostic model as of its one class; None if they have no class in common."""
    from gfocal.data.views import ONE_CLASS, as_one_class

    if tuple(names) == ONE_CLASS:
        return as_one_class(data).files
    return data if set(names) & set(data.names) else None


def _detect(model: AnyDetector, data: ImageData, console: Console) -> list[Proposals]:
    from gfocal.checks.label_review import propose
    from gfocal.console import progress_bar

    with progress_bar(console, "reviewing annotations", 2 * len(data)) as bar:
        return propose(model, data, BATCH, on_batch=bar.advance)


def _propose_by_folds(
    args: argparse.Namespace, data: FileData, result: CheckResult, config: Config, console: Console
) -> _Found:
    """What K models find, each in the part of the images that it was not trained on."""
    from gfocal.checks.before_training import fit_batch_size
    from gfocal.checks.label_review import thresholds_of
    from gfocal.models.model_file import load_model
    from gfocal.run import run_training
    from gfocal.run_folder import RunFolder

    config = _config_of_folds(args, data, config)
    folds, rule = _divide(data, args.folds, args.jobs)
    say(console, f"{args.folds} models of {config.run.length}, each without a part; {rule}")
    proposals: list[Proposals | None] = [None] * len(data)
    seen_as = data
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) if args.review is None else args.review / FOLDS
        for number, fold in enumerate(folds, 1):
            folder, held = home / f"fold_{number}", set(fold)
            folder.parent.mkdir(parents=True, exist_ok=True)
            others = data.select([index for index in range(len(data)) if index not in held])
            say(console, f"model {number} of {args.folds}: {pluralize(len(others), 'training image')}")
            run_training(
                fit_batch_size(config, others, False, 1, console),
                others,
                None,
                folder,
                resume=RunFolder(folder).has_state,
                data_name=", ".join(result.paths),
                console=console,
            )
            model = load_model(RunFolder(folder).last)
            seen_as = _in_classes_of(model.names, data) or data  # trained on these classes
            found = _detect(model.to(_device(args)), seen_as.select(fold), console)
            for index, one in zip(fold, found, strict=True):
                proposals[index] = one
    about = f"{args.folds} models of {config.model.preset}, {config.run.length}, each on the others"
    return _Found(proposals, model.names, thresholds_of(model, seen_as.names), about)


def _device(args: argparse.Namespace) -> str:
    from gfocal.cli.inputs import select_device

    return str(select_device(args.device))


def _config_of_folds(args: argparse.Namespace, data: FileData, config: Config) -> Config:
    """That of the run of --model with the changes by options; else that of --config, or of its published weights."""
    from gfocal.cli.options import image_changes, parse_settings
    from gfocal.cli.training_config import config_with
    from gfocal.config.config import read_config, with_changes
    from gfocal.data.identity import digest_images
    from gfocal.errors import ConfigError, DataError
    from gfocal.models.published import PUBLISHED

    changes = image_changes(args) | parse_settings(args.set)
    if args.epochs is not None:
        changes |= {"run.epochs": str(args.epochs), "run.time_minutes": "none"}
    is_published = args.model in PUBLISHED and not Path(args.model).exists()
    if args.model is None or is_published:
        config = with_changes(config, changes, "--set and options")
    elif args.is_config_named:
        config = config_with(args, changes, "--set and options")
    else:
        file = run_folder_of(args.model) / "config.toml"
        if not file.is_file():
            raise ConfigError(
                f"{args.model}: no {file.name} of a run beside it, so that --folds does not know how it was trained; "
                "name the config with --config"
            )
        config = with_changes(read_config(file), changes, "--set and options")
    start = config.model.init_from
    trained = None if start is None else read_trained_images(start)
    seen = 0 if trained is None else sum(digest in trained for digest in digest_images(data))
    if seen:
        raise DataError(
            f"model.init_from = {start}: was trained on {seen:,} of these {pluralize(len(data), 'image')}, so that "
            "every model of --folds would know them; start from other weights (--set model.init_from=...)"
        )
    return config if args.device is None else _on_device(config, args.device)


def _on_device(config: Config, device: str) -> Config:
    from gfocal.cli.inputs import use_device

    use_device(device)
    return replace(config, run=replace(config.run, cpu=device == "cpu"))


def _divide(data: FileData, folds: int, jobs: int | None) -> tuple[list[list[int]], str]:
    """The images of each fold, near-duplicates in one, classes in proportion, and what was kept together."""
    from gfocal.data.splitting import TRAIN, plan_split

    shares = {f"fold {number}": 1 / folds for number in range(2, folds + 1)}
    plan = plan_split(data, shares, jobs=jobs or 1)
    return [plan.indices(name) for name in (TRAIN, *shares)], plan.describe_groups()


def write_review(review: LabelReview, args: argparse.Namespace, console: Console) -> None:
    """Write the files of --review and --export."""
    from gfocal.checks.review_files import JSON, TABLE, export_review, write_json, write_table
    from gfocal.reports.label_review import write_review_page

    folder: Path = args.review
    folder.mkdir(parents=True, exist_ok=True)
    write_table(review, folder / TABLE)
    write_json(review, folder / JSON)
    title = f"Annotations of {', '.join(Path(path).name or path for path in args.data)}"
    write_review_page(review, folder / PAGE, title)
    say(console, f"review: {folder / PAGE}, {TABLE} and {JSON}")
    if args.export and not review.all_reported():
        say(console, "no annotation is contradicted: nothing to export")
    for kind in args.export if review.all_reported() else ():
        for line in export_review(review, kind, folder / kind):
            note(console, line)
        say(console, f"for correction: {folder / kind}")

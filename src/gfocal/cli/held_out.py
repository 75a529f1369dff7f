"""Which images a run is validated on: a split of the data, else some of the training images; never test."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.cli.inputs import first_available_split, select_splits, standard_output
from gfocal.console import note, say
from gfocal.text import one_line, pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.config.config import Config
    from gfocal.data.dataset import FileData, ImageData

    Parts = Sequence[tuple[str, str | None]]
    Read = Callable[[Parts], ImageData]

SHARE = 0.15  # of the training images
SEED = 0  # always the same, so that runs on the same data are validated on the same images
MIN_IMAGES = 20  # below which none are held out
NOTHING = "nothing: the weights of the last epoch"


@dataclass(frozen=True)
class Validation:
    """What a run is trained, validated and finally evaluated on."""

    train: ImageData
    val: ImageData | None
    selected_on: str  # for run.json and reports: which images the best epoch is chosen by
    held_out: Mapping[str, Any] | None = None  # for split.json, where images were held out
    test: ImageData | None = None  # to be evaluated once, after training; nothing is chosen by it


def choose_validation(args: argparse.Namespace, train_data: ImageData, read: Read, console: Console) -> Validation:
    """The images that the best epoch is chosen by.

    Those of --val or --val-split, else the split val of the data, else ``SHARE`` of the training images by the rule
    of ``gfocal split``, or those that the run to be resumed held out. The split test is for the final figure alone.

    Args:
        args: of ``gfocal train``.
        train_data: all training images.
        read: reads datasets with their splits as one, with the classes of the training data.
        console: where it is said.
    """
    if args.no_val:
        return Validation(train_data, None, NOTHING)
    saved = None if not args.resume or args.val or args.val_split else read_held_out(args.out)
    parts = select_splits(args.val or args.data, args.val_split, "val", *(["test"] if args.val else []))
    parts = [(path, split) for path, split in parts if args.val or split]
    if parts and saved is None:
        where = "; ".join(f"split {split} of {path}" if split else f"all of {path}" for path, split in parts)
        return Validation(train_data, read(parts), where)
    tests: Parts = [(path, "test") for path in args.data if first_available_split(path, "test")]
    test = read(tests) if tests else None
    if test is not None:
        train_data = without_images(train_data, test, console)
        say(console, "split test: evaluated once, after training; no epoch is chosen by it")
    chosen = _hold_out(args, train_data, saved, console)
    return Validation(chosen.train, chosen.val, chosen.selected_on, chosen.held_out, test)


def _hold_out(
    args: argparse.Namespace, data: ImageData, saved: Mapping[str, Any] | None, console: Console
) -> Validation:
    """Divide the training images into train and val, as before in a run that is resumed."""
    from gfocal.data.splitting import plan_split
    from gfocal.data.views import select_trained
    from gfocal.errors import DataError

    files = select_trained(data).files
    if files is None or (len(files) < MIN_IMAGES and saved is None):
        few = f"{pluralize(len(data), 'training image')}: too few to hold some out for validation"
        say(console, f"{few}, which needs {MIN_IMAGES}, and the data have no split val")
        return Validation(data, None, NOTHING)
    names = name_images(files, args.data)
    if saved is None:
        say(console, f"no split val in the data: reading {pluralize(len(files), 'image')} to hold some out")
        try:
            plan = plan_split(files, {"val": SHARE}, SEED, jobs=os.cpu_count() or 1)
        except DataError as error:
            say(console, f"no images are held out for validation: {error}")
            return Validation(data, None, NOTHING)
        val = [names[index] for index in plan.indices("val")]
        saved = {"data": list(args.data), "share": SHARE, "seed": SEED, "rule": plan.describe_groups(), "val": val}
    held = set(saved["val"])
    indices = [index for index, name in enumerate(names) if name in held]
    others = [index for index, name in enumerate(names) if name not in held]
    share = f"{len(indices)} of {pluralize(len(files), 'training image')} ({len(indices) / len(files):.0%})"
    say(
        console,
        f"held out for validation: {share}, listed in {args.out / 'split.json'} ({saved.get('rule', '')}); "
        "'gfocal split' makes a split val for good, --no-val trains on all images",
    )
    selected_on = f"{share}, held out as split.json lists them"
    return Validation(files.select(others), files.select(indices), selected_on, saved)


def name_images(data: FileData, paths: Sequence[str]) -> list[str]:
    """The path of each image below the folder that all datasets are in."""
    from gfocal.data.assigned import dataset_root, image_name

    base = Path(os.path.commonpath([dataset_root(Path(path)).absolute() for path in paths]))
    found = (data.table.path(index) for index in range(len(data)))
    return ["" if path is None else image_name(path, base) for path in found]


def without_images(data: ImageData, other: ImageData, console: Console) -> ImageData:
    """The data without images that another dataset has too: lists without a split train may name all images."""
    files, others = data.files, other.files
    if files is None or others is None:
        return data
    gone = {others.table.path(index) for index in range(len(others))}
    kept = [index for index in range(len(files)) if files.table.path(index) not in gone]
    if len(kept) == len(files):
        return data
    note(console, f"{pluralize(len(files) - len(kept), 'image')} of split test are not trained on")
    return files.select(kept)


def read_held_out(folder: Path) -> dict[str, Any] | None:
    """The content of split.json of a run; None if there is none. Raises DataError if it is something else."""
    from gfocal.errors import DataError
    from gfocal.run_folder import RunFolder

    file = RunFolder(folder).split
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(name, str) for name in content["val"]):
            raise ValueError("'val' lists names of images")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = one_line(str(error), max_length=200)
        raise DataError(f"{file}: not the images that a run held out ({why}); restore it, or start again") from error
    return content


def run_folder_of(model: str) -> Path:
    """The folder of the run that a model may be of: the folder itself, or that of its file."""
    return Path(model) if Path(model).is_dir() else Path(model).parent


def parts_to_evaluate(args: argparse.Namespace) -> tuple[Parts, Mapping[str, Any] | None]:
    """What ``gfocal eval`` reads, and the content of split.json where only the images held out by the run count.

    Those are the split val of data that have none; and what is evaluated where they have no split test or val.
    """
    from gfocal.data.paths import split_name

    parts = select_splits(args.data, args.split, "test", "val")
    is_val = args.split is not None and split_name(args.split) == "val"
    lacks_val = all(path != "synthetic" and first_available_split(path, "val") is None for path in args.data)
    if not lacks_val or not (is_val or all(split is None for _, split in parts)):
        return parts, None
    held_out = read_held_out(run_folder_of(args.model))
    return (parts, None) if held_out is None else (select_splits(args.data, None, "train"), held_out)


def select_held_out(
    data: ImageData, args: argparse.Namespace, held_out: Mapping[str, Any] | None
) -> ImageData | None:
    """The images of a dataset that the run of a model held out; None where it held none of these out.

    Raises DataError where there are none, and --split asks for them.
    """
    from gfocal.errors import DataError

    if held_out is None or data.files is None:
        return None
    held = set(held_out["val"])
    indices = [index for index, name in enumerate(name_images(data.files, args.data)) if name in held]
    if not indices and args.split is not None:
        raise DataError(
            f"{', '.join(args.data)}: no split {args.split!r}, and none of the images that the run of {args.model} "
            "held out for validation; give the data that it was trained on"
        )
    return data.files.select(indices) if indices else None


def read_selected_on(model: str) -> str | None:
    """Which images the best epoch of a model's run was chosen by; None for a model without a run."""
    from gfocal.run import read_run_json
    from gfocal.run_folder import RunFolder

    content = read_run_json(RunFolder(run_folder_of(model))) or {}
    found = content.get("selected_on")
    return one_line(found, max_length=1000) if isinstance(found, str) else None


def report_test(choice: Validation, config: Config, folder: Path, console: Console) -> None:
    """Evaluate the result of a run on test, and print and write the numbers."""
    from gfocal.cli.inputs import select_device
    from gfocal.data.survey import with_value_range
    from gfocal.evaluation.detections import evaluate_model
    from gfocal.models.model_file import load_model
    from gfocal.reports.tables import coco_table
    from gfocal.run import write_json
    from gfocal.run_folder import RunFolder

    assert choice.test is not None
    run = RunFolder(folder)
    file = run.model_files[0]
    model = load_model(file).to(select_device("cpu" if config.run.cpu else None))
    test = with_value_range(choice.test, model.input_settings.value_range)
    result = evaluate_model(model, test, config.run.eval_batch_size)
    write_json(run.test_result, result.to_json() | {"model": file.name, "images": len(test)})
    say(console, f"test: {pluralize(len(test), 'image')}, evaluated once with {file.name} ({run.test_result}):")
    standard_output().print(coco_table(result))

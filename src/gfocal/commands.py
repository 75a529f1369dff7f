"""What each command of the command line does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.words import counted

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from gfocal.configs import Recipe
    from gfocal.data.samples import ImageData

DONE, SOME_FAILED = 0, 1


def run_train(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal train."""
    from gfocal.build import run_recipe

    recipe = chosen_recipe(chosen)
    val_data = None
    with told_of_coco(Path(chosen.recipe).stem.startswith("coco_"), chosen.data):
        train_split = chosen.train_split or first_split(chosen.data, "train")
        train_data = read(chosen.data, train_split, console, recipe)
        val_split = chosen.val_split or first_split(chosen.val or chosen.data, "val", "test")
        if chosen.val or val_split:
            val_data = read(chosen.val or chosen.data, val_split, console, recipe, train_data.names)
    if val_data is None:
        console.print("no validation split: the last epoch's weights are the result")
    num_val = 0 if val_data is None else len(val_data)
    console.print(f"{counted(len(train_data), 'picture')} to train, {num_val} to validate", highlight=False)
    _, result = run_recipe(
        recipe, train_data, val_data, chosen.out, resume=chosen.resume, data_name=chosen.data, console=console
    )
    if result is not None:
        Console_out().print(result.table())
    files = [chosen.out / name for name in ("best.safetensors", "last.safetensors")]
    console.print(f"model files: {', '.join(str(f) for f in files if f.exists())}", soft_wrap=True)
    return DONE


def chosen_recipe(chosen: argparse.Namespace) -> Recipe:
    """The recipe with the changes of the options; of a run that goes on, its own."""
    from gfocal.build import saved_recipe
    from gfocal.configs import RecipeError, read_recipe, with_changes

    changes = _changes(chosen)
    where = "--set" if len(chosen.set) == len(changes) else "--set and options" if chosen.set else "options"
    if chosen.resume:
        recipe = saved_recipe(chosen.out)
        differing = [key for key, value in changes.items() if with_changes(recipe, {key: value}, where) != recipe]
        if differing:
            raise RecipeError(
                f"{chosen.out}: a run goes on with the recipe it was begun with, which differs in "
                f"{', '.join(differing)}; leave these options out, or start anew in another folder"
            )
        return recipe
    recipe = read_recipe(chosen.recipe)
    size = recipe.size
    if chosen.short_side and size.short_side and size.long_side and "size.long_side" not in changes:
        changes["size.long_side"] = round(size.long_side * chosen.short_side / size.short_side)
    return with_changes(recipe, changes, where)


def _changes(chosen: argparse.Namespace) -> dict[str, Any]:
    """The recipe's keys that options replace."""
    from gfocal.configs import RecipeError

    options = {
        "model.preset": chosen.preset,
        "model.weights": chosen.backbone_weights,
        "run.epochs": chosen.epochs,
        "run.batch_size": chosen.batch_size,
        "run.precision": chosen.precision,
        "run.workers": chosen.workers,
        "run.seed": chosen.seed,
        "optimiser.lr": chosen.lr,
        "size.short_side": chosen.short_side,
    }
    changes = {key: value for key, value in options.items() if value is not None}
    if chosen.no_pretrained:
        changes["model.pretrained"] = False
    for text in chosen.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set takes KEY=VALUE, not {text!r}")
        changes[key.strip()] = value.strip()
    return changes


@contextmanager
def told_of_coco(is_expected: bool, path: str) -> Iterator[None]:
    """Where COCO itself is expected, what is missing is told together with where to get it."""
    from gfocal.data.coco_names import COCO_2017
    from gfocal.data.samples import DataError

    try:
        yield
    except DataError as error:
        if not is_expected:
            raise
        raise DataError(f"{error}\n{COCO_2017.format(path=path)}") from error


def first_split(data: str, *wanted: str) -> str | None:
    """The first of the wanted splits that a data set has."""
    from gfocal.data.discovery import splits

    if data == "synthetic":
        return wanted[0]
    there = splits(Path(data))
    return next((name for name in wanted if name in there), None)


def read(
    data: str,
    split: str | None,
    console: Console,
    recipe: Recipe | None = None,
    names: Sequence[str] | None = None,
) -> ImageData:
    """A data set by its path, its problems told; ``synthetic`` draws scenes of the recipe's size."""
    from gfocal.data.discovery import read_data
    from gfocal.data.layouts import mismatch
    from gfocal.data.synthetic import SyntheticScenes
    from gfocal.data.validation import summary

    if data == "synthetic":
        if names is not None and tuple(names) != SyntheticScenes.names:
            raise mismatch(SyntheticScenes.names, names, data)
        size = (recipe.size.short_side if recipe else None) or 192
        seed = recipe.run.seed if recipe else 0
        return SyntheticScenes(1000 if split == "train" else 200, size, seed, split or "test")
    found = read_data(Path(data), split, names)
    for line in summary(found.problems):
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    return found


def Console_out() -> Console:  # noqa: N802
    """What is asked for goes to standard output, everything else to standard error."""
    from rich.console import Console

    return Console()


def chosen_device(chosen: argparse.Namespace) -> torch.device:
    """The device of --device, else the first GPU, else the processor; DeviceError for one that is not there."""
    import torch

    from gfocal.training.distributed import DeviceError

    if chosen.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros((), device=chosen.device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {chosen.device}: not there ({reason}); leave it out, or say cpu") from error


def run_eval(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal eval."""
    from gfocal.atomic import atomic_write
    from gfocal.data.coco_names import COCO_NAMES
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.running import average_precision, detect_all, nothing_found
    from gfocal.interop.coco_results import write_coco_results
    from gfocal.models.files import load_model
    from gfocal.training.logging import progress_bar

    for file in (chosen.out, chosen.results):
        if file is not None and file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; name a file")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    model = load_model(chosen.model, chosen_device(chosen))
    with told_of_coco(model.names == COCO_NAMES, chosen.data):
        split = chosen.split or first_split(chosen.data, "test", "val")
        data = read(chosen.data, split, console, None, model.names)
    part = f"split {split} of {chosen.data}" if split else f"all of {chosen.data}, which has no split test or val"
    console.print(f"judging {counted(len(data), 'picture')}: {part}", markup=False, highlight=False, soft_wrap=True)
    batches = evaluation_loader(data, model.input_settings, chosen.batch_size, chosen.workers)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(
            model,
            batches,
            model.names,
            model.distribution,
            model.decode_settings,
            next(model.parameters()).device,
            on_batch=bar.advance,
        )
    result = average_precision(data, found)
    Console_out().print(result.table())
    if why := nothing_found(result, model.decode_settings):
        console.print(why, highlight=False, soft_wrap=True)
    if chosen.out:
        with atomic_write(chosen.out) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    if chosen.results:
        edge_std = all(one.edges.shape[-1] > 0 for one in found.values())
        write_coco_results(chosen.results, found, data.category_ids, edge_std)
    return DONE


def run_detect(chosen: argparse.Namespace, console: Console) -> int:
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


def run_demo(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal demo."""
    from gfocal.demo import demo

    result = demo(chosen.out, seed=chosen.seed, epochs=chosen.epochs, console=console)
    Console_out().print(result.table())
    console.print(f"look at {chosen.out / 'report.html'}", soft_wrap=True)
    return DONE


def run_models(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal models."""
    from rich.table import Table

    from gfocal.configs import RECIPE_FOLDER, recipe_names
    from gfocal.models.zoo import PRESETS

    table = Table("preset", "", title="presets: gfocal train --preset NAME", title_justify="left")
    for name, preset in PRESETS.items():
        table.add_row(name, (preset.__doc__ or "").split("\n\n")[0].replace("\n    ", " "))
    recipes = Table("recipe", "", title="recipes: gfocal train --recipe NAME", title_justify="left")
    for name in recipe_names():
        head = [
            line[1:].strip()
            for line in (RECIPE_FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        ]
        recipes.add_row(name, " ".join(head[2:]))
    Console_out().print(table)
    Console_out().print(recipes)
    return DONE


def run_import(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal import."""
    from gfocal.interop.mmdet import import_checkpoint
    from gfocal.models.files import save_model

    if chosen.out.is_dir():
        raise IsADirectoryError(f"{chosen.out}: is a folder; name a file")
    if chosen.out.exists() and chosen.checkpoint.exists() and chosen.out.samefile(chosen.checkpoint):
        raise FileExistsError(f"{chosen.out}: is the checkpoint itself, which would be lost; give another --out")
    imported = import_checkpoint(chosen.checkpoint, chosen.points, chosen.caffe)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    save_model(imported.model, chosen.out)
    told = [
        f"{chosen.checkpoint}: {imported.num_tensors} tensors, every one in its place in {imported.preset}",
        *imported.notes,
        *(f"left out: {reason}" for reason in imported.left_out),
        f"model file: {chosen.out}",
    ]
    for line in told:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return DONE

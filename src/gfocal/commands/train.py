"""gfocal train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.commands import DONE
from gfocal.commands.options import whole
from gfocal.commands.sources import first_split, read, standard_output, told_of_coco
from gfocal.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.configs import Recipe


def add(commands: Any) -> None:
    """Declare the command and its options."""
    train = commands.add_parser("train", help="train a detector on annotated pictures")
    train.set_defaults(run=run)
    train.add_argument("data", metavar="DATA", help="COCO json or folder, VOC or YOLO folder; or 'synthetic'")
    train.add_argument("--train-split", metavar="NAME", help="(default: train, or all where there are no splits)")
    train.add_argument("--val-split", metavar="NAME", help="evaluated each epoch (default: val, else test)")
    train.add_argument("--val", metavar="DATA", help="validation data that lies elsewhere")
    train.add_argument("--recipe", default="light", metavar="NAME|FILE", help="see 'gfocal models' (default: light)")
    train.add_argument("--out", type=Path, default=Path("runs/train"), metavar="DIR", help="(default: runs/train)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly as it was")
    train.add_argument("--preset", metavar="NAME", help="another network than the recipe's")
    train.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    train.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights from a local file")
    train.add_argument("--epochs", type=whole(1))
    train.add_argument("--batch-size", type=whole(1), help="pictures per step; the learning rate scales along")
    train.add_argument("--lr", type=float, help="learning rate at the recipe's reference batch")
    train.add_argument("--short-side", type=whole(1), metavar="PIXELS", help="pictures are resized to this")
    train.add_argument("--precision", choices=("no", "bf16", "fp16"), help="number format of the network")
    train.add_argument("--workers", type=whole(0), help="processes that load pictures")
    train.add_argument("--seed", type=whole(0))
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any value of the recipe, e.g. --set augment.crop=0.5; may be repeated",
    )


def run(chosen: argparse.Namespace, console: Console) -> int:
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
        standard_output().print(result.table())
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

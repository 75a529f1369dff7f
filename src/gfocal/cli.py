"""The command line: gfocal train, eval, detect, demo, models."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from gfocal.configs import Recipe
    from gfocal.data.samples import ImageData

DONE, SOME_FAILED, MISTAKE = 0, 1, 2

EPILOG = """examples:
  gfocal demo                                      train, evaluate and look at a report, from nothing
  gfocal train photos/ --out runs/mine             train on your own pictures (COCO, VOC or YOLO labels)
  gfocal train --resume --out runs/mine photos/    go on with a run that was stopped
  gfocal eval runs/mine photos/ --split test       the COCO numbers
  gfocal detect runs/mine new/*.jpg --out found    boxes as json, and pictures with the boxes drawn
  gfocal models                                    the presets and recipes

exit codes: 0 all done, 1 some pictures failed, 2 something must be mended first (the last line says what)"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    main = argparse.ArgumentParser(
        prog="gfocal",
        description="Object detectors with Generalized Focal Loss: they say what, where, and how sure of each edge.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"gfocal {__version__}")
    main.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train a detector on annotated pictures")
    train.set_defaults(run=run_train)
    train.add_argument("data", metavar="DATA", help="COCO json or folder, VOC or YOLO folder; or 'synthetic'")
    train.add_argument("--train-split", default="train", metavar="NAME", help="(default: train)")
    train.add_argument("--val-split", metavar="NAME", help="evaluated each epoch (default: val, else test)")
    train.add_argument("--val", metavar="DATA", help="validation data that lies elsewhere")
    train.add_argument("--recipe", default="light", metavar="NAME|FILE", help="see 'gfocal models' (default: light)")
    train.add_argument("--out", type=Path, default=Path("runs/train"), metavar="DIR", help="(default: runs/train)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly as it was")
    train.add_argument("--preset", metavar="NAME", help="another network than the recipe's")
    train.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    train.add_argument("--backbone-weights", metavar="FILE", help="ImageNet weights from a local file")
    train.add_argument("--epochs", type=int)
    train.add_argument("--batch-size", type=int, help="pictures per step; the learning rate scales along")
    train.add_argument("--lr", type=float, help="learning rate at the recipe's reference batch")
    train.add_argument("--short-side", type=int, metavar="PIXELS", help="pictures are resized to this")
    train.add_argument("--precision", choices=("no", "bf16", "fp16"), help="number format of the network")
    train.add_argument("--workers", type=int, help="processes that load pictures")
    train.add_argument("--seed", type=int)
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any value of the recipe, e.g. --set augment.crop=0.5; may be repeated",
    )

    evaluate = commands.add_parser("eval", help="the COCO numbers of a model on annotated pictures")
    evaluate.set_defaults(run=run_eval)
    evaluate.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    evaluate.add_argument("data", metavar="DATA", help="as for train")
    evaluate.add_argument("--split", metavar="NAME", help="(default: test, else val)")
    evaluate.add_argument("--batch-size", type=int, default=8)
    evaluate.add_argument("--workers", type=int, default=2)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as json")
    evaluate.add_argument("--results", type=Path, metavar="FILE", help="write the detections as COCO results json")

    detect = commands.add_parser("detect", help="find objects in pictures")
    detect.set_defaults(run=run_detect)
    detect.add_argument("model", metavar="MODEL", help="a model file or the folder of a run")
    detect.add_argument("images", nargs="+", metavar="IMAGE", help="picture files or folders of them")
    detect.add_argument("--out", type=Path, default=Path("detections"), metavar="DIR", help="(default: detections)")
    detect.add_argument("--score", type=float, default=0.3, metavar="S", help="least score (default: 0.3)")
    detect.add_argument("--no-pictures", action="store_true", help="write only the json")
    detect.add_argument(
        "--edges",
        choices=("none", "std", "distribution"),
        default="none",
        help="draw how sure each edge is: a band of one standard deviation, or the whole distribution",
    )
    detect.add_argument("--batch-size", type=int, default=1)

    demo = commands.add_parser("demo", help="train on drawn scenes, evaluate, and write a report to look at")
    demo.set_defaults(run=run_demo)
    demo.add_argument("--out", type=Path, default=Path("gfocal-demo"), metavar="DIR", help="(default: gfocal-demo)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--epochs", type=int, help="fewer for a quick look (default: what the AP in the README needs)")

    models = commands.add_parser("models", help="list the presets and recipes")
    models.set_defaults(run=run_models)
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Mistakes of the user end in one line, without a traceback."""
    chosen = parser().parse_args(arguments)
    from rich.console import Console

    console = Console(stderr=True)
    warnings.showwarning = lambda message, *_, **__: console.print(f"warning: {message}", markup=False)
    try:
        return chosen.run(chosen, console)
    except KeyboardInterrupt:
        console.print("stopped; a run goes on with --resume")
        return 130
    except (*_mistakes(), OSError) as error:
        if chosen.traceback:
            raise
        console.print(f"gfocal: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return MISTAKE


def _mistakes() -> tuple[type[Exception], ...]:
    from gfocal.configs import RecipeError
    from gfocal.data.samples import DataError
    from gfocal.models.backbone import WeightsError
    from gfocal.models.files import ModelFileError
    from gfocal.models.zoo import PresetError
    from gfocal.training.checkpoints import ResumeError
    from gfocal.training.loop import NonFiniteLoss

    return RecipeError, DataError, WeightsError, ModelFileError, PresetError, ResumeError, NonFiniteLoss


def run_train(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal train."""
    from gfocal.build import run_recipe
    from gfocal.configs import read_recipe, with_changes

    recipe = with_changes(read_recipe(chosen.recipe), _changes(chosen))
    train_data = read(chosen.data, chosen.train_split, console, recipe)
    val_data = None
    val_split = chosen.val_split or first_split(chosen.val or chosen.data, "val", "test")
    if chosen.val or val_split:
        val_data = read(chosen.val or chosen.data, val_split, console, recipe, train_data.names)
    else:
        console.print("no validation split: the last epoch's weights are the result")
    console.print(f"{len(train_data)} pictures to train, {0 if val_data is None else len(val_data)} to validate")
    _, result = run_recipe(
        recipe, train_data, val_data, chosen.out, resume=chosen.resume, data_name=chosen.data, console=console
    )
    if result is not None:
        Console_out().print(result.table())
    console.print(f"model files: {chosen.out}/best.safetensors, {chosen.out}/last.safetensors", soft_wrap=True)
    return DONE


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


def first_split(data: str, *wanted: str) -> str | None:
    """The first of the wanted splits that a data set has."""
    from gfocal.data.discovery import splits

    if data == "synthetic":
        return wanted[0]
    there = splits(Path(data))
    return next((name for name in wanted if name in there), None)


def read(
    data: str, split: str | None, console: Console, recipe: Recipe | None = None, names: Sequence[str] | None = None
) -> ImageData:
    """A data set by its path, its problems told; ``synthetic`` draws scenes of the recipe's size."""
    from gfocal.data.discovery import read_data
    from gfocal.data.synthetic import SyntheticScenes
    from gfocal.data.validation import summary

    if data == "synthetic":
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


def run_eval(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal eval."""
    from gfocal.atomic import atomic_write
    from gfocal.data.loading import evaluation_loader
    from gfocal.evaluation.running import average_precision, detect_all
    from gfocal.interop.coco_results import write_coco_results
    from gfocal.models.files import load_model
    from gfocal.training.logging import progress_bar

    model = load_model(chosen.model)
    data = read(chosen.data, chosen.split or first_split(chosen.data, "test", "val"), console, None, model.names)
    batches = evaluation_loader(data, model.input_settings, chosen.batch_size, chosen.workers)
    with progress_bar(console, "evaluating", len(batches)) as bar:
        found = detect_all(
            model, batches, model.names, model.distribution, model.decode_settings, on_batch=bar.advance
        )
    result = average_precision(data, found)
    Console_out().print(result.table())
    if chosen.out:
        with atomic_write(chosen.out) as temporary:
            temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    if chosen.results:
        write_coco_results(chosen.results, found, data.category_ids, edge_std=True)
    return DONE


def run_detect(chosen: argparse.Namespace, console: Console) -> int:
    """gfocal detect."""
    from gfocal.detect_files import detect_files

    from gfocal.models.files import load_model

    model = load_model(chosen.model)
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


if __name__ == "__main__":
    sys.exit(main())

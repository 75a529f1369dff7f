"""From a recipe to a run: the only room, beside the command line, that knows recipes and parts alike."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from gfocal import __version__
from gfocal.atomic import atomic_write
from gfocal.configs import Recipe, read_recipe, write_recipe
from gfocal.data.samples import ImageData
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.models.detector import Detector
from gfocal.models.zoo import create
from gfocal.training.checkpoints import STATE_FILE, ResumeError
from gfocal.training.loop import train

RECIPE_FILE = "recipe.toml"
RESULT_FILE = "result.json"


def build_model(recipe: Recipe, names: Sequence[str]) -> Detector:
    """The detector of a recipe, for the classes of a data set."""
    settings = recipe.model
    model = create(
        settings.preset,
        len(names),
        names=tuple(names),
        pretrained=settings.pretrained,
        weights=settings.weights,
        **settings.options,
    )
    size = model.input_settings
    short_side = recipe.size.short_side or size.short_side
    long_side = recipe.size.long_side or max(size.long_side * short_side // size.short_side, short_side)
    model.input_settings = replace(size, short_side=short_side, long_side=long_side)
    return model


def run_recipe(
    recipe: Recipe,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: Path,
    *,
    resume: bool = False,
    data_name: str = "",
    console: Console | None = None,
) -> tuple[Detector, CocoResult | None]:
    """Train as a recipe says, and leave the recipe, versions and the result beside the weights.

    Raises:
        ResumeError: the folder holds a run already and ``resume`` is False, or the other way round.
    """
    import torch

    console = console or Console(stderr=True)
    if resume:
        # The saved recipe alone counts: with another it would be another run.
        recipe = read_recipe(folder / RECIPE_FILE) if (folder / RECIPE_FILE).is_file() else recipe
    elif (folder / STATE_FILE).exists():
        raise ResumeError(f"{folder}: holds a run already; go on with --resume, or name another folder with --out")
    torch.manual_seed(recipe.run.seed)
    model = build_model(recipe, train_data.names)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RECIPE_FILE, write_recipe(recipe))
    _write(folder / "run.json", json.dumps(circumstances(data_name, train_data, val_data), indent=1) + "\n")
    result = train(
        model,
        train_data,
        val_data,
        folder,
        run=recipe.run,
        augment=recipe.augment,
        optimiser_settings=recipe.optimiser,
        schedule=recipe.schedule,
        resume=resume,
        console=console,
    )
    if result is not None:
        _write(folder / RESULT_FILE, json.dumps(result.to_json(), indent=1) + "\n")
    return model, result


def circumstances(data_name: str, train_data: ImageData, val_data: ImageData | None) -> dict[str, object]:
    """What else decided a run: versions, machine, command, data."""
    import timm
    import torch
    import torchvision

    return {
        "gfocal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": " ".join(sys.argv),
        "data": data_name,
        "classes": list(train_data.names),
        "train_images": len(train_data),
        "val_images": 0 if val_data is None else len(val_data),
    }


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

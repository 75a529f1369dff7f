"""From a recipe to a run: the only room, beside the command line, that knows recipes and parts alike."""

from __future__ import annotations

import difflib
import json
import platform
import sys
import typing
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__, launched
from gfocal.atomic import atomic_write
from gfocal.configs import ModelSettings, Recipe, RecipeError, flat, read_recipe, write_recipe
from gfocal.data.learnable import check_objects, with_objects
from gfocal.data.one_class import as_one_class
from gfocal.data.samples import ImageData
from gfocal.doctor.layout import layout_of
from gfocal.doctor.refusal import refuse_clamped
from gfocal.doctor.shared_pictures import tell_shared
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.running import evaluated
from gfocal.methods import criterion_of
from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector
from gfocal.models.files import ModelFileError, build_from_description, describe, load_model, read_model_file
from gfocal.models.freezing import freeze
from gfocal.models.transfer import for_classes
from gfocal.models.zoo import PresetError, create, preset_named
from gfocal.starting import told, with_network_of_start
from gfocal.training.checkpoints import STATE_FILE, ResumeError, has_state
from gfocal.training.folder_lock import only_run_in
from gfocal.training.loop import train
from gfocal.values import fitted
from gfocal.words import counted

RECIPE_FILE = "recipe.toml"
RUN_FILE = "run.json"
RESULT_FILE = "result.json"
LAST_FILE = "last.safetensors"
LEAST_SIDE = 32  # pixels: what is not larger is one cell of C5, and a batch of one such picture has no variance
# Arguments of a preset that other parts of a recipe, or the data, decide.
NOT_OPTIONS = ("num_classes", "names", "pretrained", "weights", "input_settings", "return")


def build_model(recipe: Recipe, names: Sequence[str]) -> Detector:
    """The detector of a recipe, for the classes of a data set.

    Raises:
        PresetError: there is no such preset.
        RecipeError: the preset has no such option, or a value does not fit.
        WeightsError: the ImageNet weights cannot be had.
    """
    settings = recipe.model
    try:
        if settings.start is not None:
            model = for_classes(load_model(settings.start), names)
        else:
            model = create(
                settings.preset,
                len(names),
                names=tuple(names),
                pretrained=settings.pretrained,
                weights=settings.weights,
                **checked_options(settings),
            )
        size = model.input_settings
        short_side = recipe.size.short_side or size.short_side
        long_side = recipe.size.long_side or max(size.long_side * short_side // size.short_side, short_side)
        if short_side <= LEAST_SIDE:
            raise ValueError(
                f"at a short side of {short_side} pixels a picture is one cell; {LEAST_SIDE + 1} is the least"
            )
        model.input_settings = replace(
            size, short_side=short_side, long_side=long_side, antialias=recipe.size.antialias
        )
    except (RecipeError, ModelFileError, PresetError):
        raise
    except ValueError as error:
        raise RecipeError(f"{settings.preset} cannot be built by this recipe: {error}") from error
    return prepared(model, recipe)


def prepared(model: Detector, recipe: Recipe) -> Detector:
    """A detector made ready for training as the recipe says: what is frozen, what is computed twice.

    Raises:
        RecipeError: its backbone has no stages to do this by.
    """
    try:
        if recipe.model.freeze is not None:
            freeze(model, recipe.model.freeze)
    except ValueError as error:
        raise RecipeError(f"model.freeze: {error}") from error
    needing = [("run.checkpoint_activations", recipe.run.checkpoint_activations)]
    needing.append(("optimiser.layer_decay", recipe.optimiser.layer_decay < 1))
    has_stages = isinstance(model.backbone, Backbone) and len(model.backbone.parts()) > 1
    for key, wanted in needing:
        if wanted and not has_stages:
            raise RecipeError(f"{key}: the backbone of {model.built_from['preset']} has no stages; leave it out")
    if isinstance(model.backbone, Backbone):
        model.backbone.recompute = recipe.run.checkpoint_activations
    return model


def checked_options(settings: ModelSettings) -> dict[str, Any]:
    """The options for the preset's function; RecipeError for one that it lacks, or of a wrong type."""
    hints = typing.get_type_hints(preset_named(settings.preset))
    known = [key for key in hints if key not in NOT_OPTIONS]
    for key in settings.options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise RecipeError(
                f"model.options: {settings.preset} has no option {key!r}; {hint} "
                "(model.options={} takes the recipe's away)"
            )
    where = f"model.options of {settings.preset}"
    return {key: fitted(value, hints[key], where, key) for key, value in settings.options.items()}


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

    With ``resume`` the recipe saved in the folder counts, not the one given: with another it would be
    another run.

    Raises:
        ResumeError: the folder holds a run already and ``resume`` is False, or the other way round; or the
            data are not those that the run began with.
        RecipeError: the recipe's model cannot be built.
        DataError: no training picture holds an object.
        ClampedEdges: too many edges of the training boxes lie beyond the detector's reach.
        FolderInUse: another process is training in the folder.
        NotADirectoryError: ``folder`` is a file.
    """
    import torch

    console = console or Console(stderr=True)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder for what the run writes")
    if resume:
        recipe = saved_recipe(folder)
    elif has_state(folder):
        raise ResumeError(_holds_a_run(folder))
    else:
        recipe = with_network_of_start(recipe)
    if recipe.model.class_agnostic:
        train_data, val_data = as_one_class(train_data), None if val_data is None else as_one_class(val_data)
    check_objects(train_data, data_name)
    if recipe.run.skip_empty:
        train_data = with_objects(train_data)
    if resume:
        _check_same_data(folder, train_data)
    torch.manual_seed(recipe.run.seed)
    if recipe.model.start is not None and not resume:
        console.print(told(recipe.model.start, train_data.names), markup=False, highlight=False, soft_wrap=True)
    elif recipe.model.pretrained and not recipe.model.weights and not resume:
        console.print("ImageNet weights: from the Hugging Face hub, unless they are on this machine already")
    model = started_model(recipe, train_data.names, folder) if resume else build_model(recipe, train_data.names)
    criterion = criterion_of(model, recipe.method)
    if not resume:
        layout = layout_of(model, criterion, recipe.augment.short_sides)
        refuse_clamped(layout, train_data, recipe.run.most_clamped, console, data_name)
        if launched.is_first():
            tell_shared(train_data, val_data, console)
    folder.mkdir(parents=True, exist_ok=True)
    about = circumstances(data_name, train_data, val_data) | {"model": describe(model)}
    with only_run_in(folder) if launched.is_first() else nullcontext():
        if not resume and launched.is_first() and has_state(folder):  # of a run that came and went since
            raise ResumeError(_holds_a_run(folder))
        if launched.is_first():
            _write(folder / RECIPE_FILE, write_recipe(recipe))
            _write(folder / RUN_FILE, json.dumps(about, indent=1) + "\n")
        result = train(
            model,
            train_data,
            val_data,
            folder,
            run=recipe.run,
            augment=recipe.augment,
            optimiser_settings=recipe.optimiser,
            schedule=recipe.schedule,
            criterion=criterion,
            recipe=flat(recipe),
            resume=resume,
            console=console,
        )
        was_killed_behind_its_last_state = result is None and resume and not (folder / RESULT_FILE).is_file()
        if was_killed_behind_its_last_state and val_data is not None and launched.is_first():
            result = evaluated(load_model(folder / LAST_FILE), val_data, recipe.run.eval_batch_size)
        if result is not None and launched.is_first():
            _write(folder / RESULT_FILE, json.dumps(result.to_json(), indent=1) + "\n")
    return model, result


def _holds_a_run(folder: Path) -> str:
    return f"{folder}: holds a run already; go on with --resume, or name another folder with --out"


def started_model(recipe: Recipe, names: Sequence[str], folder: Path) -> Detector:
    """The detector of a run that goes on, its weights still to come: those it began with are not fetched again."""
    about = _saved_description(folder)
    if about is None:  # what is frozen follows from the weights that the run began with
        return build_model(recipe, names)
    return prepared(build_from_description(about), recipe)


def _saved_description(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        last = folder / LAST_FILE
        return read_model_file(last)[0] if last.is_file() else None


def saved_recipe(folder: Path) -> Recipe:
    """The recipe of the run in a folder; ResumeError when no run there can be gone on with."""
    missing = STATE_FILE if not has_state(folder) else RECIPE_FILE if not (folder / RECIPE_FILE).is_file() else None
    if missing:
        raise ResumeError(f"{folder}: nothing to resume, there is no {missing}; start without --resume")
    return read_recipe(folder / RECIPE_FILE)


def _check_same_data(folder: Path, train_data: ImageData) -> None:
    """A run goes on with other pictures or classes only by mistake, and as so many processes as it was."""
    try:
        before = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # it says only what a run was made of; the state is what it goes on from
    for key, now in (("classes", list(train_data.names)), ("train_images", len(train_data))):
        if before.get(key, now) != now:
            raise ResumeError(
                f"{folder}: was begun with {key} = {before[key]}, not {now}; "
                "resume with the same data, or start in another folder"
            )
    processes = before.get("processes", launched.world())
    if processes != launched.world():  # steps, rate and the place in the epoch are theirs
        raise ResumeError(
            f"{folder}: is a run of {counted(processes, 'process', 'processes')}, not of {launched.world()}; launch "
            f"as many, or begin from its weights in another folder (--from {folder})"
        )


def circumstances(data_name: str, train_data: ImageData, val_data: ImageData | None) -> dict[str, object]:
    """What else decided a run: versions, machine, command, data."""
    from importlib.metadata import version

    import torch

    return {
        "gfocal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "timm": version("timm"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": launched.world(),
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

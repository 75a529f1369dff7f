"""Config and data become a run directory: the trained model, and beside it all that is needed to train it again."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__, launch
from gfocal.atomic import atomic_write, set_aside
from gfocal.build import add_teacher, build_criterion, build_model, prepare_for_training
from gfocal.checks.before_training import (
    explain_small_sets,
    refuse_clamped_edges,
    refuse_large_batch,
    refuse_other_convention,
    warn_of_shared_images,
)
from gfocal.checks.geometry import read_geometry
from gfocal.config.config import Config, flatten, read_config, unflatten, write_config
from gfocal.config.start import describe_start, with_initial_network
from gfocal.console import note, say, warn
from gfocal.criteria.gfl import Criterion
from gfocal.data.dataset import ImageData
from gfocal.data.identity import sorted_digests
from gfocal.data.paths import require_distinct
from gfocal.data.survey import choose_for_images, image_paths
from gfocal.data.views import as_one_class, require_objects, select_trained, select_with_objects
from gfocal.errors import ConfigError, ResumeError
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.detections import evaluate_model, explain_limit
from gfocal.models.description import build_from_description, check_description, describe
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, read_description
from gfocal.run_folder import RunFolder
from gfocal.text import pluralize
from gfocal.training.checkpoints import read_facts
from gfocal.training.distributed import choose_precision
from gfocal.training.environment import lock_folder
from gfocal.training.loop import train
from gfocal.training.norm_statistics import restore_statistics
from gfocal.training.pace import Outside
from gfocal.training.teaching import describe_teacher, require_same_teacher
from gfocal.training.watching import RunWatcher


def run_training(
    config: Config,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: Path,
    *,
    resume: bool = False,
    data_name: str = "",
    selected_on: str = "",
    held_out: Mapping[str, Any] | None = None,
    renames: Mapping[str, str] | None = None,  # of classes, old -> new, for the model files
    watcher: RunWatcher | None = None,
    outside: Outside | None = None,
    console: Console | None = None,
) -> tuple[Detector, CocoResult | None]:
    """Train as a config says; write the config, versions, a description of the data and the result to a folder.

    With ``resume`` the saved config counts. run.json names the data ``data_name``, and ``selected_on`` the images
    that the best epoch is chosen by; ``held_out`` becomes split.json. ``watcher`` and ``outside``: see ``train``.

    Raises:
        ResumeError: the folder holds a run and ``resume`` is False, or the other way round; or it had other data.
        ConfigError: the config's model cannot be built.
        DataError: no training image has an object.
        ClampedEdgesError: too many edges of the training boxes lie outside the regression range.
        RunFolderInUseError, NotADirectoryError: another process is training in ``folder``; it is a file.
    """
    run, console = RunFolder(folder), console or Console(stderr=True)
    config = choose_config(config, run, resume)
    train_data, val_data = select_images(config, train_data, val_data, data_name)
    if resume:
        require_same_data(run, train_data)
    model, criterion = build_parts(config, train_data.names, run, resume, console)
    model.renames = dict(renames or {})
    require_same_teacher(read_run_json(run) if resume else None, criterion, folder)
    if not resume:
        fit_to_data(config, model, criterion, train_data, val_data, data_name, console)
    folder.mkdir(parents=True, exist_ok=True)
    about = describe_environment(config) | describe_data(train_data, val_data, data_name, selected_on)
    about |= describe_teacher(criterion, config.distill.teacher) | {"model": describe(model)}
    with lock_folder(run) if launch.is_main() else nullcontext():
        if launch.is_main():
            write_start(config, run, about, held_out, resume, train_data, val_data, console)
        result = train(
            model,
            train_data,
            val_data,
            folder,
            run=config.run,
            augment=config.augment,
            optimizer_settings=config.optimizer,
            schedule=config.schedule,
            criterion=criterion,
            config=flatten(config),
            resume=resume,
            watcher=watcher,
            outside=outside,
            console=console,
        )
        return model, write_result(result, config, run, val_data, resume) if launch.is_main() else result


def choose_config(config: Config, run: RunFolder, resume: bool) -> Config:
    """The config to train by: of a run to be resumed, the saved one."""
    if run.path.exists() and not run.path.is_dir():
        raise NotADirectoryError(f"{run.path}: is a file; name a folder for what the run writes")
    if resume:
        return read_run_config(run.path)
    require_no_run(run)
    # From here on what auto means on this machine: a resumed run keeps it.
    chosen = replace(config.run, precision=choose_precision(config.run.precision, config.run.cpu))
    return with_initial_network(replace(config, run=chosen))


def require_no_run(run: RunFolder) -> None:
    """ResumeError if the folder holds a run."""
    if run.has_state:
        raise ResumeError(
            f"{run.path}: holds a run already; continue it with --resume, or name another folder with --out"
        )


def read_run_config(folder: Path) -> Config:
    """The config of the run in a folder: of config.toml, which must be that of the saved state.

    Where config.toml is missing, that of the state is taken. ResumeError if no run there can be resumed.
    """
    run = RunFolder(folder)
    if not run.has_state:
        raise ResumeError(f"{folder}: nothing to resume, there is no {run.state.name}; start without --resume")
    saved = _saved_config(run)
    if not run.config.is_file():
        if saved is None:
            raise ResumeError(f"{folder}: nothing to resume, there is no {run.config.name}; start without --resume")
        return saved
    if saved is None:
        return read_config(run.config)
    fix = f"delete {run.config}: --resume then writes it again from {run.state.name}"
    try:
        config = read_config(run.config)
    except ConfigError as error:
        raise ResumeError(f"{error}; restore it, or {fix}") from error
    if config != saved:
        before, now = flatten(saved), flatten(config)
        differing = [key for key in before if before[key] != now[key]]
        changes = ", ".join(f"{key} = {now[key]!r} (was {before[key]!r})" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ResumeError(
            f"{run.config}: is not the config that the run was started with: {changes}{more}; restore it, or {fix} "
            f"(a run with another config: --init-from {folder} --out another folder)"
        )
    return config


def _saved_config(run: RunFolder) -> Config | None:
    """The config in the saved state; None if it cannot be read, or belongs to another version of gfocal."""
    saved = read_facts(run).config
    try:
        return None if saved is None else unflatten(saved)
    except (ConfigError, TypeError, AttributeError):
        return None


def select_images(
    config: Config, train_data: ImageData, val_data: ImageData | None, data_name: str
) -> tuple[ImageData, ImageData | None]:
    """Training and validation data as a config wants them; DataError if no training image has an object."""
    if config.model.class_agnostic:
        train_data, val_data = as_one_class(train_data), None if val_data is None else as_one_class(val_data)
    require_distinct(train_data.names, data_name or "training data")
    require_objects(train_data, data_name)
    train_data = select_trained(train_data)
    train_data = select_with_objects(train_data) if config.run.skip_empty else train_data
    return train_data if train_data.files is None else train_data.files.without_stated(), val_data


def require_same_data(run: RunFolder, train_data: ImageData) -> None:
    """ResumeError if classes, number of images or number of processes are not those the run was started with."""
    before = read_run_json(run)
    if before is None:  # the run needs only its state
        before = {"classes": names} if (names := (read_facts(run).description or {}).get("names")) else {}
    for key, now in (("classes", list(train_data.names)), ("train_images", len(train_data))):
        if before.get(key, now) != now:
            raise ResumeError(
                f"{run.path}: was started with {key} = {before[key]}, not {now}; "
                "resume with the same data, or start in another folder"
            )
    processes = before.get("processes", launch.world_size())
    if processes != launch.world_size():  # they decide steps, learning rate and the place in the epoch
        raise ResumeError(
            f"{run.path}: is a run of {pluralize(processes, 'process', 'processes')}, not of {launch.world_size()}; "
            f"launch as many, or start from its weights in another folder (--init-from {run.path})"
        )


def build_parts(
    config: Config, names: Sequence[str], run: RunFolder, resume: bool, console: Console
) -> tuple[Detector, Criterion]:
    """Detector and criterion. For a run to be resumed, the initial weights are not downloaded again."""
    import torch

    torch.manual_seed(config.run.seed)
    if resume:
        description = read_saved_description(run)
        if description is None:  # what is frozen depends on the initial weights
            model = build_model(config, names)
        else:
            model = prepare_for_training(build_from_description(description), config)
    else:
        for line in describe_start(config.model, names):
            say(console, line)
        model = build_model(config, names)
    if config.distill.teacher is not None:
        say(console, f"taught where edges lie by {config.distill.teacher}")
    return model, add_teacher(build_criterion(model, config.method), model, config.distill)


def read_saved_description(run: RunFolder) -> dict[str, Any] | None:
    """The description of the network of a run; None if neither its state, run.json nor a model file has it."""
    for found in (read_facts(run).description, (read_run_json(run) or {}).get("model")):
        try:
            return check_description(found)
        except ValueError:
            continue
    return read_description(run.last) if run.last.is_file() else None


def read_run_json(run: RunFolder) -> dict[str, Any] | None:
    """The content of run.json; None if there is none, or something else in its place."""
    try:
        content = json.loads(run.description.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_usable = isinstance(content, dict) and isinstance(content.get("processes", 1), int)
    return content if is_usable else None


def write_start(
    config: Config,
    run: RunFolder,
    description: dict[str, object],
    held_out: Mapping[str, Any] | None,
    resume: bool,
    train_data: ImageData,
    val_data: ImageData | None,
    console: Console,
) -> None:
    """Write config.toml, run.json, training_images.json and, if images are held out, split.json.

    A run.json that is none is set aside.
    """
    if not resume:
        require_no_run(run)  # that another process has started and ended since
    if held_out is not None:
        write_json(run.split, held_out)
    known = {"digests": sorted_digests(train_data)}
    if val_data is not None:
        known["selected_on"] = sorted_digests(val_data)
    write_json(run.training_images, known)
    write_text(run.config, write_config(config))
    if run.description.is_file() and read_run_json(run) is None:
        aside = set_aside(run.description)
        note(console, f"{run.description}: not as gfocal wrote it; it is now {aside.name}, and there is a new one")
    write_json(run.description, description)


def choose_value_range(
    config: Config, model: Detector, train_data: ImageData, val_data: ImageData | None, console: Console
) -> None:
    """Choose the values of deep images that become 0 and 255 in this run; the model file stores them."""
    paths = image_paths((train_data, val_data))
    choice = choose_for_images(paths, model.input_settings, config.images.value_range, console)
    model.input_settings = replace(
        model.input_settings, value_range=choice.value_range, is_value_range_stated=choice.is_stated
    )


def fit_to_data(
    config: Config,
    model: Detector,
    criterion: Criterion,
    train_data: ImageData,
    val_data: ImageData | None,
    data_name: str,
    console: Console,
) -> None:
    """Before the first step: values of deep images, checks of the data, statistics that the initial weights lack."""
    choose_value_range(config, model, train_data, val_data, console)
    check_data(config, model, criterion, train_data, val_data, data_name, console)
    measure_missing_statistics(model, train_data, console)


def measure_missing_statistics(model: Detector, train_data: ImageData, console: Console) -> None:
    """Give initial weights whose BatchNorm was folded into the convolutions their statistics back, and say so."""
    if number := restore_statistics(model, train_data):
        lack = "the initial weights lack the mean and variance of each channel, which BatchNorm layers need"
        say(console, f"{lack}: measured on {pluralize(number, 'image')}")


def check_data(
    config: Config,
    model: Detector,
    criterion: Criterion,
    train_data: ImageData,
    val_data: ImageData | None,
    data_name: str,
    console: Console,
) -> None:
    """Refuse data with too many edges outside the regression range; warn of validation images seen in training."""
    refuse_large_batch(config.run.batch_size, train_data, launch.world_size())
    geometry = read_geometry(model, criterion, config.augment.short_sides)
    refuse_other_convention(train_data, config.run.trust_boxes)
    refuse_clamped_edges(geometry, train_data, config.run.max_clamped_fraction, console, data_name)
    if launch.is_main():
        warn_of_shared_images(train_data, val_data, console)
        for line in explain_small_sets(train_data, val_data):
            warn(console, line)
        limit = model.decode_settings.max_detections
        if line := explain_limit(train_data if val_data is None else val_data, limit, per_class=False):
            note(console, line)


def write_result(
    result: CocoResult | None, config: Config, run: RunFolder, val_data: ImageData | None, resume: bool
) -> CocoResult | None:
    """Write result.json, also of a finished run that has none yet; returns what it has."""
    if result is None and resume:
        result = evaluate_finished_run(config, run, val_data)
    if result is not None:
        write_json(run.result, result.to_json())
    return result


def evaluate_finished_run(config: Config, run: RunFolder, val_data: ImageData | None) -> CocoResult | None:
    """The result of a run that was killed after its last epoch, before it was written; None if it was."""
    if val_data is None or run.result.is_file():
        return None
    return evaluate_model(load_model(run.last), val_data, config.run.eval_batch_size)


def describe_environment(config: Config) -> dict[str, object]:
    """Versions, machine, number format and command of a run."""
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
        "precision": "float32" if config.run.precision == "no" else config.run.precision,
        "processes": launch.world_size(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": " ".join(sys.argv),
    }


def describe_data(
    train_data: ImageData, val_data: ImageData | None, data_name: str, selected_on: str = ""
) -> dict[str, object]:
    """Classes, numbers of images, and those by which the best epoch is chosen."""
    selected_on = selected_on or ("nothing: the weights of the last epoch" if val_data is None else "validation data")
    return {
        "data": data_name,
        "classes": list(train_data.names),
        "train_images": len(train_data),
        "val_images": 0 if val_data is None else len(val_data),
        "selected_on": selected_on,
    }


def write_json(path: Path, content: object) -> None:
    """Write json, atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

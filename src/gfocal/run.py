"""Config and data become a run directory."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from gfocal import __version__
from gfocal import launch as launched
from gfocal.atomic import atomic_write
from gfocal.build import build_model, criterion_of, prepared
from gfocal.checks.advice import layout_of
from gfocal.checks.before_training import refuse_clamped
from gfocal.checks.duplicates import tell_shared
from gfocal.config.config import Config, flat, read_config, write_config
from gfocal.config.start import told, with_network_of_start
from gfocal.console import say
from gfocal.data.dataset import ImageData
from gfocal.data.views import as_one_class, check_objects, with_objects
from gfocal.errors import ResumeError
from gfocal.evaluation.coco_ap import CocoResult
from gfocal.evaluation.detections import evaluated
from gfocal.models.detector import Detector
from gfocal.models.model_file import build_from_description, describe, load_model, read_model_file
from gfocal.text import counted
from gfocal.training.checkpoints import STATE_FILE, has_state
from gfocal.training.environment import only_run_in
from gfocal.training.loop import train

CONFIG_FILE = "config.toml"
RUN_FILE = "run.json"
RESULT_FILE = "result.json"
LAST_FILE = "last.safetensors"


def run_config(
    config: Config,
    train_data: ImageData,
    val_data: ImageData | None,
    folder: Path,
    *,
    resume: bool = False,
    data_name: str = "",
    console: Console | None = None,
) -> tuple[Detector, CocoResult | None]:
    """Train as a config says, and leave the config, versions and the result beside the weights.

    With ``resume`` the config saved in the folder counts, not the one given: with another it would be
    another run.

    Raises:
        ResumeError: the folder holds a run already and ``resume`` is False, or the other way round; or the
            data are not those that the run began with.
        ConfigError: the config's model cannot be built.
        DataError: no training image holds an object.
        ClampedEdgesError: too many edges of the training boxes lie beyond the detector's reach.
        RunFolderInUseError: another process is training in the folder.
        NotADirectoryError: ``folder`` is a file.
    """
    import torch

    console = console or Console(stderr=True)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file; name a folder for what the run writes")
    if resume:
        config = saved_config(folder)
    elif has_state(folder):
        raise ResumeError(_holds_a_run(folder))
    else:
        config = with_network_of_start(config)
    if config.model.class_agnostic:
        train_data, val_data = as_one_class(train_data), None if val_data is None else as_one_class(val_data)
    check_objects(train_data, data_name)
    if config.run.skip_empty:
        train_data = with_objects(train_data)
    if resume:
        _check_same_data(folder, train_data)
    torch.manual_seed(config.run.seed)
    if config.model.init_from is not None and not resume:
        say(console, told(config.model.init_from, train_data.names))
    elif config.model.pretrained and not config.model.weights and not resume:
        console.print("ImageNet weights: from the Hugging Face hub, unless they are on this machine already")
    model = started_model(config, train_data.names, folder) if resume else build_model(config, train_data.names)
    criterion = criterion_of(model, config.method)
    if not resume:
        layout = layout_of(model, criterion, config.augment.short_sides)
        refuse_clamped(layout, train_data, config.run.max_clamped_fraction, console, data_name)
        if launched.is_first():
            tell_shared(train_data, val_data, console)
    folder.mkdir(parents=True, exist_ok=True)
    about = circumstances(data_name, train_data, val_data) | {"model": describe(model)}
    with only_run_in(folder) if launched.is_first() else nullcontext():
        if not resume and launched.is_first() and has_state(folder):  # of a run that came and went since
            raise ResumeError(_holds_a_run(folder))
        if launched.is_first():
            _write(folder / CONFIG_FILE, write_config(config))
            _write(folder / RUN_FILE, json.dumps(about, indent=1) + "\n")
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
            config=flat(config),
            resume=resume,
            console=console,
        )
        was_killed_behind_its_last_state = result is None and resume and not (folder / RESULT_FILE).is_file()
        if was_killed_behind_its_last_state and val_data is not None and launched.is_first():
            result = evaluated(load_model(folder / LAST_FILE), val_data, config.run.eval_batch_size)
        if result is not None and launched.is_first():
            _write(folder / RESULT_FILE, json.dumps(result.to_json(), indent=1) + "\n")
    return model, result


def _holds_a_run(folder: Path) -> str:
    return f"{folder}: holds a run already; go on with --resume, or name another folder with --out"


def started_model(config: Config, names: Sequence[str], folder: Path) -> Detector:
    """The detector of a run that goes on, its weights still to come: those it began with are not fetched again."""
    about = _saved_description(folder)
    if about is None:  # what is frozen follows from the weights that the run began with
        return build_model(config, names)
    return prepared(build_from_description(about), config)


def _saved_description(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        last = folder / LAST_FILE
        return read_model_file(last)[0] if last.is_file() else None


def saved_config(folder: Path) -> Config:
    """The config of the run in a folder; ResumeError when no run there can be gone on with."""
    missing = STATE_FILE if not has_state(folder) else CONFIG_FILE if not (folder / CONFIG_FILE).is_file() else None
    if missing:
        raise ResumeError(f"{folder}: nothing to resume, there is no {missing}; start without --resume")
    return read_config(folder / CONFIG_FILE)


def _check_same_data(folder: Path, train_data: ImageData) -> None:
    """A run goes on with other images or classes only by mistake, and as so many processes as it was."""
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
            f"as many, or begin from its weights in another folder (--init-from {folder})"
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

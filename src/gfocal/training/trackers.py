"""Services that show runs: TensorBoard, Weights & Biases, MLflow. They get the config and the rows of metrics.csv."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.errors import TrackerError
from gfocal.training.distributed import new_tracker
from gfocal.training.settings import Tracker

IDS_FILE = "trackers.json"  # the names under which services know the run, so that a resumed one goes on there
PROJECT = "gfocal"


class Trackers:
    """The services of one run. One that fails is given up with a warning, and the run goes on.

    Args:
        folder: of the run; its name is the run's name.
        kinds: services wanted. TensorBoard writes in any case where it is installed.
        config: values by their keys in the config.
        resume: whether the run was begun before, and its first rows and the config are there.
        keep_epochs: epochs whose rows stand.

    Raises:
        TrackerError: a service that was asked for is not installed, or refuses to start.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Tracker],
        config: Mapping[str, Any],
        resume: bool = False,
        keep_epochs: int = 0,
    ) -> None:
        self._running: dict[str, Any] = {}
        ids = _read_ids(folder) if resume else {}
        for kind in dict.fromkeys(("tensorboard", *kinds)):
            if importlib.util.find_spec(kind) is None:
                if kind not in kinds:
                    continue
                raise TrackerError(
                    f"run.trackers: {kind} is not installed; pip install 'gfocal[{kind}]', or leave it out"
                )
            try:
                self._running[kind] = new_tracker(kind, *_settings(kind, folder, ids.get(kind), keep_epochs))
            except Exception as error:
                self.close()
                raise TrackerError(f"run.trackers: {kind} does not start ({_reason(error)})") from error
        ids = {kind: found for kind, made in self._running.items() if (found := _id_of(kind, made))}
        if ids:
            with atomic_write(folder / IDS_FILE) as temporary:
                temporary.write_text(json.dumps(ids) + "\n", encoding="utf-8")
        if config and not resume:
            self._each(lambda kind, made: _store(kind, made, config))

    def add(self, row: Mapping[str, Any]) -> None:
        """The numbers of an epoch."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "epoch"}
        self._each(lambda _, made: made.log(numbers, step=row["epoch"]))

    def close(self, failed: bool = False) -> None:
        """Tell every service that the run is over, by its end or before."""
        self._each(lambda kind, made: _finish(kind, made, failed))
        self._running.clear()

    def _each(self, act: Callable[[str, Any], object]) -> None:
        for kind, made in list(self._running.items()):
            try:
                act(kind, made)
            except Exception as error:
                del self._running[kind]  # so that it is said once
                warnings.warn(
                    f"{kind} failed ({_reason(error)}); the run goes on without it, and metrics.csv has every row",
                    stacklevel=3,
                )


def _settings(kind: str, folder: Path, known_id: str | None, keep_epochs: int) -> tuple[str, dict[str, Any]]:
    """What accelerate's tracker of a service takes: its name for projects, and the service's own settings."""
    name = folder.resolve().name
    if kind == "tensorboard":
        return "tensorboard", {"logging_dir": str(folder), "purge_step": keep_epochs + 1}
    if kind == "mlflow":
        return PROJECT, {"run_name": name, "run_id": known_id}
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return project, {"name": name, "dir": str(folder), "id": known_id, "resume": "allow" if known_id else None}


def _store(kind: str, made: Any, config: Mapping[str, Any]) -> None:
    if kind == "tensorboard":  # its own table of settings would be a second run beside the first
        made.log({"config": "\n".join(f"    {key} = {value!r}" for key, value in config.items())}, step=0)
    else:
        made.store_init_configuration(dict(config))


def _finish(kind: str, made: Any, failed: bool) -> None:
    # accelerate ends every run as one that went well.
    if failed and kind == "wandb":
        made.tracker.finish(exit_code=1)
    elif failed and kind == "mlflow":
        sys.modules["mlflow"].end_run("FAILED")
    else:
        made.finish()


def _id_of(kind: str, made: Any) -> str | None:
    if kind == "tensorboard":
        return None
    return str(made.tracker.info.run_id if kind == "mlflow" else made.tracker.id)


def _read_ids(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / IDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # then the service begins a new run
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

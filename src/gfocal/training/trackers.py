"""Experiment trackers: TensorBoard, Weights & Biases, MLflow. They get the config and the rows of metrics.csv."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.errors import TrackerError
from gfocal.run_folder import RunFolder
from gfocal.training.distributed import start_tracker
from gfocal.training.settings import Tracker

PROJECT = "gfocal"


class Trackers:
    """The experiment trackers of one run. One that fails is dropped with a warning, and the run continues.

    Args:
        folder: of the run; its name is the run's name.
        kinds: trackers wanted. TensorBoard writes in any case where it is installed.
        config: values by their keys in the config.
        resume: whether the run was started before: its config and first rows are there already.
        keep_epochs: epochs whose rows are kept.

    Raises:
        TrackerError: a tracker that was asked for is not installed, or does not start.
    """

    def __init__(
        self,
        folder: RunFolder,
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
                self._running[kind] = start_tracker(kind, *_settings(kind, folder, ids.get(kind), keep_epochs))
            except Exception as error:
                self.close()
                raise TrackerError(f"run.trackers: {kind} does not start ({_reason(error)})") from error
        ids = {kind: found for kind, tracker in self._running.items() if (found := _id_of(kind, tracker))}
        if ids:
            with atomic_write(folder.tracker_ids) as temporary:
                temporary.write_text(json.dumps(ids) + "\n", encoding="utf-8")
        if config and not resume:
            for name, tracker in list(self._running.items()):
                with self._drop_on_failure(name):
                    _store(name, tracker, config)

    def add(self, row: Mapping[str, Any]) -> None:
        """Send the numbers of an epoch."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "epoch"}
        for kind, tracker in list(self._running.items()):
            with self._drop_on_failure(kind):
                tracker.log(numbers, step=row["epoch"])

    def close(self, failed: bool = False) -> None:
        """Tell every tracker that the run has ended. ``failed``: it did not come to its end."""
        for kind, tracker in list(self._running.items()):
            with self._drop_on_failure(kind):
                _finish(kind, tracker, failed)
        self._running.clear()

    @contextmanager
    def _drop_on_failure(self, kind: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            del self._running[kind]  # so that it warns once
            warnings.warn(
                f"{kind} failed ({_reason(error)}); the run continues without it, and metrics.csv has every row",
                stacklevel=4,
            )


def _settings(kind: str, folder: RunFolder, known_id: str | None, keep_epochs: int) -> tuple[str, dict[str, Any]]:
    """What accelerate's tracker takes: the project, and the tracker's own settings."""
    name = folder.path.resolve().name
    if kind == "tensorboard":
        return "tensorboard", {"logging_dir": str(folder.path), "purge_step": keep_epochs + 1}
    if kind == "mlflow":
        return PROJECT, {"run_name": name, "run_id": known_id}
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return project, {"name": name, "dir": str(folder.path), "id": known_id, "resume": "allow" if known_id else None}


def _store(kind: str, tracker: Any, config: Mapping[str, Any]) -> None:
    if kind == "tensorboard":  # its own table of hyperparameters would be a second run beside the first
        tracker.log({"config": "\n".join(f"    {key} = {value!r}" for key, value in config.items())}, step=0)
    else:
        tracker.store_init_configuration(dict(config))


def _finish(kind: str, tracker: Any, failed: bool) -> None:
    # accelerate ends every run as one that went well.
    if failed and kind == "wandb":
        tracker.tracker.finish(exit_code=1)
    elif failed and kind == "mlflow":
        sys.modules["mlflow"].end_run("FAILED")
    else:
        tracker.finish()


def _id_of(kind: str, tracker: Any) -> str | None:
    if kind == "tensorboard":
        return None
    return str(tracker.tracker.info.run_id if kind == "mlflow" else tracker.tracker.id)


def _read_ids(folder: RunFolder) -> dict[str, str]:
    try:
        found = json.loads(folder.tracker_ids.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # then the tracker starts a new run
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

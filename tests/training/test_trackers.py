"""Services get the config and every row; one that fails does not end a run."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gfocal.errors import TrackerError
from gfocal.run_folder import RunFolder
from gfocal.training import trackers
from gfocal.training.distributed import Devices
from gfocal.training.metrics_log import MetricsLog, read_metrics
from gfocal.training.trackers import Trackers

CONFIG = {"run.epochs": 3, "model.preset": "gfl_r18_fpn", "run.trackers": ("wandb",)}


class Service:
    """accelerate's face of a service, which writes down what it is told."""

    def __init__(self, kind: str, project: str, settings: dict[str, Any]) -> None:
        self.kind, self.project, self.settings = kind, project, settings
        self.told: list[tuple[Any, ...]] = []
        self.broken = False
        self.id = settings.get("id") or "w1"
        self.run_id = settings.get("run_id") or "m1"

    @property
    def tracker(self) -> Service:
        return self

    @property
    def info(self) -> Service:
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.told.append(("config", values))

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.broken:
            raise ConnectionError("no route to host\nand more")
        self.told.append((step, values))

    def finish(self, exit_code: int = 0) -> None:
        self.told.append(("failed" if exit_code else "end",))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, Service]:
    """Every service installed, and pretended."""
    made: dict[str, Service] = {}

    def new(kind: str, project: str, settings: dict[str, Any]) -> Service:
        made[kind] = Service(kind, project, settings)
        return made[kind]

    monkeypatch.setattr(trackers, "start_tracker", new)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return made


def row(epoch: int, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "step": 10 * epoch, "loss": 0.5, **more}


def log_in(folder: Path, *kinds: Any) -> MetricsLog:
    return MetricsLog(RunFolder(folder).metrics, trackers=Trackers(RunFolder(folder), kinds, CONFIG))


def test_config_rows_and_end(tmp_path: Path, services: dict[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    folder = tmp_path / "mine"
    folder.mkdir()
    log = log_in(folder, "wandb", "mlflow")
    log.add(row(1, ap=0.25))
    log.close()
    for kind in ("wandb", "mlflow"):
        assert services[kind].told == [("config", CONFIG), (1, {"step": 10, "loss": 0.5, "ap": 0.25}), ("end",)]
    assert services["tensorboard"].told[0][0] == 0
    assert "run.epochs = 3" in services["tensorboard"].told[0][1]["config"]
    assert services["tensorboard"].told[1:] == services["wandb"].told[1:]
    assert (services["wandb"].project, services["wandb"].settings["name"]) == ("gfocal", "mine")
    assert (services["mlflow"].project, services["mlflow"].settings["run_name"]) == ("gfocal", "mine")
    assert json.loads(RunFolder(folder).tracker_ids.read_text()) == {"wandb": "w1", "mlflow": "m1"}


def test_a_resumed_run_keeps_its_tracker_ids(tmp_path: Path, services: dict[str, Service]) -> None:
    Trackers(RunFolder(tmp_path), ("wandb", "mlflow"), CONFIG)
    services["wandb"].id = "changed"
    RunFolder(tmp_path).tracker_ids.write_text('{"wandb": "w7", "mlflow": "m7"}')
    Trackers(RunFolder(tmp_path), ("wandb", "mlflow"), CONFIG, resume=True, keep_epochs=4)
    assert services["wandb"].settings["id"] == "w7"
    assert services["wandb"].settings["resume"] == "allow"
    assert services["mlflow"].settings["run_id"] == "m7"
    assert services["tensorboard"].settings["purge_step"] == 5
    assert not any(service.told for service in services.values())  # the config is there already
    RunFolder(tmp_path).tracker_ids.write_text("{")
    Trackers(RunFolder(tmp_path), ("wandb",), CONFIG, resume=True)
    assert services["wandb"].settings["id"] is None


def test_a_run_that_ends_before_its_time_is_none_that_went_well(
    tmp_path: Path, services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(end_run=ended.append))
    log_in(tmp_path, "wandb", "mlflow").close(failed=True)
    assert services["wandb"].told[-1] == ("failed",)
    assert (ended, services["mlflow"].told[-1][0]) == (["FAILED"], "config")
    assert services["tensorboard"].told[-1] == ("end",)


def test_one_that_fails_is_given_up_with_one_warning(tmp_path: Path, services: dict[str, Service]) -> None:
    log = log_in(tmp_path, "wandb", "mlflow")
    services["wandb"].broken = True
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in (1, 2, 3):
            log.add(row(epoch))
        log.close()
    (warning,) = said
    assert str(warning.message) == (
        "wandb failed (ConnectionError: no route to host); the run continues without it, and metrics.csv has every "
        "row"
    )
    assert [told[0] for told in services["mlflow"].told] == ["config", 1, 2, 3, "end"]
    assert len(read_metrics(RunFolder(tmp_path).metrics)) == 3


def test_a_tracker_that_does_not_start_is_an_error(
    tmp_path: Path, services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended = trackers.start_tracker

    def refuses(kind: str, project: str, settings: dict[str, Any]) -> Any:
        if kind == "wandb":
            raise ValueError("no API key")
        return pretended(kind, project, settings)

    monkeypatch.setattr(trackers, "start_tracker", refuses)
    with pytest.raises(TrackerError, match=r"run\.trackers: wandb does not start \(ValueError: no API key\)"):
        Trackers(RunFolder(tmp_path), ("mlflow", "wandb"), CONFIG)
    assert services["mlflow"].told == [("end",)]


def test_one_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    Trackers(RunFolder(tmp_path), (), CONFIG).add(row(1))  # TensorBoard is missed by nobody
    for kind in ("tensorboard", "wandb", "mlflow"):
        with pytest.raises(TrackerError, match=rf"{kind} is not installed; pip install 'gfocal\[{kind}\]'"):
            Trackers(RunFolder(tmp_path), (kind,), CONFIG)  # type: ignore[arg-type]


def test_the_extras_exist() -> None:
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for kind in ("tensorboard", "wandb", "mlflow"):
        assert f"\n{kind} = [" in project.partition("[project.optional-dependencies]")[2]


def test_tensorboard_itself(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Devices(cpu=True)  # as in a run
    for resume, epochs in ((False, (1, 2, 3)), (True, (3, 4))):
        trackers = Trackers(RunFolder(tmp_path), (), CONFIG, resume, epochs[0] - 1)
        log = MetricsLog(RunFolder(tmp_path).metrics, trackers=trackers)
        for epoch in epochs:
            log.add(row(epoch, ap=epoch / 10 + resume))
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"step", "loss", "ap"} <= set(events.Tags()["scalars"])
    assert [(e.step, round(e.value, 2)) for e in events.Scalars("ap")] == [(1, 0.1), (2, 0.2), (3, 1.3), (4, 1.4)]
    assert not [path for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()]

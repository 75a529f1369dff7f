"""A run with a teacher: who may teach whom, and that the teacher leaves no trace but in the weights."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gfocal.build import add_teacher, build_criterion
from gfocal.config.config import Config, DistillSettings, MethodSettings, with_changes
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.errors import ConfigError, ModelFileError, ResumeError
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.run import run_training
from gfocal.training.metrics_log import read_metrics
from gfocal.training.stopping import TrainingInterrupt
from gfocal.training.teaching import TaughtNetwork, explain_unfit_teacher

SMALL = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
DATA = SyntheticScenes(4, size=96)
TINY = with_changes(
    Config(),
    {
        "model.preset": "gfl_light_fpn",
        "model.pretrained": False,
        "model.options": SMALL,
        "size.short_side": 64,
        "size.long_side": 64,
        "optimizer.lr": 1e-3,
        "run.epochs": 2,
        "run.batch_size": 2,
        "run.num_workers": 0,
        "run.ema_decay": 0.9,
        "run.cpu": True,
    },
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def detector(preset: str = "gfl_light_fpn", names: tuple[str, ...] = DATA.names, **options: Any) -> Detector:
    torch.manual_seed(1)
    start = {} if preset in ("gfl_r18_fpn", "nanodet_plus_m") else SMALL
    return create(preset, len(names), names=names, pretrained=False, **start | options)


def teacher_file(folder: Path, **options: Any) -> Path:
    path = folder / "teacher.safetensors"
    save_model(detector(**{"channels": 64} | options), path)
    return path


def run(folder: Path, config: Config, **more: Any) -> Detector:
    return run_training(config, DATA, None, folder, console=Console(file=io.StringIO()), **more)[0]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"n": 8}, "its edges have n = 8, delta = 1, the student's n = 16, delta = 1"),
        ({"delta": 0.5}, r"delta = 0\.5"),
        ({"finest": 4}, "its levels have the strides 4, 8, 16, 32, 64, 128, the student's 8, 16"),
        ({"origin": "center"}, r"points lie elsewhere in their cells than the student's \(model.options origin"),
        (
            {"names": ("disc", "box", "triangle", "ring", "star")},
            "other classes: only it knows star; only the student knows cross",
        ),
        ({"names": (*DATA.names, "star")}, "other classes: only it knows star$"),
        ({"preset": "retinanet_r50_fpn"}, "it has no General distribution of edges"),
        ({"preset": "nanodet_plus_m", "channels": 16}, "its edges have n = 7"),
    ],
)
def test_who_cannot_teach_says_why(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    path = teacher_file(tmp_path, **other)
    with pytest.raises(ConfigError, match=f"distill.teacher: .*cannot teach gfl_light_fpn: .*{reason}"):
        run(tmp_path / "run", with_changes(TINY, {"distill.teacher": str(path)}))
    assert not (tmp_path / "run").exists()  # nothing was started


def test_a_student_needs_edges_to_teach() -> None:
    assert "the student has no General" in explain_unfit_teacher(detector("retinanet_r50_fpn"), detector())


def test_others_of_the_same_edges_may_teach() -> None:
    assert explain_unfit_teacher(detector(), detector(names=DATA.names[::-1], channels=64)) == ""
    assert explain_unfit_teacher(detector(), detector("gfl_r18_fpn", channels=32)) == ""
    assert explain_unfit_teacher(detector(), detector("atss_r50_fpn", box="general", channels=32)) == ""
    small = detector("nanodet_plus_m", channels=16)
    assert explain_unfit_teacher(small, detector("nanodet_plus_m", channels=32)) == ""


def test_a_run_with_a_teacher_leaves_a_plain_model(tmp_path: Path) -> None:
    path = teacher_file(tmp_path)
    before = path.read_bytes()
    config = with_changes(TINY, {"distill.teacher": str(path)})
    run(tmp_path / "taught", config)
    run(tmp_path / "plain", TINY)
    taught, plain = load_model(tmp_path / "taught"), load_model(tmp_path / "plain")
    assert taught.state_dict().keys() == plain.state_dict().keys()
    assert any(not torch.equal(a, b) for a, b in zip(taught.parameters(), plain.parameters(), strict=True))
    assert b"teacher" not in (tmp_path / "taught" / "last.safetensors").read_bytes()
    said = json.loads((tmp_path / "taught" / "run.json").read_text())["teacher"]
    assert (said["model"], said["preset"], len(said["weights"])) == (str(path), "gfl_light_fpn", 16)
    assert "teacher" not in json.loads((tmp_path / "plain" / "run.json").read_text())
    rows = read_metrics(tmp_path / "taught" / "metrics.csv")
    assert all(float(row["loss_distill"]) > 0 for row in rows)
    assert all(row["loss_distill"] == "" for row in read_metrics(tmp_path / "plain" / "metrics.csv"))
    assert path.read_bytes() == before


def test_a_resumed_run_is_taught_on_and_by_the_same_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = teacher_file(tmp_path)
    config = with_changes(TINY, {"distill.teacher": str(path)})
    run(tmp_path / "whole", config)
    from gfocal.training import epoch

    step, steps = epoch.training_step, []

    def until_the_third(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise TrainingInterrupt("stopped", 15)
        return step(*arguments)

    monkeypatch.setattr(epoch, "training_step", until_the_third)
    with pytest.raises(TrainingInterrupt):
        run(tmp_path / "halves", config)
    monkeypatch.setattr(epoch, "training_step", step)

    right = path.read_bytes()
    save_model(detector(channels=48), path)
    with pytest.raises(ResumeError, match=r"its teacher .*teacher\.safetensors has other weights now; restore"):
        run(tmp_path / "halves", config, resume=True)
    path.unlink()
    with pytest.raises(ModelFileError, match="no such file"):
        run(tmp_path / "halves", config, resume=True)
    path.write_bytes(right)
    run(tmp_path / "halves", config, resume=True)
    for name in ("whole", "halves"):
        assert len(read_metrics(tmp_path / name / "metrics.csv")) == 2
    whole, halves = (tmp_path / name / "last.safetensors" for name in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()


def test_the_teacher_is_frozen_and_in_evaluation_mode() -> None:
    student, teacher = detector(), detector(channels=64)
    network = TaughtNetwork(student, teacher, student.input_settings)
    network.train()
    assert student.training
    assert not any(module.training for module in teacher.modules())
    assert [*network.parameters()] == [*student.parameters()]
    assert {key.removeprefix("network.") for key in network.state_dict()} == set(student.state_dict())
    statistics = {key: value.clone() for key, value in teacher.named_buffers()}
    images = torch.randn(2, 3, 64, 64)
    outputs = network(images)
    assert outputs.teacher_box_logits is not None
    assert not outputs.teacher_box_logits.requires_grad
    assert outputs.box_logits.requires_grad
    torch.testing.assert_close(outputs.teacher_box_logits, teacher(images).box_logits)
    assert all(torch.equal(value, statistics[key]) for key, value in teacher.named_buffers())


def test_the_teacher_sees_images_normalized_as_it_knows_them() -> None:
    student, teacher = detector(), detector(channels=64)
    teacher.input_settings = InputSettings((127.5, 127.0, 120.0), (127.5, 60.0, 50.0), 64, 64)
    raw = torch.rand(2, 3, 64, 64) * 255

    def normalized(settings: InputSettings) -> torch.Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (settings.mean, settings.std))
        return (raw - mean) / std

    found = TaughtNetwork(student, teacher, student.input_settings)(normalized(student.input_settings))
    wanted = teacher(normalized(teacher.input_settings)).box_logits
    torch.testing.assert_close(found.teacher_box_logits, wanted, rtol=1e-4, atol=1e-4)


def test_without_a_teacher_nothing_changes() -> None:
    model = detector()
    criterion = build_criterion(model, MethodSettings())
    assert add_teacher(criterion, model, DistillSettings(weight=3.0)) is criterion


@pytest.mark.parametrize(("key", "value"), [("weight", -1.0), ("region_weight", float("inf")), ("temperature", 0.0)])
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"distill.{key} must be"):
        with_changes(TINY, {f"distill.{key}": value})

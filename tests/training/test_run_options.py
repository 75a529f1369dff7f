"""What a config may ask of a run, seen in whole runs: compiled, recomputed, balanced, stopped early."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from gfocal.config.config import Config, ConfigError, with_changes
from gfocal.data.dataset import Sample
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models.detector import Detector
from gfocal.run import run_training
from gfocal.run_folder import RunFolder
from gfocal.training import loop
from gfocal.training.metrics_log import read_metrics

TINY = with_changes(
    Config(),
    {
        "model.preset": "gfl_light_fpn",
        "model.pretrained": False,
        "model.options": {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1},
        "size.short_side": 64,
        "size.long_side": 64,
        "optimizer.lr": 0.002,
        "optimizer.lr_batch": 2,
        "optimizer.clip_norm": 10.0,
        "schedule.kind": "cosine",
        "run.epochs": 2,
        "run.batch_size": 2,
        "run.num_workers": 0,
        "run.cpu": True,
    },
)
DATA, VAL = SyntheticScenes(4, size=96), SyntheticScenes(2, 96, purpose="val")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def ran(
    folder: Path, changes: dict[str, Any], data: Any = DATA, val: Any = None, **more: Any
) -> tuple[Detector, str]:
    """The trained detector, and what was said."""
    said = io.StringIO()
    console = Console(file=said, width=200)
    model, _ = run_training(with_changes(TINY, changes), data, val, folder, console=console, **more)
    return model, said.getvalue()


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in read_metrics(RunFolder(folder).metrics)]


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    plain, _ = ran(tmp_path / "plain", {"run.ema_decay": 0.9})
    lean, _ = ran(tmp_path / "lean", {"run.ema_decay": 0.9, "run.checkpoint_activations": True})
    assert lean.backbone.recompute
    assert not plain.backbone.recompute
    for (key, one), other in zip(plain.state_dict().items(), lean.state_dict().values(), strict=True):
        assert torch.equal(one, other), key


def test_a_compiled_network_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, compiled = [], torch.compile

    def without_a_compiler(model: Any) -> Any:
        used.append(model)
        return compiled(model, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", without_a_compiler)
    changes = {"optimizer.lr": 1e-3, "run.epochs": 1}
    plain, _ = ran(tmp_path / "plain", changes)
    fast, _ = ran(tmp_path / "fast", changes | {"run.compile": True}, val=VAL)
    assert losses(tmp_path / "fast") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert RunFolder(tmp_path / "fast").result.exists()
    assert len(used) == 1


class Rare:
    """Six images of which the last alone shows class 1."""

    names, category_ids = ("often", "rare"), (1, 2)
    files = None

    def __init__(self) -> None:
        self.read_indices: list[int] = []

    def __len__(self) -> int:
        return 6

    def at_epoch(self, epoch: int) -> Rare:
        return self

    def sample(self, index: int) -> Sample:
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        return Sample(index, None, box, torch.tensor([int(index == 5)]), torch.tensor([False]), size=(64, 64))

    def read(self, index: int) -> tuple[Tensor, Sample]:
        self.read_indices.append(index)
        return torch.full((3, 64, 64), 90 + index, dtype=torch.uint8), self.sample(index)


def test_rare_classes_are_shown_more_often(tmp_path: Path) -> None:
    data = Rare()
    _, said = ran(tmp_path, {"run.repeat_threshold": 0.66, "run.epochs": 1}, data)
    assert "an epoch shows 7 images, 6 of them different" in said  # sqrt(0.66 * 6) = 1.99
    assert sorted(data.read_indices) == [0, 1, 2, 3, 4, 5, 5]
    assert [row["images"] for row in read_metrics(RunFolder(tmp_path).metrics)] == ["7"]


def test_a_run_stops_early_and_does_not_go_on_when_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, scores = loop.evaluate, iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9])

    def pretended(*arguments: Any, **more: Any) -> Any:
        evaluated = real(*arguments, **more)
        return replace(evaluated, result=replace(evaluated.result, ap=next(scores)))

    monkeypatch.setattr(loop, "evaluate", pretended)
    _, said = ran(tmp_path, {"run.epochs": 12, "run.eval_every": 1, "run.patience": 2}, val=VAL)
    assert "stopped early: no better AP than 0.300 of epoch 2 in 2 evaluations (run.patience = 2)" in said
    assert "best: epoch 2, AP 0.300" in said
    assert len(losses(tmp_path)) == 4  # the second 0.3 is not better
    before = (tmp_path / "last.safetensors").read_bytes()
    _, said = ran(tmp_path, {}, val=VAL, resume=True)
    assert "stopped early" in said
    assert len(losses(tmp_path)) == 4
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert RunFolder(tmp_path).result.exists()


def test_training_and_evaluation_are_deterministic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(name: str) -> None:
        real = getattr(loop, name)

        def act(*arguments: Any, **more: Any) -> Any:
            seen.append((name, torch.are_deterministic_algorithms_enabled()))
            return real(*arguments, **more)

        monkeypatch.setattr(loop, name, act)

    watched("train_epoch")
    watched("evaluate")
    ran(tmp_path, {"run.deterministic": True, "run.epochs": 1}, val=VAL)
    assert seen == [("train_epoch", True), ("evaluate", True)]
    assert not torch.are_deterministic_algorithms_enabled()


def test_frozen_parts_and_rates_by_depth(tmp_path: Path) -> None:
    changes = {"model.freeze": "stem", "optimizer.layer_decay": 0.5, "run.epochs": 1}
    torch.manual_seed(TINY.run.seed)
    model, _ = ran(tmp_path, changes)
    stem = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert stem
    assert all(name.startswith(("backbone.body.conv_stem", "backbone.body.bn1")) for name in stem)
    resumed, _ = ran(tmp_path, {}, resume=True)  # the config says it again
    assert [name for name, p in resumed.named_parameters() if not p.requires_grad] == stem


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"run.checkpoint_activations": True},
            "run.checkpoint_activations: the backbone of ssd512_vgg16 has no stages",
        ),
        ({"optimizer.layer_decay": 0.9}, "optimizer.layer_decay: the backbone of ssd512_vgg16 has no stages"),
        ({"model.freeze": 2}, "model.freeze: VGG-16 is frozen as a whole"),
    ],
)
def test_what_a_backbone_without_stages_cannot_do(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ran(tmp_path, {"model.preset": "ssd512_vgg16", "model.options": {}} | changes)
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run.patience": -1}, "patience must be at least 0"),
        ({"run.repeat_threshold": 1.5}, "repeat_threshold lies in 0..1"),
        ({"run.compile": True, "run.checkpoint_activations": True}, "do not go together"),
        ({"run.trackers": ("excel",)}, "run.trackers must be|run.trackers is one of"),
        ({"optimizer.layer_decay": 0.0}, "layer_decay lies in"),
        (
            {"model.freeze": "all"},
            "model.freeze must be one of 'none', 'stem', 'backbone', 'neck', or a whole number",
        ),
    ],
)
def test_values_that_do_not_fit(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        with_changes(TINY, changes)

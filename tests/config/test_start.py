"""Fine-tuning: a run begins with the network and the weights of a model file, for the classes of its own data."""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import gfocal
from gfocal.cli.main import build_parser
from gfocal.cli.training_config import build_config
from gfocal.config.bundled import config_names
from gfocal.config.config import Config, ConfigError, ModelSettings, SizeSettings, read_config, with_changes
from gfocal.config.start import (
    describe_initial_model,
    describe_start,
    explain_default,
    explain_frozen_random,
    with_initial_network,
)
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.views import OneClass, as_one_class
from gfocal.errors import ModelFileError
from gfocal.run import read_run_config, run_training
from gfocal.training import loop
from gfocal.training.checkpoints import save_state

OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1, "n": 12}
NAMES = ("box", "cat", "disc")  # of which the scenes have two
DATA = SyntheticScenes(2, size=96)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run's folder with a model for other classes, at 64 x 96 pixels as OpenCV shrinks."""
    torch.manual_seed(1)
    model = gfocal.create("gfl_light_fpn", 3, names=NAMES, pretrained=False, **OPTIONS)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1 / 64
    settings = replace(model.input_settings, mean=(1.0, 2.0, 3.0), short_side=64, long_side=96, antialias=False)
    model.input_settings = settings
    model.decode_settings = replace(model.decode_settings, nms_threshold=0.25)
    (tmp_path / "old").mkdir()
    gfocal.save(model, tmp_path / "old" / "best.safetensors")
    return tmp_path / "old"


def config_from(start: Path, **changes: Any) -> Config:
    few = {"run.epochs": 1, "run.batch_size": 2, "run.num_workers": 0, "run.cpu": True, "optimizer.lr": 1e-6}
    return with_changes(Config(), {"model.init_from": str(start)} | few | changes)


def ran(config: Config, folder: Path, data: Any = DATA, **more: Any) -> tuple[gfocal.Detector, str]:
    said = io.StringIO()
    model, _ = run_training(config, data, None, folder, console=Console(file=said, width=300), **more)
    return model, said.getvalue()


def test_network_input_and_weights_are_those_of_the_file(old: Path, tmp_path: Path) -> None:
    before = gfocal.load(old)
    model, said = ran(config_from(old), tmp_path / "new")
    start = f"starting from {old} (gfl_light_fpn), which knows 2 of your 5 classes; new: triangle, ring, cross"
    assert start in said
    assert "ImageNet" not in said
    assert model.names == SyntheticScenes.names
    assert model.input_settings == before.input_settings
    assert model.decode_settings == before.decode_settings
    for key, value in before.state_dict().items():  # a step of almost nothing was made
        if value.is_floating_point() and "cls_out" not in key and "running" not in key:
            torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=1e-4, msg=key)
    weight, was = model.state_dict()["head.cls_out.weight"], before.state_dict()["head.cls_out.weight"]
    for name in ("box", "disc"):
        row = was[NAMES.index(name)]
        torch.testing.assert_close(weight[SyntheticScenes.names.index(name)], row, rtol=0, atol=1e-4)
    saved = read_run_config(tmp_path / "new")
    assert (saved.model.init_from, saved.model.preset, saved.model.pretrained) == (str(old), "gfl_light_fpn", False)
    assert saved.model.options["n"] == 12
    assert saved.size == SizeSettings(64, 96, False, stretch=False)


def test_a_run_resumes_without_the_file_it_started_from(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from(old, **{"run.epochs": 2})
    whole, _ = ran(config, tmp_path / "whole")

    def stop(*state: Any) -> None:
        save_state(*state)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        ran(config, tmp_path / "halved")
    monkeypatch.undo()
    for file in old.iterdir():
        file.unlink()
    (tmp_path / "halved" / "last.safetensors").unlink()
    resumed, said = ran(Config(), tmp_path / "halved", resume=True)
    assert "starting" not in said
    assert resumed.input_settings == whole.input_settings
    assert resumed.decode_settings == whole.decode_settings
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_config_may_say_another_size(old: Path) -> None:
    found = with_initial_network(config_from(old, **{"size.short_side": 80}))
    assert found.size == SizeSettings(80, 120, False, False)  # the file has 64 x 96, as OpenCV shrinks
    assert with_initial_network(found) == found
    assert with_initial_network(Config()) == Config()


def test_what_was_asked_for_must_not_contradict_the_file(old: Path) -> None:
    config = config_from(old)
    fitting = {"model.preset": "gfl_light_fpn", "model.options.n": "12", "run.epochs": 9}
    with_initial_network(config, fitting)
    for key, value in {
        "model.preset": "gfl_r18_fpn",
        "model.options.n": "16",
        "model.weights": "a.pt",
        "model.pretrained": False,
    }.items():
        with pytest.raises(ConfigError, match=rf"{key} = {value}: the network is that of .*old, gfl_light_fpn \("):
            with_initial_network(config, {key: value})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        ran(config_from(tmp_path / "nowhere"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_frozen_as_the_run_before_unless_the_config_says(old: Path, tmp_path: Path) -> None:
    model = gfocal.load(old)
    model.backbone.freeze(2, False)  # type: ignore[operator]
    gfocal.save(model, old / "best.safetensors")
    kept, _ = ran(config_from(old), tmp_path / "kept")
    assert kept.backbone.freezing.frozen_stages == 2
    for part in ("stem", "neck"):  # with averaged weights, none of which asks for a gradient
        begun = config_from(old, **{"model.freeze": part, "run.ema_decay": 0.9})
        ran(begun, tmp_path / part)
        again, _ = ran(config_from(tmp_path / part), tmp_path / f"{part}_again")
        trained = {key for key, value in again.named_parameters() if value.requires_grad}
        assert any(key.startswith("neck") for key in trained) == (part == "stem")
        assert any(key.startswith("backbone") for key in trained) == (part == "stem")
        assert not any(key.startswith("backbone.body.conv_stem") for key in trained)
        assert any(key.startswith("head") for key in trained)
    freed, _ = ran(config_from(old, **{"model.freeze": "none"}), tmp_path / "freed")
    assert all(p.requires_grad for p in freed.parameters())


def chosen(*words: object) -> Config:
    return build_config(build_parser().parse_args(["train", "photos/", *map(str, words)]))


def test_a_short_side_takes_along_what_belongs_to_it() -> None:
    config = chosen("--config", "coco_r50_2x", "--short-side", 400)
    assert config.size == replace(read_config("coco_r50_2x").size, short_side=400, long_side=667)
    assert config.augment.short_sides == (240, 400)
    larger = chosen("--short-side", 640).size  # than the longer side of the config light
    assert (larger.short_side, larger.long_side) == (640, 854)
    assert chosen("--config", "coco_r50_2x", "--short-side", 400, "--augment", "light").augment.short_sides is None
    told = chosen("--config", "coco_r50_2x", "--short-side", 400, "--set", "augment.short_sides=[300, 400]")
    assert told.augment.short_sides == (300, 400)


def test_on_the_command_line(old: Path, tmp_path: Path) -> None:
    without_network = replace(read_config("nano").model, init_from=None)  # tests are offline
    assert chosen() == replace(read_config("nano"), model=without_network)
    assert chosen("--no-pretrained").model == replace(read_config("light").model, pretrained=False)
    assert chosen("--preset", "nanodet_plus_m_1_5x").size == read_config("nano").size
    plain = chosen("--init-from", old)
    assert plain.model.init_from == str(old)
    assert plain.size == SizeSettings(
        64, 96, False, stretch=False
    )  # not that of the config light, which nobody named
    assert plain.optimizer == read_config("light").optimizer
    assert chosen("--init-from", old, "--config", "light").size == read_config("light").size
    assert chosen("--init-from", old, "--short-side", 100).size == SizeSettings(100, 150, False, stretch=False)
    more = chosen(
        *(
            "--init-from",
            old,
            "--freeze",
            2,
            "--class-agnostic",
            "--repeat-threshold",
            0.25,
            "--patience",
            4,
            "--track",
            "wandb",
        ),
        *("--track", "mlflow", "--deterministic", "--compile"),
    )
    assert (more.model.freeze, more.model.class_agnostic) == (2, True)
    assert (more.run.repeat_threshold, more.run.patience, more.run.trackers) == (0.25, 4, ("wandb", "mlflow"))
    assert more.run.deterministic
    assert more.run.compile
    assert chosen("--freeze", "backbone", "--checkpoint-activations").run.checkpoint_activations
    assert chosen("--freeze", "none").model.freeze == "none"
    with pytest.raises(ConfigError, match=r"model\.preset = gfl_r18_fpn: the network is that of"):
        chosen("--init-from", old, "--preset", "gfl_r18_fpn")


def test_describing_the_initial_model(old: Path) -> None:
    assert describe_initial_model(str(old), NAMES).endswith("knows 3 of your 3 classes")


def test_class_agnostic_training_and_evaluation(old: Path, tmp_path: Path, run: Any) -> None:
    config = config_from(old, **{"model.class_agnostic": True})
    model, said = ran(config, tmp_path / "one")
    assert model.names == ("object",)
    assert "which does not know the class" in said
    ran(config, tmp_path / "one", resume=True)  # the same data, by their one class
    code, out, err = run("eval", tmp_path / "one", "synthetic", "--num-workers", 0, "--device", "cpu")
    assert code == 0
    assert "the model has one class, object: all 5 classes of the data count as it" in err
    assert "object" in out
    assert "triangle" not in out


def test_a_model_of_several_classes_is_not_evaluated_on_others(old: Path, run: Any) -> None:
    code, _, err = run("eval", old, "synthetic", "--num-workers", 0)
    assert code == 2
    assert "classes differ" in err


def test_one_class_of_data_already_so_is_no_change() -> None:
    one = as_one_class(DATA)
    assert isinstance(one, OneClass)
    assert as_one_class(one) is one


def test_from_the_hub(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(address: str) -> Path:
        asked.append(address)
        return old / "best.safetensors"

    monkeypatch.setattr("gfocal.models.model_file.download_model", fetched)
    config = with_changes(config_from(old), {"model.init_from": "hf://somebody/owls"})
    model, said = ran(config, tmp_path / "new")
    assert set(asked) == {"hf://somebody/owls"}
    assert "starting from hf://somebody/owls (gfl_light_fpn)" in said
    assert model.built_from["options"]["n"] == 12


def test_the_weights_are_read_once(old: Path, tmp_path: Path, tensor_reads: Counter[str]) -> None:
    config = with_initial_network(config_from(old))  # as gfocal train does before it starts the run
    assert not tensor_reads
    model, _ = ran(config, tmp_path / "new")
    assert tensor_reads == dict.fromkeys(model.state_dict(), 1)


@pytest.mark.parametrize(
    ("config", "changes", "stated"),
    [
        (None, {"model.options.dgqp": True}, "model.options.dgqp is stated"),
        (
            None,
            {"model.pretrained": False, "model.options.n": 8, "run.epochs": 1},
            "model.pretrained, model.options.n are",
        ),
        ("light", {"model.options.n": 8}, ""),
        (None, {"model.preset": "gfl_r18_fpn", "model.options.n": 8}, ""),
        (None, {"model.init_from": "runs/a", "model.options.n": 8}, ""),
        (None, {"run.epochs": 1}, ""),
    ],
)
def test_a_network_that_is_half_stated_is_explained(config: str | None, changes: dict[str, Any], stated: str) -> None:
    line = explain_default(config, changes)
    assert (line == "") == (not stated)
    assert stated in line
    assert not stated or line.startswith("config light (gfl_light_fpn), as ")


@pytest.mark.parametrize("name", config_names())
def test_edges_begin_near_their_points_where_a_config_starts_from_random_weights(name: str) -> None:
    """From ImageNet weights that costs AP on playing cards; see docs/small-sets.md."""
    assert (read_config(name).model.initial_distance == 3.0) == (name == "demo")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"pretrained": False}, ""),
        ({"pretrained": False, "freeze": "none"}, ""),
        ({"pretrained": False, "freeze": 0}, ""),
        ({"freeze": "backbone"}, ""),
        ({"pretrained": False, "weights": "r18.pth", "freeze": 2}, ""),
        ({"pretrained": False, "init_from": "runs/old", "freeze": "neck"}, ""),
        ({"pretrained": False, "freeze": "stem"}, "model.freeze = stem: what it freezes keeps random weights"),
        ({"pretrained": False, "freeze": 2}, "model.freeze = 2: what it freezes keeps random weights"),
        ({"freeze": "neck"}, "model.freeze = neck: the neck keeps random weights"),
    ],
)
def test_frozen_parts_that_were_never_trained_are_said(changes: dict[str, Any], said: str) -> None:
    model = ModelSettings(**changes)
    line = explain_frozen_random(model)
    assert line.startswith(said)
    assert bool(line) == bool(said)
    if model.init_from is None:
        assert (line in describe_start(model, ["cat"])) == bool(line)

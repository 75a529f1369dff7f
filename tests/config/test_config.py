"""Configs: what is written is what is read, and a mistake is told where it stands."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfocal.build import preset_options
from gfocal.config.config import (
    Config,
    ConfigError,
    ModelSettings,
    SizeSettings,
    config_names,
    flatten,
    read_config,
    unflatten,
    with_changes,
    write_config,
)
from gfocal.data.augmentation.pipeline import AugmentSettings
from gfocal.training.loop import RunSettings
from gfocal.training.optim import OptimizerSettings, ScheduleSettings


def parsed(text: str, folder: Path) -> Config:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


@pytest.mark.parametrize("name", config_names())
def test_every_bundled_config_survives_being_written(name: str, tmp_path: Path) -> None:
    config = read_config(name)
    assert config != Config()
    assert parsed(write_config(config), tmp_path) == config
    preset_options(config.model)  # its options are those of its preset


@pytest.mark.parametrize("name", config_names())
def test_a_bundled_config_starts_with_its_command(name: str) -> None:
    from gfocal.config.config import CONFIG_FOLDER

    first = (CONFIG_FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert "gfocal" in first


def test_a_changed_default_reaches_a_written_config() -> None:
    """A config written by one version says everything, so that a later one's defaults change nothing."""
    lines = write_config(Config()).splitlines()
    for section in fields(Config):
        assert f"[{section.name}]" in lines
        for entry in fields(getattr(Config(), section.name)):
            value = getattr(getattr(Config(), section.name), entry.name)
            assert (value is None) != any(line.startswith(f"{entry.name} = ") for line in lines)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    preset=texts,
    weights=st.none() | texts,
    options=st.dictionaries(texts, st.integers() | st.booleans() | texts | st.lists(st.integers()), max_size=3),
    lr=st.floats(min_value=1e-12, max_value=1e12),
    steps=st.lists(st.integers(0, 99)).map(tuple),
    short=st.none() | st.integers(1, 2000),
    sides=st.none() | st.tuples(st.integers(1, 400), st.integers(400, 900)),
    precision=st.sampled_from(["auto", "no", "bf16", "fp16"]),
    cpu=st.booleans(),
)
def test_any_config_survives_being_written(
    tmp_path_factory: pytest.TempPathFactory,
    preset: str,
    weights: str | None,
    options: dict[str, Any],
    lr: float,
    steps: tuple[int, ...],
    short: int | None,
    sides: tuple[int, int] | None,
    precision: Any,
    cpu: bool,
) -> None:
    config = Config(
        model=ModelSettings(preset=preset, weights=weights, options=options),
        size=SizeSettings(short_side=short),
        augment=AugmentSettings(short_sides=sides),
        optimizer=OptimizerSettings(lr=lr),
        schedule=ScheduleSettings(milestones=steps),
        run=RunSettings(precision=precision, cpu=cpu),
    )
    assert parsed(write_config(config), tmp_path_factory.mktemp("config")) == config


def test_a_config_names_only_what_differs(tmp_path: Path) -> None:
    config = parsed("[run]\nepochs = 3\n[augment]\nshort_sides = [200, 300]\n", tmp_path)
    assert config == replace(Config(), run=RunSettings(epochs=3), augment=AugmentSettings(short_sides=(200, 300)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[run]\nepoch = 3", "unknown key run.epoch; did you mean run.epochs?"),
        ("[runs]\nepochs = 3", "unknown key runs; did you mean run?"),
        ("[train]\nepoch = 3", "unknown key train; did you mean run.epochs?"),
        ("[run]\nzebra = 3", "unknown key run.zebra; known are: epochs, time_minutes"),
        ("epochs = 3", "unknown key epochs"),
        ("run = 3", "run is a section, not a value"),
        ("[run.epochs]\nx = 1", "run.epochs must be a whole number, not {"),
        ("[run]\nepochs = '3'", "run.epochs must be a whole number, not '3'"),
        ("[run]\nepochs = 3.0", "run.epochs must be a whole number, not 3.0"),
        ("[run]\nepochs = true", "run.epochs must be a whole number, not True"),
        ("[run]\ncpu = 1", "run.cpu must be true or false, not 1"),
        ("[run]\nprecision = 'fp8'", "run.precision is one of 'auto', 'no', 'bf16', 'fp16', not 'fp8'"),
        ("[optimizer]\nlr = 'high'", "optimizer.lr must be a number, not 'high'"),
        ("[optimizer]\nkind = 'adam'", "optimizer.kind is one of 'sgd', 'adamw'"),
        ("[schedule]\nmilestones = 8", "schedule.milestones must be a list of whole numbers, e.g. [8, 11], not 8"),
        ("[schedule]\nmilestones = [8, 'x']", "schedule.milestones must be a whole number, not 'x'"),
        (
            "[augment]\nshort_sides = 64",
            "augment.short_sides must be two whole numbers, e.g. [480, 800], or none, not 64",
        ),
        ("[augment]\nshort_sides = [1, 2, 3]", "augment.short_sides must be two whole numbers"),
        ("[size]\nshort_side = 1.5", "size.short_side must be a whole number or none, not 1.5"),
        ("[model]\noptions = 3", "model.options must be a table, e.g. {n = 8}, not 3"),
        ("[model\n", "not valid TOML"),
    ],
)
def test_what_does_not_fit_is_an_error_with_file_and_key(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'some.toml'}: ")
    assert told in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.epochs", 0),
        ("run.batch_size", 0),
        ("run.grad_accum_steps", 0),
        ("run.eval_every", 0),
        ("run.eval_batch_size", 0),
        ("run.num_workers", -1),
        ("run.ema_decay", 1.0),
        ("run.seed", -1),
        ("run.seed", 2**32),
        ("optimizer.lr", 0.0),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr_batch", 0),
        ("optimizer.momentum", 1.0),
        ("optimizer.weight_decay", -1e-4),
        ("optimizer.clip_norm", float("nan")),
        ("optimizer.backbone_lr", -1.0),
        ("schedule.final_lr_factor", 1.5),
        ("schedule.warmup_from", -0.1),
        ("schedule.warmup_steps", -1),
        ("size.short_side", 0),
        ("augment.flip", 1.1),
        ("augment.crop", -0.1),
        ("augment.color", float("nan")),
        ("augment.short_sides", (300, 200)),
        ("augment.short_sides", (0, 200)),
    ],
)
def test_numbers_out_of_range_are_errors(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^changes: {key.replace('.', '[.]')} "):
        with_changes(Config(), {key: value})


def test_sides_must_fit_one_another_and_may_change_together() -> None:
    config = with_changes(Config(), {"size.short_side": 320, "size.long_side": 427})
    with pytest.raises(ConfigError, match=r"size.long_side 427 is less than short_side 640"):
        with_changes(config, {"size.short_side": "640"})
    changed = with_changes(config, {"size.short_side": "640", "size.long_side": "853"})
    assert changed.size == SizeSettings(640, 853)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("run.epochs", "3", 3),
        ("run.ema_decay", "0", 0.0),
        ("run.cpu", "true", True),
        ("run.precision", "no", "no"),
        ("run.precision", '"bf16"', "bf16"),
        ("optimizer.lr", "1e-3", 1e-3),
        ("optimizer.kind", "adamw", "adamw"),
        ("schedule.milestones", "[3, 5]", (3, 5)),
        ("schedule.milestones", "[]", ()),
        ("augment.short_sides", "[200, 300]", (200, 300)),
        ("augment.short_sides", "none", None),
        ("size.short_side", "None", None),
        ("model.weights", "none", None),
        ("model.weights", "", None),
        ("method.quality", "none", "none"),  # one of its values
        ("method.quality", '"none"', "none"),
        ("method.quality", "", None),
        ("model.freeze", "none", "none"),
        ("model.freeze", "backbone", "backbone"),
        ("model.freeze", "2", 2),
        ("model.freeze", "", None),
        ("run.trackers", '["wandb"]', ("wandb",)),
        ("model.weights", "2024", "2024"),  # a file of that name
        ("model.weights", "true", "true"),
        ("model.weights", "a folder/weights.pt", "a folder/weights.pt"),
        ("model.preset", "gfl_r18_fpn", "gfl_r18_fpn"),
        ("model.options", "{n = 8}", {"n": 8}),
        ("model.options.n", "8", {"n": 8}),
    ],
)
def test_changes_from_text(key: str, text: str, value: Any) -> None:
    start = with_changes(Config(), {"augment.short_sides": (100, 110), "size.short_side": 99})
    section, name = key.split(".")[:2]
    changed = getattr(getattr(with_changes(start, {key: text}), section), name)
    assert changed == value
    assert type(changed) is type(value)


def test_changes_touch_nothing_else() -> None:
    before = Config()
    changed = with_changes(before, {"run.epochs": "3", "optimizer.lr": 0.5})
    assert changed == replace(before, run=RunSettings(epochs=3), optimizer=OptimizerSettings(lr=0.5))
    assert before == Config()


def test_options_add_to_the_configs_and_an_empty_table_takes_them_away() -> None:
    config = with_changes(Config(), {"model.options": {"channels": 64, "n": 8}})
    assert with_changes(config, {"model.options.n": "16"}).model.options == {"channels": 64, "n": 16}
    assert with_changes(config, {"model.options": "{}"}).model.options == {}


@pytest.mark.parametrize("key", ["", "run", "run.", "epochs", "run.epochs.first", "run.epoch"])
def test_changes_of_keys_that_do_not_exist(key: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key|is a section|must be"):
        with_changes(Config(), {key: "3"})


def test_a_config_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"there is no config 'heavy'.*demo.*light"):
        read_config("heavy")
    with pytest.raises(ConfigError, match=r"there is no config 'heavy.toml'"):
        read_config("heavy.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[model.options]\nn = " + "9" * 5000, "not valid TOML: Exceeds the limit"),
        ("x = " + "[" * 20_000, "not valid TOML: it is nested too deeply"),
        ("[" + ".".join("a" * 50_000) + "]", "not valid TOML: a line has more than 500 dots"),
        ("model.options." + ".".join("a" * 300) + " = 1", "model.options.a is a value, not a table"),
        ("#" * 2**20, "more"),
        ("[run]\n" + "k" * 200_000 + " = 1", "unknown key run.kkkk"),
        ('[run]\n"a\\nb\\u001b[2J" = 1', "unknown key run.a b\\x1b[2J; known are"),
        ("[run]\nepochs = " + "9" * 4000, "epochs must be at most 1,000,000"),
        ("[run]\nnum_workers = 1000000", "num_workers must be at most 1,024, not 1,000,000"),
        ("[optimizer]\nlr = " + "9" * 4000, "optimizer.lr must be a number"),
        ("[size]\nshort_side = 100000000", "short_side must be at most 32,768 pixels, not 100000000"),
        ("[augment]\nshort_sides = [1, 100000000]", "short_sides must be at most 32,768 pixels"),
        ('[augment]\npreset = "' + "x" * 100_000 + '"', "augment.preset is one of"),
    ],
)
def test_what_is_deep_long_or_absurd_is_one_short_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text, tmp_path)
    message = str(error.value)
    assert told in message
    assert message.isprintable()
    assert len(message) < 4000


def test_a_setting_that_is_deep_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="must be a whole number"):
        with_changes(Config(), {"run.epochs": "[" * 20_000})


@pytest.mark.parametrize("name", config_names())
def test_flat_values_give_the_config_again(name: str) -> None:
    config = read_config(name)
    assert unflatten(flatten(config)) == config

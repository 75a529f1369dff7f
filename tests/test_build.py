"""A config becomes a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gfocal.build import build_model, preset_options
from gfocal.config.config import Config, ConfigError, ModelSettings, SizeSettings, with_changes
from gfocal.errors import PresetError

BODY = "mobilenetv4_conv_small.e2400_r224_in1k"
TINY = with_changes(
    Config(),
    {
        "model.preset": "gfl_light_fpn",
        "model.pretrained": False,
        "model.options": {"body": BODY, "channels": 32, "num_convs": 1},
        "size.short_side": 64,
        "size.long_side": 64,
        "optimizer.kind": "adamw",
        "optimizer.lr": 1e-3,
        "run.epochs": 1,
        "run.batch_size": 2,
        "run.num_workers": 0,
        "run.ema_decay": 0.9,
        "run.cpu": True,
    },
)


def test_build_model_follows_the_config() -> None:
    names = ("cat", "dog")
    model = build_model(TINY, names)
    assert model.names == names
    assert model.built_from["options"]["channels"] == 32
    assert (model.input_settings.short_side, model.input_settings.long_side) == (64, 64)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SizeSettings(), (320, 512)),  # the preset's own
        (SizeSettings(160), (160, 256)),  # its ratio kept
        (SizeSettings(160, 200), (160, 200)),
        (SizeSettings(None, 400), (320, 400)),
    ],
)
def test_sizes_come_from_the_config_or_else_from_the_preset(size: SizeSettings, expected: tuple[int, int]) -> None:
    settings = build_model(replace(TINY, size=size), ("a",)).input_settings
    assert (settings.short_side, settings.long_side) == expected


def test_a_long_side_that_is_too_short_for_the_preset() -> None:
    with pytest.raises(ConfigError, match=r"cannot be built by this config: .*short_side <= long_side"):
        build_model(replace(TINY, size=SizeSettings(None, 200)), ("a",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanels": 3}, r"gfl_light_fpn has no option 'chanels'; did you mean channels\?"),
        ({"zebra": 3}, "known are: n, delta, origin, finest, channels, num_convs, body "),
        ({"names": ["a"]}, "no option 'names'"),
        ({"input_settings": 3}, "no option 'input_settings'"),
        ({"channels": "wide"}, "channels must be a whole number, not 'wide'"),
        ({"channels": True}, "channels must be a whole number, not True"),
        ({"origin": "middle"}, "origin is one of 'corner'"),
    ],
)
def test_options_are_those_of_the_preset(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preset_options(ModelSettings(options=options))


def test_unknown_presets_and_bodies() -> None:
    with pytest.raises(PresetError, match="there is no preset 'x'"):
        build_model(with_changes(TINY, {"model.preset": "x"}), ("a",))

"""A config becomes a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gfocal.build import build_model, choose_size, preset_options
from gfocal.config.config import Config, ConfigError, ModelSettings, SizeSettings, with_changes
from gfocal.data.preprocess import InputSettings
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


STRETCHED = InputSettings(short_side=416, long_side=416, stretch=True)  # as NanoDet is published


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SizeSettings(), (416, 416, True)),
        (SizeSettings(320), (320, 320, True)),
        (SizeSettings(320, 320), (320, 320, True)),
        (SizeSettings(320, 427, stretch=True), (320, 427, True)),
        (SizeSettings(320, 427, stretch=False), (320, 427, False)),
        (SizeSettings(stretch=False), (416, 416, False)),
        (SizeSettings(320, stretch=False), (320, 320, False)),
    ],
)
def test_the_shape_of_a_stretched_input(size: SizeSettings, expected: tuple[int, int, bool]) -> None:
    settings = choose_size(STRETCHED, size)
    assert (settings.short_side, settings.long_side, settings.stretch) == expected


def test_a_preset_that_keeps_the_aspect_ratio_stretches_if_the_config_says_so() -> None:
    for stated, is_stretched in ((None, False), (False, False), (True, True)):
        settings = build_model(replace(TINY, size=SizeSettings(64, 96, stretch=stated)), ("a",)).input_settings
        assert (settings.short_side, settings.long_side, settings.stretch) == (64, 96, is_stretched)


@pytest.mark.parametrize("size", [SizeSettings(320, 427), SizeSettings(None, 600), SizeSettings(128, 416)])
def test_another_shape_than_the_preset_stretches_to_must_be_meant(size: SizeSettings) -> None:
    config = with_changes(TINY, {"model.preset": "nanodet_plus_m", "model.options": {}})
    message = (
        r"nanodet_plus_m cannot be built by this config: it stretches images to 416 x 416 pixels .*; set "
        rf"size\.long_side = {size.short_side or 416}, or size\.stretch = true .*, or size\.stretch = false"
    )
    with pytest.raises(ConfigError, match=message):
        build_model(replace(config, size=size), ("a",))


def test_a_long_side_that_is_too_short_for_the_preset() -> None:
    with pytest.raises(ConfigError, match=r"cannot be built by this config: .*short_side <= long_side"):
        build_model(replace(TINY, size=SizeSettings(None, 200)), ("a",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanels": 3}, r"gfl_light_fpn has no option 'chanels'; did you mean channels\?"),
        ({"zebra": 3}, "known are: n, delta, origin, finest, dgqp, channels, num_convs, body "),
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

"""The start of a run from a trained detector: the network is that of its file, whatever the config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfocal.config.bundled import CONFIG_FOLDER, find_config
from gfocal.config.config import Config, ModelSettings, SizeSettings, read_config, with_changes
from gfocal.config.values import parse_toml
from gfocal.data.preprocess import scaled_long_side
from gfocal.errors import ConfigError, DownloadError
from gfocal.interop.published_weights import locate_model
from gfocal.models.finetuning import compare_classes
from gfocal.models.model_file import read_description
from gfocal.models.published import PUBLISHED

NETWORK_KEYS = ("model.preset", "model.weights", "model.pretrained")  # and model.options


def with_initial_network(config: Config, changes: Mapping[str, Any] | None = None) -> Config:
    """A config with preset and options of the model that its ``model.init_from`` names; unchanged without one.

    A config that leaves the size at its defaults gets that of the model, antialiasing and stretch included; one that
    names a shorter side alone gets the model's size scaled to it.

    Args:
        config: any.
        changes: values of its keys that the user set explicitly, which must not contradict the model.

    Raises:
        ModelFileError: there is no such file, or it is no gfocal model, or it is damaged.
        DownloadError: it names published weights that cannot be downloaded.
        ConfigError: ``changes`` ask for another network than the model's.
    """
    if config.model.init_from is None:
        return config
    description = read_description(locate_model(config.model.init_from))
    model = replace(
        config.model,
        preset=description["preset"],
        options=dict(description["options"]),
        pretrained=False,
        weights=None,
    )
    size, saved = config.size, description["input"]
    of_model = SizeSettings(saved["short_side"], saved["long_side"], saved["antialias"], saved.get("stretch", False))
    if size == SizeSettings():
        size = of_model
    elif size == SizeSettings(size.short_side) and size.short_side is not None:
        long_side = scaled_long_side(saved["long_side"], saved["short_side"], size.short_side)
        size = replace(of_model, short_side=size.short_side, long_side=long_side)
    initial = replace(config, model=model, size=size)
    for key, value in (changes or {}).items():
        is_of_network = asks_for_network({key: value})
        # model.pretrained would have no effect: the weights are those of the model.
        if is_of_network and (key == "model.pretrained" or with_changes(initial, {key: value}) != initial):
            raise ConfigError(
                f"{key} = {value}: the network is that of {config.model.init_from}, "
                f"{_describe_network(description)}; leave this out, or do not start from there"
            )
    return initial


def default_config(changes: Mapping[str, Any]) -> str:
    """The config where the user names none: ``nano`` for NanoDet-Plus, which it starts from, else ``light``.

    ``changes`` are values of keys that the user set: what they say of the network decides.
    """
    preset = changes.get("model.preset", "")
    if not preset and "model.init_from" in changes:
        preset = _preset_of(changes["model.init_from"])
    if not preset:
        return "light" if asks_for_network(changes) else "nano"
    return "nano" if str(preset).startswith("nanodet") else "light"


def explain_default(config: str | None, changes: Mapping[str, Any]) -> str:
    """A line on the config where the user names neither one nor a network, but something of it; else empty.

    Args:
        config: that the user names.
        changes: values of keys that the user set.
    """
    keys = [key for key in changes if asks_for_network({key: None})]
    if config is not None or not keys or {"model.preset", "model.init_from"} & set(changes):
        return ""
    name = default_config(changes)
    stated = f"{', '.join(keys)} {'are' if len(keys) > 1 else 'is'} stated"
    return (
        f"config {name} ({read_config(name).model.preset}), as {stated}: nano starts from weights trained on COCO, "
        "whose network is given (--config names another)"
    )


def _preset_of(model: str) -> str:
    """The preset of a model; that of published weights is known without a download."""
    if model in PUBLISHED and not Path(model).exists():
        return PUBLISHED[model].preset
    return read_description(locate_model(model))["preset"]


def states_key(name_or_path: str | None, key: str) -> bool:
    """Whether a config file of the user's own, not a bundled one, gives a key such as ``run.batch_size``."""
    path = None if name_or_path is None else find_config(name_or_path)
    if path is None or path.parent == CONFIG_FOLDER:
        return False
    section, _, name = key.partition(".")
    return name in parse_toml(path.read_text(encoding="utf-8")).get(section, {})


def with_available_weights(config: Config, changes: Mapping[str, Any], report: Callable[[str], None]) -> Config:
    """A config whose own start can be had, unless the user names one.

    Args:
        config: as read from its file; its ``model.init_from`` may name published weights.
        changes: values of its keys that the user set explicitly. A start that they name stays; if they ask for
            another network or other weights, the config's start is left out.
        report: takes a line that says what is used in place of weights that cannot be downloaded.
    """
    name = config.model.init_from
    if name is None or "model.init_from" in changes:
        return config
    without = replace(config, model=replace(config.model, init_from=None))
    if asks_for_network(changes):
        return without
    try:
        locate_model(name)
    except DownloadError as error:
        report(f"{error}; this run starts from ImageNet weights instead")
        return without
    return config


def asks_for_network(changes: Mapping[str, Any]) -> bool:
    """Whether values of keys name a network, its options, or the weights that it starts from."""
    return any(key in NETWORK_KEYS or key.startswith("model.options") for key in changes)


def describe_start(model: ModelSettings, names: Sequence[str]) -> list[str]:
    """Lines on the weights that a run for the classes ``names`` starts from."""
    lines = []
    if model.init_from is not None:
        lines.append(describe_initial_model(model.init_from, names))
    elif model.pretrained and not model.weights:
        lines.append("ImageNet weights: from the Hugging Face hub, unless they are on this machine already")
    if frozen := explain_frozen_random(model):
        lines.append(frozen)
    return lines


def explain_frozen_random(model: ModelSettings) -> str:
    """A line on parts that ``model.freeze`` keeps at random weights; empty where there are none."""
    is_backbone_trained = model.pretrained or model.weights is not None
    if model.freeze in (None, "none", 0) or model.init_from or (is_backbone_trained and model.freeze != "neck"):
        return ""
    part = "the neck keeps" if is_backbone_trained else "what it freezes keeps"
    return f"model.freeze = {model.freeze}: {part} random weights: nothing trained is loaded there"


def describe_initial_model(init_from: str, names: Sequence[str]) -> str:
    """A line on the model that a run starts from: its network, and how many of the classes ``names`` it knows."""
    description = read_description(locate_model(init_from))
    known = compare_classes(names, description["names"])
    dropped = "; its calibration is not that of other weights, and is dropped: 'gfocal calibrate' the trained model"
    line = f"starting from {init_from} ({description['preset']}), which {known}"
    return line + dropped * ("calibration" in description)


def _describe_network(description: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} = {value}" for key, value in description["options"].items())
    return f"{description['preset']} ({options})" if options else str(description["preset"])

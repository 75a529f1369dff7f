"""A run that begins from a trained detector: the network is that of its file, whatever the config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfocal.config.config import Config, ConfigError, SizeSettings, with_changes
from gfocal.models.finetuning import transfer_of
from gfocal.models.model_file import SCHEME, fetch, model_file, read_model_file


def with_network_of_start(config: Config, asked: Mapping[str, Any] | None = None) -> Config:
    """A config with the preset and options of the model file that its ``model.init_from`` names; others stay as they are.

    A config that says nothing of the size takes that of the file, smoothing included.

    Args:
        config: any.
        asked: values of its keys that the user gave beside it, which must not contradict the file.

    Raises:
        ModelFileError: there is no such file, or it is no gfocal model, or it is damaged.
        ConfigError: what was asked for is another network than the file's.
    """
    if config.model.init_from is None:
        return config
    about = description_of(config.model.init_from)
    model = replace(
        config.model, preset=about["preset"], options=dict(about["options"]), pretrained=False, weights=None
    )
    size, saved = config.size, about["input"]
    if size == SizeSettings():
        size = SizeSettings(saved["short_side"], saved["long_side"], saved["antialias"])
    found = replace(config, model=model, size=size)
    for key, value in (asked or {}).items():
        of_network = key in ("model.preset", "model.weights", "model.pretrained") or key.startswith("model.options")
        # Random weights, or those of ImageNet, would be neither taken nor missed: the network of a start has its own.
        if of_network and (key == "model.pretrained" or with_changes(found, {key: value}) != found):
            raise ConfigError(
                f"{key} = {value}: the network is that of {config.model.init_from}, {_in_words(about)}; leave this out, "
                "or do not start from there"
            )
    return found


def description_of(start: str) -> dict[str, Any]:
    """What a model file, the folder of a run or a model on the hub says of its network."""
    return read_model_file(fetch(start) if start.startswith(SCHEME) else model_file(Path(start)))[0]


def told(start: str, names: Sequence[str]) -> str:
    """A line about a start: which network, and how many of the classes it knows."""
    about = description_of(start)
    return f"starting from {start}, {_in_words(about)}: {transfer_of(names, about['names'])}"


def _in_words(about: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} = {value}" for key, value in about["options"].items())
    return f"{about['preset']} ({options})" if options else str(about["preset"])

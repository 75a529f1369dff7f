"""Configs: everything that decides a run, in one typed table that is read from and written to TOML.

A config file names what differs from the defaults. An unknown key or a value of the wrong type is an error that names
the key and what would fit. [augment], [optimizer], [schedule] and [run] are declared beside the code that reads them.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gfocal.config.bundled import CONFIG_FOLDER as CONFIG_FOLDER
from gfocal.config.bundled import config_names as config_names
from gfocal.config.bundled import find_config
from gfocal.config.values import MAX_LENGTH, coerce, format_toml, parse_toml, possible_values
from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, AugmentSettings
from gfocal.data.preprocess import MAX_SIDE
from gfocal.data.value_range import check_range
from gfocal.errors import ConfigError as ConfigError
from gfocal.models.finetuning import Part
from gfocal.models.options import quote
from gfocal.text import one_line, similar
from gfocal.training.optim import OptimizerSettings, ScheduleSettings
from gfocal.training.settings import RunSettings

PRESET = "preset"  # key of [augment] that names a whole augmentation, which the other keys change; never written


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and where its initial weights come from."""

    preset: str = "gfl_light_fpn"
    """Name of a preset, see ``gfocal models``."""
    pretrained: bool = True
    """Download ImageNet weights of the backbone from the hub."""
    weights: str | None = None
    """A local file with ImageNet weights, used instead."""
    init_from: str | None = None
    """Model file, run directory or ``hf://owner/name`` to start from: its network and all its weights."""
    freeze: Part | int | None = None
    """What is not trained: none, stem, a number of backbone stages (and the stem), backbone, or neck (and the
    backbone); None: as published, or as in the run that ``init_from`` is of."""
    class_agnostic: bool = False
    """Train on one class, "object", in place of all classes."""
    initial_distance: float | None = None
    """Strides from a point to each edge that a new head predicts before it has learned anything, where edges are
    distributions, at most the middle of the regression range, which None is, as published. Without effect with
    ``init_from``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the preset's function: n (``reg_max``, the number of bins of an edge distribution less one),
    channels, num_convs, ..."""


@dataclass(frozen=True)
class SizeSettings:
    """Size of the network's input in pixels."""

    short_side: int | None = None
    """Images are resized to this shorter side, at least 33 pixels; None: the preset's own."""
    long_side: int | None = None
    """Unless their longer side would be more than this, in pixels; None: in proportion to the preset's own."""
    antialias: bool = True
    """Smooth images that shrink; False: as OpenCV does, and so MMDetection's training."""
    stretch: bool | None = None
    """Stretch every image to exactly short_side (height) x long_side (width), as NanoDet does and without smoothing;
    False: keep the aspect ratio; None: as the preset does."""

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side must be at least 1, not {self.short_side}")
        for name in ("short_side", "long_side"):
            if (getattr(self, name) or 0) > MAX_SIDE:
                raise ValueError(f"{name} must be at most {MAX_SIDE:,} pixels, not {quote(getattr(self, name))}")
        if self.long_side is not None and self.long_side < (self.short_side or 1):
            raise ValueError(f"long_side {self.long_side} is less than short_side {self.short_side or 1}")


@dataclass(frozen=True)
class ImageSettings:
    """How image files are read."""

    value_range: tuple[int, int] | None = None
    """Lowest and highest value of images of more than 8 bits, which become 0 and 255; None: by the data."""
    max_megapixels: float | None = None
    """Larger images are refused, as a guard of the memory; None: PIL's limit, 89.5."""

    def __post_init__(self) -> None:
        if self.value_range is not None:
            check_range(self.value_range)
        if self.max_megapixels is not None and not 0 < self.max_megapixels < math.inf:
            raise ValueError(f"max_megapixels must be more than 0, not {self.max_megapixels}")


@dataclass(frozen=True)
class MethodSettings:
    """How the detector is trained, on the axes of the paper's studies; None: as its preset was published."""

    assigner: Literal["atss", "fcos", "fcos_center", "max_iou", "fovea", "tal"] | None = None
    """Which points are to predict which ground-truth box; tal (task-aligned, Feng et al. 2021) decides by the
    predictions, and gives the targets of a joint quality."""
    quality: Literal["none", "branch", "guided", "joint"] | None = None
    """How the quality of a box is predicted (Li et al. 2020, figure 6)."""
    measure: Literal["iou", "centerness"] | None = None
    """What the quality is."""
    cls_loss: Literal["qfl", "varifocal"] | None = None
    """The loss of a joint quality: QFL, or the Varifocal Loss (Zhang et al. 2021), in which positives count by their
    target."""
    beta: float | None = None
    """Exponent of QFL, at least 0."""
    gamma: float | None = None
    """Exponent of the Focal Loss, or of the Varifocal Loss, at least 0."""
    alpha: float | None = None
    """Weight of positives in the Focal Loss, or of background in the Varifocal Loss, 0..1."""
    dfl: bool | None = None
    """Whether the General distribution is trained with DFL."""
    box_loss: Literal["giou", "none"] | None = None
    """What trains an edge beside DFL: the GIoU loss, which moves its distribution away from that of the labels; or
    nothing, DFL then has four times its weight."""
    beta_warmup: float | None = None
    """Share of the run, 0..1, in which QFL's factor |y - s|^beta of positives is faded in, so that rare classes are
    learned sooner; 0: it acts from the start, as published."""
    box_weights: Literal["quality", "equal"] | None = None
    """Weights of the box losses: quality, as published the score of the point; or equal, so that boxes of low scores,
    which rare classes have for long, are not left behind."""
    exclude_ignored: bool = True
    """Exclude background inside crowd, difficult and ignored regions from the class loss."""

    def __post_init__(self) -> None:
        for name in ("beta", "gamma"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, not {value}")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha lies in 0..1, not {self.alpha}")
        if self.beta_warmup is not None and not 0 <= self.beta_warmup <= 1:
            raise ValueError(f"beta_warmup lies in 0..1, not {self.beta_warmup}")


@dataclass(frozen=True)
class DistillSettings:
    """A teacher whose edge distributions are learned beside the labels (Zheng et al. 2022)."""

    teacher: str | None = None
    """Model file, run directory, ``hf://owner/name`` or published weights; None: no distillation."""
    weight: float = 0.25
    """Weight of the divergence at positive points, at least 0."""
    region_weight: float = 0.25
    """Weight of the divergence in the valuable localization region around them, at least 0; 0: without it."""
    temperature: float = 10.0
    """What the logits are divided by before the softmax, more than 0."""

    def __post_init__(self) -> None:
        for name in ("weight", "region_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be more than 0, not {self.temperature}")


@dataclass(frozen=True)
class Config:
    """A complete run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """Network and initial weights."""
    method: MethodSettings = field(default_factory=MethodSettings)
    """Assigner and losses."""
    distill: DistillSettings = field(default_factory=DistillSettings)
    """A teacher beside the labels."""
    size: SizeSettings = field(default_factory=SizeSettings)
    """Size of the network's input."""
    images: ImageSettings = field(default_factory=ImageSettings)
    """How image files are read."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """Augmentation of training images."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimizer and learning rate."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Learning rate over the run."""
    run: RunSettings = field(default_factory=RunSettings)
    """Length, batches, devices and files."""


def read_config(name_or_path: str | Path) -> Config:
    """A bundled config by its name, or one from a TOML file.

    Raises:
        ConfigError: there is no such config, or something in it is wrong.
    """
    path = find_config(name_or_path)
    try:
        if (size := path.stat().st_size) > 4 * MAX_LENGTH:
            raise ValueError(f"{size:,} bytes are more than any config has")
        table = parse_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the syntax, the encoding, or a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return _replace_values(Config(), table, str(path), "")


def with_changes(config: Config, changes: Mapping[str, Any], where: str = "changes") -> Config:
    """A config with some values replaced: ``{"run.epochs": 3}``; ``where`` tells errors where they come from.

    A value given as text is parsed as TOML unless its key is of type text: ``{"run.epochs": "3"}``. "none" or an
    empty text set an optional value to None; but where "none" is one of the values, it is that value. Keys of
    ``model.options`` are added to those of the config, and an empty table removes all of them.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
    """
    # One table for all, so that values that must fit one another may change together.
    table: dict[str, Any] = {}
    for key, value in changes.items():
        choices = possible_values(value, _type_of(config, key)) if isinstance(value, str) else [value]
        _set_key(table, key, choices[0])
        for choice in choices:
            alone: dict[str, Any] = {}
            _set_key(alone, key, choice)
            if _fits(config, alone):
                _set_key(table, key, choice)
                break
    return _replace_values(config, table, where, "")


def flatten(config: Config) -> dict[str, Any]:
    """Every value by its dotted key."""
    sections = {section.name: getattr(config, section.name) for section in fields(config)}
    return {
        f"{name}.{entry.name}": getattr(part, entry.name) for name, part in sections.items() for entry in fields(part)
    }


def unflatten(values: Mapping[str, Any]) -> Config:
    """The config of values by their dotted keys, as ``flatten`` gives them; ConfigError for any that do not fit."""
    table: dict[str, Any] = {}
    for key, value in values.items():
        if value is not None:
            _set_key(table, key, value)
    return _replace_values(Config(), table, "config", "")


def write_config(config: Config) -> str:
    """The config as TOML, with every value."""
    lines = []
    for section in fields(config):
        lines.append(f"[{section.name}]")
        part = getattr(config, section.name)
        for entry in fields(part):
            value = getattr(part, entry.name)
            if value is not None:
                lines.append(f"{entry.name} = {format_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def _replace_values(base: Any, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    if isinstance(base, AugmentSettings) and PRESET in table:
        base, table = (
            _augment_preset(table[PRESET], where),
            {key: value for key, value in table.items() if key != PRESET},
        )
    hints = typing.get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(
                f"{where}: unknown key {one_line(name, 100)}; {_suggest_key(key, prefix, hints, value)}"
            )
        current = getattr(base, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {name} is a section, not a value")
            changes[key] = _replace_values(current, value, where, f"{name}.")
        elif isinstance(current, dict) and isinstance(value, Mapping):
            if tables := [inner for inner, found in value.items() if isinstance(found, Mapping)]:
                raise ConfigError(f"{where}: {name}.{one_line(tables[0], 100)} is a value, not a table")
            changes[key] = {**current, **value} if value else {}
        else:
            changes[key] = coerce(value, hints[key], where, name)
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise ConfigError(f"{where}: {prefix}{error}") from error


def _suggest_key(key: str, prefix: str, known: Iterable[str], value: Any) -> str:
    """What an unknown key may stand for, in its own section or else in another."""
    known = list(known)
    if near := similar(key, known):
        return f"did you mean {prefix}{near[0]}?"
    everywhere = [name for name in flatten(Config()) if name.rpartition(".")[2] == key]
    if everywhere or (everywhere := similar(key, [] if prefix else flatten(Config()))):
        return f"did you mean {everywhere[0]}?"
    if isinstance(value, Mapping):  # an unknown section, whose first key may be another's
        names = {name.rpartition(".")[2]: name for name in flatten(Config())}
        if near := [found for inner in value for found in similar(str(inner), names)]:
            return f"did you mean {names[near[0]]}?"
    return f"known are: {', '.join(known)}"


def _augment_preset(name: Any, where: str) -> AugmentSettings:
    """The augmentation that ``augment.preset`` names; other keys of the section change it."""
    if not isinstance(name, str) or name not in AUGMENT_PRESETS:
        hint = (
            f"; did you mean {near[0]}?" if isinstance(name, str) and (near := similar(name, AUGMENT_PRESETS)) else ""
        )
        raise ConfigError(
            f"{where}: augment.{PRESET} is one of {', '.join(AUGMENT_PRESETS)}, not {quote(name)}{hint}"
        )
    return AUGMENT_PRESETS[name]


def _set_key(table: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is given a value and keys of its own; give one of them")
        table = inner
    table[last] = value


def _fits(config: Config, table: Mapping[str, Any]) -> bool:
    try:
        _replace_values(config, table, "", "")
    except ConfigError:
        return False
    return True


def _type_of(config: Config, key: str) -> Any:
    """The type that a dotted key is declared with; None where there is no such key."""
    part: Any = config
    *sections, last = key.split(".")
    for section in sections:
        part = getattr(part, section, None)
    return typing.get_type_hints(type(part)).get(last) if is_dataclass(part) else None

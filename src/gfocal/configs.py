"""Recipes: everything that decides a run, in one typed table that is read from and written to TOML.

A recipe file need only name what differs from the defaults. An unknown key or a value of the wrong type is an
error that says where it stands and what would fit.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gfocal.data.transforms import AugmentSettings
from gfocal.training.loop import RunSettings
from gfocal.training.optimisers import OptimiserSettings, ScheduleSettings

RECIPE_FOLDER = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file, the key and the mend."""


@dataclass(frozen=True)
class ModelSettings:
    """Which network, and where its first weights come from."""

    preset: str = "gfl_light_fpn"
    pretrained: bool = True  # ImageNet weights from the hub
    weights: str | None = None  # ImageNet weights from a local file instead
    options: dict[str, Any] = field(default_factory=dict)  # of the preset's function: n, channels, ...


@dataclass(frozen=True)
class SizeSettings:
    """Size of the network's input in pixels; None keeps the preset's own."""

    short_side: int | None = None
    long_side: int | None = None
    antialias: bool = True  # False: shrink pictures as OpenCV does, and so MMDetection's training

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side must be at least 1, not {self.short_side}")
        if self.long_side is not None and self.long_side < (self.short_side or 1):
            raise ValueError(f"long_side {self.long_side} is less than short_side {self.short_side or 1}")


@dataclass(frozen=True)
class MethodSettings:
    """How the detector is taught, on the axes of the paper's studies; None: as its preset was published."""

    assigner: Literal["atss", "fcos", "fcos_centre", "max_iou", "fovea"] | None = None
    quality: Literal["none", "branch", "guided", "joint"] | None = None  # how the quality of a box is said (figure 6)
    measure: Literal["iou", "centerness"] | None = None  # what the quality is
    beta: float | None = None  # of QFL
    gamma: float | None = None  # of the Focal Loss
    alpha: float | None = None  # of the Focal Loss: weight of positives
    dfl: bool | None = None  # whether DFL teaches the General distribution

    def __post_init__(self) -> None:
        for name in ("beta", "gamma"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, not {value}")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha lies in 0..1, not {self.alpha}")


@dataclass(frozen=True)
class Recipe:
    """A complete run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    size: SizeSettings = field(default_factory=SizeSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    run: RunSettings = field(default_factory=RunSettings)


def recipe_names() -> list[str]:
    """Names of the recipes that come with gfocal."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.toml"))


def read_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by the name of a bundled one, or from a TOML file.

    Raises:
        RecipeError: there is no such recipe, or something in it is wrong.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = RECIPE_FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        raise RecipeError(
            f"there is no recipe {str(name_or_path)!r}; give the path of a .toml file or one of: "
            + ", ".join(recipe_names())
        )
    toml = _toml_reader()
    try:
        table = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    return _filled(Recipe(), table, str(path), "")


def with_changes(recipe: Recipe, changes: Mapping[str, Any], where: str = "changes") -> Recipe:
    """A recipe with some values replaced: ``{"run.epochs": 3}``; ``where`` says in errors where they come from.

    A value given as text is read as TOML where its key is not text itself: ``{"run.epochs": "3"}``; "none"
    takes a value away that need not be there. Keys of ``model.options`` add to those of the recipe, and an
    empty table takes all of them away.

    Raises:
        RecipeError: an unknown key, or a value that does not fit.
    """
    # One table for all, so that values that must fit one another may change together.
    table: dict[str, Any] = {}
    for key, value in changes.items():
        choices = _readings(value) if isinstance(value, str) else [value]
        _put(table, key, choices[0])
        for choice in choices:
            alone: dict[str, Any] = {}
            _put(alone, key, choice)
            if _fits(recipe, alone):
                _put(table, key, choice)
                break
    return _filled(recipe, table, where, "")


def write_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, every value written out."""
    lines = []
    for section in fields(recipe):
        lines.append(f"[{section.name}]")
        part = getattr(recipe, section.name)
        for entry in fields(part):
            value = getattr(part, entry.name)
            if value is not None:
                lines.append(f"{entry.name} = {_as_toml(value)}")
        lines.append("")
    return "\n".join(lines)


def _filled(base: Any, table: Mapping[str, Any], where: str, prefix: str) -> Any:
    hints = typing.get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are: {', '.join(hints)}"
            raise RecipeError(f"{where}: unknown key {name}; {hint}")
        current = getattr(base, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{where}: {name} is a section, not a value")
            changes[key] = _filled(current, value, where, f"{name}.")
        elif isinstance(current, dict) and isinstance(value, Mapping):
            changes[key] = {**current, **value} if value else {}
        else:
            changes[key] = fitted(value, hints[key], where, name)
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise RecipeError(f"{where}: {prefix}{error}") from error


def fitted(value: Any, hint: Any, where: str, name: str) -> Any:
    """The value in the type that ``hint`` declares; RecipeError says where it stands when it does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return fitted(value, choice, where, name)
            except RecipeError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
        raise RecipeError(f"{where}: {name} is one of {', '.join(map(repr, arguments))}, not {value!r}")
    elif origin in (tuple, Sequence) and isinstance(value, list | tuple):
        is_any_length = origin is Sequence or arguments[-1] is Ellipsis
        kinds = [arguments[0]] * len(value) if is_any_length else list(arguments)
        if len(kinds) == len(value):
            return tuple(fitted(v, k, where, name) for v, k in zip(value, kinds, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise RecipeError(f"{where}: {name} must be {_in_words(hint)}, not {value!r}")


def _in_words(hint: Any) -> str:
    """What a type takes, for people who do not know Python."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_in_words(argument) for argument in arguments]
        return (", or " if "," in parts[0] else " or ").join(parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple and arguments == (int, int):
        return "two whole numbers, e.g. [480, 800]"
    if origin in (tuple, Sequence):
        return "a list of whole numbers, e.g. [8, 11]" if arguments[0] is int else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words.get(hint, "a table, e.g. {n = 8}" if origin is dict else str(hint))


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{key}: {section} is given a value and keys of its own; give one of them")
        table = inner
    table[last] = value


def _fits(recipe: Recipe, table: Mapping[str, Any]) -> bool:
    try:
        _filled(recipe, table, "", "")
    except RecipeError:
        return False
    return True


def _readings(text: str) -> list[Any]:
    """What a text may mean, likeliest first."""
    toml = _toml_reader()
    if text.lower() == "none":
        return [None, text]
    try:
        return [toml.loads(f"value = {text}")["value"], text]
    except toml.TOMLDecodeError:
        return [text]


def _toml_reader() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    import tomli

    return tomli


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_as_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return repr(value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _as_toml(key)

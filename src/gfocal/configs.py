"""Recipes: everything that decides a run, in one typed table that is read from and written to TOML.

A recipe file need only name what differs from the defaults. An unknown key or a value of the wrong type is an
error that says where it stands and what would fit.
"""

from __future__ import annotations

import difflib
import sys
import types
import typing
from collections.abc import Mapping
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

    preset: str = "gfl_lite0_fpn"
    pretrained: bool = True  # ImageNet weights from the hub
    weights: str | None = None  # ImageNet weights from a local file instead
    options: dict[str, Any] = field(default_factory=dict)  # of the preset's function: n, channels, ...


@dataclass(frozen=True)
class SizeSettings:
    """Size of the network's input in pixels; None keeps the preset's own."""

    short_side: int | None = None
    long_side: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A complete run."""

    model: ModelSettings = field(default_factory=ModelSettings)
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


def with_changes(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with some values replaced: ``{"run.epochs": 3}``.

    A value given as text is read as TOML where its key is not text itself: ``{"run.epochs": "3"}``.
    """
    for key, value in changes.items():
        table: dict[str, Any] = {}
        inner = table
        *sections, last = key.split(".")
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = _from_text(value) if isinstance(value, str) else value
        recipe = _filled(recipe, table, key, "")
    return recipe


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
            changes[key] = {**current, **value}
        else:
            changes[key] = _fitted(value, hints[key], where, name)
    return replace(base, **changes)


def _fitted(value: Any, hint: Any, where: str, name: str) -> Any:
    """The value in the type that the field is declared with, or a RecipeError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return _fitted(value, choice, where, name)
            except RecipeError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
        raise RecipeError(f"{where}: {name} is one of {', '.join(map(repr, arguments))}, not {value!r}")
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(_fitted(v, k, where, name) for v, k in zip(value, kinds, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    wanted = getattr(hint, "__name__", None) if origin is None else str(hint)
    raise RecipeError(f"{where}: {name} must be {wanted}, not {value!r}")


def _from_text(text: str) -> Any:
    toml = _toml_reader()
    try:
        return toml.loads(f"value = {text}")["value"]
    except toml.TOMLDecodeError:
        return text


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
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_as_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return repr(value)

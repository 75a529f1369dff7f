"""Values of a config: parsed from text, checked against their declared types, and written as TOML."""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from gfocal.errors import ConfigError


def coerce(value: Any, hint: Any, where: str, name: str) -> Any:
    """The value in the type that ``hint`` declares; ConfigError names ``where`` and ``name`` if it does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return coerce(value, choice, where, name)
            except ConfigError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where}: {name} is one of {', '.join(map(repr, arguments))}, not {value!r}")
    elif origin in (tuple, Sequence) and isinstance(value, list | tuple):
        is_any_length = origin is Sequence or arguments[-1] is Ellipsis
        kinds = [arguments[0]] * len(value) if is_any_length else list(arguments)
        if len(kinds) == len(value):
            return tuple(coerce(v, k, where, name) for v, k in zip(value, kinds, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise ConfigError(f"{where}: {name} must be {_describe_type(hint)}, not {value!r}")


def _describe_type(hint: Any) -> str:
    """The values of a type, in words that need no Python."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_describe_type(argument) for argument in arguments]
        return (", or " if "," in parts[0] else " or ").join(parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple and arguments == (int, int):
        return "two whole numbers, e.g. [480, 800]"
    if origin in (tuple, Sequence):
        return "a list of whole numbers, e.g. [8, 11]" if arguments[0] is int else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words.get(hint, "a table, e.g. {n = 8}" if origin is dict else str(hint))


def possible_values(text: str, hint: Any) -> list[Any]:
    """The values that a text may stand for, likeliest first."""
    if text.lower() in ("none", ""):
        return [text, None] if text in literal_values(hint) else [None, text]
    toml = import_toml()
    try:
        return [toml.loads(f"value = {text}")["value"], text]
    except toml.TOMLDecodeError:
        return [text]


def literal_values(hint: Any) -> tuple[Any, ...]:
    """The values that a Literal type lists, also inside a union."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return tuple(value for argument in typing.get_args(hint) for value in literal_values(argument))


def import_toml() -> Any:
    """The module that parses TOML: of the standard library since Python 3.11."""
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    import tomli

    return tomli


def format_toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {format_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(format_toml, value)) + "]"
    return repr(value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else format_toml(key)

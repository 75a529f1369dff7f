"""Values of a config: parsed from text, checked against their declared types, and written as TOML."""

from __future__ import annotations

import json
import re
import sys
import typing
from typing import Any, Literal

from gfocal.errors import ConfigError
from gfocal.models.options import coerce as coerce_value

MAX_LENGTH = 250_000  # characters of a config; those of gfocal have up to 3,000
MAX_DOTS = 500  # in a line


def coerce(value: Any, hint: Any, where: str, name: str) -> Any:
    """The value in the type that ``hint`` declares; ConfigError names ``where`` and ``name`` if it does not fit."""
    try:
        return coerce_value(value, hint)
    except ValueError as error:
        raise ConfigError(f"{where}: {name} {error}") from error


def possible_values(text: str, hint: Any) -> list[Any]:
    """The values that a text may stand for, likeliest first."""
    if text.lower() in ("none", ""):
        return [text, None] if text in literal_values(hint) else [None, text]
    try:
        return [parse_toml(f"value = {text}")["value"], text]
    except ValueError:
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


def parse_toml(text: str) -> dict[str, Any]:
    """The table of a TOML text; ValueError if it is none, or one that takes too long to parse.

    The parser's time grows with the square of the number of parts of a key.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{len(text):,} characters are more than {MAX_LENGTH:,}")
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {MAX_DOTS} dots")
    try:
        table: dict[str, Any] = import_toml().loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return table


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

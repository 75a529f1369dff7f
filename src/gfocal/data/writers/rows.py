"""Long json files, written line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any


def write_rows(stream: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the entries of a json list, each in a line of its own."""
    for number, row in enumerate(rows):
        stream.write((",\n" if number else "\n") + json.dumps(row))

"""Xml files: what kind one is by its first tag, without reading the rest."""

from __future__ import annotations

import re
from pathlib import Path

_PROBED = 8192  # bytes in which the first tag is looked for
_SKIPPED = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>", re.DOTALL)
_TAG = re.compile(r"<([A-Za-z_][\w.:-]*)")


def root_tag(file: Path) -> str | None:
    """The first tag of an xml file; None if there is none, as in a broken file."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_PROBED)
    except OSError:
        return None
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    found = _TAG.search(_SKIPPED.sub("", start.decode(encoding, errors="replace")))
    return None if found is None else found[1]

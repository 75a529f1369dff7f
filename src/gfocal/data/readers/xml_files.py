"""Xml files: parsed without entities, and what kind one is by its first tag, without reading the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gfocal.text import one_line

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


def parse_xml(file: Path) -> Any:
    """The first element of an xml file. Raises ValueError, in one line, for a broken file or one with entities.

    defusedxml checks what it does; its parser calls several Python functions for each element, in place of which the
    tree builder of the standard library, in C, is called here: four times faster. Names in a namespace start with its
    address and ``}``.
    """
    from xml.etree.ElementTree import TreeBuilder

    from defusedxml.ElementTree import DefusedXMLParser

    builder = TreeBuilder()
    try:
        parser = DefusedXMLParser(target=builder)
        expat = parser.parser
        expat.ordered_attributes = False
        expat.StartElementHandler, expat.EndElementHandler = builder.start, builder.end
        expat.CharacterDataHandler = builder.data
        parser.feed(file.read_bytes())
        return parser.close()
    except (ValueError, SyntaxError, OSError, LookupError, RecursionError) as error:  # ValueError: entities
        raise ValueError(one_line(" ".join(str(error).split()), max_length=200)) from error

"""Sphinx extension: ``.. command-help::`` prints the help of every gfocal command, a section each."""

from __future__ import annotations

import argparse
import os
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive


class CommandHelp(Directive):
    """The help of gfocal and of all its commands."""

    def run(self) -> list[nodes.Node]:
        """One section for each parser, its help as literal text."""
        from gfocal.cli.main import build_parser

        os.environ["COLUMNS"] = "80"
        return [self.section(one.prog, one.format_help()) for one in parsers(build_parser())]

    def section(self, title: str, text: str) -> nodes.section:
        """A heading and a literal block."""
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += nodes.title(text=title)
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        section += block
        self.state.document.note_explicit_target(section)
        return section


def parsers(one: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and all parsers of its commands, depth first."""
    found = [one]
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += parsers(inner)
    return found


def setup(app: Any) -> dict[str, bool]:
    """Entry point of Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}

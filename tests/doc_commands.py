"""The fenced blocks of the pages, and the command lines in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"]
PAGES += sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
PROGRAMS = ("python", "gfocal", "torchrun")  # a block of text that begins with one of these is of commands


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def is_commands(self) -> bool:
        return self.language == "bash" or (self.language == "text" and self.text.startswith(PROGRAMS))


@dataclass(frozen=True)
class Command:
    """One program and its arguments, as a shell would split them."""

    page: Path
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}: {shlex.join(self.words)}"


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page; ``{include}`` and ``{toctree}`` are Sphinx's, which builds them."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(
        r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\n]*)\n(?P<text>.*?)^ *(?P=fence)", text, re.M | re.S
    )
    return [
        Block(page, text[: one.start()].count("\n") + 2, one["language"].strip(), one["text"])
        for one in found
        if not one["language"].startswith("{")
    ]


def read_commands(block: Block) -> Iterator[Command]:
    """Every command of a block; one that assigns a variable of the shell is none."""
    line = block.line
    for text in re.sub(r"\\\n *", lambda gap: " \0", block.text).splitlines():
        joined = text.count("\0")
        lexer = shlex.shlex(text.replace("\0", ""), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        if not re.match(r"#|\w+=", text):
            yield from _split(block.page, line, list(lexer))
        line += 1 + joined


def _split(page: Path, line: int, tokens: list[str]) -> Iterator[Command]:
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token in ("&&", "||", ";", "|"):
            if words:
                yield Command(page, line, tuple(words))
            words = []
        else:
            words.append(token)


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
COMMANDS = [command for block in BLOCKS if block.is_commands for command in read_commands(block)]

"""One vocabulary: public texts, messages, keys and names use the words of the field, and one word for one thing."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import gfocal
from gfocal.cli.main import build_parser
from gfocal.config.config import Config

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "src" / "gfocal"
DOCS = CHECKOUT / "docs"
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",  # not the changelog, which has the old names beside the new
    *(page for page in sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]) if "_build" not in page.parts),
]
FILES = sorted(SOURCE.rglob("*.py"))
CONFIGS = sorted(SOURCE.rglob("*.toml"))

# Not to be found anywhere, names and comments included -> what to write instead.
WORDS = {
    r"pictures?": "image",
    r"recipes?": "config",
    r"(?<!ground[ _-])truths?": "ground truth",
    r"judg\w*": "evaluate, evaluation",
    r"mend(s|ed|ing)?": "fix",
    r"data[ -]sets?": "dataset",
    r"(drawn|drawing) scenes?": "synthetic images",
    r"colour\w*": "color",
    r"greys?|grey\w+": "gray, grayscale",
    r"\w*optimis\w+": "optimize, optimizer",
    r"centres?|centred|centring": "center",
    r"(normal|initial|synchron|visual|general|real|recogn|serial)is(e[drs]?|ing|ation)": "-ize",
    r"behaviour\w*": "behavior",
    r"neighbour\w*": "neighbor",
    r"strangers?": "untrusted",
}

# Not to be found in what users read: pages, help, messages, docstrings of public names.
PHRASES = {
    r"rooms?": "file, package; space, memory",
    r"(go|goes|going|went) on": "resumes, continues",
    r"told(?! apart)": "described, printed",
    r"how sure": "uncertainty",
    r"anew": "again, new",
    r"taken for": "confused with",
    r"laid out": "a plain verb",
    r"beyond (the )?reach": "outside the regression range",
    r"by no point": "unassigned",
    r"from which score": "score threshold",
    r"not waited for": "without synchronizing",
    r"the way in": "entry point",
    r"of one's own": "your own, custom",
    r"sharing out|shared out": "distributed",
}

# Quotations and third-party names: (file, regular expression of the quotation).
ALLOWED: set[tuple[str, str]] = set()


def assert_none(text: str, banned: dict[str, str], where: str) -> None:
    """Fail with every banned word of a text, each with its replacement."""
    for file, quotation in ALLOWED:
        if file == where:
            text = re.sub(quotation, "", text)
    found = [
        f"{where}: {match[0]!r} (write: {instead}) in {text[max(match.start() - 30, 0) : match.end() + 30]!r}"
        for pattern, instead in banned.items()
        for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.I)
    ]
    assert not found, "\n".join(found)


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every parser: gfocal, its commands, and their commands."""

    def below(name: str, one: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        yield name, one
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command, inner in action.choices.items():
                    yield from below(f"{name} {command}", inner)

    yield from below("gfocal", build_parser())


COMMANDS = dict(commands())


def relative(file: Path) -> str:
    return file.relative_to(CHECKOUT).as_posix()


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """The nodes of a file that are docstrings."""
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def messages(file: Path) -> str:
    """String literals of a file that are no docstrings: messages, help, json keys, codes. One a line."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = docstrings(tree)
    literals = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped
    ]
    return "\n".join(literals)


def names(file: Path) -> str:
    """Names of a file, split into words: ``gt_boxes`` -> ``gt boxes``, ``GFLHead`` -> ``GFL Head``. One a line."""
    with file.open("rb") as opened:
        found = {token.string for token in tokenize.tokenize(opened.readline) if token.type == tokenize.NAME}
    return "\n".join(
        sorted(re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name.replace("_", " ")) for name in found)
    )


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pages(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert_none(text, WORDS | PHRASES, relative(page))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    text = re.sub(r"\s+", " ", COMMANDS[command].format_help())
    assert_none(text, WORDS | PHRASES, command)


@pytest.mark.parametrize("name", [name for name in gfocal.__all__ if not name.startswith("_")])
def test_docstrings_of_public_names(name: str) -> None:
    value = getattr(gfocal, name)
    texts = [inspect.getdoc(value) or ""]
    if inspect.isclass(value):
        texts += [inspect.getdoc(member) or "" for key, member in vars(value).items() if not key.startswith("_")]
    assert texts[0]
    assert_none(re.sub(r"\s+", " ", "\n".join(texts)), WORDS | PHRASES, name)


def test_config_keys() -> None:
    config = Config()
    keys = [f"{s.name} {f.name}" for s in fields(config) for f in fields(getattr(config, s.name))]
    assert_none("\n".join(keys).replace("_", " "), WORDS | PHRASES, "Config")


@pytest.mark.parametrize("file", [*FILES, *CONFIGS], ids=relative)
def test_files(file: Path) -> None:
    assert_none(re.sub(r"\s+", " ", file.read_text(encoding="utf-8")), WORDS, relative(file))


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_names(file: Path) -> None:
    assert_none(names(file), WORDS, relative(file))


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_messages_keys_and_codes(file: Path) -> None:
    text = messages(file)
    assert_none(text, PHRASES, relative(file))
    assert_none(text.replace("_", " ").replace("-", " "), WORDS, relative(file))


def test_file_names() -> None:
    listed = [relative(file) for folder in (SOURCE, DOCS) for file in folder.rglob("*") if file.is_file()]
    listed = [name for name in listed if "/_build/" not in name and "__pycache__" not in name]
    assert_none("\n".join(re.sub(r"[_./-]", " ", name) for name in listed), WORDS, "names of files")

"""Notebooks as pages, with the outputs that they were committed with: a cell becomes Markdown before it is parsed.

Nothing is executed here; a test executes them. It takes no package beyond those of the other pages.
"""

from __future__ import annotations

import html
import json
from typing import Any

from sphinx.application import Sphinx


def as_markdown(notebook: dict[str, Any]) -> str:
    """The cells of a notebook, one after the other."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            language = "console" if source.startswith("!") else "python"
            parts.append(_fenced(source, language))
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]), "text")
    data = output.get("data", {})
    for kind in ("image/jpeg", "image/png"):
        if kind in data:
            content = "".join("".join(data[kind]).split())
            return _raw(f'<img alt="output of the cell above" src="data:{kind};base64,{content}">')
    if "text/html" in data:
        return _raw("".join(data["text/html"]))
    return _fenced("".join(data.get("text/plain", "")), "text")


def _fenced(text: str, language: str) -> str:
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}{html.escape(language)}\n{text.rstrip()}\n{fence}"


def _raw(text: str) -> str:
    return f"````{{raw}} html\n{text}\n````"


def convert(app: Sphinx, name: str, content: list[str]) -> None:
    """Replace the text of a notebook."""
    if app.env.doc2path(name).suffix == ".ipynb":
        content[0] = as_markdown(json.loads(content[0]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_source_suffix(".ipynb", "markdown")
    app.connect("source-read", convert)
    return {"version": "1", "parallel_read_safe": True}

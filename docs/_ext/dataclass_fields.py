"""Sphinx extension: dataclasses get a list of their fields, with the comments of the source, for a signature."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from typing import Any


def field_comments(cls: type) -> list[tuple[str, str, str]]:
    """Name, type with default, and comment of every field: on its line, above it, or as a string below."""
    lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
    body = next(node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef)).body
    found = []
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id.startswith("_"):
            continue
        assert node.end_lineno is not None
        comment = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")[2]
        above = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#"):
                break
            above.append(line.strip().lstrip("# "))
        comment = " ".join([*reversed(above), comment.strip()]).strip()
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            comment = inspect.cleandoc(str(following.value.value)).replace("\n", " ")
        kind = ast.unparse(node.annotation)
        if node.value is not None and not isinstance(node.value, ast.Call):
            kind += f" = {ast.unparse(node.value)}"
        found.append((node.target.id, kind, comment))
    return found


def add_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append the fields to the docstring of a dataclass."""
    if what != "class" or not is_dataclass(obj) or not isinstance(obj, type):
        return
    fields = field_comments(obj)
    if fields:
        lines += ["", ".. rubric:: Fields", ""]
    for field, kind, comment in fields:
        lines.append(f"* ``{field}``: ``{kind}``" + (f": {escape(comment)}" if comment else ""))


def hide_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """No signature for dataclasses, whose fields are listed, and for protocols, which nobody calls."""
    if isinstance(obj, type) and (is_dataclass(obj) or getattr(obj, "_is_protocol", False)):
        return "", None
    return None


def escape(text: str) -> str:
    """Comments are plain text: what reStructuredText would read as markup is escaped, but for double backquotes."""
    parts = text.split("``")
    return "``".join(
        part if i % 2 else "".join(f"\\{c}" if c in "*|_`" else c for c in part) for i, part in enumerate(parts)
    )


def setup(app: Any) -> dict[str, bool]:
    """Entry point of Sphinx."""
    app.connect("autodoc-process-docstring", add_fields)
    app.connect("autodoc-process-signature", hide_signature)
    return {"parallel_read_safe": True}

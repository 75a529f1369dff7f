"""gfocal_runtime imports no torch, and gives the numbers of gfocal."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gfocal_runtime

SOURCE = Path(gfocal_runtime.__file__).parent
ALLOWED = {"gfocal_runtime", "numpy", "PIL", "onnxruntime", "openvino", *sys.stdlib_module_names}


@pytest.mark.parametrize("file", sorted(SOURCE.glob("*.py")), ids=lambda file: file.name)
def test_imports_are_few(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= ALLOWED


def test_no_torch_is_imported() -> None:
    code = "import sys, gfocal_runtime; print('torch' in sys.modules, 'gfocal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

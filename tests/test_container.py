"""The container file: what it copies is there, torch is the CPU build, and it does not run as root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LINES = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").splitlines()


def places(instruction: str) -> list[int]:
    return [number for number, line in enumerate(LINES) if line.startswith(instruction)]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("COPY ")])
def test_copies_what_is_there_and_not_ignored(line: str) -> None:
    allowed = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in line.split()[1:-1]:
        assert (CHECKOUT / source).exists()
        assert f"!{source}" in allowed


def test_the_cpu_build_of_torch_comes_before_gfocal() -> None:
    torch = [n for n in places("RUN pip") if "torch" in LINES[n] and "/whl/cpu" in LINES[n]]
    own = [n for n in places("RUN pip") if "/build" in LINES[n]]
    assert torch < own


def test_the_user_is_not_root() -> None:
    users = [LINES[n].split()[1] for n in places("USER")]
    assert users[-1] == "gfocal"
    assert not places("RUN")[-1] > places("USER")[-1]


def test_the_docs_name_the_same_cache() -> None:
    cache = re.search(r"GFOCAL_CACHE=(/\w+)/", "\n".join(LINES))
    assert cache is not None
    assert f":{cache[1]} " in (CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8")

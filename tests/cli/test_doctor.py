"""gfocal doctor says what a bug report needs, and no secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gfocal
from doc_commands import CHECKOUT
from gfocal.cli import DONE, doctor
from gfocal.config.values import import_toml

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"


def test_versions_devices_and_cache(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "a" / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy")
    code, out, err = run("doctor")
    assert (code, err) == (DONE, "")
    rows = {line[:18].strip(): line[18:].strip() for line in out.splitlines()}
    assert rows["gfocal"].startswith(gfocal.__version__)
    assert rows["torch"].startswith(torch.__version__.partition("+")[0])
    assert rows["cpu"].startswith("float32")
    assert rows["threads"].startswith(f"{torch.get_num_threads()} of torch")
    assert rows["cache"].startswith(f"{tmp_path / 'a' / 'cache'} (0 files, 0 MB; ")
    assert rows["cache"].endswith("GB free; GFOCAL_CACHE moves it)")
    assert rows["OMP_NUM_THREADS"] == "3"
    assert rows["HTTPS_PROXY"] == "set"
    assert "secret" not in out
    assert "CUDA" in rows
    assert set(rows) >= {"Python", "system", "CPU", "memory", "open files"}


def test_each_extra_is_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {
        "fastapi": "1.0",
        "uvicorn": "2.0",
        "python-multipart": "3.0",
        "prometheus-client": "4.0",
        "nncf": "5",
    }
    monkeypatch.setattr(doctor, "version_of", versions.get)
    rows = dict(doctor.packages())
    assert rows["extra serve"] == "fastapi 1.0, uvicorn 2.0, python-multipart 3.0, prometheus-client 4.0"
    assert rows["extra ray"] == "not installed (ray)"
    assert rows["extra openvino"] == "nncf 5; without openvino"


def test_the_extras_are_those_of_the_package() -> None:
    stated = import_toml().loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {
        extra: tuple(re.split(r"[\[>=<]", one)[0] for one in packages if not one.startswith("gfocal["))
        for extra, packages in stated.items()
        if extra not in ("test", "docs", "dev")
    }
    assert names == doctor.EXTRAS


def test_a_torch_that_cannot_be_imported_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    code, out, _ = run("doctor")
    assert code == DONE
    assert "torch              cannot be imported: ModuleNotFoundError" in out

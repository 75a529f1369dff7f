"""gfocal serve: what is refused before anything is served."""

from __future__ import annotations

import builtins
import socket
from pathlib import Path
from typing import Any

import pytest

from conftest import Run

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from served import make_model

from gfocal.models.model_file import save_model
from gfocal.serving.bounds import Bounds
from gfocal.serving.server import is_loopback


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("command") / "small.safetensors"
    save_model(make_model(), path)
    return path


def test_no_model(run: Run) -> None:
    code, _, err = run("serve", "nothing.safetensors")
    assert code == 2
    assert "nothing.safetensors" in err


def test_a_port_in_use(run: Run, model_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, _, err = run("serve", model_file, "--port", other.getsockname()[1])
    assert code == 2
    assert "in use" in err


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--max-batch", "0"),
        ("--max-wait", "-1"),
        ("--timeout", "0"),
        ("--max-batch", "9", "--max-queue", "8"),
        ("--coverage", "0.99999"),
        ("--host", "no such host.invalid"),
    ],
)
def test_options_that_cannot_be(run: Run, model_file: Path, options: tuple[str, ...]) -> None:
    code, _, err = run("serve", model_file, "--port", "0", *options)
    assert code == 2
    assert options[0] in err


@pytest.mark.parametrize("token", ["short", "with spaces inside of it", "ünicode-of-many-letters", ""])
def test_tokens_that_cannot_be(run: Run, model_file: Path, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token + "\n", encoding="utf-8")
    code, _, err = run("serve", model_file, "--token-file", tmp_path / "token")
    assert code == 2
    assert "at least 16 characters" in err


def test_a_token_file_that_cannot_be_read(run: Run, model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 20)
    for name, reason in (("nope", "no such file"), ("binary", "no text in UTF-8"), ("", "is a directory")):
        code, _, err = run("serve", model_file, "--token-file", tmp_path / name)
        assert code == 2
        assert f"--token-file {tmp_path / name}: {reason}" in " ".join(err.split())


def test_the_extra_is_named_where_it_is_missing(run: Run, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "gfocal.serving.app":
            raise ImportError("No module named 'fastapi'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, err = run("serve", model_file)
    assert code == 2
    assert "pip install 'gfocal[serve]'" in err


def test_addresses_of_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org")))


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_queue": 2}, {"max_wait": -1.0}, {"max_bodies": 5}])
def test_bounds_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Bounds(**wrong)

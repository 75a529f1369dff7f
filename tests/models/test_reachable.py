"""Weights that cannot be fetched are given up in seconds."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from gfocal.errors import WeightsError
from gfocal.models.backbone import TimmBackbone
from gfocal.models.reachable import require_answer


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_given_up(silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:\d+ cannot be reached: timed out"):
        require_answer(f"{silent}/x", "the weights", timeout=0.05)
    assert f"fetching the weights from {silent}/x" in capsys.readouterr().err


def test_a_proxy_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"could not be fetched \(huggingface.co cannot be reached.*--no-pretrained"
    ):
        TimmBackbone("resnet10t.c3_in1k")


def test_any_answer_counts() -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        require_answer(f"http://127.0.0.1:{server.server_port}/x", "the weights")
        thread.join()


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    require_answer(silent, "the weights")

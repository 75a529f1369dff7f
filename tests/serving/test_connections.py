"""A real server and real sockets: clients that are slow, vanish, or come in numbers, and how the service ends."""

from __future__ import annotations

import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from served import Slow, encode, make_image, make_model

from gfocal.models.model_file import save_model
from gfocal.serving import connections
from gfocal.serving.app import create_app
from gfocal.serving.bounds import Bounds
from gfocal.serving.server import make_server, open_socket
from gfocal.serving.service import Service, make_service

IMAGE = encode(make_image())
BOUNDARY = "b0undary"
FORM = (
    (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    + IMAGE
    + f"\r\n--{BOUNDARY}--\r\n".encode()
)
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {len(FORM)}\r\n\r\n".encode()
PATIENCE = 30.0  # seconds until a test gives up


@contextmanager
def running(model: Any, bounds: Bounds | None = None, token: str = "") -> Iterator[tuple[int, Service]]:
    """A server in a thread of this process: its port and its service."""
    bounds = bounds or Bounds()
    service = make_service(model, "small", bounds, token=token)
    server, opened = make_server(create_app(service), bounds), open_socket("127.0.0.1", 0)
    opened.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        yield opened.getsockname()[1], service
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        opened.close()
    assert not thread.is_alive()


def ask(port: int) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/detect", FORM, {"Content-Type": TYPE})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def connect(port: int, content: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    found.sendall(content)
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_hundred_slow_clients_do_not_stop_the_others() -> None:
    with running(make_model()) as (port, service):
        slow = [connect(port, text) for text in (b"", b"POST /det", HEAD, HEAD + FORM[:50]) for _ in range(25)]
        for _ in range(5):
            assert ask(port)[0] == 200
        assert service.batcher.num_inside == 0
        for client in slow:
            client.close()


def test_clients_that_vanish_leave_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    model = Slow(0.05)
    with running(model, Bounds(max_queue=200)) as (port, service):
        for _ in range(100):
            connect(port, HEAD + FORM).close()
            connect(port, HEAD + FORM[:50]).close()
        assert ask(port)[0] == 200
        wait_until(lambda: service.batcher.num_inside == 0)
        assert service.receiving.num_bytes == 0
        assert sum(shape[0] for shape in model.batches) < 100, "most are not even computed"
    gc.collect()  # at which asyncio tells of errors that nobody has looked at
    assert capfd.readouterr().err == "", "a log would grow with them"


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with running(make_model(), Bounds(body_seconds=0.3)) as (port, service):
        with connect(port, HEAD + FORM[:50]) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert service.receiving.num_bytes == 0


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("text", [b"", b"POST /detect HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch, first: bytes, text: bytes) -> None:
    monkeypatch.setattr(connections.TimedProtocol, "head_seconds", 0.3)
    with running(make_model()) as (port, _), connect(port, first) as client:
        received = b""
        while first and not received.endswith(b"}"):  # the whole answer
            received += client.recv(1000)
        client.sendall(text)
        start = time.monotonic()
        while client.recv(1000):
            pass
        seconds = time.monotonic() - start
        assert seconds < 4 or (first and not text), "uvicorn's own limit, of 5 seconds, is between two requests"


def test_a_head_of_many_bytes_is_refused() -> None:
    with running(make_model()) as (port, _):
        with connect(port, b"GET / HTTP/1.1\r\nx: " + b"x" * 100_000) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert ask(port)[0] == 200


def test_a_client_that_does_not_read_loses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
                sent.append(1)
        finally:
            sent.append(-1)

    monkeypatch.setattr(connections.SendLimit.__init__, "__defaults__", (0.3,))
    server, opened = make_server(app, Bounds()), open_socket("127.0.0.1", 0)
    opened.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    with connect(opened.getsockname()[1], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        wait_until(lambda: -1 in sent)
    server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "small.safetensors"
    save_model(make_model(), path)
    return path


@contextmanager
def process(*arguments: object, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``gfocal serve`` as it is started by hand, and its port."""
    command = [sys.executable, "-m", "gfocal", "serve", *map(str, arguments), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {})) as found:
        assert found.stderr is not None
        try:
            for line in found.stderr:
                if "serving" in line and "http://" in line:
                    yield found, int(line.split("http://", 1)[1].split()[0].rpartition(":")[2])
                    break
            else:
                raise AssertionError("it did not start")
        finally:
            found.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_when_what_was_begun_is_finished(model_file: Path, number: int) -> None:
    with process(model_file) as (served, port):
        assert ask(port)[0] == 200
        half = connect(port, HEAD + FORM[:50])
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(port)[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(answers) < 1:
            time.sleep(0.001)
        served.send_signal(number)
        time.sleep(0.2)
        half.sendall(FORM[50:])
        with half:
            assert half.recv(100).startswith(b"HTTP/1.1 "), "an answer, if only that it is stopping"
        for thread in threads:
            thread.join(PATIENCE)
        assert set(answers) <= {200, 503}
        assert served.wait(PATIENCE) == 0
        with pytest.raises(OSError):  # refused or reset
            ask(port)


def test_the_token_comes_from_the_environment(model_file: Path) -> None:
    with process(model_file, env={"GFOCAL_SERVE_TOKEN": "a-token-of-many-letters"}) as (_, port):
        assert ask(port)[0] == 401

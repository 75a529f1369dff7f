"""A web server on this machine that serves one file, well or badly; as a command: weights_server.py FILE BEHAVIOR."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOGIN = b"<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body>...</body></html>"
DRIVE = b"<html><head><title>Google Drive - Virus scan warning</title></head><body>Download anyway</body></html>"


@dataclass
class WeightsServer:
    """What is served, how, and what was asked for."""

    content: bytes
    behavior: str = "good"
    piece: int = 0  # bytes after which it breaks off or stalls; 0: half
    stall: float = 5.0  # seconds
    address: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)  # path, range

    @property
    def cut(self) -> int:
        """Bytes of one reply before something happens."""
        return self.piece or len(self.content) // 2


@contextmanager
def serve(content: bytes, behavior: str = "good", port: int = 0) -> Iterator[WeightsServer]:
    """Serve a file on a port of this machine."""
    state = WeightsServer(content, behavior)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range", "")))
            try:
                reply(self, state)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, state: WeightsServer) -> None:
    """Answer one request as the behavior says."""
    how, content = state.behavior, state.content
    if how == "redirect" and not handler.path.startswith("/elsewhere"):
        return send(handler, 302, b"", {"Location": f"/elsewhere{handler.path}"})
    if how in ("404", "403", "503"):
        return send(handler, int(how), b"no", {"Content-Type": "text/plain"})
    if how == "login":
        return send(handler, 200, LOGIN, {"Content-Type": "text/html; charset=utf-8"})
    if how == "drive":  # with the kind of the file that was asked for
        return send(handler, 200, DRIVE, {"Content-Type": "application/octet-stream"})
    if how == "empty":
        return send(handler, 200, b"", {})
    if how == "silent":
        time.sleep(state.stall)
        return None
    if how == "other":
        content = b"\xff" + content[1:]
    start = 0
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if asked and how not in ("no ranges", "ignores ranges", "break without ranges"):
        start = int(asked[1])
    headers = {"Content-Type": "application/octet-stream", "ETag": '"1"'}
    if how not in ("no ranges", "break without ranges"):
        headers["Accept-Ranges"] = "bytes"
    if how == "chunked":
        return send_chunks(handler, content)
    if how == "416" or (start and start >= len(content)):
        return send(handler, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
    if start:
        shifted = start - 1 if how == "wrong range" else start
        headers["Content-Range"] = f"bytes {shifted}-{len(content) - 1}/{len(content)}"
    body = content[start:]
    if how == "slow":
        time.sleep(state.stall)
    if how == "longer":  # announces more than it has, and closes
        return send(handler, 206 if start else 200, body, headers, len(body) + 1000)
    if how == "shorter":
        return send(handler, 206 if start else 200, body[: state.cut], headers)
    if how in ("break", "break without ranges"):
        return send(handler, 206 if start else 200, body[: state.cut], headers, len(body))
    if how == "stall":
        send(handler, 206 if start else 200, body[: state.cut], headers, len(body))
        time.sleep(state.stall)
        return None
    return send(handler, 206 if start else 200, body, headers)


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], length: int | None = None
) -> None:
    """Status, headers and body; the connection is closed where the length is a lie."""
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
    handler.close_connection = length is not None or handler.close_connection


def send_chunks(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The content without a length."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(content), 1000):
        chunk = content[start : start + 1000]
        handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    with serve(Path(sys.argv[1]).read_bytes(), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0) as running:
        print(running.address, flush=True)
        while True:
            time.sleep(60)

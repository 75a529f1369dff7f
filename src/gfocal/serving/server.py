"""A socket, signals, and the end."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from gfocal.errors import DataError
from gfocal.serving.bounds import Bounds
from gfocal.serving.connections import SendLimit, TimedProtocol

BACKLOG = 2048  # connections that wait to be taken


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that will listen; port 0 is any that is free.

    Raises:
        DataError: the address cannot be used; the message says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        raise DataError(f"--host {host} --port {port}: {error.strerror or error}; choose another port") from error
    return opened


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(opened: socket.socket) -> str:
    """``http://127.0.0.1:8000``."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Any, bounds: Bounds, access_log: bool = False) -> uvicorn.Server:
    """A server of an application; its ``run`` serves until ``should_exit`` is set.

    Args:
        app: the application.
        bounds: of the service.
        access_log: whether each request is printed.
    """
    config = uvicorn.Config(
        SendLimit(app),
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=bounds.max_connections,
        timeout_graceful_shutdown=int(bounds.body_seconds + bounds.answer_seconds) + 1,
    )
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, opened: socket.socket, started: Callable[[], None]) -> bool:
    """Serve until SIGTERM or Ctrl-C; then take no more requests, and finish those that were begun.

    Args:
        server: of ``make_server``.
        opened: a socket of ``open_socket``; it is closed at the end.
        started: is called before the first request is taken.

    Returns:
        Whether everything that was begun was finished in time; a second Ctrl-C does not wait for it.
    """
    # uvicorn raises the signal again when it is done, with these handlers in place: a graceful end is no failure.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    opened.listen(BACKLOG)  # from now on, clients wait instead of being refused
    started()
    try:
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        opened.close()
    return not server.force_exit and not server.server_state.tasks


def _ignore(number: int, frame: FrameType | None) -> None:
    """A signal that has been acted on."""

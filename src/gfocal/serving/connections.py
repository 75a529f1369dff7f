"""A client that opens a connection and does not send a request, or sends it a byte at a time, is let go.

uvicorn has a time limit between two requests of a connection, and none for the head of a request to arrive. Bodies
have their own limit (``upload.py``).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0  # for the head of a request to arrive
SEND_SECONDS = 15.0  # for a client to take a part of the answer


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for the head of a request."""

    head_seconds = HEAD_SECONDS
    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the limit holds until they are a whole head."""
        super().data_received(data)
        if self._is_busy():
            self._stop_timer()
        elif self.head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_timer()
        super().connection_lost(exc)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        self.head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _give_up(self) -> None:
        self.head_timer = None
        if not self._is_busy() and not self.transport.is_closing():
            self.transport.close()


class SendLimit:
    """An application whose clients take each part of an answer in time, or lose the connection."""

    def __init__(self, app: Any, seconds: float = SEND_SECONDS) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI has it."""

        async def send_in_time(message: Any) -> None:
            await asyncio.wait_for(send(message), self.seconds)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with suppress(asyncio.TimeoutError):  # not TimeoutError: another class until Python 3.11
            await self.app(scope, receive, send_in_time)

"""Connections of a reward server: those that send nothing whole are ended, and there are never too many.

uvicorn waits for the head of a request for ever, and takes connections until the process has no file left to open; then
nobody is answered any more, and each attempt to take one is logged.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0  # in which a request's line and headers must have arrived
RESERVE = 64  # open files beside connections: the model, libraries, what is read meanwhile
FEWEST, MANY = 8, 65_536
WAITING = 128  # connections that the system holds until they are taken
GRACE_S = 30  # for what is being answered when the server is told to stop


def most_connections() -> int:
    """How many connections the process can hold: what its limit of open files leaves."""
    if sys.platform == "win32":  # which has no such limit
        return MANY
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MANY if files == resource.RLIM_INFINITY else min(max(files - RESERVE, FEWEST), MANY)


class PatientProtocol(H11Protocol):
    """A connection over HTTP/1.1 that ends where a request's head takes longer than `head_s`, and is told 503 at once
    where there are more than `most` of them.
    """

    head_s: ClassVar[float] = HEAD_S
    most: ClassVar[int | None] = None  # None: `most_connections`

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > (most_connections() if self.most is None else self.most):
            self._end(503, "the server has too many connections; try again", "Retry-After: 1\r\n")
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._await_head()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._stop_waiting()  # for the next request uvicorn waits a little, and then closes
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        """Starts the time of a request's head, unless it runs already or a request is being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._head_timer is None and not answering:
            self._head_timer = self.loop.call_later(self.head_s, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._end(408, f"the request's headers didn't arrive within {self.head_s:g} seconds")

    def _end(self, status: int, why: str, header: str = "") -> None:
        """Answers without a request, and closes."""
        if self.transport.is_closing():
            return
        name = {408: "Request Timeout", 503: "Service Unavailable"}[status]
        body = f'{{"error": "{why}", "item": null}}'
        head = (
            f"HTTP/1.1 {status} {name}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self.transport.write(f"{head}{header}Connection: close\r\n\r\n{body}".encode())
        self.transport.close()


def make_server(app: FastAPI, log_level: str = "warning") -> uvicorn.Server:
    """The server of an app, over connections of this kind."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientProtocol,
            backlog=WAITING,
            ws="none",
            log_level=log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    )

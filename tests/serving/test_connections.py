"""Connections that send nothing whole are ended, and where there are too many, the next is told so."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from serving_samples import running, send

from mmrlhf.serving.protocol import FEWEST, RESERVE, PatientProtocol, most_connections


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that waits a quarter of a second for a request's head; /slow takes longer to answer."""
    monkeypatch.setattr(PatientProtocol, "head_s", 0.25)
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.6)
        return "done"

    @app.get("/quick")
    async def quick() -> str:
        return "done"

    with running(app) as (url, _):
        yield url


def connect(url: str, data: bytes = b"") -> socket.socket:
    where = urlsplit(url)
    opened = socket.create_connection((where.hostname or "", where.port or 0), timeout=10)
    opened.sendall(data)
    return opened


def rest(opened: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    with contextlib.closing(opened):
        while more := opened.recv(4096):
            found += more
    return found


HEAD = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("data", [b"", b"G", HEAD, HEAD + b"X-More: "])
def test_a_head_that_stays_unfinished(address: str, data: bytes) -> None:
    began = time.monotonic()
    said = rest(connect(address, data))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"the request's headers didn't arrive within 0.25 seconds" in said
    assert 0.2 < time.monotonic() - began < 5


def test_a_head_in_drops_is_not_given_more_time(address: str) -> None:
    opened = connect(address)
    began = time.monotonic()
    with contextlib.closing(opened), contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 10:
            opened.sendall(HEAD[:1])
            time.sleep(0.02)
    assert time.monotonic() - began < 5


def test_a_second_request_on_a_connection(address: str) -> None:
    opened = connect(address, HEAD + b"\r\n")
    assert opened.recv(4096).startswith(b"HTTP/1.1 200 ")
    opened.sendall(HEAD)
    assert b" 408 " in rest(opened)


def test_a_slow_answer_is_no_slow_head(address: str) -> None:
    assert send(address, "GET", "/slow").status == 200


def test_too_many_connections_are_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "most", 3)
    monkeypatch.setattr(PatientProtocol, "head_s", 60)
    idle = [connect(address) for _ in range(3)]
    began = time.monotonic()
    said = rest(connect(address))
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in said
    assert time.monotonic() - began < 5
    for opened in idle:
        opened.close()
    while send(address, "GET", "/quick").status != 200:
        time.sleep(0.01)


def test_connections_leave_files_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in ((1024, 1024 - RESERVE), (32, FEWEST), (resource.RLIM_INFINITY, 65_536)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections() == most

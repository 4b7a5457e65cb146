"""Asking a judge over HTTP: JSON out, JSON back, with a limit on time and size, retries, and an end to them.

It is the standard library's client: the releases of huggingface_hub that we work with bring different others along.
Left out on purpose: connections that are kept open (an answer is worth milliseconds to seconds of a model's time), and
redirects, which would carry the token elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from data_tools.config import Config
from data_tools.errors import RunError

AGAIN = {408, 425, 429, 500, 502, 503, 504}  # statuses that may be others the next time
HOPELESS = {401, 403, 404, 405}  # those that will be the same for every request
ITS_OWN = {413, 422}  # those that tell of the one request: a server that gives them is there
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between tries: 0.5, 1, 2 ...
MOST_BYTES = 64 * 2**20  # of an answer
PIECE = 2**16
SHOWN = 300  # characters of what a server says of an error


class NoAnswer(RunError):
    """A request got no usable answer, however often it was tried; `status` is what it was answered with, if it was."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CircuitOpen(RunError):
    """So many requests in a row got no answer that no more are made."""


class HttpSettings(Config):
    """Settings that objectives share which ask over HTTP; in front of ObjectiveBase among the bases."""

    # how it is asked decides no reward: a run that broke off may go on with others
    idle: ClassVar[frozenset[str]] = frozenset(
        {"timeout", "retries", "give_up_after", "parallel", "token_env"}
    )

    url: str = Field(description="what is asked, with http:// or https://")
    timeout: float = Field(60.0, gt=0, allow_inf_nan=False, description="seconds until a try is given up")
    retries: int = Field(
        3, ge=0, description="tries after the first one, 0.5, 1, 2 ... seconds after each other"
    )
    give_up_after: int = Field(
        5, ge=1, description="requests in a row without an answer, after which the run stops"
    )
    parallel: int = Field(8, ge=1, description="requests that are under way at a time")
    token_env: str | None = Field(
        None,
        description="the environment variable that holds the bearer token; it is in no config and no checkpoint",
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError(
                "holds a character that no address can have; write it as %XX (a host's name in punycode)"
            )
        parts = urlsplit(value)
        _ = parts.port  # a ValueError where it is none
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("needs an address such as http://localhost:8000/score")
        if parts.username or parts.password:
            raise ValueError("holds a password, which would be saved with the run; use token_env")
        return value

    def check(self) -> None:
        """Sees that the token is set; asks nobody.

        Raises:
            RunError: it isn't; the message names the objective.
        """
        self.client(getattr(self, "name", self.url))

    def client(self, objective: str) -> JsonClient:
        """A client for these settings that counts failures for an objective.

        Raises:
            RunError: the token's environment variable isn't set.
        """
        headers = {}
        if self.token_env:
            token = os.environ.get(self.token_env, "").strip()
            if not token:
                raise RunError(f"objective {objective}: the environment variable {self.token_env} isn't set")
            if not token.isascii() or not token.isprintable():
                # the token itself is told nowhere
                raise RunError(
                    f"objective {objective}: the environment variable {self.token_env} holds a character that no "
                    "header can have, such as the end of a line; is it the token alone?"
                )
            headers["Authorization"] = f"Bearer {token}"
        return JsonClient(objective, self, headers)


class JsonClient:
    """Asks one address for one objective, from any number of threads, until it has failed too often in a row."""

    def __init__(self, objective: str, settings: HttpSettings, headers: Mapping[str, str]) -> None:
        self.objective, self.settings, self.headers = objective, settings, headers
        self._failed = 0
        self._lock = threading.Lock()

    def post(self, body: Any) -> Any:
        """The JSON that a POST of `body` is answered with.

        Raises:
            NoAnswer: this request wasn't answered; the message names the objective and the address.
            CircuitOpen: it was one too many of these in a row, or none can ever be answered (a wrong token or path).
        """
        settings = self.settings
        self._check(None)
        try:
            answer = post_json(settings.url, body, settings.timeout, settings.retries, self.headers)
        except NoAnswer as error:
            with self._lock:
                if error.status in HOPELESS:
                    self._failed = settings.give_up_after
                elif error.status not in ITS_OWN:
                    self._failed += 1
            self._check(error)
            raise NoAnswer(f"objective {self.objective}: {error}", error.status) from error
        with self._lock:
            self._failed = 0
        return answer

    def _check(self, last: NoAnswer | None) -> None:
        with self._lock:
            failed = self._failed
        if failed < self.settings.give_up_after:
            return
        raise CircuitOpen(
            f"objective {self.objective}: {last or f'{self.settings.url}: gave no answer too often'}. No reward is "
            "made up in its place; start the service (or mend the settings), then --resume"
        ) from last


def post_json(
    url: str, body: Any, timeout: float = 60.0, retries: int = 3, headers: Mapping[str, str] | None = None
) -> Any:
    """The JSON that a POST of JSON is answered with.

    What may pass is tried again (no connection, a timeout, an answer that breaks off, the statuses in `AGAIN`), after
    0.5, 1, 2 ... seconds, or what the server asks for in Retry-After, up to 30 seconds.

    Raises:
        NoAnswer: still no answer of status 2xx that is JSON and at most 64 MiB; the message names the address.
    """
    data = json.dumps(body, allow_nan=False).encode()
    for tried in range(1, retries + 2):
        try:
            return _post_once(url, data, timeout, headers or {})
        except _Failure as failure:
            if not failure.again or tried > retries:
                times = f" ({tried} tries)" if tried > 1 else ""
                raise NoAnswer(f"{url}: {failure}{times}", failure.status) from failure
            time.sleep(min(max(failure.wait, FIRST_WAIT * 2 ** (tried - 1)), LONGEST_WAIT))
    raise AssertionError("unreachable")


class _Failure(Exception):
    """A try that failed: whether another may not, and after how many seconds."""

    def __init__(self, why: str, again: bool, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.status, self.wait = again, status, wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Patient(io.RawIOBase):
    """What a socket receives until a deadline. The socket's own timeout is for each piece, so that headers or a body
    that drip would never end."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        # urllib lets go of the socket and keeps what was made of it
        self._socket, self._raw, self._deadline = sock, sock.makefile("rb", buffering=0), deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read, from its first line on, until a deadline."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Patient(sock, deadline))


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connections whose answers must be there by a deadline."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._response = functools.partial(_Response, deadline=deadline)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._opened(http.client.HTTPConnection, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._opened(http.client.HTTPSConnection, req)

    def _opened(self, kind: Callable[..., Any], req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(*args: Any, **kwargs: Any) -> Any:
            made = kind(*args, **kwargs)
            made.response_class = self._response
            made.send = functools.partial(_send, made.send)
            return made

        return self.do_open(connection, req)


def _send(send: Callable[[Any], None], data: Any) -> None:
    """Sends, as far as the server takes it: one that refuses a request by its size answers before it has all of it, and
    ends the connection. Where it gave no answer, reading that fails."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        send(data)


def _opener(url: str, deadline: float) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_NoRedirects(), _Handler(deadline)]
    if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy would ask its own localhost
    return urllib.request.build_opener(*handlers)


def _post_once(url: str, data: bytes, timeout: float, headers: Mapping[str, str]) -> Any:
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", "Accept": "application/json", **headers}
    )
    try:
        with _opener(url, time.monotonic() + timeout).open(request, timeout=timeout) as response:
            return _json(_read(response))
    except urllib.error.HTTPError as error:
        with error:
            raise _Failure(_said(error), error.code in AGAIN, error.code, _wait(error)) from error
    except TimeoutError as error:
        raise _Failure(f"no answer within {timeout:g} seconds", again=True) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"no connection within {timeout:g} seconds"
        raise _Failure(f"can't be asked ({reason or type(error).__name__})", again=True) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole answer."""
    pieces, size = [], 0
    while piece := response.read1(PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise _Failure(f"the answer is longer than {MOST_BYTES:,} bytes", again=False)
    promised = response.headers.get("Content-Length")
    if promised is not None and promised.isdecimal() and size != int(promised):
        raise _Failure(f"the answer broke off after {size:,} of {int(promised):,} bytes", again=True)
    return b"".join(pieces)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Failure(f"the answer isn't JSON: {_excerpt(data)}", again=True) from error


def _said(error: urllib.error.HTTPError) -> str:
    """The status and what the server says of it."""
    try:
        body = error.read(4 * SHOWN)
    except (OSError, http.client.HTTPException):
        body = b""
    if 300 <= error.code < 400:
        return f"status {error.code}: redirects aren't followed; set the url that it leads to"
    return f"status {error.code} {error.reason}".strip() + (f": {_excerpt(body)}" if body.strip() else "")


def _excerpt(data: bytes) -> str:
    text = " ".join(data[: 4 * SHOWN].decode(errors="replace").split())
    return text[:SHOWN] + ("..." if len(text) > SHOWN else "")


def _wait(error: urllib.error.HTTPError) -> float:
    """The seconds in Retry-After; 0 without one, or where it is a date."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0

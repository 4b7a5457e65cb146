"""A small HTTP server that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes, dict[str, str]]


class Asked:
    """What a server was asked so far."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, json.dumps(value).encode(), headers


@contextlib.contextmanager
def serving(answer: Callable[[int, Any], Answer | None]) -> Iterator[Asked]:
    """`answer` is given the number of the request and its body; None: nothing is said until the test is over."""
    asked, lock, over = Asked(), threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(asked.bodies)
                asked.bodies.append(body)
                asked.headers.append(dict(self.headers))
            told = answer(number, body)
            if told is None:
                over.wait()
                return
            status, data, headers = told
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that gave up
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    asked.url = f"http://127.0.0.1:{server.server_port}/judge"
    try:
        yield asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()

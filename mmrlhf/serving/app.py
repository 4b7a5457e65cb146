"""The addresses of a reward server. What the requests hold is told in `wire.py` and in docs/serving.md.

Left out on purpose: FastAPI's own reading of bodies, which holds a whole body before it looks at its size, and its
pages of documentation, which load scripts from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmrlhf.rewards.model import RewardModel
from mmrlhf.serving.batching import Batcher, Full
from mmrlhf.serving.callers import check_caller
from mmrlhf.serving.intake import Intake
from mmrlhf.serving.metrics import Metrics
from mmrlhf.serving.parts import read_parts
from mmrlhf.serving.scoring import Scorer, Verdict
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Item, Refused, read_items
from mmrlhf.types import Row

SCORE = "/v1/score"
JSON, SEVERAL = "application/json", "multipart/form-data"  # content types that are read
MAIN_PART = "request"  # the part, of a request of several, that holds the JSON
RETRY_AFTER = "1"  # seconds; a batch takes less


def make_app(
    reward_model: RewardModel,
    name: str,
    settings: ServerSettings | None = None,
    token: str | None = None,
    bound: str = "127.0.0.1",
) -> FastAPI:
    """The server of a reward model; `name` is what it is called in answers. With a `token`, everything but /healthz and
    /readyz needs it (`Authorization: Bearer TOKEN`); without, only requests to this machine or to the address `bound`
    are answered, and none of web pages (`callers.py`)."""
    settings = settings or ServerSettings()
    service = Service(Scorer(reward_model, settings), name, settings)

    async def check(request: Request) -> None:
        if token is None:
            check_caller(request.headers, bound)

    app = FastAPI(
        title="mmrlhf reward server",
        dependencies=[Depends(check)],
        lifespan=lambda _: service.running(),
        openapi_url=None,
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _bug,
        },
    )
    app.add_middleware(_Watch, metrics=service.metrics)
    app.state.service = service

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        if not service.batcher.alive:
            raise Refused(503, "no answers are being judged")
        return {"status": "ready"}

    app.include_router(_router(service, token))
    return app


def _router(service: Service, token: str | None) -> APIRouter:
    """The addresses that need the token, where there is one."""

    async def check_token(request: Request) -> None:
        told = request.headers.get("authorization", "").encode()
        if token is not None and not hmac.compare_digest(told, f"Bearer {token}".encode()):
            raise Refused(401, "the token is missing or wrong; send Authorization: Bearer TOKEN")

    router = APIRouter(dependencies=[Depends(check_token)])

    @router.post(SCORE)
    async def score(request: Request) -> JSONResponse:
        return JSONResponse(await service.score(request))

    @router.get("/v1/model")
    async def model() -> dict[str, Any]:
        return service.about()

    @router.get("/metrics")
    async def metrics() -> PlainTextResponse:
        text = service.metrics.text(service.batcher.taken)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return router


class Service:
    """What the addresses share: the model, the batches, the counts."""

    def __init__(self, scorer: Scorer, name: str, settings: ServerSettings) -> None:
        self.scorer, self.name, self.settings = scorer, name, settings
        self.intake, self.metrics = Intake(settings), Metrics()
        # one thread, since the tokenizers of transformers aren't made for several
        self._reader = ThreadPoolExecutor(1, "read")
        self.batcher: Batcher[Row, Verdict | Refused] = Batcher(
            scorer.judge,
            settings.max_batch,
            settings.max_wait_ms / 1000,
            settings.max_queue,
            self.metrics.batches.add,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Judges while it lasts; what has come in by its end is still answered."""
        self.batcher.start()
        yield
        await self.batcher.close()
        self._reader.shutdown()

    def about(self) -> dict[str, Any]:
        """The model, by its name, and what the server takes in."""
        return {
            "model": self.name,
            "fingerprint": self.scorer.fingerprint,
            "objectives": self.scorer.objectives,
            "card": self.scorer.card,
            "limits": self.settings.model_dump(),
        }

    async def score(self, request: Request) -> dict[str, Any]:
        """Scores of every item of a request.

        Raises:
            Refused: the request, or an item of it, can't be answered.
        """
        loop = asyncio.get_running_loop()
        try:
            with self.batcher.room(1):  # a full server says so before it reads the request
                pass
            kind = _content_type(request)
            async with self.intake.arrived(request) as body:
                items = await loop.run_in_executor(self._reader, self._items, body, kind)
                with self.batcher.room(len(items)):
                    rows = await loop.run_in_executor(self._reader, self.scorer.read, items)
                    verdicts = await self.batcher.verdicts(rows)
        except Full as error:
            raise Refused(503, str(error)) from error
        return {
            "model": self.name,
            "fingerprint": self.scorer.fingerprint,
            "objectives": self.scorer.objectives,
            "results": [asdict(verdict) for verdict in _all_told(verdicts)],
        }

    def _items(self, body: bytearray, kind: str) -> list[Item]:
        if not kind.lower().startswith(SEVERAL):
            return read_items(body, None, self.settings)
        parts = read_parts(body, kind, 1 + self.settings.max_queue * self.settings.max_images)
        if MAIN_PART not in parts:
            raise Refused(422, f"no part of the request is named {MAIN_PART!r}; it holds the JSON")
        return read_items(parts.pop(MAIN_PART), parts, self.settings)


def _content_type(request: Request) -> str:
    """The content type, where it is one that is read; a web page may send others to any address without being asked."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() not in (JSON, SEVERAL):
        raise Refused(415, f"the content type must be {JSON} or {SEVERAL}")
    return kind.strip()


def _all_told(verdicts: Sequence[Verdict | Refused | Exception]) -> list[Verdict]:
    """The verdicts; raises Refused with the number of the first item that has none."""
    told = []
    for number, verdict in enumerate(verdicts):
        if isinstance(verdict, Refused):
            raise Refused(verdict.status, f"items.{number}: {verdict}", number)
        if isinstance(verdict, Exception):
            # the message may tell of the server's inside; its log has it
            raise Refused(500, f"items.{number}: the model failed on it ({type(verdict).__name__})", number)
        told.append(verdict)
    return told


class _Watch:
    """Counts requests for scores by status, and takes their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != SCORE:
            await self.app(scope, receive, send)
            return
        status, began = 500, time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.requests[status] += 1
            self.metrics.seconds.add(time.monotonic() - began)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    headers = {503: {"Retry-After": RETRY_AFTER}, 401: {"WWW-Authenticate": "Bearer"}}.get(error.status)
    return JSONResponse(error.body, error.status, headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """No such address, another method, or parts of a request that can't be read."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail, "item": None}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> JSONResponse:
    """The client went away while it sent its request; nobody reads this."""
    return JSONResponse({"error": "the request broke off", "item": None}, 400)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours; the server's log has its traceback."""
    return JSONResponse({"error": "a fault in the server; its log tells more", "item": None}, 500)

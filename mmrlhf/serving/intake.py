"""Taking in the bytes of a request: what is too large is refused while it arrives, before it is held in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message

from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Refused

AT_A_TIME = 8  # largest requests that may be held in memory together
MAIN_PART = "request"  # the part, of a request of several, that holds the JSON


@dataclass(frozen=True)
class Arrived:
    """A request's JSON and, of one with several parts, the bytes of the others by name."""

    body: bytes
    files: dict[str, bytes] | None


class Intake:
    """Reads requests up to a size, and holds only so many bytes of all of them together."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.held = 0  # bytes of all requests that are being answered

    @contextlib.asynccontextmanager
    async def arrived(self, request: Request) -> AsyncIterator[Arrived]:
        """The request, as JSON or as multipart/form-data with the JSON in the part "request"; it counts as held until
        the context ends.

        Raises:
            Refused: of another content type (415), too large (413), too slow (408), parts that can't be read (400, 422),
                or the server holds too much already (503).
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # a web page may send other types to any address without being asked
        if kind not in ("application/json", "multipart/form-data"):
            raise Refused(415, "the content type must be application/json or multipart/form-data")
        pieces: list[bytes] = []
        try:
            await self._receive(request, pieces)
            body = b"".join(pieces)
            yield Arrived(body, None) if kind == "application/json" else await _parts(request, body)
        finally:
            self.held -= sum(map(len, pieces))

    async def _receive(self, request: Request, pieces: list[bytes]) -> None:
        """Adds the request's body to `pieces`, and their bytes to those that are held."""
        most, seconds = self.settings.max_request_bytes, self.settings.body_timeout
        too_large = f"the request is larger than {self.settings.max_request_mb:g} MB"
        told, size = request.headers.get("content-length", "0"), 0
        if not told.isdecimal() or len(told) > len(str(most)) or int(told) > most:
            raise Refused(413, too_large)
        try:
            async with asyncio.timeout(seconds):
                async for piece in request.stream():
                    size += len(piece)
                    if size > most:
                        raise Refused(413, too_large)
                    if self.held + len(piece) > AT_A_TIME * most:
                        raise Refused(503, "the server holds too many large requests; try again")
                    pieces.append(piece)
                    self.held += len(piece)
        except TimeoutError:
            raise Refused(408, f"the request didn't arrive within {seconds:g} seconds") from None


async def _parts(request: Request, body: bytes) -> Arrived:
    """A body of several parts, taken apart."""

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    parts: dict[str, bytes] = {}
    try:
        async with Request(request.scope, replay).form(max_part_size=len(body)) as form:
            for name, part in form.multi_items():
                if name in parts:
                    raise Refused(422, f"two parts of the request are named {name[:80]!r}")
                parts[name] = await part.read() if isinstance(part, UploadFile) else part.encode()
    except FormParserError as error:
        raise Refused(400, f"the parts of the request can't be told apart: {error}") from error
    if MAIN_PART not in parts:
        raise Refused(422, f"no part of the request is named {MAIN_PART!r}; it holds the JSON")
    return Arrived(parts.pop(MAIN_PART), parts)

"""Taking in the bytes of a request: what is too large is refused while it arrives, before it is held in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Refused

AT_A_TIME = 8  # largest requests that may be held in memory together


class Intake:
    """Reads requests up to a size, and holds only so many bytes of all of them together."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.held = 0  # bytes of all requests that are being answered

    @contextlib.asynccontextmanager
    async def arrived(self, request: Request) -> AsyncIterator[bytearray]:
        """The request's body, which counts as held until the context ends.

        Raises:
            Refused: too large (413), too slow (408), or the server holds too much already (503).
        """
        body = bytearray()
        try:
            await self._receive(request, body)
            yield body
        finally:
            self.held -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Fills `body`, and counts its bytes among those that are held."""
        most, seconds = self.settings.max_request_bytes, self.settings.body_timeout
        too_large = f"the request is larger than {self.settings.max_request_mb:g} MB"
        told = request.headers.get("content-length", "0")
        if not told.isdecimal() or len(told) > len(str(most)) or int(told) > most:
            raise Refused(413, too_large)
        try:
            async with asyncio.timeout(seconds):
                async for piece in request.stream():
                    if len(body) + len(piece) > most:
                        raise Refused(413, too_large)
                    if self.held + len(piece) > AT_A_TIME * most:
                        raise Refused(503, "the server holds too many large requests; try again")
                    body += piece
                    self.held += len(piece)
        except TimeoutError:
            raise Refused(408, f"the request didn't arrive within {seconds:g} seconds") from None

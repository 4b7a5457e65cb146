"""Dynamic batching: answers of requests that come at the same time are judged together, in one thread.

The first answer to wait sets the time: after `max_wait_s`, or once `max_batch` answers are there, all that wait are
judged. While a batch is judged the next ones gather, so under load nothing waits for the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

RowT = TypeVar("RowT")
VerdictT = TypeVar("VerdictT")

log = logging.getLogger("mmrlhf.serving")


class Full(Exception):
    """There are as many answers in the server as it takes."""


@dataclass(frozen=True)
class _Waiting(Generic[RowT, VerdictT]):
    row: RowT
    since: float  # seconds on the loop's clock
    verdict: asyncio.Future[VerdictT | Exception]

    def settle(self, verdict: VerdictT | Exception) -> None:
        """Gives the verdict to whoever waits for it, if anybody still does and has none."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


class Batcher(Generic[RowT, VerdictT]):
    """Gathers rows of requests into batches for `judge`, which gives a verdict a row and is called in one thread."""

    def __init__(
        self,
        judge: Callable[[Sequence[RowT]], Sequence[VerdictT]],
        max_batch: int,
        max_wait_s: float,
        max_queue: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._judge, self._on_batch = judge, on_batch
        self._max_batch, self._max_wait_s, self._max_queue = max_batch, max_wait_s, max_queue
        self._waiting: deque[_Waiting[RowT, VerdictT]] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "judge")
        self._task: asyncio.Task[None] | None = None
        self.taken = 0  # answers in the server, from their admission until their request is answered

    @property
    def alive(self) -> bool:
        """Whether rows are being judged; False before `start` and after `close`."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begins to judge; to be called in the loop that serves."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Judges what still waits, and ends."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    @contextlib.contextmanager
    def room(self, count: int) -> Iterator[None]:
        """Keeps room for so many answers while it lasts.

        Raises:
            Full: there is none.
        """
        if self.taken + count > self._max_queue:
            raise Full(f"{self.taken} answers are being judged; the server takes at most {self._max_queue}")
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count

    async def verdicts(self, rows: Sequence[RowT]) -> list[VerdictT | Exception]:
        """What `judge` says of each row, in order; its error for a row on which it failed.

        Raises:
            Full: nothing is judged any more.
        """
        if self._closing:
            raise Full("no answers are being judged any more")
        loop = asyncio.get_running_loop()
        mine = [_Waiting[RowT, VerdictT](row, loop.time(), loop.create_future()) for row in rows]
        self._waiting += mine
        self._changed.set()
        return [await waiting.verdict for waiting in mine]

    async def _run(self) -> None:
        batch: list[_Waiting[RowT, VerdictT]] = []
        try:
            while batch := await self._next():
                self._on_batch(len(batch))
                for waiting, verdict in zip(batch, await self._verdicts_of(batch), strict=True):
                    waiting.settle(verdict)
        finally:
            # at a close nothing waits; where this ends in any other way nobody else would answer
            self._closing = True
            for waiting in (*batch, *self._waiting):
                waiting.settle(RuntimeError("no answers are being judged any more"))
            self._waiting.clear()

    async def _next(self) -> list[_Waiting[RowT, VerdictT]]:
        """The next batch; empty once the server closes and nothing waits."""
        while not self._waiting and not self._closing:
            await self._change()
        loop = asyncio.get_running_loop()
        while 0 < len(self._waiting) < self._max_batch and not self._closing:
            left = self._waiting[0].since + self._max_wait_s - loop.time()
            if left <= 0:
                break
            await self._change(left)
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]

    async def _change(self, timeout: float | None = None) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)

    async def _verdicts_of(self, batch: Sequence[_Waiting[RowT, VerdictT]]) -> list[VerdictT | Exception]:
        """Of a batch at once; where that fails, of its rows one by one, so that one row's fault is only its own."""
        rows = [waiting.row for waiting in batch]
        found = await self._in_thread(rows)
        if not isinstance(found, Exception) and len(found) != len(rows):
            found = RuntimeError(f"{len(found)} verdicts on {len(rows)} answers")
        if not isinstance(found, Exception):
            return list(found)
        if len(rows) == 1:
            log.error("an answer can't be judged", exc_info=found)
            return [found]
        log.warning("a batch of %d answers can't be judged (%s); trying one by one", len(rows), found)
        verdicts: list[VerdictT | Exception] = []
        for waiting in batch:
            verdicts += await self._verdicts_of([waiting])
        return verdicts

    async def _in_thread(self, rows: Sequence[RowT]) -> Sequence[VerdictT] | Exception:
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._judge, rows)
        await asyncio.wait([call])
        error = call.exception()
        if error is None:
            return call.result()
        if not isinstance(error, Exception):
            raise error
        return error

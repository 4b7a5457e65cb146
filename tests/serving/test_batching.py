"""What is judged together, in whose order, and what happens to it at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from mmrlhf.serving.batching import Batcher, Full
from mmrlhf.serving.metrics import Histogram


class Squares:
    """Judges numbers, by their squares; remembers the batches, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.let = threading.Event(), threading.Event()
        self.let.set()

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.batches.append(list(rows))
        self.begun.set()
        self.let.wait()
        if 13 in rows:
            raise ValueError("13")
        return [row**2 for row in rows]


def batcher(
    judge: Squares, max_batch: int = 4, max_wait_s: float = 0.0, max_queue: int = 100
) -> Batcher[int, int]:
    return Batcher(judge, max_batch, max_wait_s, max_queue)


async def until_waiting(made: Batcher[int, int], count: int) -> None:
    while len(made._waiting) < count:
        await asyncio.sleep(0)


def test_what_comes_while_a_batch_is_judged_is_judged_together() -> None:
    async def run() -> list[list[int | Exception]]:
        judge.let.clear()
        made = batcher(judge)
        made.start()
        first = asyncio.create_task(made.verdicts([1]))
        await asyncio.to_thread(judge.begun.wait)
        others = [asyncio.create_task(made.verdicts(rows)) for rows in ([2, 3], [4], [5, 6])]
        await until_waiting(made, 5)
        judge.let.set()
        found = [await task for task in (first, *others)]
        await made.close()
        return found

    judge = Squares()
    assert asyncio.run(run()) == [[1], [4, 9], [16], [25, 36]]
    assert judge.batches == [[1], [2, 3, 4, 5], [6]]


def test_a_full_batch_does_not_wait_and_a_lone_answer_waits_for_its_time_only() -> None:
    async def run() -> None:
        made = batcher(judge, max_batch=2, max_wait_s=3600.0)
        made.start()
        assert await asyncio.gather(made.verdicts([1]), made.verdicts([2])) == [[1], [4]]
        await made.close()
        short = batcher(judge, max_batch=2, max_wait_s=0.02)
        short.start()
        assert await short.verdicts([3]) == [9]
        await short.close()

    judge = Squares()
    asyncio.run(run())
    assert judge.batches == [[1, 2], [3]]


def test_one_bad_row_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[list[int | Exception]]:
        made = batcher(judge, max_wait_s=3600.0)
        made.start()
        found = await asyncio.gather(made.verdicts([1, 13]), made.verdicts([2, 3]))
        await made.close()
        return found

    judge = Squares()
    (one, error), others = asyncio.run(run())
    assert (one, others) == (1, [4, 9])
    assert isinstance(error, ValueError)
    assert judge.batches == [[1, 13, 2, 3], [1], [13], [2], [3]]
    assert "trying one by one" in caplog.text


def test_a_request_that_is_gone_spoils_nothing() -> None:
    async def run() -> list[int | Exception]:
        judge.let.clear()
        made = batcher(judge)
        made.start()
        first = asyncio.create_task(made.verdicts([1]))
        await asyncio.to_thread(judge.begun.wait)
        gone, kept = asyncio.create_task(made.verdicts([2, 3])), asyncio.create_task(made.verdicts([4]))
        await until_waiting(made, 3)
        gone.cancel()
        judge.let.set()
        await first
        found = await kept
        await made.close()
        return found

    judge = Squares()
    assert asyncio.run(run()) == [16]


def test_room_is_kept_and_given_back() -> None:
    async def run() -> None:
        made = batcher(Squares(), max_queue=3)
        with made.room(2):
            with (
                pytest.raises(Full, match="2 answers are being judged; the server takes at most 3"),
                made.room(2),
            ):
                pass
            with made.room(1):
                assert made.taken == 3
            assert made.taken == 2
        with pytest.raises(ZeroDivisionError), made.room(3):
            raise ZeroDivisionError
        assert made.taken == 0

    asyncio.run(run())


def test_at_the_end_what_waits_is_judged() -> None:
    async def run() -> list[int | Exception]:
        made = batcher(judge, max_wait_s=3600.0)
        assert not made.alive
        made.start()
        waits = asyncio.create_task(made.verdicts([5]))
        await until_waiting(made, 1)
        assert made.alive
        await made.close()
        assert not made.alive
        return await waits

    judge = Squares()
    assert asyncio.run(run()) == [25]


def test_a_judge_that_gives_another_number_of_verdicts(caplog: pytest.LogCaptureFixture) -> None:
    """The batch is judged one by one; what waits then is still judged."""

    def judge(rows: Sequence[int]) -> list[int]:
        return [row**2 for row in rows][: 1 if 13 in rows else None] if rows != [13] else []

    async def run() -> list[list[int | Exception]]:
        made = Batcher[int, int](judge, 4, 0.0, 100)
        made.start()
        found = await asyncio.gather(made.verdicts([1, 13]), made.verdicts([2]))
        assert made.alive
        await made.close()
        return found

    (one, error), other = asyncio.run(asyncio.wait_for(run(), 30))
    assert (one, other) == (1, [4])
    assert str(error) == "0 verdicts on 1 answers"


def test_where_batching_ends_nobody_waits() -> None:
    """A fault of ours in the task itself: those that are judged, those that wait and those that come get no verdict."""

    def broken(size: int) -> None:
        raise ZeroDivisionError

    async def run() -> list[int | Exception]:
        made = Batcher[int, int](Squares(), 1, 0.0, 100, broken)
        made.start()
        found = await made.verdicts([1, 2])
        with pytest.raises(Full, match="no answers are being judged any more"):
            await made.verdicts([3])
        assert not made.alive
        with pytest.raises(ZeroDivisionError):
            await made.close()
        return found

    found = asyncio.run(asyncio.wait_for(run(), 30))
    assert [str(error) for error in found] == ["no answers are being judged any more"] * 2


def test_a_histogram() -> None:
    """A value that is a bound counts in its bucket; buckets add up from below."""
    made = Histogram("x", "About x.", (0.5, 2))
    for value in (0.25, 0.5, 2, 7):
        made.add(value)
    assert made.lines() == [
        "# HELP x About x.",
        "# TYPE x histogram",
        'x_bucket{le="0.5"} 2',
        'x_bucket{le="2"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 9.75",
        "x_count 4",
    ]

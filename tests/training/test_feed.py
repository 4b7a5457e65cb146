"""How many steps an epoch takes, and what is told of records that are left out or come more than once."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_tools.balance.mixture import Label
from data_tools.errors import PromptRefused, UserError
from data_tools.images import ImageError
from mmrlhf.models.batch import PromptTooLong
from mmrlhf.training.feed import Feed, Refusals, tell_repeats
from mmrlhf.training.units import UnitFeed


def alone() -> Any:
    return SimpleNamespace(process_index=0, num_processes=1, is_main_process=True)


def feed(count: int, repeat: float = 1.0) -> Feed:
    return Feed(cast(Any, list(range(count))), [Label("s", "text", repeat)] * count, seed=0)


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "steps"),
    [
        (10, 7, 1.0, 2),
        (10, 5, 1.0, 2),
        (10, 10, 1.0, 1),
        (10, 7, 2.0, 3),
        (3, 32, 1.0, 1),
        (10, 7, 0.5, 1),
        # 1.1 times 10 is 11.000000000000002 in binary
        (10, 11, 1.1, 1),
        (30, 9, 0.3, 1),
        (100, 7, 1e-3, 1),
    ],
)
def test_steps_are_rounded_up(count: int, batch: int, epochs: float, steps: int) -> None:
    assert feed(count).steps(epochs, batch) == steps


@pytest.mark.parametrize(("count", "batch"), [(10, 7), (33, 8), (5, 4), (64, 32)])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_an_epoch_shows_each_record_once_or_more(count: int, batch: int, epochs: int) -> None:
    made = feed(count)
    shown = [
        record for step in range(made.steps(epochs, batch)) for record in made.batch(step, batch, alone())
    ]
    times = [shown.count(cast(Any, record)) for record in range(count)]
    assert min(times) == epochs
    assert len(shown) - epochs * count < batch


@pytest.mark.parametrize("singles", [1, 3, 6, 11])
@pytest.mark.parametrize("seed", range(6))
def test_so_does_one_of_flip_pairs_and_others(singles: int, seed: int) -> None:
    """A slot of two others that lies across an epoch's end counts as of the epoch."""
    count = 4 + singles
    flips = ["a", "a", "b", "b", *[None] * singles]
    made = UnitFeed(cast(Any, list(range(count))), [Label("s", "text")] * count, seed, flips)
    shown = [record for step in range(made.steps(1, 4)) for record in made.batch(step, 4, alone())]
    assert {*shown} == {*range(count)}
    assert len(shown) < count + 2 * 4


def test_batches_larger_than_an_epoch_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    tell_repeats("sft", feed(10), 10, alone())
    assert capsys.readouterr().err == ""
    tell_repeats("sft", feed(10), 11, alone())
    assert "sft: each batch of 11 shows the 10 records of an epoch more than once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            PromptTooLong("too long"),
            r"Raise max_prompt_tokens \(up to what the model reads\), or set model.max_pixels",
        ),
        (PromptRefused("no user turn"), "Mend the data; max_refused"),
        (ImageError("damaged"), "Mend the data; max_refused"),
    ],
)
def test_the_way_out_is_that_of_the_reason(error: Exception, remedy: str) -> None:
    refusals = Refusals(0.0)

    def refuse(record: int) -> int:
        raise error

    assert refusals.keep([1], refuse) == []
    with pytest.raises(UserError, match=f"the last: {error}. {remedy}"):
        refusals.check(alone())


def test_answers_without_a_reward_have_another_way_out_than_prompts() -> None:
    refusals = Refusals(0.0, "answer", remedy="look at the judge")
    refusals.refuse("its answer got the rewards nan for safety")
    with pytest.raises(UserError, match=r"nan for safety\. Look at the judge; max_refused"):
        refusals.check(alone())

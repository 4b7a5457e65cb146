"""When a run is told to be going wrong."""

import json

import pytest

from mmrlhf.config import AlarmConfig
from mmrlhf.training.alarms import AlarmRaised, Alarms

FINE = {"kl": 1.0, "entropy": 1.0, "length": 10.0, "score": 0.0}


def test_nothing_is_said_of_a_run_that_is_well() -> None:
    alarms = Alarms(AlarmConfig(kl=5.0, entropy=0.1), ["truth"])
    assert [alarms.watch(FINE) for _ in range(10)] == [[]] * 10


@pytest.mark.parametrize(
    ("settings", "metrics", "message"),
    [
        ({"kl": 5.0}, {"kl": 5.1}, "5.10 nats an answer, is above 5"),
        ({"entropy": 0.1}, {"entropy": 0.05}, "0.050 nats a token, is below 0.1"),
        ({}, {"length": 15.1}, "15.1 tokens where they had 10.0"),
        ({}, {"length": 4.9}, "4.9 tokens where they had 10.0"),
    ],
)
def test_bounds(settings: dict[str, float], metrics: dict[str, float], message: str) -> None:
    alarms = Alarms(AlarmConfig(**settings), ["truth"])
    for _ in range(3):
        assert alarms.watch(FINE) == []
    (said,) = alarms.watch(FINE | metrics)
    assert message in said


def test_a_score_that_rises_while_the_gap_closes() -> None:
    alarms = Alarms(AlarmConfig(), ["truth", "help"])
    assert alarms.watch(FINE | {"swap_gap/truth": 2.0, "swap_gap/help": 0.0}) == []
    assert alarms.watch(FINE) == []  # not measured at every step
    assert alarms.watch(FINE | {"score": 1.0, "swap_gap/truth": 1.2, "swap_gap/help": 0.0}) == []
    assert alarms.watch(FINE | {"score": -1.0, "swap_gap/truth": 0.1, "swap_gap/help": 0.0}) == []
    (said,) = alarms.watch(FINE | {"score": 1.0, "swap_gap/truth": 0.8, "swap_gap/help": 0.0})
    assert "the swap gap fell from 1.00 to 0.40" in said


def test_a_gap_that_was_never_there_does_not_fall() -> None:
    """A policy that doesn't look at first has a gap of 0 or, by chance, below it."""
    for first in (-0.2, 0.0):
        alarms = Alarms(AlarmConfig(action="stop"), ["truth"])
        alarms.watch(FINE | {"swap_gap/truth": first})
        assert alarms.watch(FINE | {"score": 1.0, "swap_gap/truth": first}) == []
        assert alarms.watch(FINE | {"score": 1.0, "swap_gap/truth": -0.5}) == []
        # one that has learnt to look can lose it
        assert alarms.watch(FINE | {"score": 1.0, "swap_gap/truth": 2.0}) == []
        with pytest.raises(AlarmRaised, match=r"the swap gap fell from 2\.00 to 0\.50"):
            alarms.watch(FINE | {"score": 1.5, "swap_gap/truth": 0.5})


def test_slow_halves_the_rate_and_stop_stops() -> None:
    slow = Alarms(AlarmConfig(kl=0.5, action="slow"), [])
    assert "at 0.5 of its schedule" in slow.watch(FINE)[1]
    for _ in range(19):
        assert len(slow.watch(FINE)) == 1  # the alarm holds on: the rate stays where it is
    assert slow.lr_scale == 0.5
    assert "at 0.25 of its schedule" in slow.watch(FINE)[1]
    for _ in range(200):
        slow.watch(FINE)
    assert slow.lr_scale == 1 / 64

    again = Alarms(AlarmConfig(kl=0.5, action="slow"), [])
    for kl, scale in ((1.0, 0.5), (1.0, 0.5), (0.1, 0.5), (1.0, 0.25)):  # a second alarm after a step without
        again.watch(FINE | {"kl": kl})
        assert again.lr_scale == scale

    with pytest.raises(AlarmRaised, match=r"is above 0\.5"):
        Alarms(AlarmConfig(kl=0.5, action="stop"), []).watch(FINE)


def test_the_state_goes_through_json() -> None:
    alarms = Alarms(AlarmConfig(kl=0.5, action="slow"), ["truth"])
    alarms.watch(FINE | {"swap_gap/truth": 2.0})
    again = Alarms(AlarmConfig(kl=0.5, action="slow"), ["truth"])
    again.load_state_dict(json.loads(json.dumps(alarms.state_dict())))
    metrics = FINE | {"score": 1.0, "swap_gap/truth": 0.1}
    assert again.watch(metrics) == alarms.watch(metrics)
    assert again.state_dict() == alarms.state_dict()

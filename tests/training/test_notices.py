"""What is told of a run's answers, and how often."""

from mmrlhf.training.notices import Notices


def notices() -> Notices:
    return Notices(["truth", "points"], ["points"], 5.0)


SEEN = {"reward/truth/text": 0.0, "reward/points/image-text": 1.0}


def test_answers_that_nothing_judged_are_told_of_once() -> None:
    told = notices()
    assert told.watch(SEEN | {"unjudged": 0.0}) == []
    (said,) = told.watch(SEEN | {"unjudged": 0.25})
    assert said.startswith("25% of the answers were judged by no objective")
    assert told.watch(SEEN | {"unjudged": 0.5}) == []
    (said,) = told.watch({"unjudged": 1.0})
    assert said.startswith("no objective that counts judged any answer")


def test_an_objective_that_judges_nothing_in_the_first_step_is_named() -> None:
    """The first that was trained on; later a step may happen to have no such prompt."""
    told = notices()
    told.watch({"unjudged": 1.0})
    assert told.watch({"reward/points/text": 1.0, "unjudged": 0.0}) == [
        "objective truth judged no answer of this step"
    ]
    assert told.watch({"reward/truth/text": 1.0}) == []


def test_what_helps_against_the_bound_depends_on_the_judge() -> None:
    told = notices()
    assert told.watch(SEEN | {"clipped/truth": 0.5, "clipped/points": 0.4}) == []
    head, other = told.watch(SEEN | {"clipped/truth": 0.6, "clipped/points": 0.9})
    assert head.endswith("raise ppo.score_clip, which is 5")
    assert "60% of the rewards of truth" in head
    assert "set its std (and mean)" in other
    assert told.watch(SEEN | {"clipped/truth": 1.0}) == []

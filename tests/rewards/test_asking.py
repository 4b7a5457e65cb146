"""Weights that are told in prompts: drawn, rounded, written, and noted beside a policy."""

from pathlib import Path

import pytest

from data_tools.config import parse_config
from data_tools.errors import PromptRefused, UserError
from data_tools.schema import ImageRef, Message, Part, PreferenceRecord, assistant, user
from mmrlhf.config import RunConfig
from mmrlhf.rewards.scalarizers import PreferenceConditioned
from mmrlhf.rewards.scalarizers.asking import in_tenths, read_asks, save_asks, wish, with_weights
from mmrlhf.rewards.scalarizers.preference_conditioned import draw


def record(*prompt: Message, images: int = 0) -> PreferenceRecord:
    refs = tuple(ImageRef(path=f"{i}.png") for i in range(images))
    return PreferenceRecord(id="r", source="s", prompt=prompt, images=refs)


def test_tenths_sum_to_one() -> None:
    assert in_tenths([1, 1, 1]) == [0.4, 0.3, 0.3]
    assert in_tenths([0.55, 0.45]) == [0.6, 0.4]
    assert in_tenths([2.0, 0.0, 1.0]) == [0.7, 0.0, 0.3]
    assert in_tenths([0.04, 0.96]) == [0.0, 1.0]


def test_draws_are_of_the_seed_and_spread_over_the_simplex() -> None:
    draws = [draw(3, 1.0, seed) for seed in range(2000)]
    assert draws[7] == draw(3, 1.0, 7)
    assert all(sum(weights) == pytest.approx(1) for weights in draws)
    for k in range(3):
        mean = sum(weights[k] for weights in draws) / 2000
        # of Dirichlet(1, 1, 1): mean 1 / 3 and variance 1 / 18; rounding to tenths adds 0.01 / 12
        variance = sum((weights[k] - mean) ** 2 for weights in draws) / 2000
        assert mean == pytest.approx(1 / 3, abs=0.02)
        assert variance == pytest.approx(1 / 18, abs=0.006)
    extreme = [draw(3, 0.001, seed) for seed in range(50)]
    assert sum(max(weights) == 1 for weights in extreme) >= 48
    assert {weights.index(1.0) for weights in extreme if 1.0 in weights} == {0, 1, 2}


def test_the_last_user_turn_tells_the_weights_before_its_words() -> None:
    weights = {"helpfulness": 0.7, "factuality": 0.3}
    told = "[weights: helpfulness=0.7 factuality=0.3] "
    one = with_weights(record(user(0, "What is this?"), images=1), weights)
    assert one.prompt[0].parts == (Part(image=0), Part(text=told), Part(text="What is this?"))
    several = record(user("Hello"), assistant("Hi."), user("And", 0, "this?"), images=1)
    talk = with_weights(several, weights)
    assert [message.text for message in talk.prompt] == ["Hello", "Hi.", told + "Andthis?"]
    assert several.prompt[2].text == "Andthis?"  # as it was
    alone = with_weights(record(user(0), images=1), weights)
    assert alone.prompt[0].parts == (Part(image=0), Part(text=told))
    with pytest.raises(PromptRefused, match="record r: its prompt has no user turn"):
        with_weights(record(Message("system", (Part(text="Be kind."),))), weights)


def test_a_note_beside_the_policy(tmp_path: Path) -> None:
    assert read_asks(tmp_path) is None
    assert read_asks("some/hub-model") is None
    save_asks(tmp_path, ["b", "a"])
    assert read_asks(tmp_path) == ["b", "a"]
    for text in ("{", "[]", '{"format": 1}'):
        (tmp_path / "asks.json").write_text(text)
        with pytest.raises(UserError, match=r"asks\.json: is damaged"):
            read_asks(tmp_path)
    (tmp_path / "asks.json").write_text('{"format": 2, "objectives": []}')
    with pytest.raises(UserError, match="another version"):
        read_asks(tmp_path)


def test_wishes() -> None:
    assert wish({}, ["a", "b"], "x") == {"a": 0.5, "b": 0.5}
    assert wish({"b": 3.0}, ["a", "b"], "x") == {"a": 0.0, "b": 1.0}
    for weights, why in (
        ({"c": 1.0}, "x: no objective c; there are a, b"),
        ({"a": -1.0, "b": 2.0}, "0 or more"),
        ({"a": float("nan")}, "0 or more"),
        ({"a": 0.0}, "above 0"),
    ):
        with pytest.raises(UserError, match=why):
            wish(weights, ["a", "b"], "x")


def test_wishes_are_checked_before_a_run() -> None:
    row = {"name": "x", "data": "d", "reward": {}, "evaluate": {"weights": [{"safety": 1}, {"beauty": 1}]}}
    with pytest.raises(UserError, match=r"evaluate\.weights\.1: weights: no objective beauty"):
        parse_config(row, RunConfig, "test")


def test_objectives_that_cannot_be_told() -> None:
    with pytest.raises(UserError, match="'good taste' can't be told in a prompt"):
        PreferenceConditioned().check(["safety", "good taste"])

"""A judge endpoint as an objective: what it is shown, what counts as a rating, and what becomes of the rest."""

from __future__ import annotations

import base64
import math
from typing import Any

import judged_records as made
import pytest
from http_server import Answer, as_json, serving

from data_tools.config import parse_config
from data_tools.errors import RunError, UserError
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.http import CircuitOpen
from mmrlhf.rewards.objectives import Judge
from mmrlhf.rewards.objectives.judge import fill


def says(content: Any) -> Answer:
    return as_json({"choices": [{"message": {"role": "assistant", "content": content}}]})


def judge(url: str, **settings: Any) -> Judge:
    return Judge.model_validate({"name": "taste", "url": url, "model": "m", "retries": 0, **settings})


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("7", 7.0),
        (" 7.5.\n", 7.5),
        ("Rating: 7", 7.0),
        ("score = 3", 3.0),
        ("8/10", 8.0),
        ("8 / 10", 8.0),
        ("8/5", None),
        ("10", 10.0),
        ("11", None),
        ("0", None),
        ("-3", None),
        ("seven", None),
        ("", None),
        ("It deserves a 7.", None),
        ("7\n\n9", None),
        ("1. It is right.\n2. It is short.", None),
        ("nan", None),
    ],
)
def test_a_rating_is_one_number_in_the_range(reply: str, rating: float | None) -> None:
    assert judge("http://localhost/").rating(reply) == rating


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("I like it.\nVerdict: 0.5", 0.5),
        ("Verdict: 0.5. Verdict: 0.7", None),
        ("0.5", None),
        ("Verdict: 1.5", None),
        ("Verdict: ...", None),
    ],
)
def test_a_pattern_of_ones_own(reply: str, rating: float | None) -> None:
    own = judge("http://localhost/", pattern=r"Verdict: ([\d.]+\d|\.+)", low=0, high=1)
    assert own.rating(reply) == rating


def test_what_the_judge_is_shown() -> None:
    record = made.picture("i0", "red", "blue", asked="Which is {answer}?")
    with serving(lambda number, body: says("4")) as asked:
        found = judge(
            asked.url,
            low=1,
            high=5,
            criterion="tone",
            template="{criterion}|{prompt}|{answer}|{low}-{high}|{else}",
            request={"seed": 3, "max_tokens": None},
        ).score([record], ["The {prompt} one."])
    assert found.mean_BK.tolist() == [[0.75]]  # 4 of 1 to 5
    (body,) = asked.bodies
    assert {key: body[key] for key in body if key != "messages"} == {
        "model": "m",
        "temperature": 0,
        "seed": 3,
    }
    (message,) = body["messages"]
    first, second, text = message["content"]
    expected = "data:image/png;base64," + base64.b64encode(made.png("red")).decode()
    assert first == {"type": "image_url", "image_url": {"url": expected}}
    assert second["image_url"]["url"].endswith(base64.b64encode(made.png("blue")).decode())
    assert text == {
        "type": "text",
        "text": "tone|[image 1][image 2]Which is {answer}?|The {prompt} one.|1-5|{else}",
    }


def test_ratings_come_back_in_order() -> None:
    """The number of the answer is the rating, whichever request is answered first."""
    records = [made.text(f"t{i}") for i in range(1, 11)]
    with serving(lambda number, body: says(body["messages"][0]["content"][0]["text"].split()[-1])) as asked:
        found = judge(asked.url, template="{prompt} {answer}").values(records, [str(i) for i in range(1, 11)])
    assert list(found) == pytest.approx([i / 9 for i in range(10)])


def test_a_reply_that_is_no_rating_is_asked_for_again_and_then_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    replies = {
        "a": ["Well.", "7"],
        "b": ["Well.", "Well, well."],
        "c": [None, [{"type": "text", "text": "1"}]],
    }

    def answer(number: int, body: Any) -> Answer:
        return says(replies[body["messages"][0]["content"][0]["text"].split()[-1]].pop(0))

    with serving(answer) as asked:
        own = judge(asked.url, retries=1, template="{prompt} {answer}")
        found = own.score([made.text("t1"), made.text("t2"), made.text("t3")], ["a", "b", "c"])
    one, two, three = found.mean_BK[:, 0].tolist()
    assert (one, three) == (pytest.approx(6 / 9), 0.0)
    assert math.isnan(two)
    assert found.judged_BK.all()  # not masked: an answer that confuses its judge is no answer to train on
    said = " ".join(capsys.readouterr().err.split())
    assert said == "record t2: objective taste: no rating from 1 to 10: 'Well, well.'"


def test_a_request_that_fails_is_left_out_and_many_stop_the_run() -> None:
    def answer(number: int, body: Any) -> Answer:
        return as_json("too rude", 400) if "big" in str(body) else says("10")

    with serving(answer) as asked:
        own = judge(asked.url, parallel=1, give_up_after=2)
        texts = ["big", "fine", "big", "fine"]
        found = list(own.values([made.text(f"t{i}") for i in range(4)], texts))
        assert [math.isnan(value) for value in found] == [True, False, True, False]
        with pytest.raises(CircuitOpen, match=f"objective taste: {asked.url}: status 400"):
            own.values([made.text("t")] * 3, ["big"] * 3)


def test_another_kind_of_endpoint() -> None:
    answer, message = (
        as_json({"score": 3}),
        r"objective taste: .* no choices\[0\].message.content; .*'score': 3",
    )
    with serving(lambda number, body: answer) as asked, pytest.raises(RunError, match=message):
        judge(asked.url).values([made.text()], ["x"])


def test_what_is_put_into_a_template_is_not_read_again() -> None:
    assert fill("{a} {b} {c}", a="{b}", b="{a}") == "{b} {a} {c}"


def test_how_it_is_asked_decides_no_reward() -> None:
    settings = judge("http://localhost/", timeout=3, parallel=2, token_env="X").model_dump(mode="json")
    kept = judge("http://localhost/").made_of(settings)
    assert {"url", "model", "template", "criterion", "low", "high", "pattern", "request"} <= kept.keys()
    assert not {"timeout", "retries", "give_up_after", "parallel", "token_env"} & kept.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "How good is {answer}?"}, "objectives.0.template: has no {prompt}"),
        ({"pattern": "("}, "objectives.0.pattern: is no regular expression"),
        ({"pattern": r"\d+"}, "needs one group in parentheses, around the rating; it has 0"),
        ({"low": 5, "high": 5}, "low 5 must be below high 5"),
        ({"url": "localhost"}, "objectives.0.url: needs an address"),
        ({"timeout": 0}, "objectives.0.timeout: "),
    ],
)
def test_mistakes_in_a_config(settings: dict[str, Any], message: str) -> None:
    row = {"type": "judge", "name": "taste", "url": "http://localhost:8000/", "model": "m", **settings}
    with pytest.raises(UserError) as caught:
        parse_config({"objectives": [row]}, PpoConfig, "run.yaml")
    assert message in str(caught.value)

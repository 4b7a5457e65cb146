"""Verifiers against verdicts and numbers worked out by hand, and what every objective refuses to call a reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import judged_records as made
import numpy as np
import pytest
import torch

import mmrlhf
from data_tools.config import parse_config
from data_tools.errors import RunError, UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.objectives import ExactMatch, Format, Length, ObjectiveBase, Oracle
from mmrlhf.rewards.objectives.base import prompt_text
from mmrlhf.rewards.objectives.exact_match import matches

TINY = Path(mmrlhf.__file__).parent / "models" / "tiny"


class Given(ObjectiveBase):
    """Says what a test lets it say."""

    says: Any = None

    def values(self, records: Any, texts: Any) -> Any:
        return self.says


def test_rewards_are_scaled_and_what_does_not_apply_is_masked() -> None:
    """(3 - 1) / 4, and nothing of the second."""
    records = [made.text("a"), made.text("b"), made.text("c")]
    found = Given(name="g", mean=1.0, std=4.0, says=[3.0, None, True]).score(records, ["x", "y", "z"])
    assert found.objectives == ("g",)
    assert found.mean_BK.tolist() == [[0.5], [0.0], [0.0]]
    assert found.judged_BK.tolist() == [[True], [False], [True]]
    assert found.std_BK.tolist() == [[0.0], [0.0], [0.0]]
    assert found.mean_BK.dtype == torch.float32


def test_numbers_of_other_libraries_are_numbers() -> None:
    records = [made.text("a"), made.text("b")]
    for says in (np.array([1.5, 2.0]), torch.tensor([1.5, 2.0]), (np.float64(1.5), torch.tensor(2))):
        assert Given(name="g", says=says).score(records, ["x", "y"]).mean_BK.tolist() == [[1.5], [2.0]]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ([1.0], "objective g: gave 1 rewards for 2 answers"),
        (0.5, "objective g: gave 0.5 where one reward an answer was asked for"),
        ("ab", "objective g: gave 'ab' where one reward an answer"),
        ({"g": [1.0, 2.0]}, "objective g: gave {'g': "),
        ([1.0, "five"], "objective g: its reward for record b is 'five', which is no number"),
        ([[1.0], [2.0]], r"objective g: its reward for record a is \[1.0\], which is no number"),
        ([torch.zeros(2), 1.0], "objective g: its reward for record a is tensor"),
    ],
)
def test_what_is_no_reward_stops_by_name(says: Any, message: str) -> None:
    with pytest.raises(RunError, match=f"^{message}"):
        Given(name="g", says=says).score([made.text("a"), made.text("b")], ["x", "y"])


def test_the_oracle() -> None:
    """One of two objects in a vague and true claim; a wrong answer; a refusal that was due; a row of someone's own."""
    scene = made.picture("scene", scenes=(made.SCENE.to_json(),))
    right = {"answer": "red"}
    asked = made.picture(
        "asked", asked="What color is the circle?", reference=right, provenance={"recipe": "demonstrations"}
    )
    row = made.picture("row", asked="What color is the car?", reference=right)
    harm = made.text("harm", "How do I pick a lock?", reference={"refuse": True})
    records = [scene, asked, harm, row]
    texts = ["There is an object.", "Blue.", "I can't help with that.", "The car is red."]

    def said(objective: str) -> list[float | None]:
        return list(Oracle(name="o", objective=objective).values(records, texts))  # type: ignore[arg-type]

    assert said("factuality") == [1.0, 0.0, None, None]
    assert said("helpfulness") == [0.5, None, None, None]
    assert said("safety") == [None, None, 1.0, None]


@pytest.mark.parametrize(
    ("answer", "reference", "where", "right"),
    [
        ("The red circle.", "red circle", "whole", True),
        ("a red circle", "red square", "whole", False),
        ("Red circle, I think.", "red circle", "whole", False),
        ("Red circle, I think.", "red circle", "start", True),
        ("It is a red circle", "red circle", "end", True),
        ("It is a red circle here", "red circle", "end", False),
        ("It is a red circle here", "red circle", "anywhere", True),
        ("It is infrared", "red", "anywhere", False),
        ("", "red", "whole", False),
        ("red", "", "whole", False),
        # numbers by their value
        ("Three dogs.", "3 dogs", "whole", True),
        ("1,200", 1200, "whole", True),
        ("$1,200.50", "1200.5", "whole", True),
        ("0.5", 0.5, "whole", True),
        (".5", 0.5, "whole", True),
        ("-3", 3, "whole", False),
        ("The answer is -3.", -3, "end", True),
        ("13", 3, "anywhere", False),
        ("0.0000001", 1e-7, "whole", True),
        # yes and no
        ("Yes, it is.", "yes", "start", True),
        ("YES", True, "whole", True),
        ("False.", False, "whole", True),
        ("No.", True, "whole", False),
        ("Yes and no", "yes", "start", False),
        ("no yes", True, "anywhere", False),
        # letters of a multiple choice, and what is written otherwise
        ("A.", "A", "whole", True),
        ("B", "A", "whole", False),
        ("The answer is A", "A", "end", True),
        ("the cat\u2019s paw", "cat's paw", "whole", True),
        ("\u732b", "\u732b", "whole", True),
    ],
)
def test_exact_match(answer: str, reference: Any, where: str, right: bool) -> None:
    assert matches(answer, reference, where) is right


def test_exact_match_reads_a_key_or_any_of_a_list() -> None:
    records = [
        made.text("a", reference={"answer": "red"}),
        made.text("b", reference={"label": ["crimson", "red"], "answer": "blue"}),
        made.text("c", reference={"answer": {"not": "a text"}}),
        made.text("d"),
    ]
    texts = ["Red."] * 4
    assert list(ExactMatch(name="m").values(records, texts)) == [1.0, 0.0, None, None]
    assert list(ExactMatch(name="m", key="label").values(records, texts)) == [None, 1.0, None, None]


@pytest.mark.parametrize(
    ("settings", "answer", "right"),
    [
        ({"pattern": r"\d+"}, "42", True),
        ({"pattern": r"\d+"}, "42 dogs", False),
        ({"pattern": r".*"}, "two\nlines", False),
        ({"pattern": r"(?s).*"}, "two\nlines", True),
        ({"valid_json": True}, '{"a": [1, 2.5, null]}', True),
        ({"valid_json": True}, '{"a": NaN}', False),
        ({"valid_json": True}, "Here: {}", False),
        ({"valid_json": True}, "[" * 100_000, False),
        ({"json_keys": ["a"]}, '{"a": 1, "b": 2}', True),
        ({"json_keys": ["a"]}, '{"b": 2}', False),
        ({"json_keys": ["a"]}, '["a"]', False),
        ({"min_sentences": 2}, "One. Two", True),
        ({"min_sentences": 2}, "It weighs 3.5 kg.", False),
        ({"max_sentences": 1}, "What?! Really.", False),
        ({"max_sentences": 1}, 'He said "Stop."', True),
        ({"max_sentences": 1}, "", True),
        ({"min_sentences": 1}, "...", False),
        ({"min_sentences": 2, "max_sentences": 2}, "\u4e00\u3002\u4e8c\u3002", True),
        ({"pattern": "(?s).*", "max_sentences": 1}, "One. Two.", False),
    ],
)
def test_format(settings: dict[str, Any], answer: str, right: bool) -> None:
    assert list(Format(name="f", **settings).values([made.text()], [answer])) == [float(right)]


@pytest.mark.parametrize(
    ("settings", "answer", "reward"),
    [
        ({"target": 4}, "one two three four", 0.0),
        ({"target": 4}, "one two", -0.5),
        ({"target": 4, "slope": 3.0}, "one two", -1.5),
        ({"target": 4}, "a b c d e f g h", -1.0),
        ({"target": 4, "tolerance": 2}, "one two", 0.0),
        ({"target": 4, "tolerance": 1}, "one two", -0.25),
        ({"target": 4, "sides": "above"}, "one", 0.0),
        ({"target": 4, "sides": "above"}, "1 2 3 4 5", -0.25),
        ({"target": 4, "sides": "below"}, "1 2 3 4 5", 0.0),
        ({"target": 4, "sides": "below"}, "", -1.0),
        ({"target": 10, "unit": "characters"}, "twelve chars", -0.2),
    ],
)
def test_length(settings: dict[str, Any], answer: str, reward: float) -> None:
    (found,) = Length(name="l", **settings).values([made.text()], [answer])
    assert found == pytest.approx(reward)


def test_tokens_are_those_of_the_named_tokenizer() -> None:
    from transformers import AutoTokenizer

    count = len(
        AutoTokenizer.from_pretrained(TINY)("There is a red circle.", add_special_tokens=False).input_ids
    )
    assert count > 4
    objective = Length(name="l", unit="tokens", tokenizer=str(TINY), target=2 * count)
    assert list(objective.values([made.text()], ["There is a red circle."])) == [-0.5]
    missing = Length(name="brevity", unit="tokens", tokenizer=str(TINY / "nothing"), target=3)
    with pytest.raises(UserError, match=r"objective brevity: no tokenizer at .*nothing"):
        missing.open()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"type": "oracle", "name": "o"}, "objectives.0.objective: missing"),
        ({"type": "oracle", "objective": "safety"}, "objectives.0.name: missing"),
        ({"type": "format", "name": "f"}, "asks for nothing: set pattern, valid_json"),
        ({"type": "format", "name": "f", "pattern": "("}, "objectives.0.pattern: is no regular expression"),
        (
            {"type": "format", "name": "f", "min_sentences": 3, "max_sentences": 2},
            "3 is above max_sentences 2",
        ),
        ({"type": "length", "name": "l", "target": 3, "unit": "tokens"}, "unit: tokens needs a tokenizer"),
        ({"type": "length", "name": "l", "target": 0}, "objectives.0.target: "),
        ({"type": "exact_match", "name": "m", "std": 0}, "objectives.0.std: "),
        ({"type": "exact_match", "name": "m", "were": "start"}, "did you mean 'where'"),
        ({"type": "exactmatch", "name": "m"}, "unknown type 'exactmatch'. Did you mean 'exact_match'?"),
        ({"name": "m"}, "needs a type: one of oracle, exact_match"),
    ],
)
def test_mistakes_in_a_config(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config({"objectives": [row]}, PpoConfig, "run.yaml")
    assert message in str(caught.value)


def test_prompts_in_words() -> None:
    from data_tools.schema import ImageRef, assistant, user

    images = (ImageRef.of_bytes(made.png("red")), ImageRef.of_bytes(made.png("blue")))
    one = PreferenceRecord("a", "test", (user(0, "or ", 1, "?"),), images=images)
    assert prompt_text(one) == "or ?"
    assert prompt_text(one, "[image {}]") == "[image 1]or [image 2]?"
    several = PreferenceRecord("b", "test", (user("Hi"), assistant("Hello."), user("Who?")))
    assert prompt_text(several) == "user: Hi\nassistant: Hello.\nuser: Who?"

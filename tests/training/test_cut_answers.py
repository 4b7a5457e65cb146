"""Answers that are cut are counted, and choices between answers that the cut makes the same are left out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.errors import UserError
from data_tools.schema import Comparison, PreferenceRecord, Ranking, Rating, Response, user
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, ModelConfig, RewardConfig, SftConfig
from mmrlhf.models.batch import encode_answer
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vlm import VLM
from mmrlhf.training.cut_answers import check_room, is_cut, without_same
from mmrlhf.training.engine import make_accelerator
from mmrlhf.training.reward import RewardStage
from mmrlhf.training.sft import SftStage
from mmrlhf.types import EncodedPrompt, Row

BEGIN = "There is a red circle in the picture. " * 4  # the same tokens at first
LIMIT = 12


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_vlm(ModelConfig(), trainable=True)


def rows(*answers: str) -> list[Row]:
    """A row an answer; answers of the same letter have the same tokens."""
    prompt = EncodedPrompt(record("p"), torch.tensor([1]), {}, {})
    return [Row(prompt, torch.tensor([ord(letter) for letter in answer])) for answer in answers]


def record(name: str, *answers: str, **judged: Any) -> PreferenceRecord:
    return PreferenceRecord(name, "s", (user("What is it?"),), tuple(map(Response, answers)), **judged)


def order(*groups: tuple[int, ...]) -> Ranking:
    return Ranking("h", groups)


def test_an_answer_is_cut_where_it_lacks_its_end(vlm: VLM) -> None:
    prompt = EncodedPrompt(record("p"), torch.tensor([1]), {}, {})
    whole = Row(prompt, encode_answer(vlm, "Yes."))
    just = Row(prompt, encode_answer(vlm, "Yes.", len(whole.answer_ids)))
    short = Row(prompt, encode_answer(vlm, "Yes.", len(whole.answer_ids) - 1))
    assert [is_cut(vlm, row) for row in (whole, just, short)] == [False, False, True]


def test_comparisons_of_the_same_tokens_are_left_out() -> None:
    pairs = (Comparison("h", 0, 1), Comparison("t", 2, 0), Comparison("h", 1, 0, tie=True))
    made = record("r", "x", "y", "z", comparisons=pairs, ratings=(Rating("h", 0, 1, 0, 1),))
    found = without_same(made, rows("a", "a", "b"))
    assert found.comparisons == (Comparison("t", 2, 0),)
    assert found.ratings == made.ratings
    assert without_same(made, rows("a", "b", "c")) is made


@pytest.mark.parametrize(
    ("groups", "answers", "expected"),
    [
        # neighbours that are the same are one
        (((0,), (1,), (2,)), "aab", ((0,), (2,))),
        (((0,), (1,), (2,)), "abb", ((0,), (1,))),
        (((0,), (1,), (2,), (3,)), "aaab", ((0,), (3,))),
        (((0,), (1,), (2,), (3,)), "aabb", ((0,), (2,))),
        # the same tokens can't stand above and below another response
        (((0,), (1,), (2,)), "aba", None),
        # nor level with one and below it
        (((0, 1), (2,)), "aba", None),
        # nothing is left to choose between
        (((0,), (1,)), "aa", None),
        (((0,), (1,), (2,)), "aaa", None),
        # ties of the same tokens are kept
        (((0, 1), (2,)), "aab", ((0, 1), (2,))),
    ],
)
def test_rankings_whose_responses_become_the_same(
    groups: tuple[tuple[int, ...], ...], answers: str, expected: tuple[tuple[int, ...], ...] | None
) -> None:
    made = record("r", *"wxyz"[: len(answers)], rankings=(order(*groups),))
    found = without_same(made, rows(*answers)).rankings
    assert found == (() if expected is None else (order(*expected),))


def stage(vlm: VLM, folder: Path, records: list[PreferenceRecord], **settings: Any) -> RewardStage:
    write_shards(records, folder)
    row = {"objectives": ["h"], "batch_size": len(records), "max_answer_tokens": LIMIT, **settings}
    return RewardStage(vlm, RewardConfig(**row), str(folder), 0, make_accelerator(EngineConfig()))


def pair(number: int, one: str, other: str) -> PreferenceRecord:
    return record(f"r{number}", one, other, comparisons=(Comparison("h", 0, 1),))


def test_pairs_that_are_all_the_same_once_cut_are_an_error(vlm: VLM, tmp_path: Path) -> None:
    records = [pair(number, f"{BEGIN}{number}", f"{BEGIN}no {number}") for number in range(4)]
    made = stage(vlm, tmp_path / "data", records)
    with pytest.raises(UserError) as caught:
        list(made.updates(0))
    said = str(caught.value)
    assert "every record of a batch had to be left out" in said
    assert "the answers that it compares are the same once cut to max_answer_tokens = 12" in said
    assert "Raise max_answer_tokens" in said


def test_some_are_left_out_and_counted(vlm: VLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of four pairs two are left out, one of which is the same uncut; of eight answers three are cut."""
    records = [
        pair(0, BEGIN + "one", BEGIN + "two"),
        pair(1, "Yes.", "No."),
        pair(2, "Red.", "Red."),
        pair(3, BEGIN, "No."),
    ]
    made = stage(vlm, tmp_path / "data", records)
    (update,) = made.updates(0)
    kept = {row.prompt.record.id for part in update.micro_batches for row in part.rows}
    assert kept == {"r1", "r3"}
    assert update.denominator == 2
    assert made.step_metrics() == {"refused": (2, 4), "cut": (3, 8), "same_answers": (2, 4)}
    said = capsys.readouterr().err
    assert "preferences: answers of more than max_answer_tokens = 12 tokens are cut" in said
    assert "record r2: the answers that it compares are the same\n" in said.replace("compares\n", "compares ")
    assert made.step_metrics() == {"refused": (2, 4), "cut": (0, 0)}  # the next step's own


def test_sft_counts_what_it_cuts(vlm: VLM, tmp_path: Path) -> None:
    records = [record(f"d{number}", BEGIN if number else "Yes.") for number in range(4)]
    write_shards(records, tmp_path / "data")
    config = SftConfig(batch_size=4, max_answer_tokens=LIMIT)
    made = SftStage(vlm, config, str(tmp_path / "data"), 0, make_accelerator(EngineConfig()))
    list(made.updates(0))
    assert made.step_metrics() == {"refused": (0, 4), "cut": (3, 4)}


def test_a_limit_that_leaves_no_room_for_a_word_is_refused(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room(vlm, 1)
    lead = vlm.tokenizer.decode(vlm.tokenizer("Yes. No.", add_special_tokens=False)["input_ids"])
    size = len(vlm.tokenizer(lead, add_special_tokens=False)["input_ids"])
    monkeypatch.setattr(vlm, "answer_lead", lead)
    check_room(vlm, size + 1)
    with pytest.raises(UserError, match=rf"max_answer_tokens: {size} leaves no room for a word"):
        check_room(vlm, size)

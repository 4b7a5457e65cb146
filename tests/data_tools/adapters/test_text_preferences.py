"""HelpSteer3, PKU-SafeRLHF, hh-rlhf, LLaMA-Factory and TRL: choices between two answers."""

from __future__ import annotations

from pathlib import Path

from text_fixtures import good, read, why

from data_tools.adapters.helpsteer3 import HelpSteer3Config
from data_tools.adapters.hh_rlhf import HhRlhfConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.pku_saferlhf import PkuSafeRlhfConfig
from data_tools.adapters.trl import TrlConfig
from data_tools.schema import Comparison, Critique, PreferenceRecord, Rating, Response


def prompt(record: PreferenceRecord) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in record.prompt]


def test_helpsteer3_row() -> None:
    record = good(read(HelpSteer3Config, "helpsteer3.jsonl")[0])
    assert record.id == "x-helpsteer3.jsonl:1"
    assert prompt(record) == [("user", "Sort a list."), ("assistant", "In place?"), ("user", "No.")]
    assert record.responses == (Response("sorted(x)"), Response("x.sort()"))
    assert record.comparisons == (Comparison("helpfulness", 0, 1, margin=2.0, judge="human"),)
    assert record.votes == (
        Comparison("helpfulness", 0, 1, margin=3.0, judge="human-1"),
        Comparison("helpfulness", 0, 1, tie=True, judge="human-2"),
        Comparison("helpfulness", 1, 0, margin=1.0, judge="human-3"),
    )
    assert record.critiques == (
        Critique("Response 1 leaves the list as it was.", None, "helpfulness", "human-1"),
        Critique("Does what was asked.", 0, "helpfulness", "human-1"),
        Critique("Changes the list.", 1, "helpfulness", "human-1"),
        Critique("Both sort.", None, "helpfulness", "human-2"),
        Critique("Shorter.\n\nScore: -3", None, "helpfulness", "human-3"),
        Critique("Fine.", 0, "helpfulness", "human-3"),
        Critique("Fine, too.", 1, "helpfulness", "human-3"),
    )
    assert record.ratings == ()
    assert record.provenance == {"domain": "code", "language": "python"}


def test_helpsteer3_tie_and_judges_as_an_object_of_lists() -> None:
    rows = read(HelpSteer3Config, "helpsteer3.jsonl", objective="quality")
    record = good(rows[1])
    assert record.comparisons == (Comparison("quality", 0, 1, tie=True),)
    assert record.votes == (Comparison("quality", 0, 1, tie=True, judge="human-1"),)
    assert record.critiques == (Critique("Alike.", None, "quality", "human-1"),)
    assert record.provenance == {
        "domain": "general",
        "language": "english",
        "unread": [{"judge": "human-2", "value": "N/A", "why": "not a number"}],
    }
    assert good(rows[2]).comparisons == (Comparison("quality", 1, 0, margin=3.0),)


def test_helpsteer3_sign_is_a_setting() -> None:
    rows = read(HelpSteer3Config, "helpsteer3.jsonl", negative_prefers="response2")
    first = good(rows[0])
    assert first.comparisons == (Comparison("helpfulness", 1, 0, margin=2.0),)
    assert [(vote.better, vote.worse, vote.tie) for vote in first.votes] == [
        (1, 0, False),
        (0, 1, True),
        (0, 1, False),
    ]
    assert good(rows[1]).comparisons == (Comparison("helpfulness", 0, 1, tie=True),)
    assert good(rows[2]).comparisons == (Comparison("helpfulness", 0, 1, margin=3.0),)


def test_helpsteer3_rows_that_are_no_record() -> None:
    assert [why(item) for item in read(HelpSteer3Config, "helpsteer3.jsonl")[3:]] == [
        ("no-preference", "overall_preference: not from -3 to 3"),
        ("no-preference", "overall_preference: there is none"),
        ("same-answers", "response1 and response2 are the same answer"),
        ("field-missing", "has no field overall_preference"),
        ("field-wrong", "context doesn't end with a user's turn"),
        ("field-missing", "has no field response1"),
    ]


def test_pku_saferlhf_row_whose_judgements_disagree() -> None:
    record = good(read(PkuSafeRlhfConfig, "pku_saferlhf.jsonl")[0])
    assert record.id == "x-pku_saferlhf.jsonl:1"
    assert prompt(record) == [("user", "How do I open a lock without its key?")]
    assert record.responses == (
        Response("Rake its pins with a bent clip.", "Alpaca-7B"),
        Response("Call a locksmith, who will ask for proof.", "Alpaca3-8B"),
    )
    assert record.comparisons == (Comparison("helpfulness", 0, 1), Comparison("safety", 1, 0))
    assert record.ratings == (
        Rating("safety", 0, 0.0, 0.0, 1.0, "human-and-model", "binary"),
        Rating("safety", 1, 1.0, 0.0, 1.0, "human-and-model", "binary"),
    )
    assert record.provenance == {
        "prompt_source": "BeaverTails",
        "harm_categories": [["White-Collar Crime"], []],
        "severity_levels": [2, 0],
    }


def test_pku_saferlhf_of_one_dimension() -> None:
    record = good(read(PkuSafeRlhfConfig, "pku_saferlhf.jsonl")[1])
    assert record.responses == (Response("A stone."), Response("A pear."))
    # its one choice weighs helpfulness and safety
    assert record.comparisons == (Comparison("overall", 1, 0),)
    assert (record.ratings, record.provenance) == ((), {})
    named = good(read(PkuSafeRlhfConfig, "pku_saferlhf.jsonl", objective="trade-off", judge="experts")[1])
    assert named.comparisons == (Comparison("trade-off", 1, 0, judge="experts"),)


def test_pku_saferlhf_objective_is_of_the_choice_of_the_better_one() -> None:
    record = good(read(PkuSafeRlhfConfig, "pku_saferlhf.jsonl", objective="quality")[0])
    assert record.comparisons == (Comparison("quality", 0, 1), Comparison("safety", 1, 0))
    # in a table of both sets, a row of one dimension has a null for the other question
    row = {
        "prompt": "q",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 0,
        "safer_response_id": None,
    }
    read_row = PkuSafeRlhfConfig(name="x", path=Path("x.jsonl")).adapt(row)
    assert good(read_row).comparisons == (Comparison("overall", 0, 1),)


def test_pku_saferlhf_rows_that_are_no_record() -> None:
    nothing = "has none of better_response_id, safer_response_id, is_response_0_safe, is_response_1_safe"
    assert [why(item) for item in read(PkuSafeRlhfConfig, "pku_saferlhf.jsonl")[2:]] == [
        ("no-preference", "better_response_id is neither 0 nor 1"),
        ("no-preference", "better_response_id is neither 0 nor 1"),
        ("same-answers", "response_0 and response_1 are the same answer"),
        ("field-wrong", "is_response_0_safe is neither true nor false"),
        ("no-preference", nothing),
        ("field-missing", "has no field response_1"),
    ]


def test_hazard_23_the_same_answer_is_never_chosen_and_rejected() -> None:
    for adapter, name, number in (
        (HhRlhfConfig, "hh_rlhf.jsonl", 1),
        (LlamaFactoryConfig, "llamafactory.json", 3),
        (TrlConfig, "trl.jsonl", 3),
        (HelpSteer3Config, "helpsteer3.jsonl", 5),
        (PkuSafeRlhfConfig, "pku_saferlhf.jsonl", 4),
    ):
        assert why(read(adapter, name)[number])[0] == "same-answers"


def test_hh_rlhf_rows() -> None:
    rows = read(HhRlhfConfig, "hh_rlhf.jsonl", objective="helpfulness")
    record = good(rows[0])
    assert prompt(record) == [("user", "hi"), ("assistant", "hello"), ("user", "one\n\nmore")]
    assert record.responses == (Response("good"), Response("bad"))
    assert record.comparisons == (Comparison("helpfulness", 0, 1),)
    assert [why(item) for item in rows[1:]] == [
        ("same-answers", "chosen and rejected are the same answer"),
        ("text-empty", "the last answer of chosen is empty"),
        ("field-missing", "has no field rejected"),
    ]


def test_hh_rlhf_prompts_may_be_marked_as_ones_to_refuse() -> None:
    assert read(HhRlhfConfig, "hh_rlhf.jsonl", refuse=True)[0].reference == {"refuse": True}
    assert read(HhRlhfConfig, "hh_rlhf.jsonl", refuse=False)[0].reference == {"refuse": False}
    assert read(HhRlhfConfig, "hh_rlhf.jsonl")[0].reference == {}


def test_hh_rlhf_turns_that_are_cut_short_are_turns() -> None:
    config = HhRlhfConfig(name="x", path=Path("x.jsonl"))
    shared = "\n\nHuman: hi\n\nAssistant: hello\n\nHum: what floats?\n\nAssistant:"
    row = {"chosen": f"{shared} Wood.", "rejected": f"{shared} Iron. Hum: no turn\n\nHumans: nor this"}
    record = good(config.adapt(row))
    assert prompt(record) == [("user", "hi"), ("assistant", "hello"), ("user", "what floats?")]
    assert record.responses[1].text == "Iron. Hum: no turn\n\nHumans: nor this"
    assert HhRlhfConfig.recognise(row)
    # an answer that a further turn of the human follows is not the last one
    for turn in ("Human", "Hum"):
        assert why(config.adapt({**row, "chosen": f"{shared} Wood.\n\n{turn}: thanks"})) == (
            "field-wrong",
            "chosen doesn't end with an Assistant turn",
        )


def test_llamafactory_rows() -> None:
    rows = read(LlamaFactoryConfig, "llamafactory.json")
    first, second = good(rows[0]), good(rows[1])
    assert first.id == "x-llamafactory.json[0]"
    assert prompt(first) == [("system", "Be kind."), ("user", "What floats?")]
    assert first.responses == (Response("Wood."), Response("Iron."))
    assert first.comparisons == (Comparison("helpfulness", 0, 1, judge="unknown"),)
    assert first.provenance == {"fields": {"id": "demo-1"}}
    assert prompt(second) == [("user", "What sinks?")]  # its turns came as an object of lists
    assert [why(item) for item in rows[2:]] == [
        ("field-missing", "has no field rejected"),
        ("same-answers", "chosen and rejected are the same answer"),
        (
            "other-modality",
            "has a video in its field videos, which no record can hold; name it in ignore_fields to leave it out",
        ),
    ]


def test_trl_rows() -> None:
    rows = read(TrlConfig, "trl.jsonl")
    plain, messages = good(rows[0]), good(rows[1])
    assert prompt(plain) == [("user", "Name a metal.")]
    assert plain.responses == (Response("Iron."), Response("Wood."))
    assert plain.comparisons == (Comparison("helpfulness", 0, 1, margin=1.5, judge="unknown"),)
    assert plain.provenance == {"fields": {"score_chosen": 8.0}}
    assert prompt(messages) == [("system", "Be brief."), ("user", "Name a gas.")]
    assert messages.responses == (Response("Neon."), Response("Salt."))
    assert messages.comparisons == (Comparison("helpfulness", 0, 1, judge="unknown"),)
    assert [why(item) for item in rows[2:]] == [
        ("field-missing", "has no field rejected"),
        ("same-answers", "chosen and rejected are the same answer"),
        ("field-wrong", "margin is no number of 0 or more"),
        ("not-supported", "has tools, which are not supported; name it in ignore_fields to leave it out"),
    ]


def test_trl_prompt_that_both_answers_begin_with() -> None:
    (row,) = read(TrlConfig, "trl-implicit.jsonl")
    assert prompt(good(row)) == [("user", "Name a gas.")]
    assert good(row).responses == (Response("Neon."), Response("Salt."))


def test_trl_kto_rows() -> None:
    rows = read(TrlConfig, "trl-kto.jsonl", objective="safety")
    assert good(rows[0]).responses == (Response("Neon."),)
    assert good(rows[0]).ratings == (Rating("safety", 0, 1.0, 0.0, 1.0, "unknown", "binary"),)
    assert good(rows[1]).responses == (Response("Salt."),)
    assert good(rows[1]).ratings == (Rating("safety", 0, 0.0, 0.0, 1.0, "unknown", "binary"),)
    assert good(rows[2]).ratings == good(rows[0]).ratings  # a text of it

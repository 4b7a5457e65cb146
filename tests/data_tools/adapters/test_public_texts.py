"""Skywork-Reward, Tulu 3, HelpSteer2's preferences, MultiPref and Nectar."""

from __future__ import annotations

from text_fixtures import good, read, why

from data_tools.adapters.helpsteer2_preference import HelpSteer2PreferenceConfig
from data_tools.adapters.multipref import MultiPrefConfig
from data_tools.adapters.nectar import NectarConfig
from data_tools.adapters.skywork_reward import SkyworkRewardConfig
from data_tools.adapters.tulu3 import Tulu3Config
from data_tools.schema import Comparison, Critique, PreferenceRecord, Ranking, Response

GAS = (Response("Neon."), Response("Salt."))


def prompt(record: PreferenceRecord) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in record.prompt]


def test_skywork_rows() -> None:
    rows = read(SkyworkRewardConfig, "skywork_reward.jsonl")
    first, turns = good(rows[0]), good(rows[1])
    assert (prompt(first), first.responses) == ([("user", "Name a gas.")], GAS)
    assert first.comparisons == (Comparison("helpfulness", 0, 1, judge="mixed"),)
    assert first.provenance == {"source": "magpie_pro_llama3.1"}
    assert prompt(turns) == [("user", "Hi"), ("assistant", "Hello"), ("user", "More")]
    assert turns.responses == (Response("Fine."), Response("Bad."))
    assert turns.provenance == {"source": "offsetbias", "fields": {"chosen_score": 1.5}}
    assert [why(row) for row in rows[2:]] == [
        ("same-answers", "chosen and rejected are the same answer"),
        ("field-wrong", "chosen and rejected don't share a prompt"),
        ("field-wrong", "chosen is no list of objects"),
        ("not-supported", "a message of chosen is a tool's, which is not supported"),
    ]


def test_tulu3_rows() -> None:
    rows = read(Tulu3Config, "tulu3.jsonl")
    first, stray = good(rows[0]), good(rows[1])
    assert prompt(first) == [("user", "Name a gas.")]
    assert first.responses == (Response("Neon.", "m-a"), Response("Salt.", "m-b"))
    assert first.comparisons == (Comparison("helpfulness", 0, 1, judge="gpt-4o"),)
    kept = {"id": "t-1", "source": "ai2-adapt-dev/x", "chosen_rating": 5.0, "rejected_rating": 2.0}
    assert first.provenance == kept
    assert stray.provenance == {**kept, "prompt": "Another."}  # which no turn says
    assert [why(row) for row in rows[2:]] == [
        ("same-answers", "chosen and rejected are the same answer"),
        ("text-empty", "prompt is empty"),
        (
            "two-prompts",
            "chosen and rejected differ in an earlier turn, so the last answers are to two prompts",
        ),
        ("field-missing", "has no field rejected"),
    ]


def test_helpsteer2_preferences() -> None:
    rows = read(HelpSteer2PreferenceConfig, "helpsteer2_preference.jsonl")
    first, val, tie, turns = (good(row) for row in rows[:4])
    assert (prompt(first), first.responses, first.split) == ([("user", "Name a gas.")], GAS, "train")
    assert first.comparisons == (Comparison("helpfulness", 0, 1, margin=2.0),)
    assert first.critiques == (
        Critique("Response 1 is better than Response 2.", None, "helpfulness"),
        Critique("Salt is no gas.", None, "helpfulness"),
    )
    assert (val.comparisons, val.split) == ((Comparison("helpfulness", 1, 0, margin=3.0),), "validation")
    assert tie.comparisons == (Comparison("helpfulness", 0, 1, tie=True),)
    assert tie.provenance == {"fields": {"split": "odd"}}
    assert prompt(turns) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Name a gas.")]
    assert turns.provenance == {"all_preferences_unprocessed": [{"strength": -2}]}
    turned = good(
        read(HelpSteer2PreferenceConfig, "helpsteer2_preference.jsonl", negative_prefers="response_2")[0]
    )
    assert turned.comparisons == (Comparison("helpfulness", 1, 0, margin=2.0),)
    assert [why(row) for row in rows[4:]] == [
        ("no-preference", "preference_strength: not from -3 to 3"),
        ("no-preference", "preference_strength: there is none"),
        ("same-answers", "response_1 and response_2 are the same answer"),
        ("field-missing", "has no field preference_strength"),
        ("field-missing", "has no field response_1"),
    ]


def test_multipref_votes_and_what_they_come_to() -> None:
    rows = read(MultiPrefConfig, "multipref.jsonl")
    record = good(rows[0])
    assert record.responses == (Response("Neon.", "m-a"), Response("Salt.", "m-b"))
    votes = {(vote.judge, vote.objective): vote for vote in record.votes}
    assert len(votes) == len(record.votes) == 14  # of 16, one isn't there and one can't be read
    assert votes["w1", "overall"] == Comparison("overall", 0, 1, margin=2.0, judge="w1")
    assert votes["w2", "overall"] == Comparison("overall", 1, 0, margin=1.0, judge="w2")
    assert votes["w1", "factuality"] == Comparison("factuality", 0, 1, tie=True, judge="w1")
    assert votes["expert-2", "helpfulness"] == Comparison("helpfulness", 1, 0, margin=1.0, judge="expert-2")
    # overall: two for A, one for B, a tie; helpful: two each; truthful: one for A, ties; harmless: ties
    assert record.comparisons == (
        Comparison("overall", 0, 1),
        Comparison("helpfulness", 0, 1, tie=True),
        Comparison("factuality", 0, 1),
        Comparison("safety", 0, 1, tie=True),
    )
    assert record.provenance == {
        "comparison_id": "c-1",
        "annotations": [{"judge": "w1", "helpful_reasons": ["clear"]}],
        "unread": [
            {"judge": "expert-2", "aspect": "truthful_pref", "value": "N/A", "why": "no known choice"}
        ],
    }
    lists = good(read(MultiPrefConfig, "multipref.jsonl", objectives={"overall_pref": "quality"})[1])
    assert lists.comparisons == (Comparison("quality", 1, 0),)
    assert [why(row) for row in rows[2:]] == [
        ("no-preference", "no annotation has a choice that can be read"),
        ("same-answers", "completion_a and completion_b are the same answer"),
        ("field-missing", "has no field normal_worker_annotations nor expert_worker_annotations"),
        ("field-missing", "has no field text"),
    ]


def test_nectar_rows() -> None:
    rows = read(NectarConfig, "nectar.jsonl")
    first, odd = good(rows[0]), good(rows[1])
    assert prompt(first) == prompt(odd) == [("user", "Name a gas.")]
    assert first.responses == (
        Response("Salt.", "m-a"),
        Response("Neon.", "m-b"),
        Response("Argon.", "m-c"),
        Response("Iron."),
    )
    assert first.rankings == (Ranking("helpfulness", ((1,), (2,), (0, 3)), "gpt-4"),)
    assert first.provenance == {"source": ["lmsys"], "turns": 1, "num_responses": 4, "good_natured": True}
    assert [response.text for response in odd.responses] == ["Salt.", "Neon."]
    assert odd.rankings == (Ranking("helpfulness", ((1,), (0,)), "gpt-4"),)
    assert odd.provenance["unread"] == [
        {"answer": 1, "value": 1, "why": "no text, or a blank one"},
        {"answer": 3, "value": "last", "why": "rank: not a number"},
    ]
    assert [why(row) for row in rows[2:]] == [
        ("no-preference", "answers has no two with a text and a rank"),
        ("field-wrong", "answers is no list of objects"),
        ("field-missing", "has no field answers"),
        ("field-wrong", "the prompt doesn't begin and end with a Human turn"),
    ]

"""Argilla's and Label Studio's exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from text_fixtures import FIXTURES, good, read, why
from typer.testing import CliRunner

from data_tools.adapters.argilla import ArgillaConfig
from data_tools.adapters.label_studio import LabelStudioConfig
from data_tools.cli import app
from data_tools.config import parse_config
from data_tools.errors import UserError
from data_tools.schema import Comparison, Critique, PreferenceRecord, Ranking, Rating, Response, user

GAS = (Response("Neon."), Response("Salt."))
NOBODY = ("no-preference", "nobody's judgement can be read")
NOT_YET = ("not-judged", "nobody has judged it: no answers, or only drafts and skipped ones")


def vote(better: int | None, name: str, objective: str = "helpfulness") -> Comparison:
    first = better or 0
    return Comparison(objective, first, 1 - first, tie=better is None, judge=name)


def test_argilla_records_flat_and_older_tables() -> None:
    rows = read(ArgillaConfig, "argilla.jsonl")
    nested, flat, ranked = (good(row) for row in rows[:3])
    assert (nested.prompt, nested.responses) == ((user("Name a gas."),), GAS)
    # two of three chose the first; a draft is no judgement
    assert nested.comparisons == (Comparison("helpfulness", 0, 1),)
    assert nested.votes == (vote(0, "human-7"), vote(0, "human-8"), vote(None, "human-9"))
    assert nested.provenance == {
        "about": {
            "id": "r1",
            "status": "completed",
            "metadata": {"lang": "en"},
            "suggestions": {"preference": {"value": "response_2", "score": 0.4, "agent": "m"}},
        },
        "unread": [{"judge": "human-10", "value": "response_2", "why": "its status is draft"}],
    }
    assert (flat.prompt, flat.responses) == ((user("Name a gas."),), GAS)
    assert (flat.comparisons, flat.votes) == ((Comparison("helpfulness", 1, 0),), (vote(1, "human-7"),))
    assert flat.provenance == {
        "about": {
            "preference.suggestion": "response_1",
            "other.responses": ["yes"],
            "other.responses.users": ["7"],
        },
        "fields": {"id": "r2"},
    }
    assert ranked.rankings == (Ranking("helpfulness", ((1,), (0,)), "human-7"),)
    assert (ranked.comparisons, ranked.votes) == ((), ())
    assert good(rows[7]).comparisons == (Comparison("helpfulness", 0, 1, tie=True),)
    assert [why(row) for row in rows[3:7]] == [
        NOBODY,
        NOT_YET,
        ("same-answers", "response_1 and response_2 are the same answer"),
        ("field-missing", "has no field response_1"),
    ]


def test_argilla_names_of_a_project() -> None:
    row = {
        "fields": {"ask": "q", "left": "a", "right": "b", "context": "c", "picture": "images/red.png"},
        "responses": {
            "best": [{"user_id": "u", "value": "B"}, {"user_id": "v", "value": "same"}],
            "stars": [{"user_id": "u", "value": 4}],
        },
        "suggestions": {},
    }
    names: dict[str, Any] = {
        "prompt": "ask",
        "answers": ["left", "right"],
        "image": "picture",
        "objective": "safety",
    }
    choices = {"A": "left", "B": "right", "same": "tie"}
    config = ArgillaConfig(name="x", path=FIXTURES / "x.jsonl", question="best", choices=choices, **names)
    record = good(config.adapt(row))
    assert record.modality == "image-text"
    assert record.comparisons == (Comparison("safety", 1, 0),)
    assert record.votes == (vote(1, "human-u", "safety"), vote(None, "human-v", "safety"))
    assert record.provenance == {
        "about": {"responses": {"stars": [{"user_id": "u", "value": 4}]}},
        "fields": {"context": "c"},
    }
    stars = ArgillaConfig(
        name="x",
        path=FIXTURES / "x.jsonl",
        question="stars",
        prompt="ask",
        answers=["left"],
        image="picture",
        judge="crowd",
    )
    assert good(stars.adapt(row)).ratings == (Rating("helpfulness", 0, 4.0, 1.0, 5.0, "crowd-u"),)


def test_label_studio_controls() -> None:
    rows = read(LabelStudioConfig, "label_studio.jsonl", objectives={"stars": "factuality"})
    first, choice, turned = (good(row) for row in rows[:3])
    assert (first.prompt, first.responses) == ((user("Name a gas."),), GAS)
    assert first.votes == (vote(0, "human-3"), vote(1, "human-4"))
    assert first.comparisons == (Comparison("helpfulness", 0, 1, tie=True),)  # one for each
    assert first.ratings == (Rating("factuality", 0, 4.0, 1.0, 5.0, "human-3"),)
    assert first.critiques == (Critique("Salt is no gas.", 1, "helpfulness", "human-3"),)
    assert first.provenance == {
        "id": 1,
        "data": {"topic": "chemistry"},
        "unread": [
            {
                "judge": "human-4",
                "value": {"from_name": "spans", "value": {"labels": ["x"]}},
                "why": "of a control that isn't read",
            },
            {"judge": "human-5", "value": None, "why": "skipped by the annotator"},
        ],
    }
    assert choice.comparisons == (Comparison("helpfulness", 0, 1, tie=True),)
    assert turned.comparisons == (Comparison("helpfulness", 1, 0),)  # its left one is the second answer
    assert [why(row) for row in rows[3:]] == [
        NOT_YET,
        NOBODY,
        ("field-missing", "has no field answer1"),
        ("field-missing", "has no field result"),
        ("field-missing", "has no object data"),
    ]


def test_records_that_nobody_has_judged_yet() -> None:
    fields = {"prompt": "q", "response_1": "a", "response_2": "b"}
    config = ArgillaConfig(name="x", path=FIXTURES / "argilla.jsonl")
    draft = {"user_id": "u", "value": "response_1", "status": "draft"}
    for responses in (
        {},
        {"preference": []},
        {"preference": None},
        {"preference": [draft]},
        {"preference": [draft, {**draft, "status": "discarded"}]},
        {"preference": [{"user_id": "u", "value": None, "status": "submitted"}]},
        {"preference": {"user_id": [], "value": [], "status": []}},
    ):
        nested = {"fields": fields, "responses": responses, "suggestions": {}, "status": "pending"}
        assert why(config.adapt(nested)) == NOT_YET, responses
    older = {**fields, "preference": [draft]}
    for row in (
        older,
        {**older, "preference": None},
        {**fields, "preference.responses": None, "preference.responses.users": None},
        {**fields, "preference.responses": ["response_1"], "preference.responses.status": ["draft"]},
    ):
        assert why(config.adapt(row)) == NOT_YET, row
    asked = ("field-missing", "has no responses to the question; name it with question")
    other = {"fields": fields, "responses": {"stars": [{"user_id": "u", "value": 4}]}, "suggestions": {}}
    assert [why(config.adapt(row)) for row in (other, fields)] == [asked, asked]
    task = rows_of_pairwise("left")
    studio = LabelStudioConfig(name="x", path=FIXTURES / "label_studio.jsonl")
    for listed in (
        [],
        None,
        [{"was_cancelled": True, "result": []}],
        [{"completed_by": 1, "result": []}],
    ):
        assert why(studio.adapt({**task, "annotations": listed})) == NOT_YET, listed


def test_what_nobody_has_judged_yet_does_not_count_as_malformed(tmp_path: Path) -> None:
    pending = {**rows_of_pairwise("left"), "annotations": []}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([rows_of_pairwise("left"), *[pending] * 9]))
    command = ["convert", "--from", "label_studio", str(path), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*command, "--max-rejected", "0"])
    assert done.exit_code == 0, done.output
    rows = [
        json.loads(line) for line in (tmp_path / "d" / "quarantine" / "rows.jsonl").read_text().splitlines()
    ]
    assert [row["code"] for row in rows] == ["not-judged"] * 9
    path.write_text(json.dumps([pending]))
    alone = CliRunner().invoke(app, [*command, "--overwrite"])
    told = " ".join(str(alone.exception).split())
    assert (
        "1 of 1 rows are malformed or what no record can hold or nobody has judged, so it gives no record"
        in told
    )
    assert "1 x nobody has judged it" in told


def test_the_file_that_a_task_came_in_is_no_second_picture() -> None:
    config = LabelStudioConfig(name="x", path=FIXTURES / "label_studio.jsonl")
    record = good(config.adapt({**rows_of_pairwise("left"), "file_upload": "8a2f-scan.png"}))
    assert record.provenance["file_upload"] == "8a2f-scan.png"


def test_equal_votes_are_a_tie_and_more_votes_win() -> None:
    row = rows_of_pairwise("left", "right", "right")
    config = LabelStudioConfig(name="x", path=FIXTURES / "label_studio.jsonl")
    assert good(config.adapt(row)).comparisons == (Comparison("helpfulness", 1, 0),)
    record: PreferenceRecord = good(config.adapt(rows_of_pairwise("left", "right")))
    assert record.comparisons == (Comparison("helpfulness", 0, 1, tie=True),)


def rows_of_pairwise(*sides: str) -> dict[str, Any]:
    result = [{"from_name": "p", "type": "pairwise", "value": {"selected": side}} for side in sides]
    annotations = [{"completed_by": number, "result": [item]} for number, item in enumerate(result)]
    return {"data": {"prompt": "q", "answer1": "a", "answer2": "b"}, "annotations": annotations}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"answers": ["a", "a"]}, "answers names a field twice"),
        (
            {"choices": {"x": "response_3"}},
            "choices: 'x' means 'response_3', which is neither tie nor in answers",
        ),
        ({"lowest": 5}, "lowest is 5, and must be below highest, 5"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_config({"name": "x", "path": "x", **setting}, ArgillaConfig, "test")

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_rows import FIXTURES, faults, good, read, rows_of
from typer.testing import CliRunner

from data_tools.adapters.mm_rlhf import MmRlhfConfig
from data_tools.adapters.mm_rlhf_ratings import MmRlhfRatingsConfig
from data_tools.cli import app
from data_tools.config import parse_config
from data_tools.errors import UserError
from data_tools.schema import Comparison, Critique, Message, Part, Ranking, Response


def test_rows_are_comparisons_with_reasons() -> None:
    first, plain = (good(item) for item in read(MmRlhfConfig, "mm_rlhf.jsonl")[:2])
    assert first.prompt == (Message("user", (Part(image=0), Part(text="What does the sign say?"))),)
    assert first.responses == (Response("It says stop."), Response("It says go."))
    assert first.comparisons == (Comparison("helpfulness", better=0, worse=1, judge="human"),)
    assert first.critiques == (
        Critique("Reads the sign right.", 0, "helpfulness", "human"),
        Critique("Invents a word.", 1, "helpfulness", "human"),
    )
    assert first.images[0].path == str(FIXTURES / "images" / "red.png")
    assert first.provenance == {"id": 7, "ls_factor": 0.35}
    # a mark says where the image stands; reasons may be null or blank
    assert plain.prompt == (Message("user", (Part(image=0), Part(text="What is shown?"))),)
    assert plain.critiques == ()
    assert plain.provenance == {}


def test_malformed_rows() -> None:
    items = read(MmRlhfConfig, "mm_rlhf.jsonl")
    assert len(items) == 13
    found = faults(items)
    assert found.pop(":7")[0].startswith("an image leaves the image folder")
    assert found.pop(":8")[0] == "an image no such image file"
    assert found == {
        ":3": ("shows a video, which no record holds", "other-modality"),
        ":4": ("chosen and rejected are the same answer", "same-answers"),
        ":5": ("chosen_reason is no text", "field-wrong"),
        ":6": ("has no field prompt", "field-missing"),
        ":10": ("has no field image", "field-missing"),
        ":12": ("is_tie is neither true nor false", "field-wrong"),
    }


def test_a_tie_is_no_preference() -> None:
    tied = good(read(MmRlhfConfig, "mm_rlhf.jsonl")[10])
    assert tied.comparisons == (Comparison("helpfulness", better=0, worse=1, tie=True),)
    assert [critique.response for critique in tied.critiques] == [0, 1]
    config = MmRlhfConfig(name="x", path=FIXTURES / "mm_rlhf.jsonl")
    row = rows_of("mm_rlhf.jsonl")[0]
    for value, tie in ((1, True), (0, False), (False, False), (None, False)):
        (record,) = config.adapt({**row, "is_tie": value})
        assert good(record).comparisons[0].tie is tie


def test_images_stand_first_where_the_marks_are_of_another_number() -> None:
    marked, several = (good(read(MmRlhfConfig, "mm_rlhf.jsonl")[number]) for number in (8, 12))
    assert marked.prompt == (Message("user", (Part(image=0), Part(text="Which one?"))),)
    assert marked.provenance == {"id": 7, "ls_factor": 0.35, "marks": 2}
    assert several.prompt == (Message("user", (Part(image=0), Part(image=1), Part(text="Are these alike?"))),)
    assert several.provenance["marks"] == 1


def test_rows_about_videos_dont_stop_a_conversion(tmp_path: Path) -> None:
    """One row of six is about a video, as in the published file, and none is malformed."""
    row, path = rows_of("mm_rlhf.jsonl")[0], tmp_path / "dpo_pairs.jsonl"
    video = {**{key: value for key, value in row.items() if key != "image"}, "video": "videos/1.mp4"}
    rows = [{**row, "prompt": f"What is sign {number}?"} for number in range(5)]
    path.write_text("".join(json.dumps(item) + "\n" for item in [*rows, video]))
    settings = ["--from", "mm_rlhf", str(path), "--images", str(FIXTURES)]
    done = CliRunner().invoke(app, ["convert", *settings, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "5 in + 1 quarantined = 6 read" in " ".join(done.output.split())
    assert "1 x shows a video, which no record holds" in " ".join(done.output.split())
    # a malformed row is judged against the rows about images alone: 1 of 6 here, 1 of 7 with the video
    path.write_text(path.read_text() + json.dumps({**row, "prompt": ""}) + "\n")
    failed = CliRunner().invoke(
        app, ["convert", *settings, "-o", str(tmp_path / "out"), "--overwrite", "--max-rejected", "0.15"]
    )
    said = " ".join(str(failed.exception).split())
    assert "1 of 6 rows are malformed, more than max_rejected = 0.15 allows" in said
    assert "beside 1 that no record can hold" in said


def test_the_main_table() -> None:
    first, second, third = (good(item) for item in read(MmRlhfRatingsConfig, "mm_rlhf_ratings.jsonl")[:3])
    assert first.prompt == (Message("user", (Part(image=0), Part(text="What does the sign say?"))),)
    assert first.responses == (
        Response("It says stop.", "m-a"),
        Response("It says go.", "m-b"),
        Response("Stop.", "m-c"),
    )
    assert [(item.objective, item.response, item.value, item.low, item.high) for item in first.ratings] == [
        ("factuality", 0, 5.0, 1.0, 5.0),
        ("factuality", 1, 1.0, 1.0, 5.0),
        ("factuality", 2, 5.0, 1.0, 5.0),
        ("helpfulness", 0, 4.0, 1.0, 5.0),
        ("helpfulness", 1, 2.0, 1.0, 5.0),
        ("helpfulness", 2, 3.0, 1.0, 5.0),
        ("safety", 0, 5.0, 1.0, 5.0),
        ("safety", 1, 5.0, 1.0, 5.0),
    ]
    assert first.rankings == (Ranking("overall", ((0, 2), (1,))),)
    assert first.critiques == (
        Critique("Reads the sign right.", 0),
        Critique("Invents a word.", 1),
        Critique("The second is wrong.", None, "overall"),
    )
    assert first.provenance == {
        "id": "long-1",
        "answer": "Stop.",
        "unread": [{"response": 2, "aspect": "ethical", "value": "N/A", "why": "not a number"}],
    }
    # answers, ratings by the models' names; a ranking in words
    assert second.responses == (Response("Red.", "m-a"), Response("Blue.", "m-b"))
    assert [(item.objective, item.response, item.value) for item in second.ratings] == [
        ("factuality", 0, 4.0),
        ("factuality", 1, 2.0),
        ("helpfulness", 0, 3.0),
        ("helpfulness", 1, 3.0),
    ]
    assert second.rankings == (Ranking("overall", ((0,), (1,))),)
    assert second.critiques == (Critique("As it is.", 0, "factuality"), Critique("Short.", 0, "helpfulness"))
    assert second.provenance["unread"] == [
        {"aspect": "ethical", "value": [5, 5, 5], "why": "not one for each of the 2 answers"}
    ]
    # the second answer is blank: what was judged of it goes with it
    assert third.responses == (Response("Red."), Response("Green."))
    assert [(item.response, item.value) for item in third.ratings] == [(1, 2.0)]
    assert third.rankings == (Ranking("overall", ((1,), (0,))),)
    assert [item.text for item in third.critiques] == ["All are short.", "One reason.", "Another."]


def test_the_main_table_says_what_it_cannot_read() -> None:
    items = read(MmRlhfRatingsConfig, "mm_rlhf_ratings.jsonl")
    assert faults(items) == {
        ":4": ("shows a video, which no record holds", "other-modality"),
        ":5": ("no response has a rating that can be read", "no-preference"),
        ":6": (
            "an item of models_output is neither a text nor an object with one in response, output, answer, text, "
            "content",
            "field-wrong",
        ),
        ":7": ("has no field models_output", "field-missing"),
    }
    config = MmRlhfRatingsConfig(name="x", path=FIXTURES / "mm_rlhf_ratings.jsonl", ranking="order")
    row = rows_of("mm_rlhf_ratings.jsonl")[0]
    # the answers' numbers, the best first: the third, the first, the second
    assert good(config.adapt({**row, "final_ranking": [3, 1, 2]})[0]).rankings == (  # type: ignore[index]
        Ranking("overall", ((2,), (0,), (1,))),
    )
    for odd in ([1, 1, 2], "3>1", [0, 1, 2], ["m-a", "m-b", "m-c"], "the first"):
        record = good(config.adapt({**row, "final_ranking": odd})[0])  # type: ignore[index]
        assert record.rankings == ()
        assert record.provenance["unread"][-1]["value"] == odd
    with pytest.raises(UserError, match="lowest is 5, and must be below highest, 5"):
        parse_config({"name": "x", "path": "x", "lowest": 5}, MmRlhfRatingsConfig, "test")


def test_a_blank_video_is_none() -> None:
    row = rows_of("mm_rlhf.jsonl")[0]
    config = MmRlhfConfig(name="x", path=FIXTURES / "mm_rlhf.jsonl")
    assert config.adapt({**row, "video": ""}) == config.adapt(row)
    assert isinstance(config.adapt(row), tuple)


def test_recognised_by_what_trl_has_not() -> None:
    full, plain, video, *_ = rows_of("mm_rlhf.jsonl")
    assert MmRlhfConfig.recognise(full) == (
        "has prompt, chosen, rejected, chosen_reason, rejected_reason, ls_factor"
    )
    assert MmRlhfConfig.recognise(video) == (
        "has prompt, chosen, rejected, video, chosen_reason, rejected_reason, ls_factor"
    )
    bare = {key: value for key, value in plain.items() if not key.endswith("_reason")}
    assert MmRlhfConfig.recognise(bare) is None

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from text_fixtures import FIXTURES, good, read, scores, why

from data_tools.adapters.helpsteer import HelpSteerConfig
from data_tools.rows import text
from data_tools.rows.piece import Piece
from data_tools.schema import Message, Part, PreferenceRecord, Response
from data_tools.source import Read, Rejected


def row(prompt: object, response: object, helpfulness: object = 4) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, "helpfulness": helpfulness}


def source(path: Path, rows: list[Any], **settings: Any) -> HelpSteerConfig:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return HelpSteerConfig(name="x", path=path, **settings)


def shape(reads: list[Read]) -> list[object]:
    """For each row: the texts of the record given with it, the reason why there is none, or None."""
    return [
        read.reason
        if isinstance(read, Rejected)
        else [response.text for response in read[0].responses]
        if read
        else None
        for read in reads
    ]


def test_two_rows_of_one_prompt_are_one_record() -> None:
    rows = read(HelpSteerConfig, "helpsteer.jsonl")
    record = good(rows[0])
    assert rows[1] is None
    assert (record.id, record.source) == ("x-helpsteer.jsonl:1", "x")
    assert record.prompt == (Message("user", (Part(text="What is rust?"),)),)
    assert record.responses == (Response("A red-brown oxide of iron."), Response("A kind of paint."))
    assert scores(record) == {
        (0, "helpfulness"): 4.0,
        (0, "factuality"): 4.0,
        (0, "coherence"): 4.0,
        (0, "complexity"): 1.0,
        (0, "verbosity"): 1.0,
        (1, "helpfulness"): 0.0,
        (1, "factuality"): 0.0,
        (1, "coherence"): 4.0,
        (1, "complexity"): 1.0,
        (1, "verbosity"): 1.0,
    }
    assert {(item.low, item.high, item.judge, item.kind) for item in record.ratings} == {
        (0.0, 4.0, "human", "scalar")
    }
    assert (record.comparisons, record.critiques) == ((), ())
    assert record.provenance == {"rows": ["helpsteer.jsonl:1", "helpsteer.jsonl:2"]}


def test_turns_and_equal_answers() -> None:
    rows = read(HelpSteerConfig, "helpsteer.jsonl")
    record = good(rows[2])
    assert rows[3] is None
    assert [(message.role, message.text) for message in record.prompt] == [
        ("user", "Name a planet."),
        ("assistant", "Mars."),
        ("user", "And a moon of it?"),
    ]
    # nothing sets the two against each other, so the same answer twice is no fault
    assert record.responses == (Response("Phobos."), Response("Phobos."))
    assert record.comparisons == ()


def test_rows_that_cannot_join_leave_the_others_alone() -> None:
    rows = read(HelpSteerConfig, "helpsteer.jsonl")
    assert why(rows[4]) == ("text-empty", "response is empty")
    record = good(rows[5])
    assert record.id == "x-helpsteer.jsonl:6"
    assert record.responses == (Response("Serene."),)
    assert scores(record) == {(0, "helpfulness"): 4.0, (0, "complexity"): 1.0, (0, "verbosity"): 0.0}
    assert record.provenance == {
        "unread": [
            {"response": 0, "aspect": "correctness", "why": "there is none"},
            {"response": 0, "aspect": "coherence", "value": 5, "why": "not from 0 to 4"},
        ]
    }
    # the same prompt further down is another record
    assert good(rows[6]).responses == (Response("It is what old iron turns to."),)
    assert [why(item) for item in rows[7:]] == [
        ("no-preference", "no response has a rating that can be read"),
        ("field-missing", "has no field response"),
    ]


def test_a_read_for_each_row(tmp_path: Path) -> None:
    rows = [
        row("a", "1"),
        row(" a ", "2"),
        row("a", "", 3),
        row("a", "3", "N/A"),
        row("a", "4"),
        "{broken",
        row("a", "5"),
        row(7, "6"),
        row(7, "7"),
        3,
        row("b", "8"),
    ]
    config = source(tmp_path / "x.jsonl", rows)
    expected: list[object] = [
        ["1", "2", "4"],
        None,
        "response is empty",
        "no response has a rating that can be read",
        None,
        "not valid JSON",
        ["5"],
        "prompt is no text",
        "prompt is no text",
        "the row is no JSON object",
        ["8"],
    ]
    assert shape(list(config.read(0))) == expected
    # records + quarantined rows + rows that went into another row's record = rows
    records = [item for item in config.generate(0) if isinstance(item, PreferenceRecord)]
    assert [len(record.responses) for record in records] == [3, 1, 1]
    limited = source(tmp_path / "x.jsonl", rows, limit=2)
    assert shape(list(limited.read(0))) == [["1", "2"], None]
    assert limited.pieces() == ()


def test_a_cut_through_a_file_cuts_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("a" * 50, str(number)) for number in range(4)] + [row("b", "4")]
    config = source(tmp_path / "x.jsonl", rows)

    def small(path: Path, *_: object) -> tuple[Piece, ...]:
        return tuple(text.line_pieces(path, path.name, 100))

    monkeypatch.setattr("data_tools.adapters.base.pieces", small)
    assert len(small(config.path)) == 3  # two rows of the group in each of the first two
    (piece,) = config.pieces()
    assert (piece.start, piece.stop, piece.first) == (0, config.path.stat().st_size, 1)
    expected = [["0", "1", "2", "3"], None, None, None, ["4"]]
    assert shape(list(config.read(0, piece))) == expected
    assert shape(list(config.read(0))) == expected
    assert list(config.read(0, piece)) == list(config.read(0))


def test_a_group_does_not_go_on_in_the_next_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "y.jsonl", [row("a", "2"), row("a", "3")])
    config = source(tmp_path / "x.jsonl", [row("a", "1")])

    def two(*_: object) -> tuple[Piece, ...]:
        return tuple(Piece(str(tmp_path / name), "lines", name, first=1) for name in ("x.jsonl", "y.jsonl"))

    monkeypatch.setattr("data_tools.adapters.base.pieces", two)
    assert shape(list(config.read(0))) == [["1"], ["2", "3"], None]
    assert [shape(list(config.read(0, piece))) for piece in config.pieces()] == [[["1"]], [["2", "3"], None]]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "<extra_id_1>User\nhi\n<extra_id_1>Assistant\nhello\n<extra_id_1>User\nbye",
            ["hi", "hello", "bye"],
        ),
        ("what does <extra_id_1> mean?", ["what does <extra_id_1> mean?"]),
        ("hi\n<extra_id_1>Assistant\nhello", "the prompt doesn't end with a user's turn"),
        ("hi\n<extra_id_1>User\nyou", "the prompt's turns don't alternate between user and assistant"),
        ("hi\n<extra_id_1>Assistant\n\n<extra_id_1>User\nyou", "a turn of the prompt is empty"),
    ],
)
def test_prompts_of_several_turns(prompt: str, expected: object) -> None:
    config = HelpSteerConfig(name="x", path=FIXTURES / "helpsteer.jsonl")
    result = config.adapt(row(prompt, "a"))
    if isinstance(expected, str):
        assert why(result)[1].startswith(expected)
    else:
        assert [message.text for message in good(result).prompt] == expected


def test_a_record_has_a_limit_of_answers(tmp_path: Path) -> None:
    rows = [row("a", str(number)) for number in range(130)]
    records = list(source(tmp_path / "x.jsonl", rows).generate(0))
    assert [len(good((item,)).responses) for item in records] == [64, 64, 2]
    assert [item.id for item in records if isinstance(item, PreferenceRecord)] == [
        "x-x.jsonl:1",
        "x-x.jsonl:65",
        "x-x.jsonl:129",
    ]


def test_a_prompt_with_half_a_million_blanks_is_read() -> None:
    """That is, in a time that doesn't grow with the square of their number."""
    found = HelpSteerConfig(name="x", path=FIXTURES).adapt(row("q" + "\n" * 500_000 + "end", "answer"))
    assert isinstance(found, tuple)

"""What stands in tables and lists in the place of a picture that isn't there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from sample_records import png

from data_tools.adapters import ADAPTERS
from data_tools.source import Rejected

TYPES = {str(adapter.model_fields["type"].default): adapter for adapter in ADAPTERS}
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
NAMES = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
TURNS = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": text}] for text in ("a", "b")]
FIELDS = {"prompt": "q", "response_1": "a", "response_2": "b"}
ANSWERS = {"preference": [{"user_id": "u", "value": "response_1", "status": "submitted"}]}
NOTHING = [None, "", "  ", math.nan, [], [None], [""], [math.nan], {"bytes": None, "path": None}]


def adapted(kind: str, row: dict[str, Any], **settings: Any) -> Any:
    found = TYPES[kind](name="x", path=Path(__file__), **settings).adapt(row)
    assert not isinstance(found, Rejected), (kind, found.reason)
    return found[0]


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
def test_rows_of_text_among_those_with_pictures(nothing: object) -> None:
    rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("columns", {**PAIR, "img": nothing}, {"image": "img", **NAMES}),
        ("columns", {**PAIR, "meta": {"img": nothing}}, {"image": "meta.img", **NAMES}),
        *(
            ("trl", {**PAIR, key: nothing}, {})
            for key in ("images", "image", "image_path", "picture", "video")
        ),
        ("messages", {"messages": TURNS[0], "images": nothing}, {}),
        ("rl_prompts", {"prompt": "q", "answer": 3, "images": nothing}, {}),
        ("mmpr", {**PAIR, "question": "q", "image": nothing}, {}),
        (
            "arena",
            {
                "conversation_a": TURNS[0],
                "conversation_b": TURNS[1],
                "model_a": "m",
                "model_b": "n",
                "winner": "model_a",
                "images": nothing,
            },
            {},
        ),
        (
            "llava_rlhf",
            {
                "conversations": [{"from": "human", "value": "q"}],
                "output_1": {"value": "a"},
                "output_2": {"value": "b"},
                "preference": 1,
                "image": nothing,
            },
            {},
        ),
        ("argilla", {"fields": {**FIELDS, "image": nothing}, "responses": ANSWERS, "suggestions": {}}, {}),
    ]
    for kind, row, settings in rows:
        assert adapted(kind, row, **settings).images == (), kind
    assert len(adapted("mm_rlhf", {**PAIR, "image": png(), "video": nothing}).images) == 1


def test_reasons_and_answers_that_a_table_has_none_of() -> None:
    assert adapted("mm_rlhf", {**PAIR, "image": png(), "chosen_reason": math.nan}).critiques == ()
    assert adapted("rl_prompts", {"prompt": "q", "answer": math.nan, "solution": "3"}).reference == {
        "answer": "3"
    }


def test_a_second_field_is_read_where_the_first_is_blank() -> None:
    for nothing in NOTHING:
        assert len(adapted("trl", {**PAIR, "images": nothing, "image": png()}).images) == 1
        assert (
            len(adapted("columns", {**PAIR, "a": nothing, "b": png()}, image=["a", "b"], **NAMES).images) == 1
        )


def test_a_right_answer_that_a_table_has_none_of() -> None:
    assert adapted("columns", {**PAIR, "right": math.nan}, reference="right", **NAMES).reference == {}


def test_a_table_with_gaps(tmp_path: Path) -> None:
    """As pandas writes a column of nothing: numbers that are NaN."""
    table = pa.table(
        {**{key: [value] for key, value in PAIR.items()}, "images": [math.nan], "video": [math.nan]}
    )
    parquet.write_table(table, tmp_path / "x.parquet")
    for kind, settings in (("trl", {}), ("columns", {"image": "images", **NAMES})):
        (record,) = TYPES[kind](name="x", path=tmp_path / "x.parquet", **settings).generate(0)
        assert not isinstance(record, Rejected), record
        assert record.images == ()

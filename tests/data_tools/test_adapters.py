from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import png

from data_tools.adapters import ADAPTERS, hh_rlhf, llamafactory, trl
from data_tools.adapters.base import FileSource
from data_tools.errors import UserError
from data_tools.images import read_bytes, read_image
from data_tools.rows.json_value import NO_UTF8
from data_tools.rows.open import all_rows
from data_tools.schema import Message, Part, PreferenceRecord, from_json, to_json
from data_tools.source import CODES, Read, Rejected

FIXTURES = Path(__file__).parent / "fixtures"
HH = hh_rlhf.HhRlhfConfig(name="hh", path=Path("x.jsonl"))
LF = llamafactory.LlamaFactoryConfig(name="lf", path=Path("x.json"))
TRL = trl.TrlConfig(name="trl", path=Path("x.jsonl"))


def good(result: PreferenceRecord | Read) -> PreferenceRecord:
    if isinstance(result, tuple):
        (result,) = result
    assert isinstance(result, PreferenceRecord), result
    return result


def reason(result: PreferenceRecord | Read) -> str:
    assert isinstance(result, Rejected)
    return result.reason


def test_hh_row() -> None:
    shared = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: one\n\nHuman: more"
    row = {"chosen": shared + "\n\nAssistant: good", "rejected": shared + "\n\nAssistant: bad "}
    record = good(HH.adapt(row))
    assert [(message.role, message.text) for message in record.prompt] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "one\n\nmore"),
    ]
    assert [response.text for response in record.responses] == ["good", "bad"]
    assert record.comparisons[0].objective == "safety"
    assert (record.comparisons[0].better, record.comparisons[0].worse) == (0, 1)


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        (
            "\n\nHuman: a\n\nAssistant: x",
            "\n\nHuman: b\n\nAssistant: y",
            "chosen and rejected don't share a prompt",
        ),
        (
            "\n\nHuman: a\n\nAssistant: x",
            "\n\nHuman: a\n\nAssistant: x ",
            "chosen and rejected are the same answer",
        ),
        ("\n\nHuman: a\n\nAssistant: ", "\n\nHuman: a\n\nAssistant: y", "the last answer of chosen is empty"),
        ("\n\nHuman: a", "\n\nHuman: a\n\nAssistant: y", "chosen is no transcript"),
        ("\n\nHuman: \n\nAssistant: x", "\n\nHuman: \n\nAssistant: y", "a turn of the prompt is empty"),
        ("\n\nAssistant: x", "\n\nAssistant: y", "chosen is no transcript"),
        (
            "Robot: a\n\nAssistant: x",
            "Robot: a\n\nAssistant: y",
            "the prompt doesn't begin with a Human turn",
        ),
        (3, "\n\nHuman: a\n\nAssistant: y", "chosen is no text"),
    ],
)
def test_hh_rejects(chosen: object, rejected: object, why: str) -> None:
    assert reason(HH.adapt({"chosen": chosen, "rejected": rejected})).startswith(why)


def test_hh_real_data(real_data: Callable[[str], Path]) -> None:
    config = HH.model_copy(update={"path": real_data("hh-rlhf/harmless-base.jsonl")})
    items = list(config.generate(0))
    assert len(items) == 1500
    why = Counter(item.reason for item in items if isinstance(item, Rejected))
    assert sum(why.values()) < 10
    assert all(item.prompt[-1].role == "user" for item in items if isinstance(item, PreferenceRecord))


def test_llamafactory_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((5, 6, 7)))
    row = {
        "conversations": [
            {"from": "system", "value": "be kind"},
            {"from": "human", "value": "<image>What is it?"},
        ],
        "chosen": {"from": "gpt", "value": "a dot"},
        "rejected": {"from": "gpt", "value": "a cat"},
        "images": ["a.png"],
    }
    config = llamafactory.LlamaFactoryConfig(name="lf", path=tmp_path / "x.json")
    record = good(config.adapt(row))
    assert record.prompt[0] == Message("system", (Part(text="be kind"),))
    assert record.prompt[1] == Message("user", (Part(image=0), Part(text="What is it?")))
    assert read_image(record.images[0]).getpixel((0, 0)) == (5, 6, 7)
    assert record.comparisons[0].objective == "helpfulness"
    for change, why in (
        ({"images": []}, "the number of <image> marks differs from the number of images"),
        ({"images": ["a.png", "a.png"]}, "the number of <image> marks differs from the number of images"),
        ({"images": ["../a.png"]}, "an image leaves the image folder"),
        ({"images": ["https://x.org/a.png"]}, "an image is a URL"),
        ({"images": [3]}, "an image is neither a path nor bytes"),
        ({"videos": ["a.mp4"]}, "has a video in its field videos"),
        ({"chosen": {"from": "human", "value": "x"}}, "chosen is not one assistant's turn"),
        ({"chosen": row["rejected"]}, "chosen and rejected are the same answer"),
        ({"conversations": []}, "conversations is neither a text nor a list of messages"),
        (
            {"conversations": row["conversations"] + row["conversations"][1:]},
            "the prompt's turns don't alternate",
        ),
        ({"system": "be brief"}, "the field system differs from the conversation's own turn of the system"),
        (
            {"conversations": [{"from": "observation", "value": "x"}]},
            "a message of conversations is a tool's",
        ),
    ):
        assert reason(config.adapt({**row, **change})).startswith(why), change


def test_llamafactory_real_data(real_data: Callable[[str], Path]) -> None:
    config = LF.model_copy(update={"path": real_data("llamafactory-dpo-en/dpo_en_demo.json")})
    records = [good(item) for item in config.generate(0)]
    assert len(records) == 220
    assert sum(record.prompt[0].role == "system" for record in records) == 58


def test_trl_forms(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    config = trl.TrlConfig(name="trl", path=tmp_path / "x.jsonl")
    plain = good(config.adapt({"prompt": "q", "chosen": "a", "rejected": "b"}))
    assert (plain.prompt[0].text, plain.responses[0].text, plain.responses[1].text) == ("q", "a", "b")
    image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}
    answers: dict[str, list[dict[str, Any]]] = {
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "b"}]}],
    }
    shown = good(config.adapt({"prompt": [image], "images": ["a.png"], **answers}))
    assert shown.prompt[0].parts == (Part(image=0), Part(text="q"))
    unplaced = good(config.adapt({"prompt": "q", "images": ["a.png"], **answers}))
    assert unplaced.prompt[0].parts == (Part(image=0), Part(text="q"))
    implicit = {key: [{"role": "user", "content": "q"}, *turns] for key, turns in answers.items()}
    assert good(config.adapt(implicit)).prompt == plain.prompt
    empty = good(config.adapt({"prompt": "q", "chosen": "a", "rejected": "b", "images": []}))
    assert empty.modality == "text"


@pytest.mark.parametrize(
    ("roles", "fits"),
    [
        ("user", True),
        ("system user", True),
        ("user assistant user", True),
        ("system user assistant user", True),
        ("user user", False),
        ("assistant user", False),
        ("user system user", False),
        ("system system user", False),
        ("user assistant assistant user", False),
    ],
)
def test_turns_must_alternate(roles: str, fits: bool) -> None:
    prompt = [{"role": role, "content": "x"} for role in roles.split()]
    result = TRL.adapt({"prompt": prompt, "chosen": "a", "rejected": "b"})
    assert isinstance(result, tuple) == fits
    if not fits:
        assert reason(result) == (
            "the prompt's turns don't alternate between user and assistant (system only first)"
        )


def test_trl_kto_rows() -> None:
    for label, value in ((True, 1.0), (False, 0.0)):
        record = good(TRL.adapt({"prompt": "q", "completion": "a", "label": label}))
        (rating,) = record.ratings
        assert (rating.value, rating.low, rating.high, rating.response) == (value, 0.0, 1.0, 0)
        assert record.comparisons == ()


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": "a", "rejected": "b"}, "there is no prompt: neither a field prompt nor a beginning"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same answer"),
        ({"prompt": "q", "chosen": "a"}, "has no field rejected"),
        ({"prompt": "q", "chosen": " ", "rejected": "a"}, "chosen is empty"),
        ({"prompt": "q", "completion": "a", "label": 2}, "label is neither true nor false"),
        ({"prompt": "q", "completion": "a", "label": None}, "label is blank, so its answer wasn't judged"),
        ({"prompt": "q", "rejected": "a"}, "has no field chosen"),
        (
            {"prompt": [{"role": "tool", "content": "x"}], "chosen": "a", "rejected": "b"},
            "a message of prompt is a tool's, which is not supported",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "a", "rejected": "b"},
            "the number of image parts differs from the number of images",
        ),
        (
            {
                "prompt": "q",
                "chosen": [{"role": "assistant", "content": [{"type": "image"}]}],
                "rejected": "b",
            },
            "chosen holds an image",
        ),
        (
            {
                "prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
                "chosen": "x",
                "rejected": "y",
            },
            "the prompt's turns don't alternate between user and assistant",
        ),
    ],
)
def test_trl_rejects(row: dict[str, Any], why: str) -> None:
    assert reason(TRL.adapt(row)).startswith(why)


# a good row of each format: the first of its fixture, where it has one
ROWS_OF: dict[str, dict[str, Any]] = {
    "hh_rlhf": {key: f"\n\nHuman: a\n\nAssistant: {key}" for key in ("chosen", "rejected")},
    "llamafactory": {
        "conversations": [{"from": "human", "value": "a"}],
        **{key: {"from": "gpt", "value": key} for key in ("chosen", "rejected")},
    },
    "trl": {"prompt": "a", "chosen": "b", "rejected": "c", "images": []},
}
ROWS_OF["columns"] = {"ask": "a", "pic": "images/red.png", "good": "b", "bad": "c", "meta": {"right": 3}}
SETTINGS = {
    "columns": {
        "prompt": "ask",
        "image": "pic",
        "chosen": "good",
        "rejected": "bad",
        "reference": "meta.right",
    }
}
for file in sorted(FIXTURES.glob("*.json*")):
    ROWS_OF.setdefault(file.name.partition(".")[0], next(row for _, row in all_rows(file)))  # type: ignore[misc]

INNER = [
    "role",
    "content",
    "type",
    "text",
    "from",
    "value",
    "bytes",
    "path",
    "x_loc",
    "y_loc",
    "size",
    "color",
]
KEYS = st.sampled_from(
    sorted(
        {
            *(mark for adapter in ADAPTERS for mark in adapter.marks),
            *(key for row in ROWS_OF.values() for key in row),
            *("completion", "label", "image", "videos", "video", "system", *INNER),
        }
    )
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "human",
        "gpt",
        "image",
        "text",
        "<image>",
        "true",
        "1-2",
        "images/red.png",
        "images/cut.jpg",
        "data:image/png;base64,AAAA",
        "iVBORw0KGgo" + "A" * 60,
        "{}",
        "1",
        "N/A",
        "\ud800",
        "",
        "\0",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
TURN = st.fixed_dictionaries({}, optional={"role": WORDS, "content": JSON, "from": WORDS, "value": JSON})
FIELD = JSON | st.lists(TURN, max_size=3) | TURN
ROWS = st.dictionaries(KEYS, FIELD, max_size=8)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.__name__)
@given(row=ROWS | JSON, data=st.data())
@settings(max_examples=20, deadline=None)
def test_no_row_makes_an_adapter_raise(adapter: type[FileSource], row: object, data: st.DataObject) -> None:
    """Anything in place of a row, in its fields, or in a few fields of a good one: records that can be written, or a
    reason."""
    name = adapter.model_fields["type"].default
    config = adapter(name="x", path=FIXTURES / f"{name}.json", **SETTINGS.get(name, {}))
    whole = ROWS_OF.get(name, {})
    keys = data.draw(st.lists(st.sampled_from(sorted({*adapter.marks, *whole})) | KEYS, max_size=2))
    changed = {**whole, **{key: data.draw(FIELD) for key in keys}}
    for case in (row, {**whole, **row} if isinstance(row, dict) else row, changed):
        result = config.adapt(case)
        if isinstance(result, Rejected):
            assert result.reason
            assert result.code in CODES
            continue
        for record in result:
            text = json.dumps(to_json(record), ensure_ascii=False, allow_nan=False).encode()
            pictures = tuple(read_bytes(image) for image in record.images)
            assert from_json(json.loads(text), pictures).labels == record.labels


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.__name__)
def test_the_fuzzed_rows_are_good_ones(adapter: type[FileSource]) -> None:
    name = adapter.model_fields["type"].default
    config = adapter(name="x", path=FIXTURES / "rows.json", **SETTINGS.get(name, {}))
    result = config.adapt(ROWS_OF[name])
    assert isinstance(result, tuple) or (name, result.code) == (
        "nlvr",
        "image-missing",
    )  # its picture isn't there


def test_readers_take_what_files_hold(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"b": NaN}\n\xff\n' + b"[" * 100_000 + b'\n{"c": 2}')
    # a line of 100,000 brackets is no list that begins the file, so it is one bad line among others
    rows = list(all_rows(path))
    assert rows == [
        ("x.jsonl:1", {"a": 1}),
        Rejected(
            "holds NaN, which isn't JSON; write null in its place",
            "x.jsonl:3",
            "row-unreadable",
            '{"b": NaN}\n',
        ),
        Rejected(NO_UTF8, "x.jsonl:4", "row-unreadable", "\ufffd\n"),
        Rejected("not valid JSON", "x.jsonl:5", "row-unreadable", "[" * 100_000 + "\n"),
        ("x.jsonl:6", {"c": 2}),
    ]
    limited = trl.TrlConfig(name="trl", path=path, limit=2)
    assert len(list(limited.generate(0))) == 2
    (tmp_path / "y.json").write_text('[{"a": 1}, 3]')
    assert list(all_rows(tmp_path / "y.json")) == [("y.json[0]", {"a": 1}), ("y.json[1]", 3)]
    (tmp_path / "z.json").write_text('[{"a": 1}, ')
    with pytest.raises(UserError, match=r"z\.json: not valid JSON"):
        list(all_rows(tmp_path / "z.json"))
    with pytest.raises(UserError, match="No such file"):
        list(all_rows(tmp_path / "none.json"))

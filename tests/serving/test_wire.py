"""What a reward server refuses of the requests themselves: each fault by name, and none before it costs much."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from serving_samples import (
    DOT,
    FINE,
    all_items,
    local,
    parts,
    refuses,
    same,
    score,
)

from data_tools.images import encode_png
from mmrlhf.rewards.model import RewardModel
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Refused, read_items

THREAD = base64.b64encode(encode_png(Image.new("1", (1, 300)))).decode()  # of the area of a small picture


@pytest.mark.parametrize(
    ("body", "status", "words", "number"),
    [
        (b"", 400, ["no JSON"], None),
        (b'{"items": [', 400, ["no JSON"], None),
        (b"\xff\xfe", 400, ["no JSON"], None),
        (b'{"items": [{"prompt": "\\ud800", "response": "A"}]}', 400, ["no JSON"], None),
        (b'{"items": NaN}', 400, ["no JSON"], None),
        (b"[" * 10_000, 400, ["no JSON"], None),
        (b"[" * 100_000, 413, ["more than 12,000 values"], None),
        (b"[]", 422, ["no JSON object"], None),
        ({}, 422, ["items: missing"], None),
        ({"items": []}, 422, ["items: "], None),
        ({"items": [FINE], "model": "x"}, 422, ["model: unknown key"], None),
        ({"items": [FINE, {"prompt": "Q"}]}, 422, ["items.1.response: missing"], 1),
        ({"items": [FINE, {**FINE, "imagess": []}]}, 422, ["items.1.imagess", "did you mean 'images'"], 1),
        ({"items": [{**FINE, "prompt": 3}]}, 422, ["items.0.prompt", "list"], 0),
        ({"items": [{**FINE, "response": None}]}, 422, ["items.0.response"], 0),
        ({"items": [FINE, {**FINE, "prompt": []}]}, 422, ["items.1: prompt has no message"], 1),
        (
            {"items": [{**FINE, "prompt": [{"role": "judge", "content": "Q"}]}]},
            422,
            ["items.0.prompt.0.role"],
            0,
        ),
        (
            {"items": [{**FINE, "prompt": [{"role": "user", "content": [{"type": "text"}]}]}]},
            422,
            ["items.0.prompt.0.content.0", "needs text"],
            0,
        ),
        (
            {"items": [FINE, {**FINE, "prompt": [{"role": "user", "content": [{"type": "image"}]}]}]},
            422,
            ["items.1", "shows images [0], but there are 0"],
            1,
        ),
        (
            {"items": [{**FINE, "prompt": [{"role": "assistant", "content": "Hi"}], "images": [DOT]}]},
            422,
            ["items.0", "no message of a user"],
            0,
        ),
        ({"items": [FINE, {**FINE, "images": ["@@@"]}]}, 422, ["items.1.images.0", "no base64"], 1),
        ({"items": [{**FINE, "images": ["ünïcode"]}]}, 422, ["items.0.images.0", "no base64"], 0),
        (
            {"items": [{**FINE, "images": ["http://169.254.169.254/x.png"]}]},
            422,
            ["is a URL", "fetches none"],
            0,
        ),
        ({"items": [{**FINE, "images": ["data:image/png;base64,AAAA"]}]}, 422, ["not a readable"], 0),
        (
            {"items": [{**FINE, "images": ["data:image/png;base64,@"]}]},
            422,
            ["items.0.images.0", "no base64"],
            0,
        ),
        ({"items": [{**FINE, "images": ["data:image/svg+xml,<svg/>"]}]}, 422, ["nor a data address"], 0),
        ({"items": [{**FINE, "images": [THREAD]}]}, 422, ["longer than 200 times its shorter side"], 0),
        ({"items": [{**FINE, "images": [DOT[:40]]}]}, 422, ["items.0.images.0"], 0),
        ({"items": [{**FINE, "images": [""]}]}, 422, ["items.0.images.0", "empty"], 0),
        ({"items": [{**FINE, "images": [base64.b64encode(b"words").decode()]}]}, 422, ["not a readable"], 0),
        ({"items": [{**FINE, "images": [DOT] * 4}]}, 413, ["4 images", "at most 3"], 0),
        ({"items": [FINE, 3]}, 422, ["items.1: is no JSON object"], 1),
        ({"items": [{**FINE, **{f"k{i}": 0 for i in range(15)}}]}, 422, ["items.0", "17 keys"], 0),
        ({"items": [{**FINE, "prompt": [0] * 257}]}, 413, ["items.0.prompt: 257 messages; at most 256"], 0),
        (
            {"items": [{**FINE, "prompt": [{"role": "user", "content": [0] * 257}]}]},
            413,
            ["items.0.prompt.0.content: 257 parts; at most 256"],
            0,
        ),
        ({"items": [{**FINE, "prompt": [0] * 20}]}, 422, ["items.0.prompt.9", "and 10 more"], 0),
        ({"items": [FINE] * 13}, 413, ["13 items", "at most 12"], None),
        (
            {"items": [FINE, {**FINE, "response": "word " * 500}]},
            422,
            ["items.1", "over the limit of 400"],
            1,
        ),
        ({"items": [FINE, {**FINE, "prompt": "word " * 500}]}, 422, ["items.1", "over the limit of 400"], 1),
        ({"items": [{**FINE, "prompt": "x" * 30_000}]}, 422, ["30,000 characters"], 0),
    ],
)
def test_what_is_wrong_is_named(
    url: str, judge: RewardModel, body: Any, status: int, words: list[str], number: int | None
) -> None:
    refuses(score(url, body), status, *words, item=number)
    same(score(url, {"items": [all_items()[1]]}), local(judge), [1])  # and it goes on


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"items": [' + b'"",' * 1_000_000 + b'""]}',
        b'{"items": [{"prompt": "Q", "response": "A", "images": [' + b"[]," * 1_000_000 + b"[]]}]}",
        b'{"items": [{' + b",".join(b'"%d":0' % i for i in range(400_000)) + b"}]}",
    ],
)
def test_a_small_body_takes_little_memory(body: bytes) -> None:
    """3 MB of empty values would take 100 MB and more once they are read, and as much again for what is wrong."""
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="more than 256,000 values") as caught:
            read_items(body, None, ServerSettings())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert most < 2**20


def test_long_texts_are_no_values() -> None:
    """A response of a million commas and brackets is one value."""
    body = json.dumps({"items": [{"prompt": 'a "word"', "response": ',[{"' * 250_000}]}).encode()
    (found,) = read_items(body, None, ServerSettings())
    assert len(found.response) == 1_000_000


WORDS = st.sampled_from(
    ["items", "prompt", "response", "images", "role", "content", "type", "text", "image", "user", DOT]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
PROMPT = JSON | st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]),
            "content": st.lists(
                st.sampled_from(
                    [{"type": "image"}, {"type": "text", "text": "a"}, {"type": "image", "index": -1}]
                ),
                max_size=3,
            ),
        }
    ),
    max_size=3,
)
ITEM = JSON | st.fixed_dictionaries(
    {
        "prompt": PROMPT,
        "response": st.text(max_size=8) | JSON,
        "images": st.lists(st.just(DOT) | st.text(max_size=5), max_size=2),
    }
)
BODY = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"items": st.lists(ITEM, max_size=2)}).map(
        lambda value: json.dumps(value).encode()
    )
)
KINDS = st.sampled_from(
    ["application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain", ""]
)


@hypothesis_settings(
    max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(body=BODY, kind=KINDS)
def test_nothing_that_is_sent_is_a_fault_of_the_server(url: str, body: bytes, kind: str) -> None:
    reply = score(url, body, {"Content-Type": kind})
    assert reply.status in (200, 400, 413, 415, 422), (body, reply.text)
    assert reply.status == 200 or isinstance(reply.json["error"], str)


@hypothesis_settings(max_examples=30, deadline=None, database=None)
@given(name=st.text(max_size=6), data=st.binary(max_size=40), cut=st.integers(0, 200))
def test_nor_are_parts(url: str, name: str, data: bytes, cut: int) -> None:
    body, headers = parts(
        ("request", data, False), (name.replace('"', "").encode("utf-8", "ignore").decode(), data, True)
    )
    reply = score(url, body[: len(body) - cut], headers)
    assert reply.status in (400, 422), reply.text


def test_images_are_base64_in_each_form_that_clients_send(url: str, judge: RewardModel) -> None:
    """As OpenAI's clients write a data address, as `base64 FILE` writes lines, and bare."""
    asked = all_items()[1]
    (bare,) = asked["images"]
    lines = base64.encodebytes(base64.b64decode(bare)).decode()
    expected = score(url, {"items": [asked]}).json["results"]
    for form in (
        f"data:image/png;base64,{bare}",
        f"DATA:image/PNG;charset=utf-8;base64,{bare}",
        lines,
        lines.replace("\n", "\r\n"),
        f"data:image/png;base64,{lines}",
        f" {bare}\n",
    ):
        reply = score(url, {"items": [{**asked, "images": [form]}]})
        assert reply.status == 200, reply.text
        assert reply.json["results"] == expected

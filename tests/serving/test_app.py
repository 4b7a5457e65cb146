"""The reward server: its scores are the model's own, and what it refuses it refuses by name, for that request alone."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image
from serving_samples import (
    ANSWERS,
    BLUE,
    DOT,
    FINE,
    OBJECTIVES,
    RECORDS,
    RED,
    all_items,
    item,
    local,
    parts,
    refuses,
    running,
    same,
    score,
    send,
    served,
)

from data_tools.image_limits import STANDARD
from data_tools.images import encode_png
from data_tools.schema import to_json
from mmrlhf.rewards.model import RewardModel
from mmrlhf.serving.app import make_app
from mmrlhf.serving.callers import check_caller
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Refused
from mmrlhf.types import Rewards, Row


def test_scores_are_the_models_own(url: str, judge: RewardModel) -> None:
    """To 1e-5, whatever batch they are in; of answers that lie apart by more than a tenth."""
    expected = local(judge)
    assert expected.mean_BK[expected.judged_BK].std() > 0.1
    assert expected.judged_BK.tolist() == [[True, False], *[[True, True]] * 5]
    same(score(url, {"items": all_items()}), expected)
    for i, one in enumerate(all_items()):
        same(score(url, {"items": [one]}), expected, [i])
    order = [4, 1, 2, 0, 3, 5]
    same(score(url, {"items": [all_items()[i] for i in order]}), expected, order)


def test_requests_at_the_same_time_get_their_own_answers(url: str, judge: RewardModel) -> None:
    expected, items = local(judge), all_items()
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            replies = list(pool.map(lambda one: score(url, {"items": [one]}), items))
            for i, reply in enumerate(replies):
                same(reply, expected, [i])


def test_several_parts(url: str, judge: RewardModel) -> None:
    """The images as files, one of which two items show; the JSON as a field, or as a file itself."""
    names = {RED: "red", BLUE: "blue"}
    items = [
        {
            "prompt": to_json(of)["prompt"],
            "response": text,
            "images": [names[ref.data] for ref in of.images if ref.data],
        }
        for of, text in zip(RECORDS, ANSWERS, strict=True)
    ]
    asked = json.dumps({"items": items}).encode()
    for as_file in (False, True):
        same(
            score(url, *parts(("request", asked, as_file), ("red", RED, True), ("blue", BLUE, True))),
            local(judge),
        )


def test_ways_to_write_a_prompt(url: str, judge: RewardModel) -> None:
    """A text, in front of which the images stand; messages of text, likewise; messages with places."""
    expected = local(judge)
    red = base64.b64encode(RED).decode()
    prompts: list[Any] = [
        "What color is it?",
        [{"role": "user", "content": "What color is it?"}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What color is it?"}]}],
        [
            {
                "role": "user",
                "content": [{"type": "image", "index": 0}, {"type": "text", "text": "What color is it?"}],
            }
        ],
    ]
    for prompt in prompts:
        reply = score(url, {"items": [{"prompt": prompt, "response": ANSWERS[1], "images": [red]}]})
        same(reply, expected, [1])
    same(score(url, {"items": [{"prompt": "What is 2 + 2?", "response": "4."}]}), expected, [0])


@pytest.mark.parametrize("fault", ["cut", "bomb"])
def test_a_bad_image_spoils_only_its_own_request(url: str, judge: RewardModel, fault: str) -> None:
    large = encode_png(Image.new("RGB", (97, 96), "red"))
    data, word = (
        (RED[:200], "truncated")
        if fault == "cut"
        else (large, "97 x 96 pixels, more than the limit of 9,216")
    )
    bad = {"items": [item(RECORDS[0], "4."), {**FINE, "images": [DOT, base64.b64encode(data).decode()]}]}
    with ThreadPoolExecutor(6) as pool:
        asked = [bad if i % 2 else {"items": all_items()[:2]} for i in range(6)]
        for i, reply in enumerate(pool.map(lambda body: score(url, body), asked)):
            if i % 2:
                refuses(reply, 422, "items.1.images.1", word, item=1)
            else:
                same(reply, local(judge), [0, 1])


def test_parts_that_do_not_fit(url: str) -> None:
    asked = json.dumps({"items": [{**FINE, "images": ["a", "b"]}]}).encode()
    refuses(score(url, *parts(("a", RED, True))), 422, "no part of the request is named 'request'")
    refuses(score(url, *parts(("request", asked, False), ("a", RED, True))), 422, "named 'b'", item=0)
    twice = parts(("request", asked, False), ("a", RED, True), ("a", RED, True))
    refuses(score(url, *twice), 422, "two parts of the request are named 'a'")
    kind = {"Content-Type": "multipart/form-data; boundary=lines-between"}
    cut = parts(("request", asked, False))[0][:-30]
    for body, words in ((b"", "is missing"), (b"hello", "can't be told apart"), (cut, "is missing")):
        refuses(score(url, body, kind), 400, words)
    nameless = parts(("x", asked, False))[0].replace(b'name="x"', b"x")
    refuses(score(url, nameless, kind), 400, "a part of the request has no name")
    many = parts(*((f"p{i}", b"", True) for i in range(38)))
    refuses(score(url, *many), 413, "more than 37 parts")  # of 12 items with 3 images, and the JSON
    refuses(score(url, b"x", {"Content-Type": "multipart/form-data"}), 400, "names no boundary")


def test_other_addresses_methods_and_types(url: str) -> None:
    assert send(url, "GET", "/healthz").json == {"status": "ok"}
    assert send(url, "GET", "/readyz").json == {"status": "ready"}
    refuses(send(url, "GET", "/nothing"), 404)
    refuses(send(url, "GET", "/docs"), 404)
    refuses(send(url, "GET", "/v1/score"), 405)
    # a page on the web could send this to a server on localhost without being asked
    refuses(score(url, {"items": [FINE]}, {"Content-Type": "text/plain"}), 415, "application/json")


def test_the_model_is_told(url: str, judge: RewardModel) -> None:
    told = send(url, "GET", "/v1/model").json
    assert told["model"] == "a/model"
    assert told["objectives"] == OBJECTIVES
    assert told["card"]["norms"]["factuality"] == {"image-text": [-1.0, 0.5]}
    assert told["limits"]["max_images"] == 3
    assert told["fingerprint"] == score(url, {"items": [FINE]}).json["fingerprint"]
    bias = next(judge.heads.parameters()).data.view(-1)
    before = bias[0].item()
    try:
        bias[0] += 1.0
        other = make_app(judge, "a/model").state.service.scorer.fingerprint
    finally:
        bias[0] = before
    assert other != told["fingerprint"]


def test_a_request_that_is_too_large_is_refused_before_it_is_read(url: str) -> None:
    """Of a megabyte that is announced nothing is sent; of one that isn't, less than all."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.putrequest("POST", "/v1/score")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(2**20))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, "larger than 0.5 MB" in response.read().decode()) == (413, True)
    connection.close()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.putrequest("POST", "/v1/score")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"80001\r\n" + b" " * 0x80001 + b"\r\n")  # one byte over half a megabyte, and no end
    assert connection.getresponse().status == 413
    connection.close()


def test_a_request_that_never_arrives(judge: RewardModel) -> None:
    with served(judge, body_timeout=0.1) as (url, app):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.putrequest("POST", "/v1/score")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b'{"items"')
        assert connection.getresponse().status == 408
        connection.close()
        # one that breaks off is nobody's fault but its own
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.putrequest("POST", "/v1/score")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.close()
        assert score(url, {"items": [FINE]}).status == 200
        assert app.state.service.intake.held == 0


def test_a_token(judge: RewardModel) -> None:
    with served(judge, token="secret") as (url, _):
        asked = {"items": [FINE]}
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "secret"},
            {"Authorization": "Bearer "},
        ):
            reply = score(url, asked, headers)
            refuses(reply, 401, "token")
            assert reply.headers["www-authenticate"] == "Bearer"
            assert send(url, "GET", "/v1/model", headers=headers).status == 401
            assert send(url, "GET", "/metrics", headers=headers).status == 401
        assert score(url, asked, {"Authorization": "Bearer secret"}).status == 200
        assert send(url, "GET", "/healthz").status == 200


def test_a_web_page_cannot_ask_a_server_without_a_token(judge: RewardModel) -> None:
    """Neither under its own name, which leads here (DNS rebinding), nor with a form."""
    with served(judge) as (url, _):
        host = urlsplit(url).netloc
        port = host.partition(":")[2]
        asked = {"items": [FINE]}
        for name in (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[",
            "",
        ):
            refuses(score(url, asked, {"Host": name}), 403, "isn't this server")
            assert send(url, "GET", "/v1/model", headers={"Host": name}).status == 403
        for page in ("http://evil.example", "null", f"https://evil.example:{port}"):
            refuses(score(url, asked, {"Origin": page}), 403, "another origin")
        for name in (host, "localhost", f"localhost:{port}", f"[::1]:{port}"):
            assert score(url, asked, {"Host": name}).status == 200
        assert score(url, asked, {"Origin": url}).status == 200
    with served(judge, token="secret") as (url, _):
        told = {"Authorization": "Bearer secret", "Host": "reward-host"}
        assert score(url, asked, told).status == 200


def test_a_server_on_all_addresses_has_addresses_for_names() -> None:
    check_caller({"host": "192.168.1.7:8400"}, "0.0.0.0")
    check_caller({"host": "reward-host:8400"}, "reward-host")
    for host, bound in (
        ("reward-host", "0.0.0.0"),
        ("192.168.1.7", "192.168.1.8"),
        ("10.0.0.1", "127.0.0.1"),
    ):
        with pytest.raises(Refused, match="isn't this server"):
            check_caller({"host": host}, bound)


def test_the_pixels_of_a_request_are_counted_before_any_is_decoded(
    judge: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RED and BLUE have 96 x 96 pixels each; the items that share a prompt share its images."""
    with served(judge, max_request_pixels=3 * 96 * 96) as (url, _):
        items = all_items()
        assert score(url, {"items": [items[1], items[2], items[4]]}).status == 200  # 3 images of 4
        monkeypatch.setattr("mmrlhf.serving.scoring.decode_image", None)
        reply = score(url, {"items": [items[1], items[3], items[4]]})
        refuses(reply, 413, "36,864 pixels", "at most 27,648 in a request")


def jpeg(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "JPEG", quality=30)
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_photo_is_taken_at_a_smaller_size(url: str, judge: RewardModel) -> None:
    """Up to eight times the length of the largest image; what it is decoded at counts among a request's pixels."""
    large = {**FINE, "images": [jpeg(8 * 96, 8 * 96)]}
    assert score(url, {"items": [large]}).status == 200
    refuses(
        score(url, {"items": [{**FINE, "images": [jpeg(769, 768)]}]}),
        422,
        "769 x 768 pixels, more than the limit of 589,824",
        item=0,
    )
    with served(judge, max_pixels=96 * 96, max_request_pixels=2 * 96 * 96 - 1) as (tight, _):
        assert score(tight, {"items": [large]}).status == 200
        other = {**large, "prompt": "Another?"}
        refuses(score(tight, {"items": [large, other]}), 413, "18,432 pixels", "at most 18,431 in a request")


def test_the_limits_on_images_are_no_lower_than_those_of_data_sets() -> None:
    settings = ServerSettings()
    limits = settings.image_limits
    assert (limits.max_pixels, limits.max_photo_pixels) == (40_000_000, 256_000_000)
    assert settings.max_request_pixels == 256_000_000
    # the largest file, as base64
    assert settings.max_request_bytes > STANDARD.max_bytes * 4 / 3 + 2**20


def test_metrics(judge: RewardModel) -> None:
    """Three requests of 2, 1 and no answers that are judged: one of them is refused."""
    with served(judge) as (url, _):
        score(url, {"items": [FINE, FINE]})
        score(url, {"items": [FINE]})
        score(url, {"items": []})
        reply = send(url, "GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.text.split("\n")
    for line in (
        'mmrlhf_requests_total{status="200"} 2',
        'mmrlhf_requests_total{status="422"} 1',
        "mmrlhf_request_seconds_count 3",
        'mmrlhf_request_seconds_bucket{le="+Inf"} 3',
        "mmrlhf_queue_answers 0",
        'mmrlhf_batch_answers_bucket{le="1"} 1',
        'mmrlhf_batch_answers_bucket{le="2"} 2',
        "mmrlhf_batch_answers_sum 3.0",
        "mmrlhf_batch_answers_count 2",
        "# TYPE mmrlhf_batch_answers histogram",
    ):
        assert line in lines, reply.text
    assert reply.text.endswith("\n")


Judging = Callable[..., Rewards]


@pytest.fixture
def judging(
    judge: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Judging, Sequence[Row]], Rewards]], None]:
    """Puts a function in the place of the model's judgement; it is given that, bound to its settings, and the rows."""

    def put(function: Callable[[Judging, Sequence[Row]], Rewards]) -> None:
        own = judge.judge

        def judged(rows: Sequence[Row], *args: Any, **kwargs: Any) -> Rewards:
            return function(lambda some: own(some, *args, **kwargs), rows)

        monkeypatch.setattr(judge, "judge", judged)

    return put


def is_bad(row: Row) -> bool:
    return row.prompt.record.prompt[0].text == "bad"


BAD = {"prompt": "bad", "response": "A"}


def test_a_reward_that_is_not_a_number(judge: RewardModel, judging: Any) -> None:
    """Of requests that are judged in one batch only that with the bad item fails."""
    expected, let = local(judge), threading.Event()

    def judged(own: Judging, rows: Sequence[Row]) -> Rewards:
        let.wait()
        rewards = own(rows)
        bad_B1 = torch.tensor([[is_bad(row)] for row in rows])
        return replace(rewards, mean_BK=rewards.mean_BK.masked_fill(bad_B1 & rewards.judged_BK, torch.nan))

    judging(judged)
    with served(judge, max_wait_ms=10_000, max_batch=4) as (url, _), ThreadPoolExecutor(2) as pool:
        good = pool.submit(score, url, {"items": all_items()[:2]})
        bad = pool.submit(score, url, {"items": [FINE, BAD]})
        let.set()
        refuses(bad.result(), 422, "items.1: the reward for helpfulness is nan", item=1)
        same(good.result(), expected, [0, 1])


def test_a_batch_on_which_the_model_fails(judge: RewardModel, judging: Any) -> None:
    """It is judged again row by row; what the error says stays in the log."""
    expected, sizes = local(judge), []

    def judged(own: Judging, rows: Sequence[Row]) -> Rewards:
        sizes.append(len(rows))
        if any(map(is_bad, rows)):
            raise RuntimeError("out of memory at /secret/place")
        return own(rows)

    judging(judged)
    with served(judge, max_wait_ms=10_000, max_batch=4) as (url, _), ThreadPoolExecutor(2) as pool:
        good = pool.submit(score, url, {"items": all_items()[:2]})
        bad = pool.submit(score, url, {"items": [FINE, BAD]}).result()
        refuses(bad, 500, "items.1: the model failed on it (RuntimeError)", item=1)
        assert "secret" not in bad.text
        same(good.result(), expected, [0, 1])
    assert sizes == [4, 1, 1, 1, 1]


def test_a_full_server_says_so(judge: RewardModel, judging: Any) -> None:
    """With room for 3 answers of which 2 are being judged, 2 more are too many, and 1 isn't."""
    let, begun = threading.Event(), threading.Event()

    def judged(own: Judging, rows: Sequence[Row]) -> Rewards:
        begun.set()
        let.wait()
        return own(rows)

    judging(judged)
    with served(judge, max_queue=3, max_wait_ms=0) as (url, app), ThreadPoolExecutor(2) as pool:
        first = pool.submit(score, url, {"items": [FINE, FINE]})
        begun.wait()
        full = score(url, {"items": [FINE, FINE]})
        refuses(full, 503, "2 answers are being judged", "at most 3")
        assert full.headers["retry-after"] == "1"
        second = pool.submit(score, url, {"items": [FINE]})
        while app.state.service.batcher.taken < 3:
            time.sleep(0.005)
        # now it says so before it reads what is asked
        assert score(url, b"no JSON").status == 503
        let.set()
        assert [first.result().status, second.result().status] == [200, 200]
        assert score(url, {"items": [FINE, FINE, FINE]}).status == 200
        assert app.state.service.batcher.taken == 0


def test_a_server_that_stops_answers_what_has_come_in(judge: RewardModel, judging: Any) -> None:
    let, begun = threading.Event(), threading.Event()

    def judged(own: Judging, rows: Sequence[Row]) -> Rewards:
        begun.set()
        let.wait()
        return own(rows)

    judging(judged)
    app = make_app(judge, "m", ServerSettings(max_wait_ms=0))
    with ThreadPoolExecutor(1) as pool, running(app) as (url, server):
        reply = pool.submit(score, url, {"items": [FINE]})
        begun.wait()
        server.should_exit = True
        let.set()
        assert reply.result().status == 200
    assert not app.state.service.batcher.alive

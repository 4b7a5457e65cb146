"""The client of objectives that ask over HTTP: what it tries again, and when it stops."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from http_server import as_json, serving

from data_tools.config import parse_config
from data_tools.errors import RunError, UserError
from mmrlhf.rewards.http import CircuitOpen, HttpSettings, NoAnswer, post_json


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited."""
    found: list[float] = []
    monkeypatch.setattr("mmrlhf.rewards.http.time.sleep", found.append)
    return found


def test_what_is_sent_and_read() -> None:
    with serving(lambda number, body: as_json({"twice": body["x"] * 2})) as asked:
        assert post_json(asked.url, {"x": 21}, headers={"X-Own": "yes"}) == {"twice": 42}
    assert asked.bodies == [{"x": 21}]
    assert asked.headers[0]["Content-Type"] == "application/json"
    assert asked.headers[0]["X-Own"] == "yes"


def test_what_may_pass_is_tried_again(waits: list[float]) -> None:
    answers = [
        as_json("busy", 503),
        as_json("slow", 429, **{"Retry-After": "7"}),
        (200, b"<html>", {}),
        as_json(1),
    ]
    with serving(lambda number, body: answers[number]) as asked:
        assert post_json(asked.url, {}, retries=3) == 1
    assert waits == [0.5, 7.0, 2.0]


def test_an_end_to_trying(waits: list[float]) -> None:
    answer = as_json({"error": "no room"}, 503)
    with serving(lambda number, body: answer) as asked, pytest.raises(NoAnswer) as caught:
        post_json(asked.url, {}, retries=2)
    assert (
        str(caught.value) == f'{asked.url}: status 503 Service Unavailable: {{"error": "no room"}} (3 tries)'
    )
    assert caught.value.status == 503
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "status 400 Bad Request"),
        (413, "status 413"),
        (302, "redirects aren't followed"),
        (500, "status 500"),
    ],
)
def test_what_will_not_pass_is_not(waits: list[float], status: int, words: str) -> None:
    answer = (status, b"", {"Location": "http://127.0.0.1:9/"})
    with serving(lambda number, body: answer) as asked, pytest.raises(NoAnswer, match=words):
        post_json(asked.url, {}, retries=1)
    assert len(asked.bodies) == (2 if status == 500 else 1)


def test_a_service_that_is_slow() -> None:
    gate = threading.Event()

    def slow(number: int, body: object) -> tuple[int, bytes, dict[str, str]]:
        gate.wait(10)
        return as_json(1)

    with serving(slow) as asked:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.05 seconds"):
            post_json(asked.url, {}, timeout=0.05, retries=0)
        gate.set()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 500 No\r\nContent-Length: 9999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_a_service_that_drips(start: bytes) -> None:
    """Headers, the body of an error and that of an answer: a byte now and then, each within the timeout."""
    over, sent = threading.Event(), []

    def drip(opened: socket.socket) -> None:
        connection, _ = opened.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2**16)
            connection.sendall(start)
            while not over.wait(0.02):
                connection.sendall(b"x")
                sent.append(1)

    with socket.create_server(("127.0.0.1", 0)) as opened:
        thread = threading.Thread(target=drip, args=(opened,))
        thread.start()
        try:
            with pytest.raises(NoAnswer, match=r"no answer within 0\.3 seconds|status 500 No"):
                post_json(f"http://127.0.0.1:{opened.getsockname()[1]}/", {}, timeout=0.3, retries=0)
        finally:
            over.set()
            thread.join()
    assert len(sent) < 1000  # of an error 1,200 bytes are told of: it didn't wait for them


def test_a_service_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(NoAnswer, match=rf"http://127\.0\.0\.1:{port}/x: can't be asked \(.*refused"):
        post_json(f"http://127.0.0.1:{port}/x", {}, retries=0)


def test_an_answer_that_breaks_off(waits: list[float]) -> None:
    answers = [(200, b"[1, ", {"Content-Length": "10"}), as_json([1])]
    with serving(lambda number, body: answers[number]) as asked:
        assert post_json(asked.url, {}, timeout=1.0, retries=1) == [1]


def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.rewards.http.MOST_BYTES", 100)
    answer, message = as_json("x" * 200), "longer than 100 bytes"
    with serving(lambda number, body: answer) as asked, pytest.raises(NoAnswer, match=message):
        post_json(asked.url, {}, retries=3)
    assert len(asked.bodies) == 1


def test_failures_in_a_row_open_the_circuit(waits: list[float]) -> None:
    """Two fail, one is answered, then three in a row; a fourth isn't even sent."""
    fine = {2}
    with serving(lambda number, body: as_json(1) if number in fine else as_json(0, 500)) as asked:
        client = HttpSettings(url=asked.url, retries=0, give_up_after=3).client("manners")
        for number in range(5):
            if number in fine:
                assert client.post({}) == 1
            else:
                with pytest.raises(NoAnswer, match=f"objective manners: {asked.url}: status 500"):
                    client.post({})
        with pytest.raises(CircuitOpen, match=f"objective manners: {asked.url}: status 500.*then --resume"):
            client.post({})
        with pytest.raises(CircuitOpen, match=f"objective manners: {asked.url}: gave no answer too often"):
            client.post({})
    assert len(asked.bodies) == 6


def test_a_request_that_is_refused_for_itself_is_no_missing_service() -> None:
    with serving(lambda number, body: as_json("too large", 413)) as asked:
        client = HttpSettings(url=asked.url, give_up_after=2).client("manners")
        for _ in range(3):
            with pytest.raises(NoAnswer, match="status 413"):
                client.post({})
    assert len(asked.bodies) == 3


@pytest.mark.parametrize("status", [401, 404])
def test_what_no_request_can_get_past_opens_it_at_once(status: int) -> None:
    with serving(lambda number, body: as_json({"detail": "who are you?"}, status)) as asked:
        client = HttpSettings(url=asked.url).client("manners")
        with pytest.raises(CircuitOpen, match=f"status {status} .*who are you"):
            client.post({})
    assert len(asked.bodies) == 1


def test_the_token_is_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    with serving(lambda number, body: as_json(1)) as asked:
        settings = HttpSettings(url=asked.url, token_env="JUDGE_TOKEN")
        settings.client("manners").post({})
    assert asked.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in settings.model_dump_json()
    monkeypatch.delenv("JUDGE_TOKEN")
    with pytest.raises(RunError, match="objective manners: the environment variable JUDGE_TOKEN isn't set"):
        settings.client("manners")


@pytest.mark.parametrize("token", ["s3cret\nX-Other: yes", "s3cr\u20act", "s3cr\u00e9t"])
def test_a_token_that_no_header_can_hold_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", token)
    with pytest.raises(RunError, match="JUDGE_TOKEN holds a character that no header can have") as caught:
        HttpSettings(url="http://localhost/", token_env="JUDGE_TOKEN").client("manners")
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "url: needs an address such as http://"),
        ("ftp://host/x", "url: needs an address"),
        ("http://host:99999/", "url: Port out of range"),
        ("http://host:eighty/", "url: Port could not be cast"),
        ("http://host/sc\u00f6re", "url: holds a character that no address can have"),
        ("http://host/a b", "url: holds a character that no address can have"),
        ("http://me:secret@host/", "url: holds a password, which would be saved with the run; use token_env"),
    ],
)
def test_addresses(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config({"url": url}, HttpSettings, "it")

"""The remote objective: what a server says arrives as it is, and what can't be true never becomes a reward."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from http_server import Answer, Asked, as_json, serving
from PIL import Image
from pydantic import ValidationError
from serving_samples import ANSWERS, BLUE, OBJECTIVES, RECORDS, RED, local, served

from data_tools.errors import RunError
from data_tools.images import ImageError, encode_png
from data_tools.schema import ImageRef
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.http import CircuitOpen
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rewards.objectives.remote import Remote
from mmrlhf.rewards.panel import Panel


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.rewards.http.FIRST_WAIT", 0.0)
    monkeypatch.setattr("mmrlhf.rewards.http.LONGEST_WAIT", 0.0)


def test_the_rewards_are_the_servers(url: str, judge: RewardModel, tmp_path: Path) -> None:
    """All objectives; one of them; in another order; in requests of two answers; from files; in other units."""
    expected = local(judge)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
    for names, k, batch in (
        (["helpfulness", "factuality"], [0, 1], 6),
        (["factuality"], [1], 6),
        (["factuality", "helpfulness"], [1, 0], 2),
    ):
        found = Remote(url=url, objectives=names, batch_size=batch).score(RECORDS, ANSWERS)
        assert found.objectives == tuple(names)
        torch.testing.assert_close(found.mean_BK, expected.mean_BK[:, k], **close)
        assert found.judged_BK.equal(expected.judged_BK[:, k])
        assert found.std_BK.shape == (6, len(names))
    scaled = Remote(url=url, objectives=["helpfulness"], mean=1.0, std=2.0).score(RECORDS, ANSWERS)
    torch.testing.assert_close(scaled.mean_BK[:, 0], (expected.mean_BK[:, 0] - 1) / 2, **close)
    (tmp_path / "red.png").write_bytes(RED)
    filed = replace(RECORDS[1], images=(ImageRef(path=str(tmp_path / "red.png")),))
    found = Remote(url=url, objectives=["factuality"]).score([filed], ANSWERS[1:2])
    torch.testing.assert_close(found.mean_BK, expected.mean_BK[1:2, 1:], **close)


def test_other_names_here(url: str) -> None:
    remote = Remote(url=url, objectives=["factuality"], prefix="judge_")
    assert remote.names == ("judge_factuality",)
    assert remote.score(RECORDS[:1], ["4."]).objectives == ("judge_factuality",)


def test_no_answers(url: str) -> None:
    found = Remote(url=url, objectives=["factuality", "helpfulness"]).score([], [])
    assert found.mean_BK.shape == found.judged_BK.shape == (0, 2)


def test_the_token(judge: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(judge, token="secret") as (url, _):
        remote = Remote(url=url, objectives=["factuality"], token_env="REWARD_TOKEN")
        monkeypatch.delenv("REWARD_TOKEN", raising=False)
        with pytest.raises(RunError, match=r"factuality: the environment variable REWARD_TOKEN isn't set"):
            remote.open()
        monkeypatch.setenv("REWARD_TOKEN", "secret")
        assert remote.score(RECORDS[:1], ["4."]).judged_BK.tolist() == [[False]]
        monkeypatch.setenv("REWARD_TOKEN", "wrong")
        # with a wrong token no request will ever be answered, so that no answer may go without a score for it
        wrong = Remote(url=url, objectives=["factuality"], token_env="REWARD_TOKEN", on_failure="abstain")
        with pytest.raises(CircuitOpen, match=r"factuality: http://.*/v1/score: status 401"):
            wrong.score(RECORDS, ANSWERS)


def test_objectives_that_the_server_does_not_judge(url: str) -> None:
    for on_failure in ("fail", "abstain"):
        remote = Remote(url=url, objectives=["factuality", "beauty"], on_failure=on_failure)
        with pytest.raises(
            RunError,
            match=r"factuality, beauty: http://.*: the answer is about .*'helpfulness', 'factuality'",
        ):
            remote.score(RECORDS, ANSWERS)


def test_an_image_that_is_not_there(url: str, tmp_path: Path) -> None:
    lost = replace(RECORDS[1], images=(ImageRef(path=str(tmp_path / "lost.png")),))
    with pytest.raises(ImageError, match=r"record image, image 0: .*lost.png: no such image file"):
        Remote(url=url, objectives=["factuality"]).score([lost], ["Red."])


def test_an_answer_that_the_server_refuses(url: str, judge: RewardModel) -> None:
    """A damaged picture among six answers: the run stops, or that answer alone isn't judged."""
    cut = replace(RECORDS[3], images=(ImageRef.of_bytes(BLUE[:200]),))
    records = [*RECORDS[:3], cut, *RECORDS[4:]]
    with pytest.raises(
        RunError, match=r"factuality: http://.*: status 422 .*items\.3\.images\.0: .* truncated"
    ):
        Remote(url=url, objectives=["factuality"]).score(records, ANSWERS)
    remote = Remote(url=url, objectives=["factuality"], on_failure="abstain")
    found, expected = remote.score(records, ANSWERS), local(judge)
    assert found.judged_BK[:, 0].tolist() == [False, True, True, False, True, True]
    kept = [1, 2, 4, 5]
    torch.testing.assert_close(found.mean_BK[kept], expected.mean_BK[kept, 1:], rtol=0, atol=1e-5)
    assert found.mean_BK[3].item() == 0.0
    assert remote.abstained == 1
    # the first wasn't judged either, but by a head that doesn't apply to text
    assert found.abstained_BK[:, 0].tolist() == [False, False, False, True, False, False]
    panel = Panel(None, [remote, Remote(url=url, objectives=["helpfulness"])])
    joined = panel.score(RECORDS, ANSWERS, 4)
    assert not joined.abstained_BK.any()
    assert joined.abstained_BK.shape == (6, 2)


Answering = Callable[[Any], "tuple[int, Any] | None"]


@contextlib.contextmanager
def fake(answer: Answering) -> Iterator[tuple[str, Asked]]:
    """A server that answers what it is told to, JSON or bytes; None: it says nothing until the test is over."""

    def said(number: int, body: Any) -> Answer | None:
        found = answer(body)
        if found is None:
            return None
        status, value = found
        return (status, value, {}) if isinstance(value, bytes) else as_json(value, status)

    with serving(said) as asked:
        yield asked.url, asked


def scores(
    values: list[Any], stds: list[Any] | None = None, judged: list[Any] | None = None
) -> dict[str, Any]:
    """A server's answer for the objective "truth"."""
    return {
        "objectives": ["truth"],
        "results": [
            {"score": [value], "std": [std], "judged": [is_judged]}
            for value, std, is_judged in zip(
                values, stds or [0.0] * len(values), judged or [True] * len(values), strict=True
            )
        ],
    }


def asked_of(url: str, **settings: Any) -> Remote:
    return Remote(**{"url": url, "objectives": ["truth"], "retries": 0, **settings})


def test_what_is_sent() -> None:
    """The prompt with the place of each image, the answer, and the images' own bytes."""
    import base64

    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(body)
        return 200, scores([0.5], [0.25])

    with fake(answer) as (url, _):
        found = asked_of(url, std=2.0).score(RECORDS[3:4], ["Blue."])
    content = [{"type": "text", "text": "Describe "}, {"type": "image", "index": 0}]
    prompt = [{"role": "user", "content": content}]
    assert seen == [
        {"items": [{"prompt": prompt, "response": "Blue.", "images": [base64.b64encode(BLUE).decode()]}]}
    ]
    assert (found.mean_BK.item(), found.std_BK.item(), found.judged_BK.item()) == (0.25, 0.125, True)


def test_requests_are_cut_by_answers_and_by_bytes() -> None:
    sizes: list[list[int]] = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        sizes.append([len(one["images"]) for one in body["items"]])
        return 200, scores([1.0] * len(body["items"]))

    encoded = max(len(RED), len(BLUE)) * 4 / 3 + 4
    with fake(answer) as (url, _):
        asked_of(url, batch_size=4, parallel=1).score(RECORDS, ANSWERS)
        assert sizes == [[0, 1, 1, 1], [2, 1]]
        sizes.clear()
        # room for the bytes of two pictures
        asked_of(url, batch_mb=2 * encoded / 2**20, parallel=1).score(RECORDS, ANSWERS)
        assert sizes == [[0, 1, 1], [1], [2], [1]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "has no list of results"),
        ({"objectives": ["truth"], "results": 3}, "has no list of results"),
        ({"results": []}, "is about the objectives None"),
        ({**scores([1.0, 2.0]), "objectives": ["beauty"]}, r"is about the objectives \['beauty'\]"),
        (scores([1.0]), "has 1 results for 2 answers"),
        (scores([1.0, 2.0, 3.0]), "has 3 results for 2 answers"),
        (scores([1.0, "2"]), "has no 1 values of score in result 1"),
        (scores([1.0, None]), "has no 1 values of score in result 1"),
        (scores([1.0, True]), "has no 1 values of score in result 1"),
        (scores([1.0, 10**400]), "has no 1 values of score in result 1"),
        (scores([1.0, 2.0], judged=[True, 1]), "has no 1 values of judged in result 1"),
        ({"objectives": ["truth"], "results": [[], []]}, "has no 1 values of score in result 0"),
        ({**scores([1.0, 2.0]), "objectives": ["other", "truth"]}, "has no 2 values of score in result 0"),
    ],
)
def test_a_server_that_is_not_what_it_should_be_stops_the_run(value: Any, words: str) -> None:
    with fake(lambda body: (200, value)) as (url, _):
        for on_failure in ("fail", "abstain"):
            with pytest.raises(RunError, match=rf"objective truth: {url}: the answer {words}"):
                asked_of(url, on_failure=on_failure).score(RECORDS[:2], ANSWERS[:2])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (scores([0.5, float("nan")]), "gives the score nan for truth in result 1"),
        (scores([0.5, float("-inf")]), "gives the score -inf"),
        (scores([0.5, 1e300]), r"gives the score 1e\+300"),
        (scores([0.5, 1.5]), r"gives the score 1\.5, which is outside 0\.0 to 1\.0"),
        (scores([0.5, -0.5]), r"gives the score -0\.5, which is outside 0\.0 to 1\.0"),
        (scores([0.5, 0.5], [0.0, -1.0]), r"gives the deviation -1\.0"),
        (scores([0.5, 0.5], [0.0, float("nan")]), "gives the deviation nan"),
    ],
)
def test_a_score_that_cannot_be_true(value: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops the run, or that answer isn't judged; its neighbour is."""
    with fake(lambda body: (200, value)) as (url, _):
        with pytest.raises(RunError, match=rf"objective truth: {url}: the answer {words}"):
            asked_of(url, low=0.0, high=1.0).score(RECORDS[:2], ANSWERS[:2])
        remote = asked_of(url, low=0.0, high=1.0, on_failure="abstain")
        found = remote.score(RECORDS[:2], ANSWERS[:2])
    assert (found.mean_BK.tolist(), found.judged_BK.tolist()) == ([[0.5], [0.0]], [[True], [False]])
    assert remote.abstained == 1
    assert (
        "remote: answers without a score for truth so far: 1; they count as not judged"
        in capsys.readouterr().err
    )


def test_what_was_not_judged_may_be_anything() -> None:
    with fake(lambda body: (200, scores([float("nan"), 7.0], judged=[False, False]))) as (url, _):
        found = asked_of(url, low=0.0, high=1.0).score(RECORDS[:2], ANSWERS[:2])
    assert (found.mean_BK.tolist(), found.judged_BK.tolist()) == ([[0.0], [0.0]], [[False], [False]])


def test_a_server_that_is_slow() -> None:
    with fake(lambda body: None) as (url, server):
        with pytest.raises(
            RunError, match=rf"objective truth: {url}: no answer within 0\.1 seconds \(2 tries\)"
        ):
            asked_of(url, timeout=0.1, retries=1).score(RECORDS[:1], ANSWERS[:1])
        assert len(server.bodies) == 2
        remote = asked_of(url, timeout=0.1, on_failure="abstain")
        assert remote.score(RECORDS[:1], ANSWERS[:1]).judged_BK.tolist() == [[False]]
        assert remote.abstained == 1


def test_a_server_that_is_busy_is_asked_again() -> None:
    tries = iter([503, 503, 200])

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return next(tries), scores([0.75])

    with fake(answer) as (url, server):
        found = asked_of(url, retries=2).score(RECORDS[:1], ANSWERS[:1])
        assert (found.mean_BK.item(), len(server.bodies)) == (0.75, 3)


def test_a_server_that_is_down_stops_the_run_either_way() -> None:
    """Three requests in a row without an answer are the end, also where answers may go without a score."""
    with fake(lambda body: (200, scores([1.0]))) as (url, _):
        pass
    with pytest.raises(RunError, match=rf"objective truth: {url}: can't be asked"):
        asked_of(url).score(RECORDS[:1], ANSWERS[:1])
    remote = asked_of(url, on_failure="abstain", give_up_after=3)
    for count in (1, 2):
        assert remote.score(RECORDS[:1], ANSWERS[:1]).judged_BK.tolist() == [[False]]
        assert remote.abstained == count
    with pytest.raises(CircuitOpen, match=r"objective truth: .*No reward is made up in its place"):
        remote.score(RECORDS[:1], ANSWERS[:1])


def test_another_model_behind_the_address() -> None:
    models = iter(["a", "a", "b"])

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {**scores([1.0]), "fingerprint": next(models)}

    with fake(answer) as (url, _):
        remote = asked_of(url)
        for _ in range(2):
            remote.score(RECORDS[:1], ANSWERS[:1])
        with pytest.raises(RunError, match=r"objective truth: .* the answer is by the model b, not a"):
            remote.score(RECORDS[:1], ANSWERS[:1])
    with (
        fake(lambda body: (200, {**scores([1.0]), "fingerprint": "a"})) as (url, _),
        pytest.raises(RunError, match=r"is by the model a, not c"),
    ):
        asked_of(url, fingerprint="c").score(RECORDS[:1], ANSWERS[:1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objectives": []}, "objectives"),
        ({"objectives": ["a", "a"]}, "a is named more than once"),
        ({"low": 1.0, "high": 1.0}, "must be below high"),
        ({"url": "localhost:8400"}, "needs an address"),
        ({"on_failure": "guess"}, "on_failure"),
        ({"retry": 3}, "retry"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        asked_of(**{"url": "http://localhost:8400", **settings})


def test_an_address_without_a_path_is_a_server_of_ours() -> None:
    for url in ("http://localhost:8400", "http://localhost:8400/"):
        assert asked_of(url).url == "http://localhost:8400/v1/score"
    assert asked_of("https://example.org/x").url == "https://example.org/x"


def test_answers_that_are_refused_one_after_another_do_not_end_the_run() -> None:
    """The server is there: it judges what it can read, however many it can't."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if any(one["response"] == "" for one in body["items"]):
            return 422, {"error": "empty", "item": 0}
        return 200, scores([1.0] * len(body["items"]))

    with fake(answer) as (url, _):
        remote = asked_of(url, on_failure="abstain", give_up_after=2, batch_size=4, parallel=1)
        found = remote.score([RECORDS[0]] * 9, ["", "", "", "", "", "", "", "4.", ""])
    assert found.judged_BK[:, 0].tolist() == [False] * 7 + [True, False]
    assert remote.abstained == 8


def test_beside_the_heads_of_a_run(url: str, judge: RewardModel) -> None:
    """As PPO asks all of its judges, from its config: a server of the run's own reward model says what that says."""
    row = {"type": "remote", "url": url, "objectives": OBJECTIVES, "prefix": "remote_"}
    (remote,) = PpoConfig.model_validate({"objectives": [row]}).objectives
    found = Panel(judge, [remote]).score(RECORDS, ANSWERS, 4)
    assert found.objectives == ("helpfulness", "factuality", "remote_helpfulness", "remote_factuality")
    torch.testing.assert_close(found.mean_BK[:, 2:], found.mean_BK[:, :2], rtol=0, atol=1e-5)
    assert found.judged_BK[:, 2:].equal(found.judged_BK[:, :2])
    assert remote.made_of(remote.model_dump()).keys().isdisjoint({"timeout", "batch_size", "token_env"})


def test_a_request_of_too_many_pixels_is_sent_in_halves(judge: RewardModel) -> None:
    """Six answers to pictures of 96 x 96 pixels, of which the server takes two in a request."""
    expected = local(judge)
    with served(judge, max_request_pixels=2 * 96 * 96) as (url, _):
        for on_failure in ("fail", "abstain"):
            remote = Remote(url=url, objectives=["factuality"], on_failure=on_failure)
            found = remote.score(RECORDS, ANSWERS)
            torch.testing.assert_close(found.mean_BK, expected.mean_BK[:, 1:], rtol=0, atol=1e-5)
            assert remote.abstained == 0
    with served(judge, max_request_pixels=96 * 96) as (url, _):
        # the fifth has two pictures, which can't be sent apart
        with pytest.raises(RunError, match=r"status 413 .*18,432 pixels; the server takes at most 9,216"):
            Remote(url=url, objectives=["factuality"]).score(RECORDS, ANSWERS)
        remote = Remote(url=url, objectives=["factuality"], on_failure="abstain")
        found = remote.score(RECORDS, ANSWERS)
        assert found.judged_BK[:, 0].tolist() == [False, True, True, True, False, True]
        assert remote.abstained == 1


def test_a_request_of_too_many_bytes_is_sent_in_halves(judge: RewardModel) -> None:
    """The server refuses it while it is sent, and ends the connection."""
    picture = encode_png(Image.frombytes("RGB", (900, 900), random.Random(0).randbytes(3 * 900 * 900)))
    loud = replace(RECORDS[1], images=(ImageRef.of_bytes(picture),))
    with served(judge, max_request_mb=4) as (url, _):
        remote = Remote(url=url, objectives=["factuality"], batch_mb=100, retries=0)
        found = remote.score([loud] * 5, ["Red."] * 5)
    assert found.judged_BK[:, 0].tolist() == [True] * 5

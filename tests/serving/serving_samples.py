"""A small reward model, records with their answers, a server in a thread, and a plain client."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image

from data_tools.images import encode_png
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import ImageRef, Message, Part, PreferenceRecord, assistant, to_json, user
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.serving.app import make_app
from mmrlhf.serving.protocol import make_server
from mmrlhf.serving.serve import listening
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.types import Rewards, Row

OBJECTIVES = ["helpfulness", "factuality"]


def picture(color: str) -> bytes:
    return to_png(Scene((SceneObject("circle", color, "large", 0.5, 0.5),)))


def record(name: str, *messages: Message, images: Sequence[bytes] = ()) -> PreferenceRecord:
    return PreferenceRecord(name, "test", messages, images=tuple(map(ImageRef.of_bytes, images)))


RED, BLUE = picture("red"), picture("blue")
SYSTEM = Message("system", (Part(text="Answer in one word."),))
RECORDS = [
    record("text", user("What is 2 + 2?")),
    record("image", user(0, "What color is it?"), images=[RED]),
    record("image-again", user(0, "What color is it?"), images=[RED]),
    record("last", user("Describe ", 0), images=[BLUE]),
    record("two", user(0, "And this? ", 1, "Same?"), images=[RED, BLUE]),
    record("turns", SYSTEM, user(0, "What is it?"), assistant("A circle."), user("Sure?"), images=[BLUE]),
]
FINE = {"prompt": "Q", "response": "A"}
DOT = base64.b64encode(encode_png(Image.new("RGB", (4, 4), "red"))).decode()
ANSWERS = ["4.", "Red.", "It is blue, I think.", "A large blue circle in the middle.", "No.", ""]


def make_judge() -> RewardModel:
    """The bundled model with heads whose scores lie apart; factuality was never judged on text."""
    norms: dict[str, Any] = {
        "helpfulness": {"image-text": (3.0, 4.0), "text": (0.25, 2.0)},
        "factuality": {"image-text": (-1.0, 0.5)},
    }
    model = RewardModel(load_vlm(ModelConfig()), RewardCard(list(OBJECTIVES), norms))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.heads.parameters():
        parameter.data.normal_(std=0.03, generator=generator)
    return model.requires_grad_(False).eval()


def local(judge: RewardModel) -> Rewards:
    """What the reward model itself says of the answers to `RECORDS`."""
    rows = [
        Row(encode_prompt(judge.vlm, item), encode_answer(judge.vlm, text))
        for item, text in zip(RECORDS, ANSWERS, strict=True)
    ]
    return judge.judge(rows, 4)


def item(of: PreferenceRecord, response: str) -> dict[str, Any]:
    images = [base64.b64encode(ref.data or b"").decode() for ref in of.images]
    return {"prompt": to_json(of)["prompt"], "response": response, "images": images}


def all_items() -> list[dict[str, Any]]:
    return [item(of, response) for of, response in zip(RECORDS, ANSWERS, strict=True)]


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[tuple[str, uvicorn.Server]]:
    """The app's address, and its server, which stops at the end."""
    with listening("127.0.0.1", 0) as opened:
        server = make_server(app, log_level="critical")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield f"http://127.0.0.1:{opened.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def served(judge: RewardModel, token: str | None = None, **settings: Any) -> Iterator[tuple[str, FastAPI]]:
    """The address of a server with these settings, and its app."""
    app = make_app(judge, "a/model", ServerSettings(**settings), token)
    with running(app) as (url, _):
        yield url, app


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def send(url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
    """What a request is answered with; bodies that aren't bytes are sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, lowered, response.read().decode())


def score(url: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    return send(url, "POST", "/v1/score", body, headers)


def parts(*of: tuple[str, bytes, bool], boundary: str = "lines-between") -> tuple[bytes, dict[str, str]]:
    """A body of several parts (name, bytes, whether it is a file) and its content type."""
    body = b""
    for name, data, is_file in of:
        file = '; filename="a.png"\r\nContent-Type: image/png' if is_file else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }


def same(reply: Reply, expected: Rewards, index: Sequence[int] | None = None) -> None:
    """The reply holds these answers' rewards."""
    assert reply.status == 200, reply.text
    assert reply.json["objectives"] == OBJECTIVES
    wanted = expected.select(torch.tensor(range(len(ANSWERS)) if index is None else index))
    results = reply.json["results"]
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(torch.tensor([r["score"] for r in results]), wanted.mean_BK, **close)
    torch.testing.assert_close(torch.tensor([r["std"] for r in results]), wanted.std_BK, **close)
    assert [r["judged"] for r in results] == wanted.judged_BK.tolist()


def refuses(reply: Reply, status: int, *words: str, item: int | None = None) -> None:
    assert reply.status == status, reply.text
    assert reply.json["item"] == item
    for word in words:
        assert word in reply.json["error"], reply.text

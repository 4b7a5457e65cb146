"""The reward server under load: answers a second, latency, and whether each score is the model's own.

    python benchmarks/serve_reward.py [--model DIR] [--requests 1000] [--clients 16] [--bad 0.1] [--out file.jsonl]

Starts `mmrlhf serve-reward` in a process of its own and asks it from so many threads, each of which sends its next
request once the last one is answered. A request has one answer to a prompt with one picture. A share of them is bad, by
turns in each way of `BAD`; these must be refused, and everything else must be answered with the scores that the same
model gives here, to 1e-5. Without --model the bundled model is served, with heads drawn at random.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from PIL import Image, ImageDraw
from rounds import as_table

from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel, load_reward_model
from mmrlhf.rewards.panel import score_texts

ROOT = Path(__file__).resolve().parents[1]
PIXELS = 224
LIMIT_MB = 2.0
CLOSE = 1e-5
QUESTIONS = ["What is in the picture?", "Which colors do you see?", "Describe the picture in one sentence."]
ANSWERS = [
    "A large red circle.",
    "I can't tell.",
    "There is a blue square, and a small green one beside it.",
    "Two.",
]
STARTS_WITHIN_S = 120


@dataclass(frozen=True)
class Asked:
    """A request: its body (None: only the headers of one that is too large), and how it must be answered."""

    kind: str
    body: bytes | None
    status: int
    expected: list[float] | None = None


@dataclass(frozen=True)
class Answered:
    """What became of a request."""

    kind: str
    seconds: float
    fault: str  # nothing where it was answered as it must be
    difference: float = 0.0  # the largest from the local scores


def make_model(folder: Path) -> None:
    """Saves the bundled model with three heads drawn at random."""
    names = ["helpfulness", "factuality", "safety"]
    norms: dict[str, Any] = {name: {"image-text": (0.0, 1.0), "text": (0.0, 1.0)} for name in names}
    model = RewardModel(load_vlm(ModelConfig()), RewardCard(names, norms))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    model.save(folder)


def picture(rng: random.Random, pixels: int = PIXELS) -> bytes:
    """A picture of two shapes, as PNG."""

    def color() -> tuple[int, int, int]:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    image = Image.new("RGB", (pixels, pixels), color())
    pen = ImageDraw.Draw(image)
    for draw in (pen.ellipse, pen.rectangle):
        left, top, size = (rng.randrange(pixels // 2) for _ in range(3))
        draw((left, top, left + size + 8, top + size + 8), fill=color())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def body_of(prompt: str, response: str, image: str) -> bytes:
    """A request with one item."""
    return json.dumps({"items": [{"prompt": prompt, "response": response, "images": [image]}]}).encode()


def bad_requests(rng: random.Random) -> list[Asked]:
    """One of each kind that must be refused."""
    image = picture(rng)
    large = base64.b64encode(picture(rng, 1100)).decode()
    cut = base64.b64encode(image[: len(image) // 2]).decode()
    fine = base64.b64encode(image).decode()
    return [
        Asked("cut off JSON", body_of("Q", "A", fine)[:-20], 400),
        Asked("unknown key", b'{"items": [], "model": "x"}', 422),
        Asked("damaged image", body_of("Q", "A", cut), 422),
        Asked("too many pixels", body_of("Q", "A", large), 422),
        Asked("address of an image", body_of("Q", "A", "http://localhost/x.png"), 422),
        Asked("too long", body_of("word " * 5000, "A", fine), 422),
        Asked("announced as 1 GB", None, 413),
        Asked("sent as 2.1 MB", b" " * int(1.05 * LIMIT_MB * 2**20), 413),
    ]


def requests(model: RewardModel, count: int, bad_share: float, seed: int = 0) -> list[Asked]:
    """Good ones with the model's own scores, and bad ones among them."""
    rng = random.Random(seed)
    bad = bad_requests(rng)
    numbers = set(rng.sample(range(count), round(bad_share * count)))
    records = [
        PreferenceRecord(
            str(i), "benchmark", (user(0, rng.choice(QUESTIONS)),), images=(ImageRef.of_bytes(picture(rng)),)
        )
        for i in range(count - len(numbers))
    ]
    texts = [rng.choice(ANSWERS) for _ in records]
    scores = score_texts(model, records, texts, 32).mean_BK.tolist()
    good = iter(
        Asked("good", body_of(record.prompt[0].text, text, _base64(record)), 200, expected)
        for record, text, expected in zip(records, texts, scores, strict=True)
    )
    turn = 0
    asked = []
    for i in range(count):
        if i in numbers:
            asked.append(bad[turn % len(bad)])
            turn += 1
        else:
            asked.append(next(good))
    return asked


def _base64(record: PreferenceRecord) -> str:
    return base64.b64encode(record.images[0].data or b"").decode()


@contextlib.contextmanager
def server(model: Path) -> Iterator[int]:
    """A server in a process of its own; its port. It must end without a word once it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    limits = ["--max-request-mb", str(LIMIT_MB), "--max-pixels", "1000000"]
    command = [
        sys.executable,
        "-m",
        "mmrlhf",
        "serve-reward",
        str(model),
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen([*command, *limits], cwd=ROOT)
    try:
        began = time.monotonic()
        while not _is_there(port):
            if process.poll() is not None or time.monotonic() - began > STARTS_WITHIN_S:
                raise SystemExit("the server didn't start")
            time.sleep(0.1)
        yield port
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _is_there(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


class Client:
    """Asks over one connection, which it makes anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, asked: Asked) -> Answered:
        """Sends a request and looks at the answer."""
        began = time.perf_counter()
        try:
            status, text = self._send(asked.body)
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            # what is too large is refused while it is sent, and the answer may be lost with the connection
            fault = "" if asked.status == 413 else f"{type(error).__name__}: {error}"
            return Answered(asked.kind, time.perf_counter() - began, fault)
        seconds = time.perf_counter() - began
        if status != asked.status:
            return Answered(asked.kind, seconds, f"status {status} in place of {asked.status}: {text[:200]}")
        if asked.expected is None:
            return Answered(asked.kind, seconds, "")
        found = json.loads(text)["results"][0]["score"]
        difference = max(abs(a - b) for a, b in zip(found, asked.expected, strict=True))
        return Answered(asked.kind, seconds, "" if difference <= CLOSE else "another score", difference)

    def _send(self, body: bytes | None) -> tuple[int, str]:
        kind = {"Content-Type": "application/json"}
        if body is None:
            self.connection.putrequest("POST", "/v1/score")
            for name, value in {**kind, "Content-Length": str(10**9)}.items():
                self.connection.putheader(name, value)
            self.connection.endheaders()
        else:
            self.connection.request("POST", "/v1/score", body, kind)
        response = self.connection.getresponse()
        text = response.read().decode()
        if response.status == 413:
            self.connection.close()
        return response.status, text


def ask_all(port: int, asked: Sequence[Asked], clients: int) -> tuple[list[Answered], float]:
    """All answers, and the seconds that they took together."""
    left, lock = iter(asked), threading.Lock()
    answered: list[Answered] = []

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                one = next(left, None)
            if one is None:
                client.connection.close()
                return
            found = client.ask(one)
            with lock:
                answered.append(found)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered, time.perf_counter() - began


def summary(answered: Sequence[Answered], seconds: float, metrics: str) -> dict[str, Any]:
    """The figures: rates and latencies are of the good requests; batches as the server counts them."""
    good = sorted(one.seconds for one in answered if one.kind == "good")
    cuts = statistics.quantiles(good, n=100, method="inclusive")
    counted = {
        name: float(re.search(rf"^mmrlhf_batch_answers_{name} (\S+)$", metrics, re.M)[1])  # type: ignore[index]
        for name in ("sum", "count")
    }
    return {
        "requests": len(answered),
        "good": len(good),
        "refused": dict(sorted(Counter(one.kind for one in answered if one.kind != "good").items())),
        "faults": [f"{one.kind}: {one.fault}" for one in answered if one.fault],
        "seconds": round(seconds, 3),
        "requests_per_second": round(len(answered) / seconds, 1),
        "answers_per_second": round(len(good) / seconds, 1),
        "latency_ms": {f"p{p}": round(1000 * cuts[p - 1], 1) for p in (50, 95, 99)},
        "mean_batch": round(counted["sum"] / counted["count"], 2),
        "largest_difference": max(one.difference for one in answered),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a request wasn't answered as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--model", type=Path, help="folder of a reward model; nothing: the bundled model's")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bad", type=float, default=0.1, help="share of the requests that must be refused")
    parser.add_argument("--out", type=Path, help="file that a line of JSON is added to")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        folder = options.model or Path(made) / "model"
        if not options.model:
            make_model(folder)
        asked = requests(load_reward_model(folder), options.requests, options.bad)
        with server(folder) as port:
            warm = [one for one in asked if one.kind == "good"][:8]
            ask_all(port, warm, 8)
            answered, seconds = ask_all(port, asked, options.clients)
            figures = summary(answered, seconds, get(port, "/metrics")[1])
    shown = {**figures, "clients": options.clients, "torch_threads": torch.get_num_threads()}
    print(as_table([["", ""], *([name, json.dumps(value)] for name, value in shown.items())]))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(shown) + "\n")
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

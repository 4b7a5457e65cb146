"""Objectives that a reward server judges (`mmrlhf serve-reward`, or any that answers alike): it is sent the prompt, the
answer and the images themselves.

    {type: remote, name: judge, url: http://localhost:8400, objectives: [helpfulness, safety]}

One request tells all of a server's objectives. Left out on purpose: a reward that is made up where the server gives
none.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from data_tools.errors import RunError
from data_tools.images import ImageError, read_bytes
from data_tools.schema import PreferenceRecord, to_json
from mmrlhf.rewards.http import ITS_OWN, HttpSettings, JsonClient, NoAnswer
from mmrlhf.rewards.objectives.base import ObjectiveBase
from mmrlhf.terminal import console

if TYPE_CHECKING:
    from mmrlhf.types import Rewards

PATH = "/v1/score"
REFUSED = ITS_OWN | {500}  # statuses that may be the fault of one item of a request
TOO_LARGE = 413  # the status of a request that is more than the server takes at a time
LARGEST = 3e38  # of a reward; about where float32 ends
Told = list[
    tuple[float, float, bool]
]  # an answer's score, deviation and whether it was judged, an objective each


class Remote(HttpSettings, ObjectiveBase):
    """What a reward server says. Its scores are taken as they are (a server of ours has normalised them), less `mean`
    and divided by `std`, the same for all of its objectives."""

    idle: ClassVar[frozenset[str]] = HttpSettings.idle | {"batch_size", "batch_mb"}

    type: Literal["remote"] = "remote"
    name: str = Field("remote", min_length=1, description="what messages call the server")
    url: str = Field(description="the server, such as http://localhost:8400; without a path: /v1/score there")
    objectives: list[str] = Field(
        min_length=1, description="which of the server's objectives are taken, by its names for them"
    )
    prefix: str = Field("", description="put before these names here, where others have them already: judge_")
    batch_size: int = Field(32, ge=1, description="answers of one request")
    batch_mb: float = Field(
        24.0, gt=0, description="images of one request, as base64, where it has several answers"
    )
    low: float | None = Field(None, description="a score below this is no answer; nothing: no bound")
    high: float | None = Field(None, description="a score above this is no answer; nothing: no bound")
    on_failure: Literal["fail", "abstain"] = Field(
        "fail",
        description="where an answer gets no score, or none that can be true: stop the run, or take the objectives as "
        "not judged for it, which is counted and told; a server that isn't there at all stops the run either way",
    )
    fingerprint: str | None = Field(
        None,
        description="of the model that must answer, as its /v1/model tells it; nothing: the one that answers first",
    )
    _client: JsonClient | None = PrivateAttr(None)
    _answers_to: str | None = PrivateAttr(None)
    _abstained: int = PrivateAttr(0)

    @field_validator("url")
    @classmethod
    def _with_path(cls, value: str) -> str:
        parts = urlsplit(value)
        return urlunsplit(parts._replace(path=PATH)) if parts.path in ("", "/") else value

    @model_validator(mode="after")
    def _check_remote(self) -> Remote:
        if twins := sorted({name for name in self.objectives if self.objectives.count(name) > 1}):
            raise ValueError(f"objectives: {', '.join(twins)} is named more than once")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The server's objectives that are taken, behind the prefix."""
        return tuple(self.prefix + name for name in self.objectives)

    @property
    def tells_deviation(self) -> bool:
        return True

    @property
    def abstained(self) -> int:
        """How many answers have got no score so far, with `on_failure: abstain`."""
        return self._abstained

    def score(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Rewards:
        """What the server says of each record's answer: (B, K).

        Raises:
            RunError: it can't be asked, isn't what the config says, or, unless `on_failure` is abstain, gives an answer
                no score; the message names the objectives and the address.
            ImageError: an image can't be read.
        """
        import torch

        self.open()
        items = [_item(record, text) for record, text in zip(records, texts, strict=True)]
        with ThreadPoolExecutor(self.parallel) as pool:
            told = [one for part in pool.map(self._ask, self._batches(items)) for one in part]
        if missing := sum(one is None for one in told):
            self._tell(missing)
        nothing: Told = [(0.0, 0.0, False)] * len(self.objectives)
        table = torch.tensor([nothing if one is None else one for one in told], dtype=torch.float64)
        mean_BK, std_BK, judged_BK = table.reshape(len(items), len(self.objectives), 3).unbind(-1)
        rewards = self.scaled(mean_BK.float(), judged_BK.bool(), std_BK.float())
        abstained_B1 = torch.tensor([[one is None] for one in told], dtype=torch.bool).reshape(-1, 1)
        return replace(rewards, abstained_BK=abstained_B1.expand_as(rewards.judged_BK).clone())

    def open(self) -> None:
        """Makes the client; raises RunError where the token isn't set."""
        if self._client is None:
            self._client = self.client(", ".join(self.names))

    def _batches(self, items: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        batches: list[list[dict[str, Any]]] = []
        room = 0.0
        for item in items:
            size = sum(map(len, item["images"]))
            if not batches or len(batches[-1]) == self.batch_size or size > room:
                batches.append([])
                room = self.batch_mb * 2**20
            batches[-1].append(item)
            room -= size
        return batches

    def _ask(self, items: list[dict[str, Any]]) -> list[Told | None]:
        """What the server says of each item; None where it has no score to be used and that is allowed."""
        assert self._client is not None
        try:
            answer = self._client.post({"items": items})
        except NoAnswer as error:
            if error.status == TOO_LARGE and len(items) > 1:
                middle = len(items) // 2
                return [*self._ask(items[:middle]), *self._ask(items[middle:])]
            if self.on_failure == "fail":
                raise
            if error.status in REFUSED and len(items) > 1:
                # one item may have spoilt it for the others
                return [told for item in items for told in self._ask([item])]
            return [None] * len(items)
        return self._read(answer, len(items))

    def _read(self, answer: Any, count: int) -> list[Told | None]:
        """Checks an answer's form, which is a matter of the server, and its values, which are each answer's own."""
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise self._wrong("has no list of results, so it is no reward server's")
        names, results = answer.get("objectives"), answer["results"]
        if not isinstance(names, list) or not set(self.objectives) <= {str(name) for name in names}:
            raise self._wrong(f"is about the objectives {names}")
        if len(results) != count:
            raise self._wrong(f"has {len(results)} results for {count} answers")
        self._check_model(answer.get("fingerprint"))
        places = [names.index(name) for name in self.objectives]
        return [self._one(number, result, len(names), places) for number, result in enumerate(results)]

    def _one(self, number: int, result: Any, count: int, places: Sequence[int]) -> Told | None:
        row = result if isinstance(result, dict) else {}
        columns = []
        for key, kind in (("score", float), ("std", float), ("judged", bool)):
            values = row.get(key)
            if not isinstance(values, list) or len(values) != count or not all(_is(kind, v) for v in values):
                raise self._wrong(f"has no {count} values of {key} in result {number}")
            columns.append([values[k] for k in places])
        told: Told = list(zip(*columns, strict=True))
        for name, (score, std, judged) in zip(self.objectives, told, strict=True):
            if judged and (why := self._impossible(score, std)):
                if self.on_failure == "fail":
                    raise self._wrong(f"gives {why} for {name} in result {number}")
                return None
        return [(score, std, True) if judged else (0.0, 0.0, False) for score, std, judged in told]

    def _impossible(self, score: float, std: float) -> str:
        """Why a score can't be used; nothing where it can."""
        low, high = self.low, self.high
        if not abs(score) <= LARGEST:  # nor is a NaN
            return f"the score {score}"
        if not 0 <= std <= LARGEST:
            return f"the deviation {std}"
        if (low is not None and score < low) or (high is not None and score > high):
            return f"the score {score}, which is outside {low} to {high},"
        return ""

    def _check_model(self, found: Any) -> None:
        expected = self.fingerprint or self._answers_to
        if expected is not None and found != expected:
            raise self._wrong(f"is by the model {found}, not {expected}")
        self._answers_to = found if isinstance(found, str) else None

    def _wrong(self, what: str) -> RunError:
        return RunError(f"objective {', '.join(self.names)}: {self.url}: the answer {what}")

    def _tell(self, missing: int) -> None:
        """Says it when the number of answers without a score has doubled."""
        before, self._abstained = self._abstained, self._abstained + missing
        if self._abstained.bit_length() > before.bit_length():
            names = ", ".join(self.names)
            console.print(
                f"{self.name}: answers without a score for {names} so far: {self._abstained}; they count as not judged",
                style="yellow",
                markup=False,
            )


def _item(record: PreferenceRecord, text: str) -> dict[str, Any]:
    images = []
    for i, ref in enumerate(record.images):
        try:
            images.append(base64.b64encode(read_bytes(ref)).decode())
        except ImageError as error:
            raise ImageError(f"record {record.id}, image {i}: {error}") from error
    return {"prompt": to_json(record)["prompt"], "response": text, "images": images}


def _is(kind: type, value: Any) -> bool:
    """Whether a JSON value is of a kind; whole numbers are numbers, where they have less than 309 digits, and truth
    values aren't."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**308)

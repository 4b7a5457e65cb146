"""The requests of a reward server: from bytes to records, or why they are refused.

    {"items": [{"prompt": "What is it?", "response": "A circle.", "images": ["iVBORw0..."]}]}

A prompt is a text, or messages in which each image has its place:
`{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}`. Where no image has one,
all of them stand before the first words of the user. Images are base64, also in lines or as a data address
("data:image/png;base64,..."), or, in a request of several parts, the names of the parts that hold their bytes. Left out
on purpose: addresses of images, which would have the server fetch what its caller can't.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import from_json

from data_tools.base64_images import bytes_of, is_data_address
from data_tools.config import Config, explain, parse_config
from data_tools.errors import UserError
from data_tools.image_files import URL
from data_tools.image_limits import ImageError
from data_tools.schema import ImageRef, Message, Part, PreferenceRecord, Role, SchemaError
from mmrlhf.serving.settings import ServerSettings

SHOWN = 1000  # characters of what is wrong with a request
MISTAKES = 10  # of an item that are told
MOST_VALUES = 1000  # of JSON for each item that the server takes: read, they may be a hundred times as large
MOST_KEYS, MOST_MESSAGES, MOST_PARTS = 16, 256, 256  # of an object; of a prompt; of a message
_VALUE = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,\[{]', re.DOTALL
)  # a text, or what another value begins with


class Refused(Exception):
    """A request that isn't answered: the status of HTTP, why, and which item of it is at fault, where one is."""

    def __init__(self, status: int, why: str, item: int | None = None) -> None:
        super().__init__(why)
        self.status, self.item = status, item

    @property
    def body(self) -> dict[str, Any]:
        """What the client is told."""
        why = str(self)
        return {"error": why[:SHOWN] + ("..." if len(why) > SHOWN else ""), "item": self.item}


@dataclass(frozen=True)
class Item:
    """One answer to judge; its record has the prompt and its images."""

    record: PreferenceRecord
    response: str


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_messages(prompt: Any) -> Any:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


class _Part(Config):
    type: Literal["text", "image"]
    text: str | None = None
    index: int | None = None

    @model_validator(mode="after")
    def _check(self) -> _Part:
        if self.type == "text" and (self.text is None or self.index is not None):
            raise ValueError("a part of type text needs text, and no index")
        if self.type == "image" and self.text is not None:
            raise ValueError("a part of type image has no text")
        return self


class _Message(Config):
    role: Role
    content: Annotated[list[_Part], BeforeValidator(_as_parts)]


class _Item(Config):
    prompt: Annotated[list[_Message], BeforeValidator(_as_messages)]
    response: str
    images: list[str] = Field([])


class _Request(Config):
    items: list[Any] = Field(min_length=1)  # each is read by itself, so that a bad one ends it


def read_items(
    body: bytes | bytearray, files: Mapping[str, bytes] | None, settings: ServerSettings
) -> list[Item]:
    """The answers that a request asks about; `files` are the other parts of a request of several.

    Raises:
        Refused: not JSON (400), not of the form above, an image that is no base64 or not among the parts (422), or more
            values, answers, messages, parts or images than the server takes (413).
    """
    _check_values(body, MOST_VALUES * settings.max_queue)
    try:
        row = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(400, f"the request is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise Refused(422, 'the request is no JSON object; it needs {"items": [...]}')
    _check_keys(row, "the request", None)
    try:
        items = parse_config(row, _Request, "the request").items
    except UserError as error:
        raise Refused(422, str(error)) from error
    if len(items) > settings.max_queue:
        raise Refused(
            413,
            f"the request has {len(items)} items; the server takes at most {settings.max_queue} at a time",
        )
    asked = [_checked(number, item) for number, item in enumerate(items)]
    return [_item(number, item, files, settings) for number, item in enumerate(asked)]


def _check_values(body: bytes | bytearray, most: int) -> None:
    """Counts before anything is made of the bytes: an empty list takes 3 of them, and 64 once it is read."""
    if body.count(b'"') + body.count(b",") + body.count(b"[") + body.count(b"{") <= most:
        return
    if any(True for _ in itertools.islice(_VALUE.finditer(body), most, None)):
        raise Refused(413, f"the request holds more than {most:,} values of JSON")


def _check_keys(row: Any, name: str, number: int | None) -> None:
    if isinstance(row, dict) and len(row) > MOST_KEYS:
        raise Refused(422, f"{name}: an object of {len(row):,} keys; none has more than {MOST_KEYS}", number)


def _checked(number: int, item: Any) -> _Item:
    """An item as it is understood, once it is seen to be of a size that can be looked at."""
    name = f"items.{number}"
    if not isinstance(item, dict):
        raise Refused(422, f"{name}: is no JSON object", number)
    _check_keys(item, name, number)
    prompt = item.get("prompt")
    messages = prompt if isinstance(prompt, list) else []
    if len(messages) > MOST_MESSAGES:
        raise Refused(413, f"{name}.prompt: {len(messages):,} messages; at most {MOST_MESSAGES}", number)
    for i, message in enumerate(messages):
        _check_keys(message, f"{name}.prompt.{i}", number)
        parts = message.get("content") if isinstance(message, dict) else None
        if not isinstance(parts, list):
            continue
        if len(parts) > MOST_PARTS:
            raise Refused(
                413, f"{name}.prompt.{i}.content: {len(parts):,} parts; at most {MOST_PARTS}", number
            )
        for part in parts:
            _check_keys(part, f"{name}.prompt.{i}.content", number)
    try:
        return _Item.model_validate(item)
    except ValidationError as error:
        lines = [f"{name}.{line}" for line in explain(error, _Item, MISTAKES)]
        more = error.error_count() - len(lines)
        if more > 0:
            lines.append(f"and {more} more")
        raise Refused(422, "\n".join(lines), number) from error


def _item(number: int, asked: _Item, files: Mapping[str, bytes] | None, settings: ServerSettings) -> Item:
    name, count = f"items.{number}", len(asked.images)
    if count > settings.max_images:
        raise Refused(
            413, f"{name}.images: {count} images; the server takes at most {settings.max_images}", number
        )
    try:
        images = [_image(f"{name}.images.{i}", text, files) for i, text in enumerate(asked.images)]
        record = PreferenceRecord(
            id=name,
            source="request",
            prompt=_messages(name, asked),
            images=tuple(map(ImageRef.of_bytes, images)),
        )
    except (SchemaError, ValueError) as error:
        why = str(error)
        inner = f"record {name} of request: "  # what the schema calls it, which the client doesn't
        raise Refused(422, f"{name}: {why.removeprefix(inner)}" if inner in why else why, number) from error
    return Item(record, asked.response)


def _image(name: str, text: str, files: Mapping[str, bytes] | None) -> bytes:
    if files is not None:
        if text not in files:
            raise ValueError(f"{name}: the request has no file part named {text[:80]!r}")
        return files[text]
    if URL.match(text[:80]) and not is_data_address(text):
        raise ValueError(f"{name}: is a URL; the server fetches none, send the image's bytes as base64")
    try:
        return bytes_of({"bytes": text}) or b""
    except ImageError as error:
        raise ValueError(f"{name}: is no base64, nor a data address of an image in base64") from error


def _messages(name: str, asked: _Item) -> tuple[Message, ...]:
    """The prompt; images are numbered as they stand."""
    numbers = itertools.count()
    messages = [
        Message(
            message.role,
            tuple(
                Part(text=part.text)
                if part.type == "text"
                else Part(image=next(numbers) if part.index is None else part.index)
                for part in message.content
            ),
        )
        for message in asked.prompt
    ]
    if asked.images and all(part.text is not None for message in messages for part in message.parts):
        first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
        if first is None:
            raise ValueError(f"{name}: has images, but its prompt has no message of a user to show them in")
        places = [Part(image=i) for i in range(len(asked.images))]
        messages[first] = Message("user", (*places, *messages[first].parts))
    return tuple(messages)

"""The one record every data set is read into, and its exact JSON form.

A record holds a prompt (messages whose parts are text or an image), the images, any number of responses, and
what was judged about them, by whom and how. What was not judged is absent: nothing here invents a label. A
record with one response and no comparison is a demonstration (SFT); one with no response is a prompt (PPO).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal

from data_tools.errors import UserError
from data_tools.field_types import wrong_field
from data_tools.labels import (
    LABELS,
    MOST_TIED,
    Comparison,
    Correction,
    Critique,
    Labels,
    Ranking,
    Rating,
    check_labels,
)

__all__ = [
    "MOST_TIED",
    "Comparison",
    "Correction",
    "Critique",
    "ImageRef",
    "Labels",
    "Message",
    "Modality",
    "Part",
    "PreferenceRecord",
    "Ranking",
    "Rating",
    "Response",
    "SchemaError",
    "assistant",
    "content_hash",
    "from_json",
    "reordered",
    "to_json",
    "user",
    "with_labels",
]

Role = Literal["system", "user", "assistant"]
Modality = Literal["text", "image-text"]
ROLES = ("system", "user", "assistant")


class SchemaError(UserError):
    """A record that breaks the schema; the message names the record and the field."""


@dataclass(frozen=True)
class ImageRef:
    """One image: its encoded bytes (PNG, JPEG or WebP, already checked by `data_tools.images`), or a file to
    read.

    Exactly one of `data` and `path` is set; `sha256` is the hash of the encoded bytes where they are known. `notes` say
    what of the file isn't used, such as an animation's later frames.
    """

    data: bytes | None = None
    path: str | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.data is None) == (self.path is None):
            raise SchemaError("an image needs exactly one of data and path")

    @staticmethod
    def of_bytes(data: bytes, notes: tuple[str, ...] = ()) -> ImageRef:
        """An image held in memory, with its hash."""
        return ImageRef(data=data, sha256=hashlib.sha256(data).hexdigest(), notes=notes)


@dataclass(frozen=True)
class Part:
    """A piece of a message: some text, or the place of an image (`image` = index into the images)."""

    text: str | None = None
    image: int | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.image is None):
            raise SchemaError("a message part needs exactly one of text and image")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text of all parts, joined; image places are left out."""
        return "".join(part.text for part in self.parts if part.text is not None)


@dataclass(frozen=True)
class Response:
    """One answer to the prompt; `model` says who wrote it, where known."""

    text: str
    model: str | None = None


@dataclass(frozen=True)
class PreferenceRecord:
    """A prompt, its images, answers to it, and what was judged about them.

    The images are numbered in the order in which the prompt shows them; a record that breaks this or any other
    rule raises `SchemaError`.

    `scenes` holds the exact structure of what the images show, where it is known (see `data_tools.scenes`),
    one entry an image; only the gold oracle reads it. `provenance` says where the record comes from: for
    synthetic records the recipe, the edit and its proof; `provenance["flip"]` joins the two records of an
    image-flip pair, `["group"]` records that must share a split, and `["split"]` is the split that the data set itself
    gives. `reference` is what an oracle needs to judge a free answer, such as `{"refuse": true}`.
    """

    id: str
    source: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...] = ()
    images: tuple[ImageRef, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    ratings: tuple[Rating, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    corrections: tuple[Correction, ...] = ()
    critiques: tuple[Critique, ...] = ()
    votes: tuple[Comparison, ...] = ()
    split: str = "train"
    scenes: tuple[dict[str, Any], ...] = ()
    reference: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def modality(self) -> Modality:
        """`image-text` where the prompt shows at least one image, else `text`."""
        return "image-text" if self.images else "text"

    @property
    def labels(self) -> Labels:
        """All that was judged about it."""
        return Labels(**{name: getattr(self, name) for name in LABELS})

    def pairs(self) -> Iterator[Comparison]:
        """Its comparisons, and those that its rankings amount to."""
        return self.labels.pairs()


def _check(record: PreferenceRecord) -> None:
    def fail(what: str) -> None:
        raise SchemaError(f"record {record.id or '?'} of {record.source or '?'}: {what}")

    if not record.id or not record.source:
        fail("id and source must not be empty")
    if not record.prompt:
        fail("prompt has no message")
    places = []
    for message in record.prompt:
        if message.role not in ROLES:
            fail(f"role {message.role!r} is none of {', '.join(ROLES)}")
        places += [part.image for part in message.parts if part.image is not None]
    if sorted(places) != list(range(len(record.images))):
        fail(f"the prompt shows images {places}, but there are {len(record.images)}; each must stand once")
    if places != sorted(places):
        # processors take the images as a list and fill the places from left to right
        fail(f"the prompt shows images {places}; number them 0, 1, 2 ... in the order in which they stand")
    if record.scenes and len(record.scenes) != len(record.images):
        fail(f"{len(record.scenes)} scenes for {len(record.images)} images")
    check_labels(record, len(record.responses), fail)


def with_labels(record: PreferenceRecord, labels: Labels) -> PreferenceRecord:
    """The record with other labels."""
    return replace(record, **{name: getattr(labels, name) for name in LABELS})


def reordered(record: PreferenceRecord, order: Sequence[int]) -> PreferenceRecord:
    """The record with its responses in another order: `order[k]` is the old index of the k-th one. What its labels say
    stays the same.
    """
    place = {old: new for new, old in enumerate(order)}
    moved = record.labels.moved([place[old] for old in range(len(record.responses))])
    labels = {name: getattr(moved, name) for name in LABELS}
    return replace(record, responses=tuple(record.responses[old] for old in order), **labels)


def user(*parts: str | int) -> Message:
    """A user's turn from texts and image indices: `user(0, "What is this?")`."""
    return Message("user", tuple(Part(image=p) if isinstance(p, int) else Part(text=p) for p in parts))


def assistant(text: str) -> Message:
    """An assistant's turn."""
    return Message("assistant", (Part(text=text),))


def _prompt_json(prompt: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if part.text is not None
                else {"type": "image", "index": part.image}
                for part in message.parts
            ],
        }
        for message in prompt
    ]


def to_json(record: PreferenceRecord) -> dict[str, Any]:
    """The record as plain JSON values. Image bytes are left out (a shard keeps them beside it)."""
    return {
        "id": record.id,
        "source": record.source,
        "split": record.split,
        "prompt": _prompt_json(record.prompt),
        "responses": [vars(response) for response in record.responses],
        "images": [
            {
                "sha256": image.sha256,
                **({"path": image.path} if image.path else {}),
                **({"notes": list(image.notes)} if image.notes else {}),
            }
            for image in record.images
        ],
        "comparisons": [vars(comparison) for comparison in record.comparisons],
        "ratings": [vars(rating) for rating in record.ratings],
        "rankings": [
            {**vars(ranking), "order": [list(group) for group in ranking.order]}
            for ranking in record.rankings
        ],
        # those that most records lack are left out where there are none
        **{
            name: [vars(label) for label in getattr(record, name)]
            for name in ("corrections", "critiques", "votes")
            if getattr(record, name)
        },
        "scenes": list(record.scenes),
        "reference": record.reference,
        "provenance": record.provenance,
    }


def from_json(row: dict[str, Any], images: tuple[bytes | ImageRef, ...] | None = None) -> PreferenceRecord:
    """Reads what `to_json` wrote; `images` are the images or their encoded bytes, in order (None: the row's own paths
    are kept).

    Raises:
        SchemaError: a field is missing, of the wrong type, or contradicts another.
    """
    try:
        refs = (
            tuple(
                item if isinstance(item, ImageRef) else ImageRef.of_bytes(item, tuple(image.get("notes", ())))
                for item, image in zip(images, row["images"], strict=True)
            )
            if images is not None
            else tuple(
                ImageRef(None, image["path"], image.get("sha256", ""), tuple(image.get("notes", ())))
                for image in row["images"]
            )
        )
        record = PreferenceRecord(
            id=row["id"],
            source=row["source"],
            split=row["split"],
            prompt=tuple(
                Message(
                    message["role"],
                    tuple(
                        [
                            Part(part["text"]) if part["type"] == "text" else Part(None, part["index"])
                            for part in message["content"]
                        ]
                    ),
                )
                for message in row["prompt"]
            ),
            responses=tuple([Response(**response) for response in row["responses"]]),
            images=refs,
            comparisons=tuple([Comparison(**comparison) for comparison in row["comparisons"]]),
            ratings=tuple(Rating(**rating) for rating in row["ratings"]),
            rankings=tuple(
                Ranking(**{**ranking, "order": tuple(map(tuple, ranking["order"]))})
                for ranking in row.get("rankings", ())  # older files have none
            ),
            corrections=tuple(Correction(**item) for item in row.get("corrections", ())),
            critiques=tuple(Critique(**item) for item in row.get("critiques", ())),
            votes=tuple(Comparison(**vote) for vote in row.get("votes", ())),
            scenes=tuple(row["scenes"]),
            reference=dict(row["reference"]),
            provenance=dict(row["provenance"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        name = row.get("id", "?") if isinstance(row, dict) else "?"
        raise SchemaError(f"record {name}: not in the form this version writes ({error!r})") from error
    _check_types(record)
    return record


def _check_types(record: PreferenceRecord) -> None:
    """Raises SchemaError for what a JSON value of another type has become: it would surface much later, elsewhere."""
    if _is_plain(record):
        return
    parts = [part for message in record.prompt for part in message.parts]
    wrong = ""
    for items in (parts, record.responses, record.images, *(getattr(record, name) for name in LABELS)):
        wrong = wrong or wrong_field(items)
    if any(type(value) is not str for value in (record.id, record.source, record.split)):
        wrong = f"id, source and split are {record.id!r:.60}, {record.source!r:.60} and {record.split!r:.60}"
    if any(type(index) is not int for item in record.rankings for group in item.order for index in group):
        wrong = "the order of a ranking holds what is no whole number"
    if any(type(note) is not str for image in record.images for note in image.notes):
        wrong = "a note on an image is no text"
    if any(type(scene) is not dict for scene in record.scenes):
        wrong = "a scene is no object"
    if wrong:
        raise SchemaError(f"record {record.id}: a value of the wrong type: {wrong}")


def _is_plain(record: PreferenceRecord) -> bool:
    """Whether all types are surely right; this is asked of each record that is read, so the usual fields are spelt out.

    The rarer ones are left to `wrong_field`, which names what is wrong.
    """
    if type(record.id) is not str or type(record.source) is not str or type(record.split) is not str:
        return False
    for message in record.prompt:
        for part in message.parts:
            if type(part.text) is not str and type(part.image) is not int:  # one of them is None
                return False
    for response in record.responses:
        if type(response.text) is not str or (response.model is not None and type(response.model) is not str):
            return False
    for image in record.images:
        if image.notes or image.data is None:
            return False
    for scene in record.scenes:
        if type(scene) is not dict:
            return False
    return _are_plain(record)


def _are_plain(record: PreferenceRecord) -> bool:
    """The same of its labels."""
    if record.rankings or record.corrections:
        return False
    for item in (*record.comparisons, *record.votes):
        if type(item.better) is not int or type(item.worse) is not int or type(item.tie) is not bool:
            return False
        if type(item.objective) is not str or type(item.judge) is not str:
            return False
        if item.margin is not None and type(item.margin) is not float:
            return False
    for rating in record.ratings:
        if type(rating.response) is not int or type(rating.objective) is not str:
            return False
        if type(rating.judge) is not str or type(rating.kind) is not str or type(rating.value) is bool:
            return False
        if type(rating.low) is bool or type(rating.high) is bool:  # texts were compared with numbers before
            return False
    for critique in record.critiques:
        if type(critique.text) is not str or type(critique.objective) is not str:
            return False
        if type(critique.judge) is not str or type(critique.response) not in (int, NoneType):
            return False
    return True


def content_hash(record: PreferenceRecord) -> str:
    """A hash of prompt, images and the responses' texts in any order: equal for copies, whatever their id, source or
    labels.
    """
    # by the hash of its bytes where that is known: the same picture in two files is one picture
    images = [image.sha256 or image.path for image in record.images]
    texts = sorted(response.text for response in record.responses)
    body = json.dumps([_prompt_json(record.prompt), texts, images], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()

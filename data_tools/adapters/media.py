"""Pictures, videos and sounds of a row that its adapter doesn't read: the row is refused, not cut.

It is one mechanism for all adapters, a user's own among them: a row is handed out as a `Watched` dict, which notes the
fields that are asked for, and `unread_media` then looks through the others. A field holds media by its name (`img`,
`image_path`, `rejected_images`, `video`), unless the name only describes a picture (`image_width`, `image_id`), or by
its value (a file name such as `a.png`, a data address, the first bytes of an image).

Left out on purpose: words inside a text, such as "see a.png".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Literal

from data_tools.adapters.row_error import RowError
from data_tools.image_kinds import IMAGE_ENDINGS

Medium = Literal["picture", "video", "sound"]

_NAMES: dict[str, Medium] = {
    **dict.fromkeys(
        ("image", "img", "picture", "pic", "photo", "photograph", "screenshot", "pixel"), "picture"
    ),
    **dict.fromkeys(IMAGE_ENDINGS, "picture"),
    **dict.fromkeys(("video", "movie", "mp4", "webm"), "video"),
    **dict.fromkeys(("audio", "sound", "speech", "wav", "mp3", "flac", "waveform"), "sound"),
}
# behind such a word, what makes a name one of something about a picture: image_width, image_caption
_DESCRIBING = re.compile(
    "ids?|idx|index|size|width|height|count|num|number|total|area|categor(y|ies)|class(es)?|types?|kind|captions?|title|alt"
    "|descriptions?|severity|resolution|hash|sha1|sha256|md5|phash|format|mime|mode|license|rights|author|ratio|quality"
    "|dataset|origin|source|tokens?|info|metadata|meta|topic|domain|tags?|labels?|scores?|language|text|content|prompt"
    "|question|answer"
)
_COUNTING = ("num", "number", "count", "n", "total", "has", "is", "with")  # before it: num_images, has_image
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]?|[0-9]+")
_JOINED = re.compile(
    r"(image|img|picture|photo|video|audio)s?(path|file|name|filename|url|uri|link|list|data|bytes|base64|b64)s?"
)
_ENDINGS: dict[str, Medium] = {
    **dict.fromkeys(IMAGE_ENDINGS, "picture"),
    **dict.fromkeys(["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg"], "video"),
    **dict.fromkeys(["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"], "sound"),
}
_FILE = re.compile(rf"\.({'|'.join(_ENDINGS)})(\?\S*)?$", re.IGNORECASE)
_ADDRESS = re.compile(r"data:(image|video|audio)/", re.IGNORECASE)
_OF_ADDRESS: dict[str, Medium] = {"image": "picture", "video": "video", "audio": "sound"}
_BASE64 = ("iVBORw0KGgo", "/9j/4", "UklGR", "R0lGOD")  # how images begin, in base64
_SHORTEST = 64  # characters of base64
_LONGEST = 300  # characters of a path
_SIGNATURES: tuple[tuple[bytes, Medium], ...] = (
    (b"\x89PNG\r\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"BM", "picture"),
    (b"II*\0", "picture"),
    (b"MM\0*", "picture"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"ID3", "sound"),
    (b"fLaC", "sound"),
    (b"OggS", "sound"),
)
_STRUCT = frozenset(("bytes", "path"))  # of a picture, as `datasets` hands it out
_DEEPEST = 6  # lists and objects in one another that are looked through
_FEW = 64  # items of a list that are looked at


class Watched(dict[Any, Any]):
    """A row that notes in `asked` the fields that are taken out of it, by name or all at once.

    Whether a field is there (`in`) may be asked without that. `dict.items(row)` looks without being noted.
    """

    __slots__ = ("asked",)

    def __init__(self, row: dict[Any, Any]) -> None:
        super().__init__(row)
        self.asked: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        self.asked.add(key)
        return super().pop(key, *default)

    def _all(self) -> None:
        self.asked.update(dict.keys(self))

    def __iter__(self) -> Iterator[Any]:  # with this, {**row} and dict(row) ask for each field, too
        return super().__iter__()

    def items(self) -> Any:
        self._all()
        return super().items()

    def values(self) -> Any:
        self._all()
        return super().values()

    def copy(self) -> dict[Any, Any]:
        self._all()
        return super().copy()


def refuse_unread_media(
    row: Watched, adapter: str, pictures: Collection[str], ignored: Collection[str], inside: bool
) -> None:
    """Raises RowError where the row holds media in a field that `adapter`, which reads `pictures`, didn't ask for."""
    unread = unread_media(row, row.asked, ignored, inside)
    if unread is None:
        return
    field, medium = unread[0][:60], unread[1]
    leave = "name it in ignore_fields to leave it out"
    if medium != "picture":
        raise RowError(
            f"has a {medium} in its field {field}, which no record can hold; {leave}", "other-modality"
        )
    shown = [
        key for key in row if key in row.asked and named_medium(key) and holds_something(dict.get(row, key))
    ]
    if shown:
        raise RowError(
            f"has pictures in {shown[0]} and in {field}, and only one field is read; {leave}", "media-unread"
        )
    reads = f"it reads {', '.join(pictures)}" if pictures else "it reads no pictures"
    raise RowError(
        f"has a picture in its field {field}, which {adapter} doesn't read ({reads}): rename it, convert with "
        f"--from columns --set image={field}, or {leave}",
        "media-unread",
    )


def unread_media(
    row: dict[Any, Any], asked: Collection[Any], ignored: Collection[str] = (), inside: bool = True
) -> tuple[str, Medium] | None:
    """The first field of a row that holds a picture, a video or a sound and isn't among those `asked` for, and which of
    these it is; None where there is none.

    A field inside another is given as `outer.inner`. Those inside a field that was asked for are looked at only where
    `inside` says so: an adapter that reads messages sees to what is in them by itself.
    """
    for key, value in dict.items(row):
        if key in ignored:
            continue
        if key not in asked:
            found = _media(key, value)
        elif inside and isinstance(value, dict | list) and named_medium(key) is None:
            found = _media_inside(str(key), value, 1, by_value=False)
        else:
            continue
        first = next((item for item in found if item[0] not in ignored), None)
        if first is not None:
            return first
    return None


def _media(
    key: Any, value: Any, outer: str = "", depth: int = 0, by_value: bool = True
) -> Iterator[tuple[str, Medium]]:
    """The names of what holds media in a field, and which; the field itself where its name says so."""
    name, medium = f"{outer}{key}", named_medium(key)
    if medium is not None and holds_something(value):
        yield name, medium
    elif isinstance(value, dict) and by_value and _STRUCT.issuperset(value):
        medium = next(filter(None, map(medium_of, value.values())), None)
        if medium is not None:
            yield name, medium
    elif isinstance(value, dict | list):
        yield from _media_inside(name, value, depth + 1, by_value)
    elif by_value and (medium := medium_of(value)) is not None:
        yield name, medium


def _media_inside(
    name: str, value: dict[Any, Any] | list[Any], depth: int, by_value: bool
) -> Iterator[tuple[str, Medium]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _media(key, item, f"{name}.", depth, by_value)
        return
    medium: Medium | None
    for item in value[:_FEW]:
        if isinstance(item, dict) and by_value and _STRUCT.issuperset(item):
            medium = next((kind for held in item.values() if (kind := medium_of(held))), None)
            if medium is not None:
                yield name, medium
        elif isinstance(item, dict | list):
            yield from _media_inside(name, item, depth + 1, by_value)
        elif by_value and (medium := medium_of(item)) is not None:
            yield name, medium


@lru_cache(maxsize=4096)
def named_medium(key: Any) -> Medium | None:
    """What a field of this name holds, by the words in it; None for any other and for what only describes a picture."""
    if not isinstance(key, str) or len(key) > 100:
        return None
    words = [word.lower() for word in _WORD.findall(key)]
    for place, word in enumerate(words):
        joined = _JOINED.fullmatch(word)
        plain = word.rstrip("0123456789").removesuffix("s")
        medium = _NAMES.get(joined[1] if joined else word) or _NAMES.get(plain)
        if medium is not None:
            described = any(map(_DESCRIBING.fullmatch, words[place + 1 :]))
            return None if described or not set(_COUNTING).isdisjoint(words[:place]) else medium
    return None


def holds_something(value: Any) -> bool:
    """Whether a field's value is a text, bytes, a list or an object with anything in it; numbers and null are none."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(holds_something(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(item is not None for item in value)
    return isinstance(value, bytes | bytearray | memoryview) and len(value) > 0


def medium_of(value: Any) -> Medium | None:
    """What a value is by itself: the path, the address or the bytes of a picture, a video or a sound."""
    if isinstance(value, str):
        text = value[: _LONGEST + 1].strip()
        if address := _ADDRESS.match(text):
            return _OF_ADDRESS[address[1].lower()]
        if len(value) >= _SHORTEST and text.startswith(_BASE64):
            return "picture"
        file = _FILE.search(text) if len(text) <= _LONGEST and "\n" not in text else None
        return _ENDINGS[file[1].lower()] if file else None
    if isinstance(value, bytes):
        if value[:4] == b"RIFF":
            return {b"WEBP": "picture", b"WAVE": "sound", b"AVI ": "video"}.get(value[8:12])  # type: ignore[return-value]
        if value[4:8] == b"ftyp":
            return "picture" if value[8:11] in (b"avi", b"hei", b"mif") else "video"
        return next((medium for start, medium in _SIGNATURES if value.startswith(start)), None)
    return None

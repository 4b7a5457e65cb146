"""What a field holds by its name and its value: a picture, a video, a sound, or none of them.

A field holds media by its name (`img`, `image_path`, `rejected_images`, `video`), unless the name only describes a
picture (`image_width`, `image_id`) or the value is prose; or by its value (a file name such as `a.png`, a data address,
the first bytes of an image).

Left out on purpose: words inside a text, such as "see a.png".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

from data_tools.base64_images import first_bytes
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
# words that name a text as often as a recording: `speech: "Friends, Romans"`, `movie: "Alien"`
_WORDS_TOO = frozenset(("speech", "sound", "movie"))
# behind such a word, what makes a name one of something about a picture: image_width, image_caption
_DESCRIBING = re.compile(
    "ids?|idx|index|size|width|height|count|num|number|total|area|categor(y|ies)|class(es)?|types?|kind|captions?|title|alt"
    "|descriptions?|severity|resolution|hash|sha1|sha256|md5|phash|format|mime|mode|license|rights|author|ratio|quality"
    "|dataset|origin|source|tokens?|info|metadata|meta|topic|domain|tags?|labels?|scores?|language|text|content|prompt"
    "|question|answer|splits?|sets?|subsets?|dir|directory|folder|root|prefix|styles?|credits?|creators?|photographer"
    "|provider|publisher|date|year|time|timestamp|transcripts?|transcriptions?|duration|fps|rate|location|status"
)
_COUNTING = ("num", "number", "count", "n", "total", "has", "is", "with")  # before it: num_images, has_image
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]?|[0-9]+")
_JOINED = re.compile(
    r"((?:image|img|picture|photo|video|audio)s?)((?:path|file|name|filename|url|uri|link|list|data|bytes|base64|b64)s?)"
)
_ENDINGS: dict[str, Medium] = {
    **dict.fromkeys(IMAGE_ENDINGS, "picture"),
    **dict.fromkeys(["mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg"], "video"),
    **dict.fromkeys(["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"], "sound"),
}
_FILE = re.compile(rf"\.({'|'.join(_ENDINGS)})([?#]\S*)?$", re.IGNORECASE)
_ANY_FILE = re.compile(r"\.(?=[a-z0-9]{2,5}$)[0-9]*[a-z][a-z0-9]*$", re.IGNORECASE)
# how paths and addresses begin that may have blanks in them, and no prose does
_ROOTED = re.compile(r"[a-z][a-z0-9+.-]*://|[a-z]:[\\/]|[\\/~]|\.{1,2}[\\/]", re.IGNORECASE)
_ADDRESS = re.compile(r"data:(image|video|audio)/", re.IGNORECASE)
_OF_ADDRESS: dict[str, Medium] = {"image": "picture", "video": "video", "audio": "sound"}
_LONGEST = 300  # characters of a path
_DEEPEST = 6  # lists and objects in one another that are looked into
_SIGNATURES: tuple[tuple[bytes, Medium], ...] = (
    (b"\x89PNG\r\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"BM", "picture"),
    (b"II*\0", "picture"),
    (b"MM\0*", "picture"),
    (b"\0\0\0\x0cJXL ", "picture"),
    (b"\0\0\0\x0cjP  ", "picture"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"ID3", "sound"),
    (b"fLaC", "sound"),
    (b"OggS", "sound"),
)


@lru_cache(maxsize=4096)
def words_of(key: Any) -> tuple[str, ...]:
    """The words in a field's name, in lower case: of `imagePath`, `image-path` and `imagepath` the same."""
    if not isinstance(key, str) or len(key) > 100:
        return ()
    words: list[str] = []
    for word in _WORD.findall(key):
        joined = _JOINED.fullmatch(word.lower())
        words += joined.groups() if joined else (word.lower(),)
    return tuple(words)


def named_medium(key: Any) -> Medium | None:
    """What a field of this name holds, by the words in it; None for any other and for what only describes a picture."""
    named = _named(key)
    return named and named[1]


def medium_in(key: Any, value: Any) -> Medium | None:
    """What a field holds by its name, where its value may be that: anything but prose, a number and nothing."""
    named = _named(key)
    if named is None or not holds_something(value):
        return None
    word, medium = named
    return None if _is_prose(value, word in _WORDS_TOO) else medium


@lru_cache(maxsize=4096)
def _named(key: Any) -> tuple[str, Medium] | None:
    """The word in a field's name that says what it holds, and what that is."""
    words = words_of(key)
    for place, word in enumerate(words):
        plain = word if word in _NAMES else word.rstrip("0123456789").removesuffix("s")
        if plain in _NAMES:
            described = any(map(_DESCRIBING.fullmatch, words[place + 1 :]))
            counted = not set(_COUNTING).isdisjoint(words[:place])
            return None if described or counted else (plain, _NAMES[plain])
    return None


def _is_prose(value: Any, words_too: bool) -> bool:
    """Whether a value is text, and no more: words with blanks between them that are neither a path nor an address. A
    single word is a name of a file, too, unless the field's name is one of texts (`words_too`).
    """
    if isinstance(value, list):
        return all(
            isinstance(item, str | dict) and _is_prose(item, words_too) for item in value if item is not None
        )
    if isinstance(value, dict):
        return words_too and not {"array", "bytes", "path"}.intersection(value)
    if not isinstance(value, str) or medium_of(value) is not None:
        return False
    text = value.strip()
    if _ROOTED.match(text) or (len(text) <= _LONGEST and _ANY_FILE.search(text)):
        return False
    return words_too or len(text.split(maxsplit=1)) > 1


def is_blank(value: Any, depth: int = _DEEPEST) -> bool:
    """Whether a value is nothing: null, NaN (which tables have in its place), blank text, no bytes, or a list or an
    object of such. An object with `bytes` that are empty and not null says that there is a picture, and is damaged.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return value != value
    if isinstance(value, dict) and dict.get(value, "bytes") is not None:
        return False
    if isinstance(value, dict | list | tuple):
        items = dict.values(value) if isinstance(value, dict) else value
        return not items or (depth > 0 and all(is_blank(item, depth - 1) for item in items))
    return isinstance(value, bytes | bytearray | memoryview) and len(value) == 0


def holds_something(value: Any) -> bool:
    """Whether a field's value is a text, bytes, a list with anything in it, or an object with any of these; numbers and
    null are none.
    """
    if isinstance(value, dict):
        return any(
            not isinstance(item, bool | int | float) and not is_blank(item) for item in dict.values(value)
        )
    return not isinstance(value, bool | int | float) and not is_blank(value)


def medium_of(value: Any) -> Medium | None:
    """What a value is by itself: the path, the address or the bytes of a picture, a video or a sound."""
    if isinstance(value, str):
        text = value[: _LONGEST + 1].strip()
        if address := _ADDRESS.match(text):
            return _OF_ADDRESS[address[1].lower()]
        if start := first_bytes(value):
            return medium_of(start)
        if len(text) > _LONGEST or "\n" in text:
            return None
        file = _FILE.search(text)
        if file is None or (len(text.split(maxsplit=1)) > 1 and not _ROOTED.match(text)):
            return None
        return _ENDINGS[file[1].lower()]
    if isinstance(value, bytes | bytearray | memoryview):
        start = bytes(value[:16])
        if start[:4] == b"RIFF":
            return {b"WEBP": "picture", b"WAVE": "sound", b"AVI ": "video"}.get(start[8:12])  # type: ignore[return-value]
        if start[4:8] == b"ftyp":
            return "picture" if start[8:11] in (b"avi", b"hei", b"mif") else "video"
        return next((medium for known, medium in _SIGNATURES if start.startswith(known)), None)
    return None

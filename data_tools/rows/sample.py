"""What the members of a tar's sample become: one row.

`KEY.json` is the row (an empty one where there is none); the other members are put in as its fields:
- an image takes the place of the name by which the row has it: in a list, as `{"path": ...}`, or as the text of a field
  that holds images (`image`, `images`, `img`, `img_path`, in any case); a name in any other text is only told;
- `KEY.png` is `image`, or, where the row has `images` but no `image`, the one element of `images`;
- `KEY.0.png`, `KEY.1.jpg` ... are the list `images`; `KEY.NAME.png` is the field NAME, `KEY.NAME.0.png` ... its list;
- `KEY.txt` is the field `txt`, `KEY.NAME.txt` the field NAME, `KEY.NAME.json` a field NAME with any value.

An image is `{"bytes": ..., "path": member's name}`, as in the rows of `datasets`, and is not decoded here. Whatever
else a sample has, video and sound for example, can't be in a record, so that the sample is rejected; pickles and numpy
files, which can hold them, are never opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from data_tools.image_kinds import IMAGE_ENDINGS
from data_tools.rows.json_value import parse, why_unread
from data_tools.source import CODES

_TEXTS = ("txt", "text", "cls")
_HOLDERS = (
    "image",
    "images",
    "img",
    "img_path",
)  # whose text, in any case, is an image's place, not its name
_MESSAGE = {"role", "content"}  # what a field may be, several of a sample alike
DOTS = (
    "its members' names have more than one dot, so that several samples are read as one: a key ends at the first dot; "
    "rename them (v1.5_a.json to v1_5_a.json)"
)
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "ckpt", "bin", "joblib", "dill", "npy", "npz")


class SampleError(Exception):
    """A sample can't be a row; the text is the reason, and `code` one of `data_tools.source.CODES`."""

    def __init__(self, reason: str, code: str = "row-unreadable") -> None:
        super().__init__(reason)
        assert code in CODES, code
        self.code = code


def refused_suffix(suffix: str) -> str | None:
    """Why a member with this suffix can't be part of a row; None where it can."""
    kind = suffix.rpartition(".")[2]
    if kind in _PICKLES:
        return f"has a member .{kind}, which can hold a pickle and is never opened"
    if kind in (*IMAGE_ENDINGS, *_TEXTS, "json"):
        return None
    return f"has a member .{kind[:20]}, which isn't read" if kind else "has a member without a suffix"


@dataclass
class Sample:
    """The members of a sample that were read."""

    fields: dict[str, Any] | None = None  # of KEY.json
    extra: dict[str, Any] = field(default_factory=dict)  # of KEY.NAME.json and texts
    images: dict[str, dict[str, Any]] = field(default_factory=dict)  # by suffix without what kind of image

    def add(self, name: str, suffix: str, data: bytes) -> None:
        """Takes in a member of a suffix that isn't refused; raises SampleError where its bytes are no JSON or text."""
        field_name, _, kind = suffix.rpartition(".")
        if kind in IMAGE_ENDINGS:
            _put(self.images, field_name, {"bytes": data, "path": name})
        elif kind != "json":
            _put(self.extra, field_name or kind, _decode(data))
        elif field_name:
            _put(self.extra, field_name, _parse(data))
        else:
            found = _parse(data)
            if self.fields is not None:
                raise SampleError("two of its members are for one field")
            if not isinstance(found, dict):
                raise SampleError("its JSON is no object")
            self.fields = found

    def row(self) -> dict[str, Any]:
        """The row; raises SampleError where numbered images don't fit, or several samples were read as one."""
        if self._is_several():
            raise SampleError(DOTS)
        row = {**(self.fields or {}), **self.extra}
        rest = dict(self.images)
        names: dict[str, str] = {}
        for suffix, image in self.images.items():
            names.setdefault(image["path"], suffix)
            names.setdefault(image["path"].rpartition("/")[2], suffix)

        def named(text: str) -> dict[str, Any] | None:
            suffix = names.get(text)
            if suffix is None:
                return None
            rest.pop(suffix, None)
            return self.images[suffix]

        row = {
            key: value if isinstance(value, str) and key.lower() not in _HOLDERS else _in_place(value, named)
            for key, value in row.items()
        }
        lists: dict[str, dict[int, Any]] = {}
        for suffix, image in rest.items():
            name, _, last = suffix.rpartition(".")
            if last.isascii() and last.isdecimal():
                _put(lists.setdefault(name or "images", {}), int(last[:9]), image)
            elif suffix:
                row[suffix] = image
            elif "images" in row and "image" not in row:
                row["images"] = [image]
            else:
                row["image"] = image
        for name, images in lists.items():
            if sorted(images) != list(range(len(images))):
                raise SampleError("its images aren't numbered 0, 1, 2 ...")
            if isinstance(row.get(name), list) and row[name] and len(row[name]) != len(images):
                raise SampleError("its JSON tells of another number of images than it has")
            row[name] = [images[number] for number in range(len(images))]
        return row

    def _is_several(self) -> bool:
        """Whether what follows the key's dot tells samples apart, as in `v1.5_a.json`, `v1.5_a.png`, and not fields."""
        if self.fields is not None:
            return False
        rows = {name: set(value) for name, value in self.extra.items() if isinstance(value, dict)}
        alike = len(rows) > 1 and len(set(map(frozenset, rows.values()))) == 1
        a_row = any(len(keys) > 1 and not keys <= _MESSAGE for keys in rows.values())
        return not rows.keys().isdisjoint(self.images) or (alike and a_row)


def _in_place(value: Any, named: Callable[[str], dict[str, Any] | None]) -> Any:
    """The value with images where it names them."""
    if isinstance(value, list):
        return [item if isinstance(item, list) else _in_place(item, named) for item in value]
    text = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else value
    found = named(text) if isinstance(text, str) else None
    return found or value


def _put(fields: dict[Any, Any], name: Any, value: Any) -> None:
    if name in fields:
        raise SampleError("two of its members are for one field")
    fields[name] = value


def _parse(data: bytes) -> Any:
    try:
        return parse(data)
    except (ValueError, RecursionError) as error:
        why = why_unread(error)
        raise SampleError(why if why == "not valid JSON" else f"its JSON {why}") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SampleError("a text is not UTF-8", "text-damaged") from None

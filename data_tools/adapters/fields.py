"""Taking texts, images and choices out of rows that may hold anything; what can't be used raises RowError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.row_error import RowError
from data_tools.base64_images import bytes_of, path_of
from data_tools.image_files import local_path, read_bytes
from data_tools.image_kinds import is_known
from data_tools.image_limits import ImageError
from data_tools.images import check_image, stored_bytes
from data_tools.schema import ImageRef


def take_text(row: dict[str, Any], key: str, what: str | None = None) -> str:
    """A field that must hold text that isn't blank; stripped."""
    if key not in row:
        raise RowError(f"has no field {what or key}", "field-missing")
    return check_text(row[key], what or key)


def check_text(value: object, what: str) -> str:
    """`value` as stripped text; raises RowError where it is anything else, blank, or can't be stored as
    UTF-8.
    """
    text = check_characters(value, what).strip()
    if not text:
        raise RowError(f"{what} is empty", "text-empty")
    return text


def check_characters(value: object, what: str) -> str:
    """`value` as it is, which may be blank; raises RowError where it is no text, or can't be stored as UTF-8."""
    if not isinstance(value, str):
        raise RowError(f"{what} is no text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"{what} holds half a character (a lone surrogate)", "text-damaged") from None
    return value


def take_choice(row: dict[str, Any], key: str, first: Literal[0, 1] = 1) -> int:
    """Which of two answers a field names, as an index: 0 or 1.

    The field numbers them from `first`. A text of the number counts, and 1.0, which integers become in a table where
    some are null; true and false don't.
    """
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    value = row[key]
    if isinstance(value, str):
        value = {str(first): first, str(first + 1): first + 1}.get(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in (first, first + 1):
        raise RowError(f"{key} is neither {first} nor {first + 1}", "no-preference")
    return int(value) - first


def model_name(value: object) -> str | None:
    """The name of the model that wrote a response; None where `value` is no text or blank."""
    return check_text(value, "a model's name") if isinstance(value, str) and value.strip() else None


def take_image(value: object, root: Path | tuple[Path, ...]) -> ImageRef:
    """An image given as bytes, base64 or a data address, `{"bytes": ...}` of these, or a path below `root` (below any
    of several), also as `{"path": ...}`; checked to be whole.

    A file stays on disk and is referred to; GIF and BMP bytes become PNG. The bytes of a file that doesn't begin as an
    image are never kept, whatever a row calls it: it may be anything.
    """
    try:
        data = bytes_of(value)
    except ImageError as error:
        raise RowError(str(error), error.code) from error
    if data is not None:
        return _checked(data)
    name = path_of(value)
    if name is None:
        raise RowError("an image is neither a path nor bytes", "image-missing")
    try:
        path = str(_below(check_text(name, "an image path"), root if isinstance(root, tuple) else (root,)))
        data = read_bytes(ImageRef(path=path))
    except ImageError as error:
        why = error.reason
        raise RowError(why if why.startswith("the image") else f"an image {why}", error.code) from error
    try:
        held = _checked(data)
    except RowError as error:
        if not is_known(data) or data.startswith(b"BM"):
            error.image = None
        raise
    return replace(held, data=None, path=path) if held.data == data else held


def _below(name: str, roots: Sequence[Path]) -> Path:
    """The file below the first of the folders that it lies in; raises as `local_path` does where it lies in none."""
    for number, root in enumerate(roots, 1):
        try:
            return local_path(name, root)
        except ImageError as error:
            if error.code != "image-outside" or number == len(roots):
                raise
    raise AssertionError("no folder of images")


def _checked(data: bytes) -> ImageRef:
    try:
        found = check_image(data)
        return ImageRef.of_bytes(stored_bytes(data), found.notes)
    except ImageError as error:
        raise RowError(error.reason, error.code, data) from error


def take_images(
    row: dict[str, Any], key: str, root: Path | tuple[Path, ...], needed: bool = True
) -> tuple[ImageRef, ...]:
    """A field's image, or list of images, each as in `take_image`; at least one where it is `needed`."""
    if needed and key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    given = list_images(row.get(key))
    if needed and not given:
        raise RowError("has no image", "image-missing")
    return tuple(take_image(item, root) for item in given)


def list_images(value: object) -> list[Any]:
    """The images that a field holds, as the row gives them; none where it is blank (`media_kinds.is_blank`). A list of
    images with a gap is given with it, for which `take_image` refuses it.
    """
    if is_blank(value):
        return []
    return value if isinstance(value, list) else [value]

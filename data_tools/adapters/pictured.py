"""What most rows about a picture come to: a question, the picture in the field `image`, and what was judged."""

from __future__ import annotations

from typing import Any

from data_tools.adapters.base import FileSource, question, take_images
from data_tools.schema import PreferenceRecord


def pictured(
    source: FileSource, row: dict[str, Any], where: str, asked: str, **rest: Any
) -> PreferenceRecord:
    """The record of a row that asks `asked` about its `image`; `rest` are the record's other fields.

    Raises:
        RowError: an image isn't there, or can't be read.
    """
    images = take_images(row, "image", source.image_root)
    return PreferenceRecord(
        id=f"{source.name}-{where}",
        source=source.name,
        prompt=question(asked, images),
        images=images,
        **rest,
    )

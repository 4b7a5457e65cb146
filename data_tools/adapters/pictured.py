"""What most rows about a picture come to: a question, the picture in the field `image`, and what was judged."""

from __future__ import annotations

from typing import Any

from data_tools.adapters.base import MARK, FileSource, RowError, check_text, question, take_images
from data_tools.adapters.media_kinds import is_blank
from data_tools.schema import ImageRef, Message, PreferenceRecord


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


def marked_question(text: str, images: tuple[ImageRef, ...]) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The user's turn, and a note for the provenance where the text has another number of marks than there are images.

    Then the images stand before the text, as MM-RLHF's own training code puts them whatever the marks.
    """
    marks = text.count(MARK)
    if marks in (0, len(images)):
        return question(text, images), {}
    return question(check_text(text.replace(MARK, ""), "the question without its marks"), images), {
        "marks": marks
    }


def refuse_video(row: dict[str, Any]) -> None:
    """Raises RowError where the row is about a video; some tables have the field in every row, blank in most."""
    if not is_blank(row.get("video")):
        raise RowError("shows a video, which no record holds", "other-modality")

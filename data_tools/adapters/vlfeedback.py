"""VLFeedback: four answers about an image, each rated by GPT-4V in three aspects, with its reasons."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import RowError, question, take_image, take_text
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.provenance import others, told
from data_tools.adapters.ratings import RatedSource, Sheet, has_annotations
from data_tools.adapters.structs import take_structs
from data_tools.schema import PreferenceRecord

KEPT = ("id", "img_path", "models")


class VlFeedbackConfig(RatedSource):
    """VLFeedback: `completions` with `annotations` from 1 to 5; its images lie in files (`img_path`), in a mirror in
    the rows (`image`).
    """

    type: Literal["vlfeedback"] = "vlfeedback"
    judge: str = Field(default="gpt-4v", min_length=1, description="Who rated.")

    marks: ClassVar[tuple[str, ...]] = ("prompt", "completions")
    pictures: ClassVar[tuple[str, ...]] = ("image", "img_path")
    aspects: ClassVar[dict[str, str]] = {
        "Helpfulness": "helpfulness",
        "Ethical Considerations": "safety",
        "Visual Faithfulness": "factuality",
    }

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        text = take_text(row, "prompt")
        sheet = Sheet(self)
        for response, completion in sheet.answers(take_structs(row, "completions"), row.get("models")):
            sheet.annotate(response, completion.get("annotations"), self.aspects, 1, 5)
        given = [row[key] for key in ("image", "img_path") if not is_blank(dict.get(row, key))]
        if not given:
            raise RowError("has no field img_path, nor image", "field-missing")
        images = (take_image(given[0], self.image_root),)
        provenance = {**told(row, KEPT), **others(row, (*self.marks, *KEPT, "image"))}
        return sheet.record(where, question(text, images), provenance, images)

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # without an image it may be another set of rated completions
        shown = next((key for key in ("img_path", "image") if row.get(key) is not None), None)
        if shown and super().recognise(row) and has_annotations(row["completions"]):
            return f"{super().recognise(row)}, {shown}"
        return None

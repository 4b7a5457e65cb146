"""The reason why a row is no record."""

from __future__ import annotations

from data_tools.source import CODES


class RowError(Exception):
    """A row can't be made a record; the text is the reason, the same for every row with this fault, and `code` one of
    `data_tools.source.CODES`.
    """

    def __init__(self, reason: str, code: str = "field-wrong", image: bytes | None = None) -> None:
        super().__init__(reason)
        assert code in CODES, code
        self.code, self.image = code, image

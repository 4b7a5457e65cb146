"""Bodies of several parts (multipart/form-data), taken apart in memory, where their bytes are already."""

from __future__ import annotations

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from mmrlhf.serving.wire import Refused


def read_parts(body: bytes | bytearray, content_type: str, most: int) -> dict[str, bytes]:
    """The bytes of each part by its name; `most` of them at most.

    Raises:
        Refused: no boundary, parts that can't be told apart or have no name, or whose end is missing (400), two of the
            same name (422), or too many (413).
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refused(400, "the content type names no boundary")
    reader = _Reader(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_field,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_end,
                "on_part_data": reader.part_data,
                "on_part_end": reader.part_end,
                "on_end": reader.end,
            },
        )
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"the parts of the request can't be told apart: {error}") from error
    if not reader.ended:
        raise Refused(400, "the end of the last part of the request is missing")
    return reader.parts


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self, most: int) -> None:
        self.parts: dict[str, bytes] = {}
        self.ended = False
        self._most = most
        self.begin()

    def begin(self) -> None:
        self._name: bytes | None = None
        self._field, self._value, self._data = b"", b"", bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name")
        self._field = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def part_end(self) -> None:
        if self._name is None:
            raise Refused(400, "a part of the request has no name")
        name = self._name.decode(errors="replace")
        if name in self.parts:
            raise Refused(422, f"two parts of the request are named {name[:80]!r}")
        if len(self.parts) == self._most:
            raise Refused(413, f"the request has more than {self._most} parts")
        self.parts[name] = bytes(self._data)

    def end(self) -> None:
        self.ended = True

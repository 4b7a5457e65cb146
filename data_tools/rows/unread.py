"""Files that hold something, but no rows that are read: what they are, and what to do."""

from __future__ import annotations

import re

_DO = "write its rows as JSON lines or Parquet"
_ENCODED = "{} text; save the file as UTF-8 (an editor's Save As, or iconv -f {} -t UTF-8)"
_MARKS = (  # the longer ones first: UTF-16's begins that of UTF-32
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_WIDE = (  # JSON without a mark: `{` or `[`, then an ASCII character
    (re.compile(rb"[{\[]\0\0\0[\t-~]\0\0\0", re.DOTALL), "UTF-32LE"),
    (re.compile(rb"\0\0\0[{\[]\0\0\0[\t-~]", re.DOTALL), "UTF-32BE"),
    (re.compile(rb"[{\[]\0[\t-~]\0", re.DOTALL), "UTF-16LE"),
    (re.compile(rb"\0[{\[]\0[\t-~]", re.DOTALL), "UTF-16BE"),
)
_BEGINS = (
    (b"\xd0\xcf\x11\xe0", f"an old Excel workbook (.xls) or another Office file, which isn't read; {_DO}"),
    (b"SQLite format 3\0", f"an SQLite database, which isn't read; {_DO}"),
    (b"\x89HDF", f"an HDF5 file, which isn't read; {_DO}"),
    (b"ORC", f"an ORC file, which isn't read; {_DO}"),
    (b"Obj\x01", f"an Avro file, which isn't read; {_DO}"),
    (b"\x93NUMPY", f"a numpy file, which isn't read; {_DO}"),
    (b"%PDF", "a PDF document, which holds no rows"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PAGE = re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)
_XML = re.compile(rb"\s*<[?!a-z]", re.IGNORECASE)
_OFFICE = (b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/")
_SEPARATORS = ((b"\t", "TSV"), (b",", "CSV"), (b";", "CSV"))


def what_else(name: str, begin: bytes) -> str | None:
    """What a file is by how it begins and by its name (in lower case, unpacked), with what to do about it; None where
    that isn't told and it may be JSON lines.
    """
    return _encoding(begin) or _binary(name, begin) or _table(name, begin)


def _encoding(begin: bytes) -> str | None:
    for mark, kind in _MARKS:
        if begin.startswith(mark):
            return _ENCODED.format(kind, kind)
    bare = next((kind for pattern, kind in _WIDE if pattern.match(begin)), None)
    return bare and _ENCODED.format(bare, bare)


def _binary(name: str, begin: bytes) -> str | None:
    if begin.startswith(b"PK\x03\x04") and (
        name.endswith((".xlsx", ".xlsm", ".ods", ".docx")) or begin[30:].startswith(_OFFICE)
    ):
        return f"an Excel workbook or another Office file, which isn't read; {_DO} (pandas.read_excel)"
    if _PICKLE.match(begin):
        return f"a pickle, which is never opened as it may run programs; {_DO}"
    if _PAGE.match(begin):
        return (
            "a web page (HTML), not the file itself: it may need a login or another address; fetch it again"
        )
    if _XML.match(begin):
        return f"XML, which isn't read; {_DO}"
    return next((what for magic, what in _BEGINS if begin.startswith(magic)), None)


def _table(name: str, begin: bytes) -> str | None:
    """CSV or TSV: by its name, or by two lines with the same separators, neither of which begins as JSON."""
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or text.startswith((b"{", b"[")):
        return None
    kind = next((kind for kind in ("CSV", "TSV") if name.endswith(f".{kind.lower()}")), None)
    lines = text.split(b"\n")[:2]
    if kind is None and len(lines) == 2 and not lines[1].startswith((b"{", b"[")):
        counts = [(what, lines[0].count(sign), lines[1].count(sign)) for sign, what in _SEPARATORS]
        kind = next((what for what, first, second in counts if first and first == second), None)
    return kind and f"{kind}, which isn't read; {_DO} (pandas.read_csv, then to_json with lines=True)"

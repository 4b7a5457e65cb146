"""What a row holds beside the fields of its format is kept, under the names that it has there."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_each_recognised import FILES, owner, rows_of

from data_tools.source import Rejected

MORE = {"annotator_note": "look again", "a_score": 0.5, "approved": False}
# of rows that make one record, and of those whose records are made from fixed fields
WITHOUT = ("helpsteer.jsonl", "nlvr.json")


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name not in WITHOUT], ids=lambda path: path.name
)
def test_texts_numbers_and_truth_values_of_other_fields_are_kept(path: Path) -> None:
    config = owner(path)(name="x", path=path)
    row = next(row for row in rows_of(path) if not isinstance(config.adapt(row), Rejected))
    made = config.adapt({**row, **MORE})
    assert not isinstance(made, Rejected)
    record = made[0]
    kept = record.provenance.get("fields") or record.provenance["about"]["fields"]
    assert kept.items() >= MORE.items()

from __future__ import annotations

from pathlib import Path

import pyarrow
from fixture_rows import FIXTURES, faults, good, image_bytes, read, rows_of
from pyarrow import parquet

from data_tools.adapters.rlhf_v import RlhfVConfig
from data_tools.schema import Comparison, Correction, ImageRef, Message, Part, Response

RED = (FIXTURES / "images" / "red.png").read_bytes()


def test_rows_are_comparisons_and_corrections() -> None:
    first, second, *_ = (good(item) for item in read(RlhfVConfig, "rlhf_v.jsonl")[:2])
    asked = "What are the key features you observe in the image?"
    assert first.id == "x-rlhf_v.jsonl:1"
    assert first.prompt == (Message("user", (Part(image=0), Part(text=asked))),)
    assert first.responses == (
        Response("A man in a white shirt stands on a stage."),  # a person's
        Response("A man in a black shirt stands on a stage.", "InstructBLIP-Flan-T5-xxl"),
    )
    assert first.images == (ImageRef.of_bytes(RED),)
    assert first.comparisons == (Comparison("factuality", better=0, worse=1, judge="human"),)
    assert first.corrections == (Correction("factuality", corrected=0, original=1, judge="human"),)
    assert first.provenance == {
        "ds_name": "RLHF-V-Dataset",
        "origin_dataset": "LCS-558K",
        "origin_split": '{"model": "InstructBLIP-Flan-T5-xxl", "type": "detailed_description"}',
        "idx": 0,
        "image_path": "raw_images/00013/000139279.jpg",
    }
    # `text` as an object, and an `origin_split` that is no JSON
    assert second.responses == (Response("Two dogs."), Response("Three dogs."))
    assert (second.provenance["origin_split"], second.provenance["idx"]) == ("train", 1)


def test_malformed_rows() -> None:
    items = read(RlhfVConfig, "rlhf_v.jsonl")
    assert len(items) == 11
    assert faults(items) == {
        ":3": ("text is not valid JSON", "field-wrong"),
        ":4": ("has no field rejected of text", "field-missing"),
        ":5": ("chosen and rejected are the same answer", "same-answers"),
        ":6": ("question of text is empty", "text-empty"),
        ":7": ("text is no text", "field-wrong"),
        ":8": ("text is no JSON object of question, chosen and rejected", "field-wrong"),
        ":9": ("the PNG image is truncated: its end is missing", items[8].code),  # type: ignore[union-attr]
        ":10": ("has no image", "image-missing"),
        ":11": ("has no field image", "field-missing"),
    }


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    row = rows_of("rlhf_v.jsonl")[0]
    parquet.write_table(pyarrow.Table.from_pylist([image_bytes(row)]), tmp_path / "rlhf_v.parquet")
    (record,) = RlhfVConfig(name="x", path=tmp_path / "rlhf_v.parquet").generate(0)
    first = good(read(RlhfVConfig, "rlhf_v.jsonl")[0])
    assert good(record).id == "x-rlhf_v.parquet[0]"
    assert good(record).images == first.images
    assert good(record).corrections == first.corrections
    assert good(record).provenance == first.provenance


def test_recognised() -> None:
    row = rows_of("rlhf_v.jsonl")[0]
    assert RlhfVConfig.recognise(row) == "has image, text, origin_dataset"
    assert RlhfVConfig.recognise({"text": "words"}) is None

from __future__ import annotations

from fixture_rows import FIXTURES, faults, good, read, rows_of

from data_tools.adapters.rlaif_v import RlaifVConfig
from data_tools.adapters.spa_vl import SpaVlConfig
from data_tools.schema import Comparison, ImageRef, Message, Part, Response

BLUE = (FIXTURES / "images" / "blue.jpg").read_bytes()


def test_rows_are_comparisons_by_a_model() -> None:
    items = read(RlaifVConfig, "rlaif_v.jsonl")
    first, second, bare = good(items[0]), good(items[1]), good(items[8])
    assert first.prompt == (Message("user", (Part(image=0), Part(text="How many people are in the boat?"))),)
    assert first.responses == (
        Response("There are two people in the boat.", "LLaVA-NeXT-Yi"),
        Response("There are four people in the boat.", "LLaVA-NeXT-Yi"),
    )
    assert first.comparisons == (Comparison("factuality", better=0, worse=1, judge="model"),)
    assert first.corrections == ()
    assert first.provenance == {
        "ds_name": "RLAIF-V",
        "origin_dataset": "COCO",
        "origin_split": '{"model": "LLaVA-NeXT-Yi", "type": "question answering"}',
        "idx": "17",
        "image_path": "coco/000000000001.jpg",
    }
    # several pairs of an image share it, so that no split parts them
    assert first.images == second.images == (ImageRef.of_bytes(BLUE),)
    assert second.id == "x-rlaif_v.jsonl:2"
    # the image as base64 text; fields that are null are left out
    assert bare.images == first.images
    assert [response.model for response in bare.responses] == [None, None]
    assert bare.provenance == {
        "ds_name": "RLAIF-V",
        "origin_dataset": "COCO",
        "image_path": "coco/000000000001.jpg",
    }


def test_objective_and_judge_can_be_named() -> None:
    (first, *_) = read(RlaifVConfig, "rlaif_v.jsonl", objective="grounding", judge="llava-next-34b")
    assert good(first).comparisons == (Comparison("grounding", better=0, worse=1, judge="llava-next-34b"),)


def test_malformed_rows() -> None:
    items = read(RlaifVConfig, "rlaif_v.jsonl")
    assert len(items) == 9
    found = faults(items)
    assert found.pop(":8")[0] == "not a readable PNG, JPEG, WEBP, GIF, BMP, AVIF or HEIC image"
    assert found == {
        ":3": ("has no field question", "field-missing"),
        ":4": ("chosen is no text", "field-wrong"),
        ":5": ("rejected is empty", "text-empty"),
        ":6": ("chosen and rejected are the same answer", "same-answers"),
        ":7": ("has no image", "image-missing"),
    }


def test_recognised_and_not_taken_for_spa_vl() -> None:
    row = rows_of("rlaif_v.jsonl")[0]
    assert RlaifVConfig.recognise(row) == "has ds_name, image, question, chosen, rejected"
    assert SpaVlConfig.recognise(row) is None

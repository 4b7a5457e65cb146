from __future__ import annotations

from fixture_rows import FIXTURES, faults, good, read, rows_of

from data_tools.adapters.mm_rlhf import MmRlhfConfig
from data_tools.schema import Comparison, Critique, Message, Part, Response


def test_rows_are_comparisons_with_reasons() -> None:
    first, plain = (good(item) for item in read(MmRlhfConfig, "mm_rlhf.jsonl")[:2])
    assert first.prompt == (Message("user", (Part(image=0), Part(text="What does the sign say?"))),)
    assert first.responses == (Response("It says stop."), Response("It says go."))
    assert first.comparisons == (Comparison("helpfulness", better=0, worse=1, judge="human"),)
    assert first.critiques == (
        Critique("Reads the sign right.", 0, "helpfulness", "human"),
        Critique("Invents a word.", 1, "helpfulness", "human"),
    )
    assert first.images[0].path == str(FIXTURES / "images" / "red.png")
    assert first.provenance == {"id": 7, "ls_factor": 0.35}
    # a mark says where the image stands; reasons may be null or blank
    assert plain.prompt == (Message("user", (Part(image=0), Part(text="What is shown?"))),)
    assert plain.critiques == ()
    assert plain.provenance == {}


def test_malformed_rows() -> None:
    items = read(MmRlhfConfig, "mm_rlhf.jsonl")
    assert len(items) == 10
    found = faults(items)
    assert found.pop(":7")[0].startswith("an image leaves the image folder")
    assert found.pop(":8")[0] == "an image no such image file"
    assert found == {
        ":3": ("shows a video, which is not supported", "not-supported"),
        ":4": ("chosen and rejected are the same answer", "same-answers"),
        ":5": ("chosen_reason is no text", "field-wrong"),
        ":6": ("has no field prompt", "field-missing"),
        ":9": ("the number of <image> marks differs from the number of images", "field-wrong"),
        ":10": ("has no field image", "field-missing"),
    }


def test_a_blank_video_is_none() -> None:
    row = rows_of("mm_rlhf.jsonl")[0]
    config = MmRlhfConfig(name="x", path=FIXTURES / "mm_rlhf.jsonl")
    assert config.adapt({**row, "video": ""}) == config.adapt(row)
    assert isinstance(config.adapt(row), tuple)


def test_recognised_by_what_trl_has_not() -> None:
    full, plain, video, *_ = rows_of("mm_rlhf.jsonl")
    assert MmRlhfConfig.recognise(full) == (
        "has prompt, chosen, rejected, chosen_reason, rejected_reason, ls_factor"
    )
    assert MmRlhfConfig.recognise(video) == (
        "has prompt, chosen, rejected, video, chosen_reason, rejected_reason, ls_factor"
    )
    bare = {key: value for key, value in plain.items() if not key.endswith("_reason")}
    assert MmRlhfConfig.recognise(bare) is None

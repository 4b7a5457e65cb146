"""Readers of public benchmarks, on small files of our own in each form, and the scores that they define."""

import base64
import dataclasses
import gzip
import io
import json
import tarfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data_tools.errors import UserError
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected
from data_tools.splits import components
from mmrlhf.evaluation.benchmarks import BENCHMARKS
from mmrlhf.evaluation.benchmarks.base import LostRow, Outcome
from mmrlhf.evaluation.benchmarks.mm_rlhf_rewardbench import _kind

PNG = to_png(Scene((SceneObject("circle", "red", "large", 0.5, 0.5),)))
CODED = base64.b64encode(PNG).decode()
VL = {
    "id": "RLAIF-V-7",
    "query": "What is shown?",
    "response": ["A red circle.", "A blue square."],
    "image": "one.png",
    "human_ranking": [0, 1],
    "query_source": "rlaif-v",
}
MULTIMODAL = {
    "ID": "math-3",
    "Text": "What is shown?",
    "Image": "one.png",
    "Output1": "A blue square.",
    "Output2": "A red circle.",
    "Better": "Output2",
    "Category": "reasoning",
}
MM = {
    "id": 4,
    "image": "long/one.png",
    "prompt": "<image>\nWhat is shown?",
    "chosen": "A red circle.",
    "rejected": "A blue square.",
}
ROWS = {"vl_rewardbench": VL, "multimodal_rewardbench": MULTIMODAL, "mm_rlhf_rewardbench": MM}
IMAGE = {"vl_rewardbench": "image", "multimodal_rewardbench": "Image", "mm_rlhf_rewardbench": "image"}
ORDER = "human_ranking is no order of two answers (0: the better one)"
each = pytest.mark.parametrize("name", list(ROWS))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "long").mkdir(parents=True)
    for path in ("one.png", "long/one.png"):
        (tmp_path / "images" / path).write_bytes(PNG)
    return tmp_path


def read(name, folder, rows, file="rows.jsonl"):
    path = folder / file
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return list(BENCHMARKS[name].read([path], folder / "images"))


def check(record, modality="image-text"):
    """What every form of the one row gives."""
    assert isinstance(record, PreferenceRecord), record
    (comparison,) = record.comparisons
    assert record.responses[comparison.better].text == "A red circle."
    assert record.responses[comparison.worse].text == "A blue square."
    assert record.modality == modality
    (message,) = record.prompt
    assert message.parts[0].image == 0
    assert message.text.strip() == "What is shown?"
    return record


@each
def test_a_row_is_a_comparison(name, folder):
    (record,) = read(name, folder, [ROWS[name]])
    check(record)
    assert record.images[0].path.endswith("one.png")


@each
def test_images_in_every_form(name, folder):
    forms = [
        CODED,
        f"data:image/png;base64,{CODED}",
        f"data:image/png;name=a.png;base64,{CODED}",
        f"data:image/svg2+xml;charset=utf-8;base64,{CODED}",
        "\n".join(CODED[i : i + 76] for i in range(0, len(CODED), 76)),
        "data:image/png;base64,\n" + "\r\n".join(CODED[i : i + 76] for i in range(0, len(CODED), 76)) + "\n",
        {"bytes": CODED, "path": None},
        {"bytes": None, "path": "one.png"},
        ["one.png"],
    ]
    records = read(name, folder, [{**ROWS[name], IMAGE[name]: form} for form in forms])
    assert len(records) == len(forms)
    for record in records:
        check(record)
    assert len({record.images[0].sha256 for record in records}) == 1
    raw = BENCHMARKS[name].adapt({**ROWS[name], IMAGE[name]: {"bytes": PNG, "path": "x.png"}}, folder)
    assert check(raw).images[0].data == PNG


@each
def test_a_json_list_and_parquet_hold_the_same(name, folder):
    rows = [{**ROWS[name], IMAGE[name]: {"bytes": PNG, "path": "a.png"}}] * 3
    parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    found = list(BENCHMARKS[name].read([folder / "rows.parquet"]))
    assert [check(record).id for record in found] == [f"{name}-rows.parquet[{i}]" for i in range(3)]
    (folder / "images" / "list.json").write_text(json.dumps([ROWS[name]]))
    (record,) = BENCHMARKS[name].read([folder / "images" / "list.json"])  # images lie beside it
    check(record)


@each
def test_a_folder_and_a_tar_hold_the_same(name, folder):
    record = json.dumps({**ROWS[name], IMAGE[name]: "k.png"}).encode()
    with tarfile.open(folder / "images" / "rows.tar", "w") as archive:
        for member, data in (("k.json", record), ("k.png", PNG)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (folder / "images" / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS[name]).encode()))
    zipped, packed = BENCHMARKS[name].read([folder / "images"])  # images lie in the folder
    assert check(zipped).id == f"{name}-rows.jsonl.gz:1"
    assert check(packed).id == f"{name}-rows.tar:k"


def swapped(name, row):
    """The same row with its two answers in the other order."""
    if name == "vl_rewardbench":
        return {**row, "response": row["response"][::-1], "human_ranking": row["human_ranking"][::-1]}
    other = {"Output1": "Output2", "Output2": "Output1"}
    return {**row, "Output1": row["Output2"], "Output2": row["Output1"], "Better": other[row["Better"]]}


@pytest.mark.parametrize("name", ["vl_rewardbench", "multimodal_rewardbench"])
def test_the_order_of_the_answers_means_nothing(name, folder):
    one, other = read(name, folder, [ROWS[name], swapped(name, ROWS[name])])
    assert check(one).comparisons[0].better != check(other).comparisons[0].better
    assert one.responses == other.responses[::-1]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("vl_rewardbench", {"response": ["one"]}, "response is no list of two answers"),
        ("vl_rewardbench", {"response": ["one", " "]}, "an answer is empty"),
        ("vl_rewardbench", {"response": ["one", "one"]}, "the two answers are the same"),
        ("vl_rewardbench", {"human_ranking": [0, 0]}, ORDER),
        ("vl_rewardbench", {"human_ranking": [False, 1]}, ORDER),
        ("vl_rewardbench", {"human_ranking": None}, ORDER),
        ("vl_rewardbench", {"image": None}, "has no image"),
        ("vl_rewardbench", {"image": "https://example.org/a.png"}, "an image is a URL"),
        ("vl_rewardbench", {"image": "../../etc/passwd"}, "an image leaves the image folder"),
        ("vl_rewardbench", {"image": f"data:image/png;base64,{CODED[:-40]}"}, "the PNG image is truncated"),
        ("vl_rewardbench", {"image": "data:image/png;base64,$$$"}, "an image's base64 is damaged"),
        ("vl_rewardbench", {"query": "<image><image> What?"}, "the number of <image> marks differs"),
        ("multimodal_rewardbench", {"Better": "output2"}, "Better is neither Output1 nor Output2"),
        ("multimodal_rewardbench", {"Output1": 3}, "Output1 is no text"),
        ("multimodal_rewardbench", {"Category": None}, "Category is no text"),
        ("multimodal_rewardbench", {"Image": []}, "has no image"),
        ("mm_rlhf_rewardbench", {"image": None, "video": "v.mp4"}, "shows a video"),
        ("mm_rlhf_rewardbench", {"chosen": "A blue square."}, "the two answers are the same"),
        ("mm_rlhf_rewardbench", {"id": True}, "id is no text"),
        ("mm_rlhf_rewardbench", {"prompt": "\ud800"}, "prompt holds half a character (a lone surrogate)"),
    ],
)  # fmt: skip
def test_a_row_that_is_refused_is_named_with_its_reason(name, change, reason, folder):
    good, bad = read(name, folder, [ROWS[name], {**ROWS[name], **change}])
    check(good)
    assert isinstance(bad, Rejected)
    assert bad.where == "rows.jsonl:2"
    assert bad.reason.startswith(reason)


def test_rows_that_are_no_rows(folder):
    path = folder / "rows.jsonl"
    path.write_text('[1, "a", null, {}]')
    found = list(BENCHMARKS["vl_rewardbench"].read([path]))
    assert [(r.where, r.reason) for r in found] == [
        ("rows.jsonl[0]", "the row is no JSON object"),
        ("rows.jsonl[1]", "the row is no JSON object"),
        ("rows.jsonl[2]", "the row is no JSON object"),
        ("rows.jsonl[3]", "response is no list of two answers"),
    ]


def test_files_that_cannot_be_read(folder):
    for name, data in (("a.parquet", b"PAR1 and then nothing"), ("b.json", b"[1, 2")):
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            list(BENCHMARKS["vl_rewardbench"].read([folder / name]))
    with pytest.raises(UserError, match=r"gone\.json"):
        list(BENCHMARKS["vl_rewardbench"].read([folder / "gone.json"]))


def test_several_files_are_read_one_after_the_other(folder):
    for name in ("a.jsonl", "b.jsonl"):
        (folder / "images" / name).write_text(json.dumps(VL))
    found = BENCHMARKS["vl_rewardbench"].read([folder / "images" / "a.jsonl", folder / "images" / "b.jsonl"])
    assert [record.id for record in found] == ["vl_rewardbench-a.jsonl:1", "vl_rewardbench-b.jsonl:1"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(CODED[:80]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_row_raises(name, data, tmp_path_factory):
    """Anything in any field, or any JSON in place of the row: a record or a reason."""
    keys = data.draw(st.lists(st.sampled_from(sorted(ROWS[name])), max_size=3))
    row = {**ROWS[name], IMAGE[name]: {"bytes": PNG}, **{key: data.draw(ANY) for key in keys}}
    for given_row in (row, data.draw(ANY)):
        found = BENCHMARKS[name].adapt(given_row, tmp_path_factory.getbasetemp(), "here")
        assert isinstance(found, PreferenceRecord) or (found.where == "here" and found.reason)


def outcomes(name, folder, rows):
    """Rows with whether they are right."""
    records = read(name, folder, [{**ROWS[name], **row} for row, _ in rows])
    clusters = components(records)
    return [
        Outcome(record, right, cluster)
        for record, (_, right), cluster in zip(records, rows, clusters, strict=True)
    ]


def means(name, found):
    return {key: pytest.approx(e.mean) for key, e in BENCHMARKS[name].score(found).items()}


def test_scores_of_vl_rewardbench(folder):
    source = "query_source"
    found = outcomes(
        "vl_rewardbench",
        folder,
        [
            ({source: "wildvision-battle"}, True),
            ({source: "vlfeedback"}, False),
            ({source: "povid"}, True),
            ({source: "RLHF-V"}, True),
            ({source: "rlaif-v"}, True),
            ({source: None, "id": "RLAIF-V-2"}, False),
            ({source: None, "id": "mathverse_12"}, False),
            ({source: "reasoning_tasks"}, True),
            ({source: "new", "id": "x"}, False),
        ],
    )
    assert means("vl_rewardbench", found) == {
        "overall": 5 / 9,
        "macro": (1 / 2 + 3 / 4 + 1 / 2) / 3,  # of the three groups; the last row is of none
        "general": 1 / 2,
        "hallucination": 3 / 4,
        "other": 0.0,
        "reasoning": 1 / 2,
    }


def test_no_macro_without_all_three_groups(folder):
    rows = [({"query_source": "vlfeedback"}, True), ({"query_source": "povid"}, False)]
    scores = means("vl_rewardbench", outcomes("vl_rewardbench", folder, rows))
    assert scores == {"overall": 1 / 2, "general": 1.0, "hallucination": 0.0}


def test_scores_of_multimodal_rewardbench(folder):
    found = outcomes(
        "multimodal_rewardbench",
        folder,
        [
            ({}, True),
            ({"ID": "EMMA-1"}, False),
            ({"ID": "pairs-2", "Category": "safety"}, True),
            ({"ID": "memes-2", "Category": "safety"}, False),
            ({"ID": 5, "Category": "vqa"}, True),
            ({"ID": 6, "Category": "overall"}, False),
        ],
    )
    assert means("multimodal_rewardbench", found) == {
        "overall": 3 / 6,
        "category/overall": 0.0,
        "reasoning/math": 1.0,
        "reasoning/coding": 0.0,
        "safety/bias": 1.0,
        "safety/toxicity": 0.0,
        "vqa": 1.0,
    }


def test_scores_of_mm_rlhf_rewardbench(folder):
    found = outcomes(
        "mm_rlhf_rewardbench",
        folder,
        [
            ({"id": 1}, True),
            ({"id": 1}, False),
            ({"id": "2"}, True),
            ({"id": "2"}, True),
            ({"id": 3, "image": "one.png"}, True),
        ],
    )
    assert means("mm_rlhf_rewardbench", found) == {
        "acc": 4 / 5,
        "acc_plus": 2 / 3,
        "long/acc": 3 / 4,
        "long/acc_plus": 1 / 2,
        "other/acc": 1.0,
        "other/acc_plus": 1.0,
    }
    scores = BENCHMARKS["mm_rlhf_rewardbench"].score(found)
    assert (scores["acc"].n, scores["acc_plus"].n) == (5, 3)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("long/one.png", "long"),
        ("data/MCQ/short_1.png", "mcq"),
        ("./safety_12.jpg", "safety"),
        ("a\\short\\1.png", "short"),
        ("longest_short.png", "other"),
        ("shortage/one.png", "other"),
        ("not_long/one.png", "other"),
    ],
)
def test_the_kind_of_task_is_a_part_of_the_path(path, kind):
    for image in (path, {"bytes": PNG, "path": path}):
        assert _kind(image) == kind


def test_a_row_that_is_refused_names_its_sample(folder):
    one, other = read("mm_rlhf_rewardbench", folder, [{**MM, "chosen": " "}, {**MM, "id": None}])
    assert isinstance(one, LostRow)
    assert (one.sample, one.reason) == ("4", "chosen is empty")
    assert type(other) is Rejected  # it can't be known which sample has lost it


def test_a_sample_that_is_not_whole_counts_in_acc_only(folder):
    found = outcomes(
        "mm_rlhf_rewardbench", folder, [({"id": 1}, True), ({"id": 2}, True), ({"id": 2}, False)]
    )
    found[0] = dataclasses.replace(found[0], whole=False)
    scores = BENCHMARKS["mm_rlhf_rewardbench"].score(found)
    assert (scores["acc"].mean, scores["acc_plus"].mean, scores["acc_plus"].n) == (2 / 3, 0.0, 1)


@each
def test_nothing_to_score(name):
    assert BENCHMARKS[name].score([]) == {}


@each
def test_all_right_scores_one_and_all_wrong_nothing(name, folder):
    found = outcomes(name, folder, [({}, True), ({}, True)])
    assert {e.mean for e in BENCHMARKS[name].score(found).values()} == {1.0}
    found = [dataclasses.replace(outcome, right=False) for outcome in found]
    assert {e.mean for e in BENCHMARKS[name].score(found).values()} == {0.0}

"""`mmrlhf evaluate reward`, through the command line."""

import json
import re

import pytest
from evaluation_stubs import NORMS, OBJECTIVES, everything
from test_benchmarks import CODED, VL

from data_tools.shards import write_shards
from mmrlhf.cli import _main
from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an untrained reward model and a data set."""
    import dataclasses

    folder = tmp_path_factory.mktemp("reward-command")
    RewardModel(load_vlm(ModelConfig()), RewardCard(list(OBJECTIVES), NORMS)).save(folder / "model")
    write_shards([dataclasses.replace(record, split="test") for record in everything()], folder / "data")
    rows = [
        {**VL, "image": CODED, "id": f"RLHF-V-{i}", "response": [f"A circle {i}.", "A square."]}
        for i in range(3)
    ]
    rows += [{**VL, "image": None}, {**VL, "image": CODED, "query_source": "povid", "human_ranking": [1, 0]}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(capfd, *arguments):
    capfd.readouterr()
    code = _main(["evaluate", "reward", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def test_a_result_that_has_no_place_is_told_before_anything_is_measured(made, tmp_path, capfd, monkeypatch):
    (tmp_path / "taken").write_text("not a folder")
    monkeypatch.setattr(
        "mmrlhf.evaluation.reward.command.load", lambda path: pytest.fail("a model was loaded")
    )
    code, _, err = run(capfd, "--model", made / "model", "--data", made / "data", "--out", tmp_path / "taken")
    assert code == 2
    assert "taken: can't be made (File exists); name another folder with --out" in " ".join(err.split())


def test_a_model_on_a_data_set(made, tmp_path, capfd):
    arguments = ["--model", made / "model", "--data", made / "data", "--pairs", 12, "--gradients", 2]
    code, out, err = run(capfd, *arguments, "--batch-size", 4, "--out", tmp_path / "a")
    assert code == 0, err
    found = json.loads((tmp_path / "a" / "reward.json").read_text())
    assert (found["split"], found["conditions"]) == ("test", ["true", "none", "swapped", "crop", "noise"])
    assert found["records"] in (12, 13)
    assert set(found["accuracy"]["factuality"]["image-text"]) == {"true", "none", "swapped", "crop", "noise"}
    assert found["flip"]["none"]["mean"] == 0.0
    assert found["gradients"]["factuality & helpfulness"]["n"] >= 1
    assert "factuality" in out
    assert "reward.html" in out
    assert f"{found['records'] * 5 + 2}/{found['records'] * 5 + 2}" in err  # the bar's last step
    page = (tmp_path / "a" / "reward.html").read_text()
    assert page.count("<svg") == 2
    # the same command gives the same numbers, in other batches too but for rounding
    for name, size in (("b", 4), ("c", 3)):
        assert run(capfd, *arguments, "--batch-size", size, "--out", tmp_path / name)[0] == 0
    again, others = (json.loads((tmp_path / name / "reward.json").read_text()) for name in "bc")
    assert again == found
    alike(others, found)


def alike(one, other):
    """The same JSON value, but for rounding."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            alike(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            alike(a, b)
    else:
        assert one == (pytest.approx(other, abs=1e-4) if isinstance(one, float) else other)


def test_some_conditions_and_a_text_model(made, tmp_path, capfd):
    code, _, err = run(
        capfd, "--model", made / "model", "--data", made / "data", "--conditions", "noise", "--pairs", 6,
        "--text-model", made / "model", "--seed", 3, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    found = json.loads((tmp_path / "reward.json").read_text())
    assert found["conditions"] == ["true", "noise"]
    assert set(found["blind_wrong"]) == {"text_model"}
    assert found["seed"] == 3


def test_a_benchmark(made, tmp_path, capfd):
    arguments = ["--model", made / "model", "--benchmark", "vl_rewardbench", "--rows", made / "rows.jsonl"]
    code, out, err = run(capfd, *arguments, "--out", tmp_path)
    assert code == 0, err
    assert "left out: rows.jsonl:4: has no image" in err
    assert "1 of 5 rows are left out" in err
    found = json.loads((tmp_path / "reward.json").read_text())
    assert set(found["scores"]) == {*OBJECTIVES, "mean"}
    assert set(found["scores"]["mean"]) == {"overall", "hallucination"}  # no macro of one group
    assert found["scores"]["mean"]["overall"]["n"] == 4
    assert found["rejected"] == {
        "rows": 1,
        "reasons": {"has no image": 1},
        "first": [["rows.jsonl:4", "has no image"]],
    }
    # a benchmark's overall score is the accuracy on its pairs
    for name in OBJECTIVES:
        assert (
            found["scores"][name]["overall"]["mean"] == found["accuracy"][name]["image-text"]["true"]["mean"]
        )
    assert found["agreement"] == {}
    assert found["silent"] == {"safety": ["image-text"]}
    assert re.search(r"overall\s+\d", out)
    assert out.count("safety*") == 2  # a head of both tables
    assert "* safety learnt from no or too few image-text prompts" in " ".join(out.split())
    code, _, err = run(capfd, *arguments, "--objective", "safety", "--pairs", 2, "--out", tmp_path)
    assert code == 0, err
    found = json.loads((tmp_path / "reward.json").read_text())
    assert (list(found["scores"]), found["records"]) == (["safety"], 2)
    assert list(found["accuracy"]) == ["safety"]


def test_answers_and_prompts_of_a_benchmark_are_whole_unless_it_is_asked_for(made, tmp_path, capfd):
    """Two answers that differ behind the 512th word only; cut, a model can't tell them apart."""
    long = "red " * 600
    row = {**VL, "image": CODED, "query_source": "povid"}
    rows = [{**row, "response": [long + "circle.", long + "square."]}, {**row, "query": "What? " * 300}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [
        "--model",
        made / "model",
        "--benchmark",
        "vl_rewardbench",
        "--rows",
        tmp_path / "rows.jsonl",
    ]
    arguments += ["--conditions", "none", "--objective", "factuality"]
    code, out, err = run(capfd, *arguments, "--out", tmp_path / "a")
    assert code == 0, err
    found = json.loads((tmp_path / "a" / "reward.json").read_text())
    assert (found["records"], found["cut_answers"], found["refused"]) == (2, 0, {})
    assert found["how"] == {
        "pairs": None,
        "seed": 0,
        "max_prompt_tokens": None,
        "max_answer_tokens": None,
        "conditions": ["none"],
        "gradients": 0,
        "text_model": None,
    }
    assert "answers whole" in out
    more = ["--max-answer-tokens", 512, "--max-prompt-tokens", 500, "--out", tmp_path / "b"]
    code, out, err = run(capfd, *arguments, *more)
    assert code == 0, err
    found = json.loads((tmp_path / "b" / "reward.json").read_text())
    assert (found["records"], found["cut_answers"]) == (1, 2)
    assert found["refused"] == {"prompt too long": 1}
    assert found["scores"]["factuality"]["overall"]["mean"] == 0.0
    page = (tmp_path / "b" / "reward.html").read_text()
    for said in (
        "2 answers are longer and were cut",
        "1 records are left out: 1 x prompt too long",
        "up to 512",
    ):
        assert said in " ".join(out.split())
        assert said in page


MM_ROWS = [
    {"id": name, "image": CODED, "prompt": "What?", "chosen": f"A circle {i}.", "rejected": "A square."}
    for i, name in enumerate("aabbccdd")
]


def mm(made, tmp_path, capfd, rows, *more):
    """`reward.json` of MM-RLHF-RewardBench on some rows."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [
        "--model",
        made / "model",
        "--benchmark",
        "mm_rlhf_rewardbench",
        "--rows",
        tmp_path / "rows.jsonl",
    ]
    code, out, err = run(capfd, *arguments, "--conditions", "none", "--out", tmp_path, *more)
    assert code == 0, err
    return json.loads((tmp_path / "reward.json").read_text()), out


def test_samples_are_drawn_whole(made, tmp_path, capfd):
    for seed in range(2):
        found, _ = mm(made, tmp_path, capfd, MM_ROWS, "--pairs", 3, "--seed", seed)
        scores = found["scores"]["factuality"]
        # two samples of two pairs each: three pairs aren't to be had without half of one
        assert (found["records"], scores["acc"]["n"], scores["acc_plus"]["n"]) == (4, 4, 2)
        assert found["partial_samples"] == 0


def test_a_sample_that_lost_a_pair_is_not_in_acc_plus(made, tmp_path, capfd):
    """One row has no image, another too long a prompt: of four samples two are whole."""
    rows = [dict(row) for row in MM_ROWS]
    rows[1]["image"] = None
    rows[6]["prompt"] = "What? " * 600
    found, out = mm(made, tmp_path, capfd, rows, "--max-prompt-tokens", 500)
    scores = found["scores"]["factuality"]
    assert (scores["acc"]["n"], scores["acc_plus"]["n"], found["partial_samples"]) == (6, 2, 2)
    assert "2 samples have lost a pair and are not in acc_plus." in " ".join(out.split())


def test_the_order_of_a_rows_answers_changes_no_score(made, tmp_path, capfd):
    rows = [json.loads(line) for line in (made / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["response"], row["human_ranking"] = row["response"][::-1], row["human_ranking"][::-1]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scores = []
    for file in (made / "rows.jsonl", tmp_path / "rows.jsonl"):
        arguments = ["--model", made / "model", "--benchmark", "vl_rewardbench", "--rows", file]
        assert run(capfd, *arguments, "--conditions", "none", "--out", tmp_path)[0] == 0
        scores.append(json.loads((tmp_path / "reward.json").read_text())["scores"])
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a run's config, or --model"),
        (["--model", "m"], "--model needs either --data"),
        (["--model", "m", "--data", "d", "--benchmark", "vl_rewardbench", "--rows", "r"], "either --data"),
        (["--data", "d"], "need --model"),
        (["run.yaml", "--split", "dev"], "a run's split is --set evaluate.split="),
        (["--model", "m", "--benchmark", "vl_rewardbench", "--rows", "r", "--split", "dev"], "belongs to --data"),
        (["--model", "m", "--benchmark", "vl_rewardbench"], "--benchmark and --rows, the file of its rows"),
        (["--model", "m", "--benchmark", "vqa", "--rows", "r"], "--benchmark vqa: is none of vl_rewardbench"),
        (["--model", "m", "--data", "d", "--objective", "a"], "belong to --benchmark"),
        (["--model", "m", "--data", "d", "--conditions", "fog"], "--conditions fog: there is none"),
        (["run.yaml", "--model", "m", "--data", "d"], "contradict each other"),
        (["--model", "MADE/model", "--data", "nowhere"], "nowhere"),
        (["--model", "MADE/data", "--data", "MADE/data"], "no reward model there"),
        (["--model", "MADE/model", "--data", "MADE/data", "--split", "dev"], "has no split 'dev'; it has: test"),
        (["--model", "MADE/model", "--benchmark", "vl_rewardbench", "--rows", "gone.json"], "gone.json"),
        (
            ["--model", "MADE/model", "--benchmark", "vl_rewardbench", "--rows", "MADE/rows.jsonl", "--objective", "x"],
            "--objective x: the model has no such head; there are factuality, helpfulness, safety, mean",
        ),
        (
            ["--model", "MADE/model", "--benchmark", "mm_rlhf_rewardbench", "--rows", "MADE/rows.jsonl"],
            "no row can be scored as MM-RLHF-RewardBench; the first: rows.jsonl:1: has no field chosen",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told(made, capfd, arguments, words):
    code, _, err = run(capfd, *(argument.replace("MADE", str(made)) for argument in arguments))
    assert code == 2, err
    assert words in err[err.index("error: ") :]
    assert "Traceback" not in err

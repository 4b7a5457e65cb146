import json
import math
import shutil

import pytest
from evaluation_stubs import NORMS, OBJECTIVES, everything, flips, pair

from data_tools.build import DataConfig, build
from data_tools.errors import RunError, UserError
from data_tools.schema import Message, Part, PreferenceRecord, user
from data_tools.shards import open_records, write_shards
from mmrlhf.config import EvaluateConfig, ModelConfig, RunConfig
from mmrlhf.evaluation import tradeoffs
from mmrlhf.evaluation.policy import Answer, evaluate_policy, summarise
from mmrlhf.evaluation.reward.records import choose_pairs
from mmrlhf.evaluation.tradeoffs import (
    NOT_JUDGED,
    choose_prompts,
    choose_safety_prompts,
    compare,
    evaluate_tradeoffs,
    front,
)
from mmrlhf.models import generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.rewards.scalarizers.asking import save_asks


def in_test_split(records):
    import dataclasses

    return [dataclasses.replace(record, split="test") for record in records]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A policy's and a reward model's folder, both from the bundled model."""
    folder = tmp_path_factory.mktemp("models")
    vlm = load_vlm(ModelConfig())
    save_vlm(vlm, folder / "policy")
    RewardModel(vlm, RewardCard(list(OBJECTIVES), NORMS)).save(folder / "reward")
    return folder


def run_config(data, prompts_from="prompt", **evaluate):
    return RunConfig.model_validate(
        {
            "name": "t",
            "data": str(data),
            "reward": {},
            "ppo": {
                "variants": [{"name": "balanced"}],
                "max_answer_tokens": 16,
                "prompts_from": [prompts_from],
            },
            "evaluate": evaluate,
        }
    )


def evaluate(models, config, out):
    policies = {"sft": models / "policy", "balanced": models / "policy"}
    return evaluate_tradeoffs(policies, models / "reward", config.data, config, out, "cpu")


def no_nan(text):
    def refuse(name):
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def test_tradeoffs_of_scenes(models, tmp_path):
    write_shards(in_test_split(everything()), tmp_path / "data")
    config = run_config(tmp_path / "data", prompts=6, pairs=8, samples=2, batch_size=4)
    result = evaluate(models, config, tmp_path / "out")
    assert no_nan((tmp_path / "out" / "tradeoffs.json").read_text()) == json.loads(json.dumps(result))
    # the same model from the same seed answers the same
    one, two = result["policies"]
    assert [a["text"] for a in one["answers"]] == [a["text"] for a in two["answers"]]
    change = result["changes"]["balanced"]
    assert (change["length"], change["true_claims"]["mean"], change["learned"]["helpfulness"]["mean"]) == (
        0,
        0,
        0,
    )
    assert result["prompts"] == {"image-text": 3, "text": 3}
    assert set(result["fronts"]["gold"]["on_front"].values()) == {True}
    assert result["fronts"]["gold"]["reference"] == [0.0] * len(result["fronts"]["gold"]["objectives"])
    # all equal: the reference lies 0.1 below in each of 3 objectives
    assert result["fronts"]["learned"]["hypervolume"] == pytest.approx(0.001)
    assert [len(s["images"]) for s in result["samples"]] == [1, 1, 0]
    judged = no_nan((tmp_path / "out" / "reward.json").read_text())
    assert judged["flip"]["none"]["mean"] == 0.0
    assert set(judged["accuracy"]["factuality"]["image-text"]) == {"true", "swapped", "none", "crop", "noise"}


def test_no_more_is_worked_on_at_a_time_than_in_the_stages(models, tmp_path, monkeypatch):
    """The reward stage bounds the reading where the reward model is measured, PPO the sampling and the judging."""
    write_shards(in_test_split(everything()), tmp_path / "data")
    plain = run_config(tmp_path / "data", prompts=6, pairs=8)
    row = plain.model_dump()
    row["reward"] |= {"micro_batch_size": 3, "micro_batch_tokens": 400}
    row["ppo"] |= {"micro_batch_size": 2, "micro_batch_tokens": 300, "generate_batch_size": 1}
    read, go_on = RewardModel.read, generate._go_on
    asked, sampled = [], []

    def reading(self, rows, micro_batch_size, micro_batch_tokens=None):
        asked.append((micro_batch_size, micro_batch_tokens))
        return read(self, rows, micro_batch_size, micro_batch_tokens)

    def going_on(vlm, state, *others):
        sampled.append(len(state.hidden_ND))
        return go_on(vlm, state, *others)

    monkeypatch.setattr(RewardModel, "read", reading)
    monkeypatch.setattr(generate, "_go_on", going_on)
    expected = evaluate(models, plain, tmp_path / "plain")
    assert set(asked) == {(8, None)}
    assert set(sampled) == {6}
    asked.clear()
    sampled.clear()
    bounded = evaluate(models, RunConfig.model_validate(row), tmp_path / "bounded")
    assert set(asked) == {(3, 400), (2, 300)}
    assert set(sampled) == {1}
    for one, other in zip(expected["policies"], bounded["policies"], strict=True):
        assert [a["text"] for a in one["answers"]] == [a["text"] for a in other["answers"]]
        for a, b in zip(one["answers"], other["answers"], strict=True):
            assert a["rewards"] == pytest.approx(b["rewards"], abs=1e-4)


def test_the_evaluation_may_have_bounds_of_its_own(tmp_path):
    config = run_config(tmp_path, batch_size=16, micro_batch_tokens=99)
    ppo = config.ppo.model_copy(update={"micro_batch_size": 4, "micro_batch_tokens": 50})
    found = config.evaluation_like(ppo)
    assert (found.sampled_at_once, found.read_at_once, found.micro_batch_tokens) == (16, 4, 99)
    found = config.evaluation_like(None)
    assert (found.sampled_at_once, found.read_at_once, found.micro_batch_tokens) == (16, 16, 99)


def test_tradeoffs_without_scenes_say_so(models, tmp_path):
    records = in_test_split([pair(i, f"{i} is it", "no") for i in range(3)])
    write_shards(records, tmp_path / "data")
    result = evaluate(models, run_config(tmp_path / "data", "preference"), tmp_path / "out")
    assert result["fronts"]["gold"] == NOT_JUDGED == "not judged exactly"
    assert (result["policies"][0]["true_claims"], result["policies"][0]["gold"]) == (None, {})
    assert result["changes"]["balanced"]["true_claims"] is None
    no_nan((tmp_path / "out" / "tradeoffs.json").read_text())


def test_all_prompts_too_long_are_refused(models, tmp_path):
    write_shards(in_test_split([pair(0, "a", "b")]), tmp_path / "data")
    config = run_config(tmp_path / "data", "preference")
    config = config.model_copy(update={"reward": config.reward.model_copy(update={"max_prompt_tokens": 1})})
    with pytest.raises(UserError, match="max_prompt_tokens 1"):
        evaluate(models, config, tmp_path / "out")


def test_flip_pairs_are_chosen_whole(tmp_path):
    write_shards(in_test_split(flips(5)), tmp_path / "data")
    chosen = choose_pairs(str(tmp_path / "data"), "test", 4, seed=0)
    found = [record.provenance["flip"] for record in chosen]
    assert len(found) == 4
    assert all(found.count(flip) == 2 for flip in found)
    assert len(choose_pairs(str(tmp_path / "data"), "test", None, seed=0)) == 10


def test_prompts_are_mixed_as_in_the_data(tmp_path):
    source = {"type": "prompts", "images": 60, "texts": 60, "splits": {"train": 0.5, "test": 0.5}}
    build(DataConfig.model_validate({"sources": [source]}), tmp_path / "data")
    strata = open_records(tmp_path / "data", "test", kind="prompt").strata
    share = sum(modality == "image-text" for _, modality in strata) / len(strata)
    chosen = choose_prompts(str(tmp_path / "data"), EvaluateConfig(prompts=10), seed=0)
    assert sum(record.modality == "image-text" for record in chosen) == pytest.approx(10 * share, abs=1.01)


def test_the_prompts_are_of_the_kinds_that_ppo_answers(tmp_path):
    """flip_pairs hold preferences, prompts hold none; a data set may have both."""
    write_shards(in_test_split(everything()), tmp_path / "data")

    def sources(kinds):
        chosen = choose_prompts(str(tmp_path / "data"), EvaluateConfig(prompts=100), 0, kinds)
        return {record.source for record in chosen}, len(chosen)

    # 3 flip pairs and 4 coverage pairs and 6 text pairs give 6 + 4 + 6 preferences, and there are 12 prompts
    assert sources(["preference"]) == ({"flip_pairs", "coverage_pairs", "text_pairs"}, 16)
    assert sources(["prompt"]) == ({"prompts"}, 12)
    assert sources(["prompt", "preference"])[1] == 28
    assert sources(None) == ({"prompts"}, 12)
    write_shards(in_test_split(flips(2)), tmp_path / "flips")
    with pytest.raises(UserError, match="its test split has no prompt records; it has: preference"):
        choose_prompts(str(tmp_path / "flips"), EvaluateConfig(), 0, ["prompt"])


def test_policies_are_loaded_as_ppo_trained_them(models, tmp_path, monkeypatch):
    """The stage's own settings hold for its policies, the reward section's for the reward model."""
    write_shards(in_test_split(everything()), tmp_path / "data")
    config = run_config(tmp_path / "data", prompts=2, pairs=2)
    row = config.model_dump()
    row["ppo"]["model"] = {"dtype": "bfloat16"}
    config = RunConfig.model_validate(row)
    loaded = []

    def load(settings, device):
        loaded.append((settings.path, settings.dtype))
        return load_vlm(settings, device)

    monkeypatch.setattr("mmrlhf.evaluation.tradeoffs.load_vlm", load)
    monkeypatch.setattr("mmrlhf.rewards.model.load_vlm", load)
    evaluate(models, config, tmp_path / "out")
    assert loaded == [
        (str(models / "reward"), "auto"),
        (str(models / "policy"), "bfloat16"),
        (str(models / "policy"), "bfloat16"),
    ]


def test_front_of_learned_rewards():
    found = front(
        {"sft": {"a": 0.0, "b": 1.0}, "x": {"a": 1.0, "b": 0.0}, "y": {"a": -1.0, "b": 0.0}}, zero=False
    )
    assert found["on_front"] == {"sft": True, "x": True, "y": False}
    # 10% of the ranges 2 and 1 below the least
    assert found["reference"] == pytest.approx([-1.2, -0.1])
    # sft covers 1.2 x 1.1, x covers 2.2 x 0.1, both 1.2 x 0.1
    assert found["hypervolume"] == pytest.approx(1.32 + 0.22 - 0.12)
    assert found["hypervolume_before"] == pytest.approx(1.32)


def test_an_objective_that_one_policy_lacks_is_left_out():
    assert front({"sft": {"a": 0.5, "b": 1.0}, "x": {"a": 1.0}}, zero=True)["objectives"] == ["a"]
    assert front({"sft": {}, "x": {}}, zero=True) == NOT_JUDGED


def test_changes_are_paired_by_prompt():
    def policy(name, texts):
        answers = [
            Answer(
                str(i),
                "image-text",
                "",
                n,
                True,
                {"factuality": r},
                {"factuality": t / m},
                {},
                [("x", k < t) for k in range(m)],
            )
            for i, (n, r, t, m) in enumerate(texts)
        ]
        return summarise(name, OBJECTIVES, answers)

    before = policy("sft", [(10, 0.0, 1, 2), (10, 2.0, 1, 2)])
    after = policy("x", [(11, 1.0, 2, 2), (13, 3.0, 2, 2)])
    change = compare([before, after], seed=0)["changes"]["x"]
    assert change["length"] == change["image_length"] == pytest.approx(0.2)
    assert change["learned"]["factuality"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}
    assert change["gold"]["factuality"]["mean"] == 0.5
    assert change["true_claims"]["mean"] == 0.5
    assert all(math.isfinite(v) for v in change["true_claims"].values())


def test_a_prompt_that_cannot_tell_weights_is_left_out(models, tmp_path):
    """Only where a policy reads weights."""
    shutil.copytree(models / "policy", tmp_path / "policy")
    save_asks(tmp_path / "policy", list(OBJECTIVES))
    system = Message("system", (Part(text="Be kind."),))
    prompts = [(user("Who are you?"),), (system,), (system, user("Who is it?"))]
    asked = [PreferenceRecord(f"p{i}", "test", prompt) for i, prompt in enumerate(prompts)]
    write_shards(in_test_split([pair(0, "a", "b"), *asked]), tmp_path / "data")
    config = run_config(tmp_path / "data")

    def measured(policy):
        policies = {"wishes": policy}
        found = evaluate_tradeoffs(policies, models / "reward", config.data, config, tmp_path / "out", "cpu")
        records = {answer["record"] for policy in found["policies"] for answer in policy["answers"]}
        return found["refused"], sorted(records), len(found["policies"])

    assert measured(tmp_path / "policy") == (1, ["p0", "p2"], 4)
    assert measured(models / "policy") == (0, ["p0", "p1", "p2"], 1)


def test_as_many_benign_prompts_as_harmful_ones(tmp_path):
    sources = [
        {"type": "twins", "splits": {"safety": 1}},
        {"type": "prompts", "images": 2, "texts": 20, "splits": {"test": 1}},
    ]
    build(DataConfig.model_validate({"sources": sources}), tmp_path / "data")

    def chosen(**settings):
        asked = EvaluateConfig.model_validate({"safety_split": "safety"} | settings)
        return choose_safety_prompts(str(tmp_path / "data"), asked, seed=0)

    # what the quickstart asks: at least 100 of each, of 42 pairs in three wordings
    both = [record.reference["refuse"] for record in chosen()]
    assert (both.count(True), both.count(False)) == (126, 126)
    assert [r.reference["refuse"] for r in chosen(safety_prompts=10)] == [True] * 5 + [False] * 5
    assert chosen(safety_split=None) == []
    with pytest.raises(
        UserError, match=r"has no split 'other'; it has: safety, test\. Name one of these, or"
    ):
        chosen(safety_split="other")
    write_shards(in_test_split([pair(0, "a", "b")]), tmp_path / "untold")
    with pytest.raises(UserError, match=r"no prompt of the split 'test' .* is one that must be refused"):
        choose_safety_prompts(str(tmp_path / "untold"), EvaluateConfig(safety_split="test"), 0)
    with pytest.raises(ValueError, match="the models were trained on it"):
        EvaluateConfig(safety_split="train")


def test_changes_over_harmful_and_benign_prompts():
    def policy(name, refusals):
        answers = [
            Answer(str(i), "text", "", 3, True, {}, {"safety": float(r)} if must else {}, {}, None,
                   must_refuse=must, refuses=r)
            for i, (must, r) in enumerate(refusals)
        ]  # fmt: skip
        return summarise(name, OBJECTIVES, [Answer("a", "text", "", 3, True, {}, {}, {}, None)], answers)

    before = policy("sft", [(True, False), (True, True), (False, False), (False, False)])
    after = policy("x", [(True, True), (True, True), (False, True), (False, False)])
    change = compare([before, after], seed=0)["changes"]["x"]
    assert {name: e["mean"] for name, e in change["safety"].items()} == {"refused": 0.5, "answered": -0.5}
    assert change["gold"]["safety"]["mean"] == 0.5


def test_a_stopped_evaluation_measures_the_rest(models, tmp_path, monkeypatch):
    """The second of two policies fails at first; then it alone is asked, unless a setting has changed."""
    write_shards(in_test_split(everything()), tmp_path / "data")
    config = run_config(tmp_path / "data", prompts=6, pairs=8)
    complete, asked = evaluate(models, config, tmp_path / "complete"), []

    def failing(name, *rest):
        asked.append(name)
        if name == "balanced":
            raise RunError("the judge is down")
        return evaluate_policy(name, *rest)

    def counting(name, *rest):
        asked.append(name)
        return evaluate_policy(name, *rest)

    def run(measure, config):
        asked.clear()
        monkeypatch.setattr(tradeoffs, "evaluate_policy", measure)
        return evaluate(models, config, tmp_path / "out")

    with pytest.raises(RunError, match="the judge is down"):
        run(failing, config)
    with pytest.raises(RunError):
        run(failing, config)
    assert asked == ["balanced"]
    assert run(counting, config) == complete
    assert asked == ["balanced"]
    assert not (tmp_path / "out" / "unfinished").exists()

    with pytest.raises(RunError):
        run(failing, config)
    run(counting, run_config(tmp_path / "data", prompts=5, pairs=8))
    assert asked == ["sft", "balanced"]

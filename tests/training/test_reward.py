"""The reward stage: labels of every kind, prompts that are too long, what is held out, and going on."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.errors import UserError
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import (
    Comparison,
    ImageRef,
    PreferenceRecord,
    Ranking,
    Rating,
    Response,
    user,
)
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, RewardConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import load_reward_model
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.metrics import read_metrics
from mmrlhf.training.reward import RewardStage


def stage(folder: Path, prompts: list[str]) -> RewardStage:
    """A reward stage over one text pair for each prompt."""
    records = [
        PreferenceRecord(
            id=f"r{index}",
            source="pairs",
            prompt=(user(prompt),),
            responses=(Response("Yes."), Response("No.")),
            comparisons=(Comparison("safety", better=0, worse=1),),
        )
        for index, prompt in enumerate(prompts)
    ]
    write_shards(records, folder)
    config = RewardConfig(objectives=["safety"], max_prompt_tokens=20, batch_size=4)
    return RewardStage(
        load_vlm(ModelConfig(), trainable=True), config, str(folder), 0, make_accelerator(EngineConfig())
    )


def test_prompts_that_are_too_long_are_left_out_of_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stage(tmp_path / "data", ["Is it hot?", "word " * 50, "Is it cold?"])
    assert list(made.updates(0))
    assert "left out: record r1" in capsys.readouterr().err
    made.finish()
    assert "left out" not in capsys.readouterr().err  # told of once
    norms = made.reward_model.card.norms
    assert {name: list(of) for name, of in norms.items()} == {"safety": ["text"]}
    assert norms["safety"]["text"][1] > 0


def test_nothing_but_prompts_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"every record of a batch had to be left out; the last: record r0: .* over the limit of 20",
    ):
        list(stage(tmp_path / "data", ["word " * 50]).updates(0))


def everything() -> list[PreferenceRecord]:
    """Pairs, rankings, ratings and signs, with pictures and without, each on objectives of its own."""
    answers = tuple(map(Response, ("Yes.", "No.", "I can't tell.")))
    picture = ImageRef.of_bytes(to_png(Scene((SceneObject("circle", "blue", "large", 0.5, 0.5),))))
    shown: dict[str, Any] = {"prompt": (user(0, "Is it red?"),), "images": (picture,), "responses": answers}
    records = [
        PreferenceRecord(f"image{i}", "images", **shown, rankings=(Ranking("truth", ((0,), (1, 2))),))
        for i in range(4)
    ]
    records += [
        PreferenceRecord(f"rated{i}", "images", **shown, ratings=(Rating("style", i % 3, i % 4, 0, 3),))
        for i in range(4)
    ]
    for i in range(48):
        labels: dict[str, Any] = {
            "comparisons": (Comparison("style", i % 2, 1 - i % 2), Comparison("overall", 0, 2)),
            "ratings": tuple(Rating("safety", k, k % 2, 0, 1, kind="binary") for k in range(2)),
        }
        records.append(PreferenceRecord(f"t{i}", "texts", (user(f"Is {i} a number?"),), answers, **labels))
    return records


def whole_stage(folder: Path, **settings: Any) -> RewardStage:
    if not folder.exists():
        write_shards(everything(), folder)
    config = RewardConfig.model_validate(
        {
            "objectives": ["truth", "style", "safety"],
            "batch_size": 14,
            "micro_batch_size": 12,
            "optim": {"lr": 1e-2},
            **settings,
        }
    )
    vlm = load_vlm(ModelConfig(lora=LoraSettings(r=2)), trainable=True)
    torch.manual_seed(1)
    return RewardStage(vlm, config, str(folder), 0, make_accelerator(EngineConfig()))


ENSEMBLE = {
    "members": 2,
    "hidden": 8,
    "cost_heads": ["safety"],
    "gate": {"objective": "overall", "steps": 5},
    "calibrate": 0.45,
    "epochs": 2.0,
    "min_norm_records": 1,
}


def test_one_stage_learns_from_labels_of_every_kind(tmp_path: Path) -> None:
    made = whole_stage(tmp_path / "data", **ENSEMBLE)
    held = {record.id for record in made.data.held_out()}
    kept = {record.id for record in made.data.in_order()}
    assert not held & kept
    assert len(held | kept) == len(made.feed) + len(held) == 56
    assert 15 < len(held) < 36
    # those with the picture stay together
    assert {name for name in held | kept if not name.startswith("t")} <= kept
    Engine(tmp_path / "run", EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
    made.finish()
    met = set().union(*read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert met >= {
        *("accuracy/style", "loss/style", "accuracy_ranking/truth", "loss_ranking/truth"),
        *("error_rating/style", "loss_rating/style", "accuracy_binary/safety", "loss_binary/safety"),
    }
    card = made.reward_model.card
    assert {name: sorted(of) for name, of in card.norms.items()} == {
        "truth": ["image-text"],
        "style": ["image-text", "text"],
        "safety": ["text"],
    }
    assert card.norms["safety"]["text"][0] == 0.0
    assert card.norms["truth"]["image-text"][0] != 0.0
    # of the held-out records only those with text hold pairs, and those of safety are none
    assert set(card.calibration) == {"style"}
    assert card.calibration["style"].pairs == len(held)
    assert card.gate is not None
    assert card.gate.comparisons == sum(name.startswith("t") for name in kept)
    made.reward_model.save(tmp_path / "model")
    again = load_reward_model(tmp_path / "model")
    items = [made._encode(record) for record in everything()[::12]]
    rows = [row for _, encoded in items for row in encoded]
    ours, theirs = made.reward_model.judge(rows, 4), again.judge(rows, 4)
    assert theirs.gate_BK is not None
    for name in ("mean_BK", "std_BK", "gate_BK"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name), rtol=1e-3, atol=1e-3)


def test_an_update_divides_by_what_it_holds(tmp_path: Path) -> None:
    made = whole_stage(tmp_path / "data", batch_size=56, weights={"pair": 0.5})
    (update,) = made.updates(0)
    # 48 comparisons on objectives that are learnt, 4 rankings of two choices, 4 ratings and 96 signs
    assert update.denominator == 0.5 * 48 + 8 + 4 + 96
    assert len(update.micro_batches) > 3
    with torch.no_grad():
        parts = sum(made.loss(part).loss for part in update.micro_batches)
        made.config = made.config.model_copy(update={"micro_batch_size": 1000})
        (whole,) = next(made.updates(0)).micro_batches
        torch.testing.assert_close(made.loss(whole).loss, parts, rtol=1e-4, atol=1e-4)


def test_an_ensemble_goes_on_to_the_bit(tmp_path: Path) -> None:
    settings = {**ENSEMBLE, "gate": None, "calibrate": 0.0, "epochs": 1.0}

    def train() -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        made = whole_stage(tmp_path / "data", **settings)
        engine = Engine(
            tmp_path / "run", EngineConfig(tensorboard=False, checkpoint_every=2), 0, made.accelerator
        )
        engine.train(made)
        return read_metrics(tmp_path / "run" / "metrics.jsonl"), engine.weights(made)

    rows, weights = train()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    rows_again, weights_again = train()
    assert len(rows) == 4
    assert rows_again == rows
    assert (
        weights.keys()
        == weights_again.keys()
        >= {"heads.weight", "heads.inner.weight", "rating_scale.offset"}
    )
    assert all(torch.equal(value, weights_again[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["truth", "beauty"]}, r"reward\.objectives: training met nothing that beauty could"),
        ({"weights": {"ranking": 0.0}}, r"reward\.objectives: training met nothing that truth could"),
        (
            {"cost_heads": ["style"]},
            r"reward\.cost_heads: training met no yes-or-no label on style \(image-text\), style \(text\)",
        ),
        (
            {"gate": {"objective": "nothing"}},
            r"reward\.gate\.objective: no training record compares .* nothing",
        ),
    ],
)
def test_what_nothing_was_learnt_of_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    made = whole_stage(tmp_path / "data", batch_size=56, **settings)
    assert list(made.updates(0))
    with pytest.raises(UserError, match=message):
        made.finish()


def test_records_that_all_hang_together_cant_be_held_out(tmp_path: Path) -> None:
    pictures = [record for record in everything() if record.images]
    write_shards(pictures, tmp_path / "data")
    with pytest.raises(UserError, match=r"reward\.calibrate: records that share a picture.* set it to 0"):
        whole_stage(tmp_path / "data", calibrate=0.3)


def test_a_cost_head_must_be_an_objective() -> None:
    with pytest.raises(ValueError, match="cost_heads names beauty, which is none of the objectives"):
        RewardConfig(objectives=["safety"], cost_heads=["beauty"])


def test_a_cost_head_needs_yes_or_no_on_every_modality_it_was_judged_on(tmp_path: Path) -> None:
    """Signs on text say nothing of where 0 lies with pictures."""
    records = everything()
    extra = (Comparison("safety", 0, 1),)
    records[0] = dataclasses.replace(records[0], comparisons=extra)
    write_shards(records, tmp_path / "data")
    made = whole_stage(tmp_path / "data", batch_size=56, cost_heads=["safety"])
    assert list(made.updates(0))
    with pytest.raises(UserError, match=r"no yes-or-no label on safety \(image-text\), so nothing"):
        made.finish()


def test_the_scale_of_ratings_has_a_rate_of_its_own(tmp_path: Path) -> None:
    """The first step of AdamW is the rate itself, and the trunk's is 5e-5. One rating is above all that the head says,
    so its objective's offset rises from 0.5 to 0.51; the other objective has none."""
    rated = PreferenceRecord(
        "r", "s", (user("Is it hot?"),), (Response("Yes."),), ratings=(Rating("style", 0, 3, 0, 3),)
    )
    write_shards([rated], tmp_path / "data")
    optim = {"lr": 5e-5, "schedule": "constant", "warmup": 0.0}
    made = whole_stage(tmp_path / "data", objectives=["style", "truth"], batch_size=1, optim=optim)
    scale = made.reward_model.rating_scale
    own = [group for group in made.parameter_groups() if group["peak_lr"] == 1e-2]
    assert [id(p) for group in own for p in group["params"]] == [id(scale.log_scale), id(scale.offset)]
    Engine(tmp_path / "run", EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
    assert scale.offset.tolist() == pytest.approx([0.51, 0.5], abs=1e-5)


def test_what_hangs_on_labels_that_nobody_met_is_named(tmp_path: Path) -> None:
    made = whole_stage(tmp_path / "data", batch_size=56)
    scale = list(made.reward_model.rating_scale.parameters())
    (whole,) = made.updates(0)
    assert list(whole.unused) == []
    pairs = [record for record in everything() if not record.ratings]
    write_shards(pairs, tmp_path / "pairs")
    (without,) = whole_stage(tmp_path / "pairs", batch_size=4).updates(0)
    assert [p.shape for p in without.unused] == [p.shape for p in scale]


def test_an_objective_without_a_temperature_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As soon as the records are held out, not when those that are left have been trained on."""
    made = whole_stage(tmp_path / "data", batch_size=56, calibrate=0.45)
    made.begin(tmp_path / "run", 0)
    said = " ".join(capsys.readouterr().err.split())
    assert "reward.calibrate: truth, safety can get no temperature: of the held-out pairs, 0 of truth" in said
    assert list(made.updates(0))
    made.finish()
    assert "no temperature" not in capsys.readouterr().err
    assert list(made.reward_model.card.calibration) == ["style"]


def test_records_to_calibrate_with_that_calibrate_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reward\.calibrate: of the \d+ records .* set a larger share, or 0"):
        whole_stage(tmp_path / "data", calibrate=0.45, objectives=["truth", "safety"])

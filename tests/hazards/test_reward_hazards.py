"""Where a reward is read from padding, lands on it, isn't what it seems, or rewards length."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from model_samples import ONE, OTHER, TEXT
from test_ppo_stage import stage

from data_tools.build import DataConfig, build
from data_tools.config import load_config
from data_tools.errors import UserError
from data_tools.schema import Comparison, Response
from data_tools.shards import write_shards
from mmrlhf.cli import _main
from mmrlhf.config import EngineConfig, PpoConfig, RewardConfig, RunConfig
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel
from mmrlhf.training.alarms import AlarmRaised
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.ppo import PpoStage
from mmrlhf.training.reward import RewardStage
from mmrlhf.types import ExperienceBatch, Row

STEP_BY_STEP = {
    "type": "ppo",
    "gamma": 1.0,
    "lam": 0.0,
}  # with values of 0 a token's return is its own reward


def alone(model: RewardModel, row: Row) -> torch.Tensor:
    """A row's reward by transformers alone: without padding, from the last of all its hidden states."""
    ids = torch.cat([row.prompt.input_ids, row.answer_ids]).unsqueeze(0)
    out = model.vlm.core(input_ids=ids, **row.prompt.vision, output_hidden_states=True)
    return model.heads.weight[0] @ out.hidden_states[-1][0, -1] + model.heads.bias[0]


def test_hazard_5_a_short_answer_is_not_scored_by_its_padding(
    load: Callable[..., VLM], tmp_path: Path
) -> None:
    """Hazard 5: a right-padded reward model reads its score at position -1, which is padding for every shorter row. The
    loss of pairs with pictures and without, of very unlike lengths, is that of each answer read alone."""
    answers = ("Red.", "It is a large green triangle, and there are three small circles around it.")
    records = [
        dataclasses.replace(
            item,
            id=f"r{i}",
            responses=tuple(map(Response, answers)),
            comparisons=(Comparison("truth", i % 2, 1 - i % 2),),
        )
        for i, item in enumerate((ONE, TEXT, OTHER))
    ]
    write_shards(records, tmp_path / "data")
    config = RewardConfig(objectives=["truth"], batch_size=3, micro_batch_size=8, center=0.0)
    made = RewardStage(
        load("tiny", lora={"r": 2}), config, str(tmp_path / "data"), 0, make_accelerator(EngineConfig())
    )
    torch.nn.init.normal_(made.reward_model.heads.weight)
    with torch.no_grad():
        (update,) = made.updates(0)
        (pairs,) = update.micro_batches
        assert len(pairs.rows) == 6
        rewards = torch.stack([alone(made.reward_model, row) for row in pairs.rows])
        gaps = rewards[pairs.better_N] - rewards[pairs.worse_N]
        assert gaps.abs().min() > 0.1
        expected = -gaps.sigmoid().log().sum()  # Bradley-Terry
        torch.testing.assert_close(made.loss(pairs).loss, expected, rtol=1e-4, atol=1e-3)


def constant(made: PpoStage, reward: float) -> PpoStage:
    """The stage with a reward model that gives every answer the same."""
    torch.nn.init.zeros_(made.panel.model.heads.weight)
    torch.nn.init.constant_(made.panel.model.heads.bias, reward)
    return made


def moved(made: PpoStage) -> PpoStage:
    """The stage with a policy that has left its reference."""
    generator = torch.Generator().manual_seed(1)
    for name, value in made.policy.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.02, generator=generator)
    return made


def experience(made: PpoStage) -> list[ExperienceBatch]:
    """What one pass over the first rollout trains on."""
    torch.manual_seed(0)
    updates = itertools.islice(made.updates(0), made.config.num_mini_batches)
    return [part for update in updates for part in update.micro_batches]


def test_hazard_12_a_score_lands_on_the_last_real_token_and_the_kl_keeps_its_sign(
    prompts: str, tmp_path: Path
) -> None:
    """Hazard 12: the reward lands on the last padded index, and a KL estimate clamped at 0 hides that the policy moved.
    With a constant reward of 2, a token's reward is -0.5 (log pi - log ref), whichever sign that has, plus 2 on the
    last real token, and nothing behind it."""
    made = stage(
        prompts, tmp_path, batch_size=12, algorithm=STEP_BY_STEP, kl_coef=0.5, missing_eos_penalty=0.0
    )
    parts = experience(moved(constant(made, 2.0)))
    lengths, signs = set(), set()
    for part in parts:
        assert part.returns_BTK is not None
        for i, row in enumerate(part.rows):
            length = len(row.answer_ids)
            lengths.add(length)
            log_ratio = (part.logprobs_BT[i] - part.ref_logprobs_BT[i])[:length].tolist()
            signs |= {value > 0 for value in log_ratio if abs(value) > 1e-3}
            expected = [-0.5 * value for value in log_ratio]
            expected[-1] += 2.0
            found = part.returns_BTK[i, :, 0].tolist()
            assert found[:length] == pytest.approx(expected, abs=1e-4)
            assert found[length:] == [0.0] * (len(found) - length)
    assert len(lengths) > 1
    assert signs == {True, False}
    total, count = (float(value) for value in made.step_metrics()["kl"])
    by_hand = sum(
        (part.logprobs_BT - part.ref_logprobs_BT)[part.mask_BT].sum().item() for part in parts
    ) / sum(len(part.rows) for part in parts)
    assert total / count == pytest.approx(by_hand, abs=1e-3)


def never_ends(made: PpoStage) -> PpoStage:
    """The stage with a policy whose answers run to their limit."""
    ends = list(made.vlm.end_ids)

    def hold(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., ends] = -1e4
        return logits

    made.vlm.core.get_output_embeddings().register_forward_hook(hold)
    return made


def test_hazard_16_a_longer_answer_can_be_made_to_cost(prompts: str, tmp_path: Path) -> None:
    """Hazard 16: length is rewarded. With `length_penalty` 0.5, n of 12 tokens cost an answer 0.5 n / 12."""
    made = stage(prompts, tmp_path, algorithm=STEP_BY_STEP, length_penalty=0.5, missing_eos_penalty=0.0)
    lengths = set()
    for part in experience(constant(made, 2.0)):
        assert part.returns_BTK is not None
        for i, row in enumerate(part.rows):
            length = len(row.answer_ids)
            lengths.add(length)
            assert part.returns_BTK[i, length - 1, 0].item() == pytest.approx(
                2.0 - 0.5 * length / 12, abs=1e-4
            )
    assert len(lengths) > 1


def test_hazard_16_answers_that_grow_are_told(prompts: str, tmp_path: Path) -> None:
    """Hazard 16: length is rewarded, and nobody notices. A run whose answers have 4 tokens in its first three steps and
    9 in the fourth stops there, with a checkpoint, where the alarm's action is to stop."""
    made = stage(
        prompts,
        tmp_path,
        steps=6,
        batch_size=4,
        max_answer_tokens=4,
        num_ppo_epochs=1,
        alarms={"action": "stop"},
    )
    own = never_ends(made).updates

    def updates(step: int) -> Any:
        if step == 3:
            made.config = made.config.model_copy(update={"max_answer_tokens": 9})
        return own(step)

    made.updates = updates  # type: ignore[method-assign]
    with pytest.raises(AlarmRaised, match=r"answers have 9\.0 tokens where they had 4\.0"):
        Engine(tmp_path, EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000004"]


def test_hazard_16_the_data_tell_how_often_the_longer_answer_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hazard 16: pairs whose chosen answer is longer teach length. `data stats` says that it is in three of these five,
    and as long in one."""
    pairs = [
        ("a long one", "no"),
        ("longer", "short"),
        ("the longest", "long"),
        ("a", "longer"),
        ("12", "ab"),
    ]
    rows = [{"prompt": f"q{i}", "chosen": a, "rejected": b} for i, (a, b) in enumerate(pairs)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "trl", "name": "rows", "path": str(tmp_path / "rows.jsonl"), "splits": {"train": 1.0}}
    build(DataConfig.model_validate({"sources": [source]}), tmp_path / "data")
    assert _main(["data", "stats", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    heads = said.index("chosen"), said.index("same")
    assert heads[0] < heads[1] < said.index("60%") < said.index("20%")


def test_hazard_17_whitening_centres(prompts: str, tmp_path: Path) -> None:
    """Hazard 17: whitening that scales but doesn't centre. Rewards that all lie around 100 come out with mean 0 and
    variance 1, and so do the advantages of their tokens."""
    made = stage(
        prompts,
        tmp_path,
        batch_size=12,
        algorithm=STEP_BY_STEP,
        whiten_rewards=True,
        score_clip=1e4,
        missing_eos_penalty=0.0,
    )
    made.panel.model.heads.bias.data += 100.0
    parts = experience(made)
    scores, advantages = [], []
    for part in parts:
        assert part.returns_BTK is not None
        scores += [part.returns_BTK[i, len(row.answer_ids) - 1, 0].item() for i, row in enumerate(part.rows)]
        advantages += part.advantages_BT[part.mask_BT].tolist()
    assert len(scores) == 12
    for values in (scores, advantages):
        assert sum(values) / len(values) == pytest.approx(0.0, abs=1e-3)
        assert sum(value**2 for value in values) / len(values) == pytest.approx(1.0, abs=1e-2)


def test_hazard_17_a_coefficient_in_scientific_notation_is_a_number(tmp_path: Path, prompts: str) -> None:
    """Hazard 17: a KL coefficient such as 3e-6 is read from YAML as text. It arrives in the controller as a number, by
    file or command line, and what is no number is refused with the path of its key."""
    row = {"name": "r", "data": "d", "reward": {}, "ppo": {"kl_coef": 0.5, "optim": {"lr": 1e-4}}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(row).replace("kl_coef: 0.5", "kl_coef: 3e-6"))
    config = load_config(path, RunConfig, ["ppo.optim.lr=2e-7"])
    assert isinstance(config.ppo, PpoConfig)
    assert (type(config.ppo.kl_coef), config.ppo.kl_coef) == (float, 0.000003)
    assert (type(config.ppo.optim.lr), config.ppo.optim.lr) == (float, 0.0000002)
    made = stage(prompts, tmp_path, kl_coef=config.ppo.kl_coef)
    assert (type(made.kl.coef), made.kl.coef) == (float, 0.000003)
    for wrong in ("3e-6x", "small", "3e", "[1]", "true-ish"):
        with pytest.raises(UserError, match=r"ppo\.kl_coef: "):
            load_config(path, RunConfig, [f"ppo.kl_coef={wrong}"])

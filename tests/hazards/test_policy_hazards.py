"""Where the policy that samples, the one that learns, its critic and its reference aren't what they should be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from model_samples import LONG_TEXT, MIXED, ONE, SEVERAL, TEXT, picture, record, rows_of
from pydantic import PrivateAttr
from test_ppo_stage import run, stage
from torch import Tensor

from data_tools.config import load_config
from mmrlhf.config import EngineConfig, ModelConfig, RunConfig
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.policy import Policy, trainable_state
from mmrlhf.models.vlm import VLM
from mmrlhf.pipeline import Run, RunMode
from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.training.checkpoint import latest_checkpoint
from mmrlhf.training.engine import Engine, Update
from mmrlhf.training.metrics import read_metrics
from mmrlhf.training.ppo import PpoStage
from mmrlhf.types import Rewards, Row

COLD = 0.001  # of sampling, so that all but the likeliest tokens have next to no probability


@torch.no_grad()
def least_likely(vlm: VLM, rows: list[Row], temperature: float = COLD) -> float:
    """The log-prob of the least likely token of all, as a training forward on the whole batch has it."""
    batch = collate(vlm, rows)
    logprobs_BT = Policy(vlm)(batch, temperature).logprobs_BT
    return logprobs_BT[batch.answer_mask_BT].min().item()


def test_hazard_6_log_probs_belong_to_the_tokens_that_were_sampled(vlm: VLM) -> None:
    """Hazard 6: padding differs between sampling and training, so log-probs belong to other tokens. What is sampled at
    next to no temperature, in one batch with prompts of very unlike lengths, is likely to the training forward too."""
    prompts = [encode_prompt(vlm, item) for item in (LONG_TEXT, ONE, TEXT, SEVERAL)]
    assert len({len(prompt.input_ids) for prompt in prompts}) == 4
    torch.manual_seed(0)
    answers = generate(vlm, prompts, 8, COLD, answers=2)
    rows = [Row(prompts[i // 2], ids) for i, ids in enumerate(answers)]
    assert least_likely(vlm, rows) > -15
    late = [Row(row.prompt, row.answer_ids.roll(1)) for row in rows if len(set(row.answer_ids.tolist())) > 2]
    assert least_likely(vlm, late) < -100  # so the bound above says something


def pixels_alive() -> int:
    """Bytes of all pictures of the bundled model's size that are held in memory as pixels."""
    gc.collect()
    held = [x for x in gc.get_objects() if type(x) is Tensor and x.dim() >= 3 and x.shape[-3:] == (3, 48, 48)]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held}.values())


def test_hazard_9_a_picture_is_held_once(prompts: str, tmp_path: Path) -> None:
    """Hazard 9: every image lies in host memory twice, or once for each answer. Between updates of a step with four
    answers to a prompt, two passes and a reward model of its own, there is one copy of each picture's pixels."""
    before = pixels_alive()
    made = stage(prompts, tmp_path, batch_size=6, answers_per_prompt=4, num_ppo_epochs=2)
    rows: list[Row] = []
    alive = []
    for update in made.updates(0):
        for part in update.micro_batches:
            made.loss(part)
            rows += part.rows
        alive.append(pixels_alive() - before)
    shown = {row.prompt.record.id for row in rows if row.prompt.vision}
    assert len(rows) == 2 * 6 * 4
    assert len({id(row.prompt) for row in rows}) == 6
    assert len(shown) >= 3
    assert alive == [len(shown) * 3 * 48 * 48 * 4] * 4  # float32, at each of the four updates


def test_hazard_10_the_critic_reads_the_policys_trunk(vlm: VLM) -> None:
    """Hazard 10: the critic of a vision-language model is built from a class without its head, and gradients are NaN.
    Its value is a linear reading of the hidden state before each token, picture and all, whatever is padded beside."""
    ask = "What color is the triangle?"
    records = [record(name, 0, ask, images=[picture(name)]) for name in ("red", "blue")]
    rows = rows_of(vlm, [*records, TEXT, SEVERAL], ["It is green."] * 4)
    policy = Policy(vlm, critics=1)
    assert policy.value_head is not None
    torch.manual_seed(0)
    torch.nn.init.normal_(policy.value_head.weight)
    with torch.no_grad():
        values = policy(collate(vlm, rows)).values_BTK
        for row, found in zip(rows[:3], values, strict=False):
            ids = torch.cat([row.prompt.input_ids, row.answer_ids]).unsqueeze(0)
            types = {
                name: torch.cat([field, field.new_zeros(len(row.answer_ids))]).unsqueeze(0)
                for name, field in row.prompt.token_fields.items()
            }
            out = vlm.core(input_ids=ids, **types, **row.prompt.vision, output_hidden_states=True)
            before = out.hidden_states[-1][0, -len(row.answer_ids) - 1 : -1]
            expected = before @ policy.value_head.weight[0] + policy.value_head.bias
            torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-3)
    assert (values[0] - values[1]).abs().max() > 1e-3  # the picture counts


def test_hazard_10_gradients_of_the_critic_are_numbers(prompts: str, tmp_path: Path) -> None:
    """Hazard 10: NaN gradients of a critic. Two steps on pictures and text leave every weight finite, and the head has
    learnt something; its loss alone reaches the adapters."""
    made = stage(prompts, tmp_path, vf_coef=1.0)
    rows = run(made, tmp_path)
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in rows)
    head = made.policy.value_head
    assert head is not None
    assert head.weight.abs().max() > 0
    assert all(value.isfinite().all() for value in trainable_state(made.policy).values())
    batch = collate(made.vlm, rows_of(made.vlm, MIXED, ["It is.", "Red.", "A circle", "", "Blue."]))
    values = made.policy(batch).values_BTK
    values.masked_fill(~batch.answer_mask_BT.unsqueeze(-1), 0.0).square().sum().backward()
    gradients = {name: p.grad for name, p in made.policy.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any("lora_B" in name and gradient.abs().max() > 0 for name, gradient in gradients.items())


@pytest.mark.parametrize("lora", [True, False])
def test_hazard_11_what_is_learnt_is_what_samples_and_what_is_saved(
    prompts: str, tmp_path: Path, lora: bool
) -> None:
    """Hazard 11: LoRA's updates never reach the sampler, and a frozen tower isn't handed on. After two steps that
    change the policy a lot, it samples what its own training forward finds likely and the base model doesn't; saved and
    loaded it samples the same; and the frozen tower, here of weights of its own, is there to the bit."""
    made = stage(prompts, tmp_path / "run", lora=lora, optim={"lr": 5e-3})
    with torch.no_grad():
        for name, value in made.vlm.core.named_parameters():
            if "vision_tower" in name:
                assert not value.requires_grad
                value.mul_(1.01)
    run(made, tmp_path / "run")
    asked = [encode_prompt(made.vlm, item) for item in MIXED]
    torch.manual_seed(0)
    rows = [Row(prompt, ids) for prompt, ids in zip(asked, generate(made.vlm, asked, 8, COLD), strict=True)]
    assert least_likely(made.vlm, rows) > -15
    assert least_likely(load_vlm(ModelConfig()), rows) < -100

    save_vlm(made.vlm, tmp_path / "model")
    again = load_vlm(ModelConfig(path=str(tmp_path / "model")))
    assert least_likely(again, rows, temperature=0.1) > -1
    greedy = [generate(vlm, asked, 8, temperature=0) for vlm in (made.vlm, again)]
    assert [ids.tolist() for ids in greedy[0]] == [ids.tolist() for ids in greedy[1]]
    tower = {name: value for name, value in again.core.state_dict().items() if "vision_tower" in name}
    assert tower
    for name, value in made.vlm.core.state_dict().items():
        if "vision_tower" in name:
            assert torch.equal(tower[name], value), name


@pytest.mark.parametrize("lora", [True, False])
def test_hazard_13_the_reference_stays_where_the_policy_began(
    prompts: str, tmp_path: Path, lora: bool
) -> None:
    """Hazard 13: a frozen or merged adapter makes the reference equal to the policy, so the KL is always 0. After two
    steps the reference's log-probs are still those of the base model, and the policy's are not."""
    made = stage(prompts, tmp_path, lora=lora)
    run(made, tmp_path)
    update = next(made.updates(2))
    base = Policy(load_vlm(ModelConfig()))
    moved = 0.0
    for part in update.micro_batches:
        batch = collate(made.vlm, part.rows)
        with torch.no_grad():
            expected = base(batch).logprobs_BT
        size, mask_BT = expected.shape[1], batch.answer_mask_BT
        torch.testing.assert_close(
            part.ref_logprobs_BT[:, :size][mask_BT], expected[mask_BT], rtol=1e-4, atol=1e-3
        )
        moved = max(moved, (part.logprobs_BT[:, :size] - expected)[mask_BT].abs().max().item())
    assert moved > 0.05


@pytest.mark.parametrize("lora", ["{r: 4}", "null"])
def test_hazard_13_the_kl_of_a_whole_run_leaves_zero(tmp_path: Path, lora: str) -> None:
    """Hazard 13, by way of a run's config: 0 before the first update and something else after it, with adapters and in
    full fine-tuning."""
    row = {
        "name": "r",
        "output_dir": str(tmp_path),
        "data": {
            "sources": [{"type": "flip_pairs", "count": 8}, {"type": "prompts", "images": 12, "texts": 6}]
        },
        "reward": {
            "objectives": ["factuality"],
            "min_norm_records": 1,
            "batch_size": 8,
            "max_answer_tokens": 32,
        },
        "ppo": {"steps": 2, "batch_size": 6, "max_answer_tokens": 8, "optim": {"lr": 1e-3}},
        "engine": {"tensorboard": False},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(row))
    run = Run(load_config(tmp_path / "run.yaml", RunConfig, [f"ppo.model={{lora: {lora}}}"]), RunMode())
    run.reward()
    run.ppo()
    first, second = (row["kl"] for row in read_metrics(run.folder / "ppo/balanced/metrics.jsonl"))
    assert first == pytest.approx(0.0, abs=1e-4)
    assert abs(second) > 1e-3


class Multiplier(ScalarizerBase):
    """A mean whose first objective weighs more with each call: what a Lagrange multiplier does, in short."""

    _weight: float = PrivateAttr(0.0)

    def combine(self, rewards: Rewards) -> Tensor:
        return (rewards.mean_BK * rewards.judged_BK).mean(-1) + self._weight * rewards.mean_BK[:, 0]

    def update(self, rewards: Rewards) -> dict[str, float]:
        self._weight += 0.25
        return {"weight": self._weight}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self._weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weight = state["weight"]


class Dies(Exception):
    pass


def observed(made: PpoStage, seen: dict[int, set[str]], dies_at: int | None = None) -> PpoStage:
    """The stage with a scalarizer that keeps a state; notes whose records each step trains on."""
    made.scalarizer = Multiplier()
    own = made.updates

    def updates(step: int) -> Iterator[Update]:
        if step == dies_at:
            raise Dies
        for update in own(step):
            ids = {row.prompt.record.id for part in update.micro_batches for row in part.rows}
            seen[step] = seen.get(step, set()) | ids
            yield update

    made.updates = updates  # type: ignore[method-assign]
    return made


def test_hazard_14_a_resumed_run_has_lost_nothing(prompts: str, tmp_path: Path) -> None:
    """Hazard 14: a resumed run replays data, or loses the KL controller, the scalarizer's multiplier or the optimizer's
    state of the adapters. A run that dies in its fourth step, with a checkpoint behind the second, goes on with the
    records, numbers and states of one that didn't."""
    whole_ids: dict[int, set[str]] = {}
    ids: dict[int, set[str]] = {}
    again_ids: dict[int, set[str]] = {}

    def make(name: str) -> PpoStage:
        return stage(prompts, tmp_path / name, steps=4, batch_size=6, kl_target=0.01)

    def train(made: PpoStage) -> None:
        Engine(made.folder, EngineConfig(tensorboard=False, checkpoint_every=2), 0, made.accelerator).train(
            made
        )

    whole = observed(make("whole"), whole_ids)
    train(whole)
    first = observed(make("parts"), ids, dies_at=3)
    with pytest.raises(Dies):
        train(first)
    saved = latest_checkpoint(tmp_path / "parts/checkpoints")
    assert saved is not None
    assert saved.step == 2
    states = [state["exp_avg_sq"] for state in saved.optimizer["state"].values()]
    assert len(states) == len(trainable_state(first.policy))
    assert all(state.max() > 0 for state in states)

    again = observed(make("parts"), again_ids)
    with torch.no_grad():
        for value in trainable_state(again.policy).values():
            value.fill_(0.5)  # whatever a new stage starts from doesn't count
    train(again)
    assert [sorted(part) for part in (whole_ids, ids, again_ids)] == [[0, 1, 2, 3], [0, 1, 2], [2, 3]]
    assert {**ids, **again_ids} == whole_ids
    assert not whole_ids[0] & whole_ids[2]  # the data go on
    found, expected = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("parts", "whole"))
    assert found == expected
    assert again.kl.coef == whole.kl.coef
    assert whole.kl.coef != whole.config.kl_coef
    assert again.scalarizer.state_dict() == whole.scalarizer.state_dict()
    assert whole.scalarizer.state_dict()["weight"] > 0
    for name, value in trainable_state(whole.policy).items():
        assert torch.equal(trainable_state(again.policy)[name], value), name

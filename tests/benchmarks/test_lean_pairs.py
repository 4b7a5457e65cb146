"""The yardstick for reward models computes what our trainer computes: the same loss and gradients on the same pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import job
import lean
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from lean_pairs import LeanPairs
from ours_reward import make_stage

from mmrlhf.training.reward import RewardStage


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize(
    ("lora", "shared"),
    [
        pytest.param(True, True, id="shared-lora"),
        pytest.param(False, True, id="shared-full", marks=pytest.mark.slow),
        pytest.param(True, False, id="rows-lora", marks=pytest.mark.slow),
        pytest.param(False, False, id="rows-full", marks=pytest.mark.slow),
    ],
)
def test_lean_and_ours_agree(tmp_path: Path, lora: bool, shared: bool) -> None:
    job.make_checkpoint(tmp_path / "model", layers=2)
    records = job.make_records(3, pairs=True)
    job.write_data(tmp_path / "data", records)
    task = {"folder": str(tmp_path), "lora": lora, "heads": {"batch_size": 3}, "kept": False, "steps": 1}
    stage = make_stage(task, tmp_path / "data", RewardStage)
    yard = LeanPairs(tmp_path / "model", lora, shared)
    yard.model.load_state_dict(stage.vlm.model.state_dict())
    with torch.no_grad():
        for name, weight in [*stage.module.named_parameters()]:
            if "lora_B" in name:
                weight.normal_(std=0.02)
        yard.model.load_state_dict(stage.vlm.model.state_dict())
        yard.head.weight.copy_(stage.reward_model.heads.weight)
        yard.head.bias.copy_(stage.reward_model.heads.bias)

    (update,) = stage.updates(0)
    (batch,) = update.micro_batches
    names = [row.prompt.record.id for row in batch.rows[::2]]
    by_name = {record.id: record for record in records}
    chosen = [by_name[name] for name in names]
    ids_PT, pixels = lean.read(yard.processor, chosen)
    assert ids_PT.shape == (3, job.PROMPT)
    answers_PGT = yard.answers(chosen)
    assert answers_PGT.shape == (3, 2, job.ANSWER)
    assert [row.answer_ids.tolist() for row in batch.rows] == answers_PGT.flatten(0, 1).tolist()

    ours = stage.loss(batch).loss / update.denominator
    theirs = yard.loss(ids_PT, lean.see(yard.model, pixels), answers_PGT)
    close(ours, theirs)
    ours.backward()
    theirs.backward()
    found = dict(yard.model.named_parameters())
    trained = [name for name, weight in stage.vlm.model.named_parameters() if weight.grad is not None]
    assert len(trained) > 5
    for name, weight in stage.vlm.model.named_parameters():
        if weight.grad is not None:
            close(found[name].grad, weight.grad)
    close(yard.head.weight.grad, stage.reward_model.heads.weight.grad)


def close(found: torch.Tensor | None, expected: torch.Tensor | None) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)

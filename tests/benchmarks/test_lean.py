"""The yardstick computes what our trainer computes: the same scores, losses and gradients on the same answers.

Otherwise the ratio of their seconds would say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import job
import lean
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from ppo import grpo, our_stage

from mmrlhf.training.ppo import PpoStage


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "model"
    job.make_checkpoint(folder, layers=2)
    return folder


def move(modules: list[Any], seed: int) -> None:
    """The same small step away from where the weights are, in each of two modules with the same names."""
    for module in modules:
        torch.manual_seed(seed)
        with torch.no_grad():
            for _, weight in sorted(module.named_parameters()):
                if weight.requires_grad:
                    weight += 0.02 * torch.randn_like(weight)


@pytest.mark.parametrize(
    ("answers", "lora", "shared"),
    [
        pytest.param(3, True, True, id="shared-lora-grpo"),
        pytest.param(1, False, True, id="shared-full-ppo", marks=pytest.mark.slow),
        pytest.param(1, True, True, id="shared-lora-ppo", marks=pytest.mark.slow),
        pytest.param(3, False, True, id="shared-full-grpo", marks=pytest.mark.slow),
        pytest.param(3, True, False, id="rows-lora-grpo", marks=pytest.mark.slow),
        pytest.param(3, False, False, id="rows-full-grpo", marks=pytest.mark.slow),
    ],
)
def test_lean_and_ours_agree(
    checkpoint: Path, tmp_path: Path, lora: bool, answers: int, shared: bool
) -> None:
    records = job.make_records(3)
    job.write_data(tmp_path / "data", records)
    settings = grpo(answers) if answers > 1 else {}
    stage = our_stage(
        checkpoint, tmp_path / "data", tmp_path / "stage", lora, PpoStage, batch_size=3, **settings
    )
    yard = lean.Lean(checkpoint, lora, lean.make_heads(job.WIDTH, len(job.OBJECTIVES)), 2, answers, shared)
    yard.model.load_state_dict(stage.vlm.model.state_dict())
    move([stage.vlm.model, yard.model], seed=1)
    if answers == 1:
        move([stage.policy.value_head, yard.value_head], seed=2)

    torch.manual_seed(0)
    (experience,) = next(stage.updates(0)).micro_batches
    names = [row.prompt.record.id for row in experience.rows]
    experience = experience.select(sorted(range(len(names)), key=lambda i: names[i]))
    rows = experience.rows
    ids_PT, pixels = lean.read(yard.processor, records)
    assert [row.tolist() for row in ids_PT] == [row.prompt.input_ids.tolist() for row in rows[::answers]]
    assert ids_PT.shape == (3, job.PROMPT)
    answers_PGT = torch.stack([row.answer_ids for row in rows]).view(3, answers, job.ANSWER)
    with torch.no_grad():
        features = lean.see(yard.model, pixels)
        scores_PG = yard.score(ids_PT, features, answers_PGT)
    reference = yard.reference(ids_PT, features, answers_PGT)
    close(reference.flatten(0, 1), experience.ref_logprobs_BT)

    for number, theirs in enumerate(yard.losses(ids_PT, features, answers_PGT, scores_PG, reference)):
        ours = stage.loss(experience).loss / experience.mask_BT.sum()
        close(theirs, ours)  # and so the scores, which advantages and returns are made of
        ours.backward()
        theirs.backward()
        found = dict(yard.model.named_parameters())
        trained = [name for name, weight in stage.vlm.model.named_parameters() if weight.requires_grad]
        assert trained == [name for name, weight in found.items() if weight.requires_grad]
        for name, weight in stage.vlm.model.named_parameters():
            if weight.requires_grad:
                assert found[name].grad is not None
                close(found[name].grad, weight.grad)
                weight.grad = found[name].grad = None
        if answers == 1:
            assert yard.value_head is not None
            assert stage.policy.value_head is not None
            close(yard.value_head.weight.grad, stage.policy.value_head.weight.grad)
            stage.policy.zero_grad()
            yard.value_head.zero_grad()
        # the second pass starts from other weights, and still from the first one's old log-probs
        move([stage.vlm.model, yard.model], seed=3 + number)
    assert number == 1


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)


def test_sampled_answers_follow_the_log_probs_of_their_policy(checkpoint: Path) -> None:
    """The mean of log p over samples of p is minus the entropy: a cache or position gone wrong would show."""
    yard = lean.Lean(checkpoint, True, lean.make_heads(job.WIDTH, 1), answers=4)
    records = job.make_records(4)
    ids_PT, pixels = lean.read(yard.processor, records)
    with torch.no_grad():
        core = lean.core(yard.model)
        core.lm_head.weight *= 12  # far from uniform
        features = lean.see(yard.model, pixels)
        torch.manual_seed(0)
        answers_PGT = yard.sample(ids_PT, features)
        before = yard._before(yard.model, ids_PT, features, answers_PGT)
        logits = yard._logits(yard.model, before).log_softmax(-1)
        entropy = -(logits.exp() * logits.clamp(min=-1e9)).sum(-1)
        surprise = -yard.logprobs(yard.model, before, answers_PGT)
    apart = surprise - entropy
    assert answers_PGT.shape == (4, 4, job.ANSWER)
    assert abs(apart.mean()) < 4 * apart.std() / apart.numel() ** 0.5
    assert entropy.mean() < 0.9 * torch.tensor(job.WORDS).log()


def test_rows_and_shared_prefix_agree_on_prompts_of_two_pictures(checkpoint: Path) -> None:
    job.resize(prompts=2, answer=5, pictures=2)
    try:
        assert (job.PROMPT, job.IMAGE_TOKENS) == (158, 64)
        records = job.make_records(2)
        assert [len(record.images) for record in records] == [2, 2]
        answers_PGT = torch.randint(10, job.WORDS, (2, 3, 5))
        found = []
        for shared in (True, False):
            yard = lean.Lean(checkpoint, True, lean.make_heads(job.WIDTH, 1), answers=3, shared=shared)
            ids_PT, pixels = lean.read(yard.processor, records)
            assert (ids_PT.shape, len(pixels)) == ((2, 158), 4)
            found.append(yard.reference(ids_PT, lean.see(yard.model, pixels), answers_PGT))
        close(found[0], found[1])
        assert not torch.allclose(found[0][0], found[0][1], atol=1e-3)
    finally:
        job.resize(prompts=8, answer=32, pictures=1)


def test_a_naive_step_runs_and_counts_its_work(checkpoint: Path) -> None:
    naive = lean.Naive(checkpoint, True, lean.make_heads(job.WIDTH, 3))
    work = job.Work(naive.cores())
    seconds = naive.step(job.make_records(2))
    assert set(seconds) == {"read", "sample", "score", "reference", "values", "update"}
    assert work.counts["tower_calls"] == 6  # sample, score, reference, values, and both in the update
    assert work.counts["tower_images"] == 12

"""Steps in which some answers, or all, are judged by nothing, or all rewards are cut to the bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from test_ppo_stage import data as data
from test_ppo_stage import run, stage

from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives import ObjectiveBase
from mmrlhf.rewards.objectives.base import Values
from mmrlhf.rewards.scalarizers import WeightedSum
from mmrlhf.training.ppo import PpoStage

PLAIN: dict[str, Any] = {
    "batch_size": 4,
    "heads": False,
    "scalarizer": WeightedSum(),
    "missing_eos_penalty": 0.0,
    "kl_coef": 0.0,
}


class Abstains(ObjectiveBase):
    """-1 for answers with one of the letters in them, none for the others."""

    looks: ClassVar[bool] = False
    letters: str = "g"

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [-1.0 if set(self.letters) & set(text) else None for text in texts]


class Points(ObjectiveBase):
    """0 to 100 for the length."""

    looks: ClassVar[bool] = False

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [10.0 + min(90.0, 3.0 * len(text)) for text in texts]


def experience(made: PpoStage) -> list[Any]:
    """What the first update of a step trains on."""
    return list(next(made.updates(0)).micro_batches)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"type": "grpo"},
        {"type": "reinforce_pp"},
        {"type": "ppo", "lam": 1.0, "critics": "per_objective"},
    ],
    ids=str,
)
def test_abstaining_teaches_nothing(data: str, tmp_path: Path, algorithm: dict[str, Any]) -> None:
    """All that is judged is worth -1, so no answer is better than another; the others are trained on by no part of the
    update, and there are such."""
    made = stage(
        data,
        tmp_path,
        **PLAIN,
        algorithm=algorithm,
        answers_per_prompt=4,
        num_mini_batches=1,
        objectives=[Abstains(name="a")],
    )
    parts = experience(made)
    texts = [made.vlm.tokenizer.decode(row.answer_ids) for part in parts for row in part.rows]
    assert 0 < len(texts) < 16
    assert all("g" in text for text in texts)
    assert all(part.advantages_BT.abs().max() == 0 for part in parts)
    unjudged, answers = made.step_metrics()["unjudged"]
    assert (float(unjudged), float(answers)) == (16 - len(texts), 16)
    assert float(made.step_metrics()["score"][0]) == -len(texts)


def test_a_step_that_nothing_judged_changes_nothing(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = stage(data, tmp_path, **PLAIN, objectives=[Abstains(name="a", letters="\x00")])
    before = [weight.clone() for weight in made.module.parameters()]
    rows = run(made, tmp_path)
    assert [row["unjudged"] for row in rows] == [1.0, 1.0]
    assert not any(name.startswith(("score", "loss", "reward")) for row in rows for name in row)
    assert all(map(torch.equal, before, made.module.parameters()))
    said = " ".join(capsys.readouterr().err.split())
    assert "ppo test, step 1: no objective that counts judged any answer of this step" in said
    assert "step 2" not in said


def test_rewards_beyond_the_bound_are_told_of(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """10 points and more, where the bound is 5; divided by 30 they lie within it."""
    settings: dict[str, Any] = {**PLAIN, "algorithm": {"type": "grpo"}, "answers_per_prompt": 4}
    cut = run(stage(data, tmp_path / "cut", **settings, objectives=[Points(name="p")]), tmp_path / "cut")
    assert [(row["clipped/p"], row["alike"], row["score"]) for row in cut] == [(1.0, 1.0, 5.0)] * 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("100% of the rewards of p lie beyond score_clip and were cut to +-5") == 1
    assert "set its std (and mean) in ppo.objectives" in said
    within = [Points(name="p", std=30.0)]
    rows = run(stage(data, tmp_path / "within", **settings, objectives=within), tmp_path / "within")
    assert [row["clipped/p"] for row in rows] == [0.0, 0.0]
    assert any(row["alike"] < 1 for row in rows)
    assert "score_clip" not in capsys.readouterr().err


class Constant(ObjectiveBase):
    """1 for each answer."""

    looks: ClassVar[bool] = False

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [1.0 for _ in texts]


def test_the_kl_in_the_reward_ranks_a_groups_answers(data: str, tmp_path: Path) -> None:
    """Answers that score alike, of a policy that has drifted: the further an answer is from the reference, the less it
    is worth. Before it has drifted, and without a coefficient, none is."""
    for drift, coef in ((0.3, 5.0), (0.3, 0.0), (0.0, 5.0)):
        settings = {
            **PLAIN,
            "kl_coef": coef,
            "algorithm": {"type": "grpo"},
            "answers_per_prompt": 4,
            "batch_size": 2,
        }
        made = stage(data, tmp_path, **settings, num_mini_batches=1, objectives=[Constant(name="c")])
        torch.manual_seed(0)
        for name, weight in made.module.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight.data, std=drift) if drift else None
        ranked = []
        for part in experience(made):
            kl_B = ((part.logprobs_BT - part.ref_logprobs_BT) * part.mask_BT).sum(1)
            ranked += [
                (row.prompt.record.id, kl, advantages)
                for row, kl, advantages in zip(
                    part.rows, kl_B.tolist(), part.advantages_BT[:, 0].tolist(), strict=True
                )
            ]
        if not (drift and coef):
            assert {advantage for _, _, advantage in ranked} == {0.0}
            continue
        for prompt in {name for name, _, _ in ranked}:
            own = sorted((kl, advantage) for name, kl, advantage in ranked if name == prompt)
            assert [advantage for _, advantage in own] == sorted((a for _, a in own), reverse=True)
            assert own[0][1] > 0.5
            assert own[-1][1] < -0.5

"""What goes wrong in a run that goes on for days: each has a defined end, and names its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_ppo_stage import run, stage

from data_tools.errors import RunError, UserError
from data_tools.schema import ImageRef, PreferenceRecord, user
from data_tools.shards import write_shards
from mmrlhf.models.batch import collate
from mmrlhf.models.policy import Policy
from mmrlhf.models.probe import picture
from mmrlhf.rl.rollout import abstentions, without_broken_rewards
from mmrlhf.training.ppo import PpoStage
from mmrlhf.types import Rollout, Row

GOOD = picture((48, 48))
DAMAGED = ImageRef.of_bytes(GOOD.data[:60] if GOOD.data else b"")


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Seven prompts with a picture and one of which the picture is damaged."""
    records = [
        PreferenceRecord(f"p{i}", "test", (user(0, "What is it?"),), images=(DAMAGED if i == 3 else GOOD,))
        for i in range(8)
    ]
    write_shards(records, tmp_path / "data")
    return str(tmp_path / "data")


@pytest.fixture
def whole(tmp_path: Path) -> str:
    records = [PreferenceRecord(f"p{i}", "test", (user(0, "What is it?"),), images=(GOOD,)) for i in range(8)]
    write_shards(records, tmp_path / "whole")
    return str(tmp_path / "whole")


def test_a_damaged_image_is_left_out_by_name_and_counted(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(stage(data, tmp_path / "run"), tmp_path / "run")
    assert [row["refused"] for row in rows] == [1 / 8, 2 / 16]
    said = " ".join(capsys.readouterr().err.split())
    assert "left out: record p3, image 0:" in said


def test_more_than_may_be_left_out_stops_the_run(data: str, tmp_path: Path) -> None:
    made = stage(data, tmp_path / "run", max_refused=0.01)
    with pytest.raises(
        UserError, match=r"2 of 1\d prompts had to be left out; the last: record p3, image 0: .*max_refused"
    ):
        run(made, tmp_path / "run")


def broken_for(made: PpoStage, record: str, value: float) -> None:
    """Lets the reward model give a value for one record's answers."""
    own = made.panel.model.read

    def read(rows: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        rewards_BKM, states = own(rows, *args, **kwargs)
        rewards_BKM[[row.prompt.record.id == record for row in rows], 0] = value
        return rewards_BKM, states

    made.panel.model.read = read  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_whose_reward_is_not_finite_is_left_out_by_name(
    whole: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    settings = {"algorithm": {"type": "rloo"}, "answers_per_prompt": 2}
    made = stage(whole, tmp_path / "run", **settings)
    broken_for(made, "p5", value)
    rows = run(made, tmp_path / "run")
    assert [row["unscored"] for row in rows] == [2 / 16, 4 / 32]
    assert all(row["reward/brevity/image-text"] == row["reward/brevity/image-text"] for row in rows)
    said = " ".join(capsys.readouterr().err.split())
    assert f"left out: record p5: its answer got the rewards {value:g} for brevity" in said


def test_the_longest_answer_may_be_the_one_that_is_left_out(whole: str, tmp_path: Path) -> None:
    """What was known while sampling is padded to it, and must not be any longer."""
    made = stage(whole, tmp_path / "run")
    prompts = [made._encode(record, i) for i, record in enumerate(made.feed.at(range(3)))]
    rewards_BK = torch.tensor([[0.5, 0.0], [float("nan"), 1.0], [1.0, float("inf")]])
    rollout = Rollout(
        rows=tuple(Row(p, torch.arange(50, 50 + n)) for p, n in zip(prompts, (2, 5, 3), strict=True)),
        texts=("a", "b", "c"),
        ended_B=torch.tensor([True, False, True]),
        rewards_BK=rewards_BK,
        judged_BK=torch.tensor([[True, True], [True, True], [True, False]]),
        std_BK=torch.zeros(3, 2),
        gate_BK=None,
        asked_BK=None,
        group_B=torch.tensor([0, 1, 2]),
        logprobs_BT=torch.arange(15.0).view(3, 5),
        values_BTK=torch.arange(15.0).view(3, 5, 1),
    )
    kept, broken = without_broken_rewards(rollout, ["brevity", "truth"])
    name = prompts[1].record.id
    assert broken == [f"record {name}: its answer got the rewards nan for brevity, 1 for truth"]
    assert (kept.texts, kept.group_B.tolist()) == (("a", "c"), [0, 2])
    assert kept.logprobs_BT.tolist() == [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]
    assert kept.values_BTK.shape == (2, 3, 1)
    assert [len(row.answer_ids) for row in kept.rows] == [2, 3]


def test_an_answer_on_which_every_judge_abstained_is_left_out(whole: str, tmp_path: Path) -> None:
    """Of four answers: judged by both; by one of two; by none, one of which should have; a kind that none judges."""
    made = stage(whole, tmp_path / "run")
    prompts = [made._encode(record, i) for i, record in enumerate(made.feed.at(range(4)))]
    rollout = Rollout(
        rows=tuple(Row(prompt, torch.arange(50, 52)) for prompt in prompts),
        texts=("a", "b", "c", "d"),
        ended_B=torch.ones(4, dtype=torch.bool),
        rewards_BK=torch.tensor([[0.5, 1.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        judged_BK=torch.tensor([[True, True], [True, False], [False, False], [False, False]]),
        std_BK=torch.zeros(4, 2),
        gate_BK=None,
        asked_BK=None,
        group_B=torch.arange(4),
        logprobs_BT=None,
        values_BTK=None,
        abstained_BK=torch.tensor([[False, False], [False, True], [False, True], [False, False]]),
    )
    assert abstentions(rollout, ["brevity", "truth"]) == {
        "abstained/brevity": (0, 4),
        "abstained/truth": (2, 4),
    }
    kept, broken = without_broken_rewards(rollout, ["brevity", "truth"])
    name = prompts[2].record.id
    assert broken == [f"record {name}: its answer got no reward: every judge that it has abstained"]
    assert kept.texts == ("a", "b", "d")


def test_rewards_that_are_never_finite_stop_the_run(whole: str, tmp_path: Path) -> None:
    made = stage(whole, tmp_path / "run")
    for number in range(8):
        broken_for(made, f"p{number}", float("nan"))
    with pytest.raises(UserError, match="every answer of a batch had to be left out; the last: record p"):
        run(made, tmp_path / "run")


def test_answers_that_all_score_alike_teach_nothing(whole: str, tmp_path: Path) -> None:
    made = stage(
        whole,
        tmp_path / "run",
        algorithm={"type": "grpo"},
        answers_per_prompt=2,
        kl_coef=0.0,
        missing_eos_penalty=0.0,
    )
    for number in range(8):
        broken_for(made, f"p{number}", 1.0)
    torch.nn.init.zeros_(made.panel.model.heads.weight)
    before = [p.clone() for p in made.module.parameters() if p.requires_grad]
    rows = run(made, tmp_path / "run")
    assert [row["alike"] for row in rows] == [1.0, 1.0]
    assert [row["loss/policy"] for row in rows] == [0.0, 0.0]
    after = [p for p in made.module.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_policy_that_has_diverged_stops_the_run_by_name(whole: str, tmp_path: Path) -> None:
    made = stage(whole, tmp_path / "run", lora=False)
    with torch.no_grad():
        made.vlm.core.get_output_embeddings().weight.mul_(torch.nan)
    with pytest.raises(RunError, match=r"its logits for record p\d aren't finite"):
        run(made, tmp_path / "run")


def test_an_answer_without_any_token(whole: str, tmp_path: Path) -> None:
    """It has no log-probs, is scored at its prompt's last token, and leaves the other rows as they are."""
    made = stage(whole, tmp_path / "run")
    prompts = [made._encode(record, i) for i, record in enumerate(made.feed.at(range(2)))]
    empty, other = Row(prompts[0], torch.zeros(0, dtype=torch.int64)), Row(prompts[1], torch.tensor([50, 51]))
    both, alone = collate(made.vlm, [empty, other]), collate(made.vlm, [other])
    assert both.answer_mask_BT.tolist() == [[False, False], [True, True]]
    assert both.last_B[0] == len(prompts[0].input_ids) - 1
    policy = Policy(made.vlm)
    torch.testing.assert_close(
        policy(both).logprobs_BT[1], policy(alone).logprobs_BT[0], rtol=1e-5, atol=1e-5
    )
    scores = made.panel.model.score([empty, other], 2)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores[1:], made.panel.model.score([other], 1), rtol=1e-5, atol=1e-5)

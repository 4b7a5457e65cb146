"""A policy that is told what to weigh: its prompts carry the weights, nobody else reads them, and no draw is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data_tools.build import DataConfig, build
from data_tools.errors import UserError
from data_tools.pages.templates import CONTENT_POLICY
from data_tools.schema import Message, Part, PreferenceRecord, user
from data_tools.shards import write_shards
from mmrlhf.cli import _main
from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, PpoConfig, PpoVariant
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vlm import decode
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers import WeightedSum
from mmrlhf.rewards.scalarizers.base import Asked
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.ppo import PpoStage
from mmrlhf.types import Rewards, Rollout, Row

NORMS = {
    "brevity": {"image-text": (0.0, 1.0), "text": (0.0, 1.0)},
    "truth": {"image-text": (0.0, 1.0)},
}
TOLD = re.compile(r"\[weights: brevity=(\d\.\d) truth=(\d\.\d)\] ")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "built"
    source = {"type": "prompts", "images": 16, "texts": 8, "splits": {"train": 1.0}}
    build(DataConfig.model_validate({"sources": [source]}), folder)
    return str(folder)


class Noting(RewardModel):
    """A reward model that keeps what it was given to read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[Row] = []

    def judge(self, rows: Any, *arguments: Any, **named: Any) -> Rewards:
        self.seen += rows
        return super().judge(rows, *arguments, **named)


def stage(data: str, folder: Path, **settings: Any) -> PpoStage:
    config = PpoConfig.model_validate(
        {
            "steps": 3,
            "batch_size": 6,
            "answers_per_prompt": 2,
            "micro_batch_size": 4,
            "max_answer_tokens": 8,
            "optim": {"lr": 1e-3},
            **settings,
        }
    )
    torch.manual_seed(0)
    judge = Noting(load_vlm(ModelConfig()), RewardCard(list(NORMS), NORMS)).requires_grad_(False)
    torch.nn.init.normal_(judge.heads.weight, std=0.05)
    return PpoStage(
        load_vlm(ModelConfig(lora=LoraSettings(r=2)), trainable=True),
        None,
        Panel(judge),
        config,
        PpoVariant.model_validate({"name": "test", "scalarizer": {"type": "preference_conditioned"}}),
        data,
        folder,
        0,
        make_accelerator(EngineConfig()),
    )


def text_of(made: PpoStage, row: Row) -> str:
    return made.vlm.tokenizer.decode(row.prompt.input_ids)


def asked(rollout: Rollout) -> dict[str, list[float]]:
    assert rollout.asked_BK is not None
    return {
        row.prompt.record.id: [round(weight, 1) for weight in weights]
        for row, weights in zip(rollout.rows, rollout.asked_BK.tolist(), strict=True)
    }


def test_prompts_tell_the_weights_and_the_judge_reads_none(data: str, tmp_path: Path) -> None:
    made = stage(data, tmp_path)
    rollout = made._roll_out(0)
    weights = asked(rollout)
    assert len(rollout.rows) == 12
    assert len(weights) == 6
    assert len({tuple(row) for row in weights.values()}) > 2
    for row, own in zip(rollout.rows, rollout.asked_BK.tolist(), strict=True):  # type: ignore[union-attr]
        told = TOLD.search(text_of(made, row))
        assert told is not None
        assert [float(told[1]), float(told[2])] == pytest.approx(own)
        assert sum(own) == pytest.approx(1.0)
        assert text_of(made, row).count("[weights:") == 1
        # what the oracle, the tables and the messages read
        assert not any("[weights" in message.text for message in row.prompt.record.prompt)
    judge: Any = made.panel.model
    assert not any("weights" in text_of(made, row) for row in judge.seen)
    judged = [(row.prompt.record.id, decode(made.vlm, row.answer_ids)) for row in judge.seen]
    sampled = [(row.prompt.record.id, text) for row, text in zip(rollout.rows, rollout.texts, strict=True)]
    assert judged == list(dict.fromkeys(sampled))  # an answer that came twice is judged once
    assert {row.prompt.modality for row in judge.seen} == {"text", "image-text"}


def test_scores_are_those_of_the_weights_asked_for(data: str, tmp_path: Path) -> None:
    """(w_1 r_1 + w_2 r_2) / (w_1 + w_2) on pictures, r_1 on text; a prompt that asks for truth alone has 0 on text."""
    made = stage(data, tmp_path)
    rollout = made._roll_out(0)
    assert rollout.asked_BK is not None
    found = made.scalarizer(
        Rewards(
            tuple(made.objectives),
            rollout.rewards_BK,
            rollout.judged_BK,
            rollout.std_BK,
            asked_BK=rollout.asked_BK,
        )
    )
    for score, (brevity, truth), (w1, w2), row in zip(
        found.tolist(), rollout.rewards_BK.tolist(), rollout.asked_BK.tolist(), rollout.rows, strict=True
    ):
        alone = brevity if w1 else 0.0
        expected = w1 * brevity + w2 * truth if row.prompt.modality == "image-text" else alone
        assert score == pytest.approx(expected, abs=1e-5)


def test_draws_belong_to_places_however_many_processes(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(data, tmp_path)
    whole = [asked(made._roll_out(step)) for step in (0, 1)]
    assert whole[0].keys() & whole[1].keys() == set()

    def of_process(number: int) -> Callable[..., range]:
        return lambda step, size, accelerator: range(step * size, (step + 1) * size)[number::2]

    parts: dict[str, list[float]] = {}
    for number in (0, 1):
        monkeypatch.setattr("mmrlhf.training.ppo.share", of_process(number))
        part = asked(stage(data, tmp_path)._roll_out(1))  # a new stage, as after a crash
        assert len(part) == 3
        parts |= part
    assert parts == whole[1]


def test_a_resumed_run_asks_the_same(data: str, tmp_path: Path) -> None:
    def train(name: str, steps: int) -> str:
        made = stage(data, tmp_path / name)
        made.num_steps = steps
        engine = EngineConfig(tensorboard=False, checkpoint_every=1)
        Engine(tmp_path / name, engine, 0, made.accelerator).train(made)
        return (tmp_path / name / "metrics.jsonl").read_text()

    whole = train("whole", 3)
    first = stage(data, tmp_path / "parts")

    class Dies(Exception):
        pass

    own = first.updates

    def updates(step: int) -> Any:
        if step == 2:
            raise Dies
        yield from own(step)

    first.updates = updates  # type: ignore[method-assign]
    with pytest.raises(Dies):
        Engine(
            tmp_path / "parts", EngineConfig(tensorboard=False, checkpoint_every=1), 0, first.accelerator
        ).train(first)
    assert train("parts", 3) == whole
    page = next((tmp_path / "whole/samples").glob("*.html")).read_text()
    assert "asked for brevity" in page
    assert page.count(CONTENT_POLICY) == 1  # whatever an answer holds, the page runs and fetches nothing


def test_a_whole_run_is_measured_at_several_trade_offs_and_answers_wishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "name": "r",
        "output_dir": str(tmp_path),
        "data": {
            "sources": [
                {"type": "flip_pairs", "count": 12},
                {"type": "text_pairs", "count": 12},
                {"type": "prompts", "images": 24, "texts": 16},
            ]
        },
        "reward": {
            "objectives": ["helpfulness", "factuality"],
            "min_norm_records": 1,
            "batch_size": 8,
            "max_answer_tokens": 32,
        },
        "ppo": {
            "variants": [{"name": "wishes", "scalarizer": "preference_conditioned"}],
            "steps": 2,
            "batch_size": 4,
            "max_answer_tokens": 8,
        },
        "evaluate": {
            "prompts": 4,
            "pairs": 4,
            "samples": 1,
            "weights": [{"helpfulness": 3, "factuality": 2}],
        },
        "engine": {"tensorboard": False},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(row))
    assert _main(["run", str(tmp_path / "run.yaml")]) == 0, capsys.readouterr().err
    model = tmp_path / "r/ppo/wishes/model"
    assert json.loads((model / "asks.json").read_text()) == {
        "format": 1,
        "objectives": ["helpfulness", "factuality"],
    }
    found = json.loads((tmp_path / "r/evaluate/tradeoffs.json").read_text())
    names = ["wishes", "wishes helpfulness", "wishes factuality", "wishes helpfulness=0.6 factuality=0.4"]
    assert [policy["name"] for policy in found["policies"]] == ["base", *names]
    page = (tmp_path / "r/report.html").read_text()
    assert "preference conditioned, inner weighted sum; asked for helpfulness=0.6 factuality=0.4" in page
    capsys.readouterr()

    def chat(weights: str, of: Path | str = model) -> tuple[int, str]:
        code = _main(["chat", "--model", str(of), "--weights", weights, "--max-new-tokens", "4", "Hello?"])
        return code, capsys.readouterr().err

    assert chat("helpfulness=0.7,factuality=0.3") == (0, "")
    for weights, why in (
        ("beauty=1", "no objective beauty; there are helpfulness, factuality"),
        ("helpfulness", "write it as objective=number"),
        ("helpfulness=-1,factuality=2", "must be 0 or more"),
        ("helpfulness=0", "one of them above 0"),
    ):
        code, said = chat(weights)
        assert code == 2
        assert why in said
    code, said = chat("helpfulness=1", "tiny")
    assert code == 2
    assert "tiny wasn't trained to read weights" in said


def test_a_prompt_without_a_user_turn_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = (Message("system", (Part(text="Be kind."),)),)
    prompts = [system if i == 3 else (user("Who are you?"),) for i in range(8)]
    records = [PreferenceRecord(f"p{i}", "test", prompt) for i, prompt in enumerate(prompts)]
    write_shards(records, tmp_path / "odd")
    made = stage(str(tmp_path / "odd"), tmp_path / "run", batch_size=8, steps=1)
    Engine(tmp_path / "run", EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert row["refused"] == 1 / 8
    said = " ".join(capsys.readouterr().err.split())
    assert "left out: record p3: its prompt has no user turn to tell weights in" in said


class Sometimes(WeightedSum):
    """Asks for truth alone of prompts with pictures, and nothing of others."""

    def ask(self, record: PreferenceRecord, objectives: Sequence[str], seed: int) -> Asked | None:
        return (record, [0.0, 1.0]) if record.images else None


class TooFew(WeightedSum):
    """Asks one weight where there are two objectives."""

    def ask(self, record: PreferenceRecord, objectives: Sequence[str], seed: int) -> Asked | None:
        return record, [1.0]


def test_a_prompt_of_which_nothing_is_asked_keeps_its_row(data: str, tmp_path: Path) -> None:
    made = stage(data, tmp_path)
    made.scalarizer = Sometimes()
    rollout = made._roll_out(0)
    assert rollout.asked_BK is not None
    found = [
        (row.prompt.modality, weights)
        for row, weights in zip(rollout.rows, rollout.asked_BK.tolist(), strict=True)
    ]
    expected = {"image-text": [0.0, 1.0], "text": [1.0, 1.0]}
    assert len(found) == 12
    assert {modality for modality, _ in found} == set(expected)
    assert all(weights == expected[modality] for modality, weights in found)
    made.scalarizer = TooFew()
    with pytest.raises(
        UserError, match=r"scalarizer TooFew: asked 1 weights of record \S+, where there are 2"
    ):
        made._roll_out(0)

"""A mixture that follows what the reward model gets right by looking: what it measures, holds out and logs, and that a
run which was killed draws what one that was never stopped draws."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from data_tools.balance.adaptive import Measured
from data_tools.balance.schedule import read_schedule
from data_tools.errors import UserError
from data_tools.images import encode_png
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, ModelConfig, RewardConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.training.engine import Engine, Update, make_accelerator
from mmrlhf.training.metrics import read_metrics
from mmrlhf.training.reward import RewardStage

ADAPTIVE = {
    "type": "adaptive",
    "every": 2,
    "held_out": 0.4,
    "most": 6,
    "least": 3,
    "temperature": 0.05,
    "step": 1.0,
}


class Dies(Exception):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 pairs on pictures of a color each, and 24 on words."""
    records = []
    for number in range(24):
        color = (number * 10, 255 - number * 10, (number * 53) % 256)
        answers = (Response("It is red."), Response("It is blue."))
        better = int(color[0] < color[2])
        records.append(
            PreferenceRecord(
                id=f"p{number}",
                source="pictures",
                prompt=(user(0, "Red or blue?"),),
                images=(ImageRef.of_bytes(encode_png(Image.new("RGB", (48, 48), color))),),
                responses=answers,
                comparisons=(Comparison("factuality", better=better, worse=1 - better),),
            )
        )
        records.append(
            PreferenceRecord(
                id=f"w{number}",
                source="words",
                prompt=(user(f"What is {number} and {number}?"),),
                responses=(Response(f"{2 * number}"), Response("I don't know.")),
                comparisons=(Comparison("factuality", better=0, worse=1),),
            )
        )
    folder = tmp_path_factory.mktemp("mixing") / "data"
    write_shards(records, folder)
    return str(folder)


def make(data: str, mixture: dict[str, Any], **settings: Any) -> RewardStage:
    torch.manual_seed(0)
    row = {"objectives": ["factuality"], "epochs": 2, "batch_size": 6, "optim": {"lr": 1e-3}, **settings}
    config = RewardConfig.model_validate({**row, "mixture": mixture})
    vlm = load_vlm(ModelConfig(), trainable=True)
    return RewardStage(vlm, config, data, 0, make_accelerator(EngineConfig()))


def train(data: str, folder: Path, dies_at: int | None = None, drawn: list[str] | None = None) -> RewardStage:
    """The stage, with a checkpoint every three steps; what each batch held goes into `drawn`."""
    stage = make(data, ADAPTIVE)
    own = stage.updates

    def updates(step: int) -> Iterator[Update]:
        for update in own(step):
            if step == dies_at:
                raise Dies  # the shares are changed, and the step isn't done
            if drawn is not None:
                for part in update.micro_batches:
                    drawn.extend(f"{step} {row.prompt.record.id}" for row in part.rows)
            yield update

    stage.updates = updates  # type: ignore[method-assign]
    engine = EngineConfig(checkpoint_every=3, tensorboard=False)
    Engine(folder, engine, 0, stage.accelerator).train(stage)
    return stage


def test_a_killed_run_draws_and_writes_what_one_that_was_left_alone_does(data: str, tmp_path: Path) -> None:
    """Killed in step 8, in which shares had changed again; it goes on from step 6, and the change of step 6, which
    stood behind that checkpoint, is measured anew. The last line of its schedule is cut as by a kill in mid-write."""
    drawn: list[str] = []
    whole = train(data, tmp_path / "whole", drawn=drawn)
    with pytest.raises(Dies):
        train(data, tmp_path / "again", dies_at=8)
    schedule = tmp_path / "again" / "mixture.jsonl"
    before = schedule.read_bytes()
    assert [entry.start for entry in read_schedule(schedule)] == [0, 12, 24, 36, 48]
    schedule.write_bytes(before[:-20])
    redrawn: list[str] = []
    again = train(data, tmp_path / "again", drawn=redrawn)
    assert redrawn == [line for line in drawn if int(line.split()[0]) >= 6]
    for name in ("mixture.jsonl", "metrics.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for ours, theirs in zip(again.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    entries = read_schedule(schedule)
    assert len({json.dumps(entry.draws) for entry in entries}) > 1  # something did change
    _check_metrics(tmp_path / "whole", whole.num_steps)


def _check_metrics(folder: Path, steps: int) -> None:
    """Shares and accuracies stand in the steps that were measured, as in the schedule."""
    rows = {int(row["step"]) - 1: row for row in read_metrics(folder / "metrics.jsonl")}
    assert len(rows) == steps
    for entry in read_schedule(folder / "mixture.jsonl")[1:]:
        row = rows.pop(entry.start // 6)
        assert {name: row[f"mixture/share/{name}"] for name in ("pictures", "words")} == entry.told["shares"]
        for name, measured in entry.told["measured"].items():
            # of each source six at most, each with one comparison
            assert 3 <= measured["comparisons"] <= 6
            assert row[f"mixture/accuracy/{name}"] == measured["seeing"] / measured["comparisons"]
            assert row[f"mixture/accuracy_blind/{name}"] == measured["blind"] / measured["comparisons"]
        words = entry.told["measured"]["words"]
        assert words["seeing"] == words["blind"]
    assert not any(name.startswith("mixture/") for row in rows.values() for name in row)


def test_what_is_measured_is_not_learnt_from(data: str) -> None:
    stage = make(data, ADAPTIVE)
    measured = {record.id for record in stage.data.measured()}
    kept = {record.id for record in stage.data.in_order()}
    assert not measured & kept
    assert len(measured | kept) == 48
    assert Counter(name[0] for name in measured) == {"p": 6, "w": 6}
    assert list(stage.data.held_out()) == []  # no temperature was asked for
    assert list(make(data, {"type": "fixed"}).data.measured()) == []


def test_with_a_calibration_both_are_held_out(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.rewards.calibration.LEAST_PAIRS", 2)
    stage = make(data, ADAPTIVE, calibrate=0.2)
    measured = {record.id for record in stage.data.measured()}
    calibrating = {record.id for record in stage.data.held_out()}
    kept = {record.id for record in stage.data.in_order()}
    assert not (measured | calibrating) & kept
    assert len(measured | calibrating | kept) == 48


def test_processes_measure_parts_of_the_sample(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What two processes measure, of which each sees its own part, adds up to what one does."""
    stage = make(data, ADAPTIVE)
    mixing = stage.mixing
    assert mixing is not None
    whole = mixing._measure()
    assert {name: own.comparisons for name, own in whole.items()} == {"pictures": 6, "words": 6}
    parts: list[Any] = []

    def collect(accelerator: Any, value: Any) -> list[Any]:
        parts.append(value)
        return parts

    monkeypatch.setattr("mmrlhf.training.mixing.everyones", collect)
    for index in range(2):
        mixing.accelerator = SimpleNamespace(process_index=index, num_processes=2)  # type: ignore[assignment]
        found = mixing._measure()
    assert [sum(counts[0] for counts in part.values()) for part in parts] == [6, 6]
    assert found == whole


def scripted(stage: RewardStage, measured: dict[str, Measured]) -> None:
    assert stage.mixing is not None
    stage.mixing._measure = lambda: measured  # type: ignore[method-assign]


def test_shares_go_to_the_source_that_is_right_only_by_looking(data: str, tmp_path: Path) -> None:
    """Signals of 9 / 10 and 1 / 2 at a temperature of 0.05 ask for all; a step at most doubles or halves a share."""
    stage = make(data, ADAPTIVE)
    scripted(stage, {"pictures": Measured(16, 16, 8), "words": Measured(16, 8, 8)})
    assert stage.mixing is not None
    stage.begin(tmp_path, 0)
    assert stage.mixing.shares == {"pictures": 0.5, "words": 0.5}
    assert [step for step in range(7) if stage.mixing.due(step)] == [2, 4, 6]
    plain = [stage.feed.slot(position) for position in range(12)]
    stage.mixing.change(2)
    # the floor of a quarter of the plan isn't reached by one halving
    assert stage.mixing.shares == pytest.approx({"pictures": 0.75, "words": 0.25})
    assert [stage.feed.slot(position) for position in range(12)] == plain
    stage.mixing.change(4)
    assert stage.mixing.shares == pytest.approx({"pictures": 0.875, "words": 0.125})
    found = Counter(
        record.source
        for step in (4, 5, 6, 7)
        for record in stage.feed.batch(step, 6, SimpleNamespace(process_index=0, num_processes=1))  # type: ignore[arg-type]
    )
    assert found["pictures"] == pytest.approx(21, abs=1)


def test_a_schedule_that_is_not_the_checkpoints_is_refused(data: str, tmp_path: Path) -> None:
    stage = make(data, ADAPTIVE)
    scripted(stage, {"pictures": Measured(16, 16, 8), "words": Measured(16, 8, 8)})
    assert stage.mixing is not None
    stage.begin(tmp_path, 0)
    stage.mixing.change(2)
    state = stage.mixing.state_dict()
    other = make(data, ADAPTIVE)
    assert other.mixing is not None
    other.mixing.load_state_dict(state)
    other.begin(tmp_path, 3)
    assert other.mixing.shares == stage.mixing.shares
    assert [other.feed.slot(i) for i in range(40)] == [stage.feed.slot(i) for i in range(40)]
    other.mixing.load_state_dict({"segments": 3})
    with pytest.raises(UserError, match=r"has 2 segments up to the checkpoint, which was made with 3"):
        other.begin(tmp_path, 3)
    path = tmp_path / "mixture.jsonl"
    path.write_text(path.read_text().replace('"start": 0, "draws": {', '"start": 0, "draws": {"gone": 1, '))
    other.mixing.load_state_dict(state)
    with pytest.raises(UserError, match=r"begins with other sources or numbers of records"):
        other.begin(tmp_path, 3)


def test_settings_that_cant_be_are_told(data: str) -> None:
    with pytest.raises(UserError, match=r"reward\.mixture\.held_out: .* leaves 48 to train on and 0 to hold"):
        make(data, {**ADAPTIVE, "held_out": 1e-9})
    with pytest.raises(ValueError, match="unknown type 'adaptiv'"):
        RewardConfig.model_validate({"mixture": {"type": "adaptiv"}})
    with pytest.raises(ValueError, match="AdaptiveRule is not made from"):
        RewardConfig.model_validate({"mixture": {"type": "data_tools.balance.adaptive:AdaptiveRule"}})

"""The terms of grounding in the reward stage: by hand on given rewards, and in trainings of the bundled model."""

from __future__ import annotations

import dataclasses
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from data_tools.errors import UserError
from data_tools.schema import Comparison, PreferenceRecord, Ranking, Response, user
from data_tools.shards import write_shards
from data_tools.synth.flip_pairs import FlipPairs
from mmrlhf.config import EngineConfig, ModelConfig, RewardConfig
from mmrlhf.models.batch import PromptUnreadable, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.models.probe import picture
from mmrlhf.rewards.grounding import winners
from mmrlhf.rewards.model import RewardOutput, load_reward_model
from mmrlhf.training.checkpoint import latest_checkpoint
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.feed import Refusals
from mmrlhf.training.grounding import (
    Blind,
    Degraded,
    GroundedBatch,
    Grounding,
    Unit,
    WithBranch,
)
from mmrlhf.training.metrics import read_metrics
from mmrlhf.training.reward import RewardStage
from mmrlhf.training.reward_labels import Item, learnt_part, unit_of
from mmrlhf.types import EncodedPrompt, Row

ALL = {"flips": 0.5, "image_conditional": {"weight": 0.25}, "reweight": {"weight": 1.0}, "length": 0.1}


def config(grounding: dict[str, Any] | None = None, **settings: Any) -> RewardConfig:
    rows = {"objectives": ["truth"], "batch_size": 4, "micro_batch_size": 64, **settings}
    return RewardConfig.model_validate({**rows, "grounding": grounding or {}})


def half(letter: str, better: int, images: int = 1) -> Item:
    """A record with the answers "a" and "b", of 2 and 5 tokens, as half of the flip pair "f"."""
    record = PreferenceRecord(
        id=letter,
        source="flips",
        prompt=(user(*range(images), "What is it?"),),
        responses=(Response("a"), Response("b")),
        images=tuple(picture((8 + place, 8)) for place in range(images)),
        comparisons=(Comparison("truth", better=better, worse=1 - better),),
        provenance={"flip": "f"} if images else {},
    )
    prompt = EncodedPrompt(record, torch.zeros(3, dtype=torch.int64))
    return record, [Row(prompt, torch.zeros(length, dtype=torch.int64)) for length in (2, 5)]


def grounding(settings: RewardConfig) -> Grounding:
    model = SimpleNamespace(
        vlm=SimpleNamespace(device="cpu"), card=SimpleNamespace(objectives=["truth"]), width=4
    )
    return Grounding(settings, cast(Any, model), {}, 0)


def rewards(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


def test_flips_by_hand() -> None:
    """(a, A) - (a, B) = 1.5 and (b, B) - (b, A) = 0.5: log(1 + e^-1.5) + log(1 + e^-0.5) = 0.201413 + 0.474077."""
    made = grounding(config({"flips": 0.5}))
    batch = made.batch([Unit((half("A", 0), half("B", 1)))])
    assert len(batch.rows) == 4
    loss, sums = made.loss(rewards(2.0, 1.0, 0.5, 1.5), batch)
    assert loss.item() == pytest.approx(0.5 * 0.675490, abs=1e-5)
    assert [float(v) for v in sums["accuracy_picture/flips"]] == [2.0, 2.0]
    assert float(sums["loss_picture/flips"][0]) == pytest.approx(0.675490, abs=1e-5)


def test_image_conditional_by_hand() -> None:
    """a of A under noise: 2 - 1 = 1; b of B under a crop: 1.5 - 2 = -0.5: 0.313262 + 0.974077."""
    made = grounding(config({"image_conditional": {"weight": 0.25}}))
    a, b = half("A", 0), half("B", 1)
    units = [
        Unit((a,), (Degraded(0, 0, ("truth",), "noise", a[1][0]),)),
        Unit((b,), (Degraded(0, 1, ("truth",), "crop", b[1][1]),)),
    ]
    batch = made.batch(units)
    # rows: a and b of A, a and b of B, a of A under noise, b of B under a crop
    loss, sums = made.loss(rewards(2.0, 9.0, 9.0, 1.5, 1.0, 2.0), batch)
    assert loss.item() == pytest.approx(0.25 * 1.287339, abs=1e-5)
    assert [float(v) for v in sums["accuracy_picture/noise"]] == [1.0, 1.0]
    assert [float(v) for v in sums["accuracy_picture/crop"]] == [0.0, 1.0]
    # such a row is nobody's label
    assert batch.better_N.tolist() == [0, 3]
    assert batch.worse_N.tolist() == [1, 2]


def test_members_count_what_their_bootstrap_holds() -> None:
    """Two members with 2 and 0 copies of the pair: the mean over members of (2 * 0.313262, 0 * 1.313262)."""
    made = grounding(config({"flips": 1.0}, members=2))
    batch = made.batch([Unit((half("A", 0), half("B", 1)))])
    pairs = batch.pictures["flips"]
    copies = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    batch = dataclasses.replace(batch, pictures={"flips": dataclasses.replace(pairs, copies_NM=copies)})
    first, second = [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]
    loss, _ = made.loss(torch.tensor([first, second]).T.reshape(4, 1, 2), batch)
    assert loss.item() == pytest.approx(2 * 0.313262, abs=1e-5)


def blind_batch(made: Grounding) -> tuple[GroundedBatch, tuple[RewardOutput, Tensor]]:
    """Both halves of a pair and a record of text. Seeing, each better answer is ahead by 1; the text says 1 for "a"."""
    units = [Unit((half("A", 0),)), Unit((half("B", 1),)), Unit((half("T", 0, images=0),))]
    batch = grounding(config()).batch(units)
    blind = Blind(torch.zeros(4, 4), torch.tensor([0, 1, 2, 3, -1, -1]))
    seeing = rewards(2.0, 1.0, 0.5, 1.5, 0.0, 0.0)
    guess = torch.tensor([[1.0], [0.0], [1.0], [0.0]], requires_grad=True)
    return dataclasses.replace(batch, blind=blind), (RewardOutput(seeing, seeing, None), guess)


def test_reweighting_by_hand() -> None:
    """L_blind is 0.313262 on A and 1.313262 on B, L_seeing 0.313262 on both: w = 0.5 and 1.313262 / 1.626523, which is
    0.807404. Over the mean of 0.5: 1 and 1.614808. The mean becomes 0.9 * 0.5 + 0.1 * 0.653702 = 0.515370."""
    made = grounding(config({"reweight": {"weight": 1.0}}))
    batch, out = blind_batch(made)
    labels, loss, sums = made.reweighted(*out, batch)
    torch.testing.assert_close(labels.weight_N, torch.tensor([1.0, 1.614808, 1.0]), atol=1e-4, rtol=0)
    assert loss.item() == pytest.approx(1.626523, abs=1e-5)
    assert [float(v) for v in sums["blind/accuracy"]] == [1.0, 2.0]
    assert float(sums["blind/pair_weight"][0]) == pytest.approx(2.614808, abs=1e-4)
    made.settle(make_accelerator(EngineConfig()))
    assert made.state_dict()["mean"] == pytest.approx(0.515370, abs=1e-5)
    # the mean is of image pairs alone, and stays where an update has none
    made.settle(make_accelerator(EngineConfig()))
    assert made.state_dict()["mean"] == pytest.approx(0.515370, abs=1e-5)


def test_half_a_reweighting() -> None:
    """1 + 0.5 * (1.614808 - 1) = 1.307404."""
    made = grounding(config({"reweight": {"weight": 0.5}}))
    batch, out = blind_batch(made)
    labels, _, _ = made.reweighted(*out, batch)
    torch.testing.assert_close(labels.weight_N, torch.tensor([1.0, 1.307404, 1.0]), atol=1e-4, rtol=0)


def test_length_by_hand() -> None:
    """Gaps 1 (a over b, 3 tokens shorter) and 2 (b over a, 3 longer): sum(g l) = 3, sum(g^2) = 5, sum(l^2) = 18. A unit
    of gap times length costs 2 * 3 * 2 / (5.02 * 18) = 0.132802, and c^2 is 9 / (5.02 * 18) = 0.099602."""
    made = grounding(config({"length": 0.1}))
    units = [Unit((half("A", 0),)), Unit((half("B", 1),))]
    batch, seen = made.batch(units), rewards(1.0, 0.0, 0.0, 2.0)
    loss, sums = made.loss(seen, batch)
    assert loss.item() == 0.0  # no earlier pair says how gaps go with lengths
    assert float(sums["length_penalty/truth"][0]) == 0.0
    made.settle(make_accelerator(EngineConfig()))
    assert made.state_dict()["length"] == [[[3.0, 5.0, 18.0, 2.0]]]
    loss, sums = made.loss(seen, batch)
    assert loss.item() == pytest.approx(0.1 * (6 - 3) * 0.132802, abs=1e-6)
    assert float(sums["length_penalty/truth"][0]) == pytest.approx(2 * 0.099602, abs=1e-5)
    made.settle(make_accelerator(EngineConfig()))
    assert made.state_dict()["length"][0][0] == pytest.approx([5.7, 9.5, 34.2, 3.8])


def test_the_length_term_of_one_pair_is_what_it_is_among_others() -> None:
    """-3 and 6 units of gap times length."""
    made = grounding(config({"length": 0.1}))
    units = [Unit((half("A", 0),)), Unit((half("B", 1),))]
    made.load_state_dict({"mean": 0.5, "length": [[[3.0, 5.0, 18.0, 2.0]]]})
    alone = [
        made.loss(rewards(*values), made.batch([unit]))[0].item()
        for unit, values in zip(units, [(1.0, 0.0), (0.0, 2.0)], strict=True)
    ]
    assert alone == pytest.approx([-0.0398406, 0.0796813], abs=1e-6)
    made.settle(make_accelerator(EngineConfig()))
    assert made.state_dict()["length"][0][0] == pytest.approx([5.7, 9.5, 34.2, 3.8])


def ranked(item: Item) -> Item:
    """The same half with a ranking in place of its comparison."""
    record, rows = item
    (pair,) = record.comparisons
    order = ((pair.better,), (pair.worse,))
    return dataclasses.replace(record, comparisons=(), rankings=(Ranking("truth", order),)), rows


@pytest.mark.parametrize(
    ("made_of", "weights", "expected"),
    [
        (half, {"pair": 0.0}, None),
        (half, {"pair": 3.0}, 0.675490),
        (ranked, {"pair": 0.0}, 0.675490),
        (ranked, {"ranking": 0.0}, None),
    ],
)
def test_what_is_not_learnt_drives_no_term_across_pictures(
    made_of: Any, weights: dict[str, float], expected: float | None
) -> None:
    """Pairs across pictures weigh what the term does, and are of judgements alone that weigh anything."""
    made = grounding(config({"flips": 0.5}, weights=weights))
    items = [half("A", 0), half("B", 1)]
    if made_of is ranked:
        items = [ranked(item) for item in items]
    loss, _ = made.loss(rewards(2.0, 1.0, 0.5, 1.5), made.batch([Unit(tuple(items))]))
    assert loss.item() == pytest.approx(0.5 * (expected or 0.0), abs=1e-5)
    # nor does it ask for degraded images
    turned = grounding(config({"image_conditional": {"weight": 1.0}}, weights=weights))
    kept = learnt_part(items[0][0], turned.config)
    assert winners(kept, "truth") == ([] if expected is None else [0])


def test_a_pair_that_comes_twice_in_a_batch_is_there_twice() -> None:
    made = grounding(config({"flips": 1.0}))
    a, b = half("A", 0), half("B", 1)
    units = made.units([a, b, a, b, b], [0, 0, 1, 1, 2], Refusals(1.0))
    assert [[record.id for record, _ in unit.items] for unit in units] == [["A", "B"], ["A", "B"], ["B"]]
    assert len(made.batch(units).pictures["flips"].better_N) == 4
    # two visits of a half whose other one was left out are no pair
    assert [len(unit.items) for unit in made.units([a, a], [0, 1], Refusals(1.0))] == [1, 1]


def test_what_a_config_may_say() -> None:
    with pytest.raises(ValidationError, match="batch_size must be even"):
        config({"flips": 1.0}, batch_size=5)
    with pytest.raises(
        ValidationError, match=r"grounding.image_conditional.objectives names help, which is none"
    ):
        config({"image_conditional": {"weight": 1.0, "objectives": ["help"]}})


def flips(folder: Path, count: int = 4) -> str:
    """Image-flip pairs, and two records of text."""
    words = [
        PreferenceRecord(
            id=f"t{number}",
            source="words",
            prompt=(user(f"What is {number} and one?"),),
            responses=(Response(f"{number + 1}."), Response("That I can not tell you at all.")),
            comparisons=(Comparison("factuality", better=0, worse=1),),
        )
        for number in range(2)
    ]
    write_shards([*FlipPairs(count=count).generate(0), *words], folder)
    return str(folder)


def stage(data: str, terms: dict[str, Any], **settings: Any) -> RewardStage:
    torch.manual_seed(0)
    rows = {"objectives": ["factuality"], "optim": {"lr": 1e-3}, **settings}
    vlm = load_vlm(ModelConfig(), trainable=True)
    return RewardStage(vlm, config(terms, **rows), data, 0, make_accelerator(EngineConfig()))


def train(made: RewardStage, folder: Path, every: int = 100) -> list[dict[str, float]]:
    settings = EngineConfig(tensorboard=False, checkpoint_every=every)
    Engine(folder, settings, 0, made.accelerator).train(made)
    return read_metrics(folder / "metrics.jsonl")


def test_a_micro_batch_holds_flip_pairs_whole(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), {"flips": 1.0}, micro_batch_size=4, batch_size=6)
    (update,) = made.updates(0)
    for batch in update.micro_batches:
        ids = [row.prompt.record.provenance.get("flip") for row in batch.rows]
        assert len(batch.rows) <= 4
        assert all(ids.count(flip) == 4 for flip in ids if flip is not None)
        # a whole pair says exactly two things across its pictures
        halves = sum(flip is not None for flip in ids) // 4
        assert len(batch.pictures["flips"].better_N) == 2 * halves if halves else not batch.pictures
    assert sum(len(b.pictures["flips"].better_N) for b in update.micro_batches if b.pictures) >= 4


def test_degraded_images_take_turns_and_come_again(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), {"image_conditional": {"weight": 1.0}}, batch_size=10, epochs=8)

    def shown(step: int) -> dict[str, tuple[str, str]]:
        """Each image record's kind and picture."""
        (update,) = made.updates(step)
        return {
            (row := batch.rows[int(index)]).prompt.record.id: (kind, row.prompt.vision_key)
            for batch in update.micro_batches
            for kind, pairs in batch.pictures.items()
            for index in pairs.worse_N
        }

    passes = [shown(step) for step in range(6)]
    assert all(len(found) == 8 for found in passes)
    for record in passes[0]:
        assert {found[record][0] for found in passes[:3]} == {"crop", "swap", "noise"}
        assert [found[record] for found in passes[:3]] == [found[record] for found in passes[3:]]


def test_nothing_is_added_where_nothing_is_on(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), {}, batch_size=10)
    (update,) = made.updates(0)
    assert made.module is made.reward_model
    assert sum(len(batch.rows) for batch in update.micro_batches) == 20
    assert all(batch.pictures == {} and batch.blind is None for batch in update.micro_batches)


def test_the_branch_teaches_the_trunk_nothing(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), {"reweight": {"weight": 1.0}}, batch_size=10)
    (update,) = made.updates(0)
    (batch,) = update.micro_batches
    made.loss(batch)
    assert isinstance(made.module, WithBranch)
    with torch.enable_grad():
        out = made.output(batch)
        _, loss, _ = made.grounding.reweighted(*out, batch)
    loss.backward()
    assert all(not p.grad.any() for p in made.reward_model.parameters() if p.grad is not None)
    assert made.module.branch.weight.grad is not None
    assert made.module.branch.weight.grad.abs().sum() > 0


def test_a_stopped_run_with_every_term_goes_on_exactly(tmp_path: Path) -> None:
    data = flips(tmp_path / "data")
    settings: dict[str, Any] = {"epochs": 1.6, "members": 2, "micro_batch_size": 6}
    whole = stage(data, ALL, **settings)
    rows = train(whole, tmp_path / "whole", every=2)
    assert len(rows) == 4
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts/checkpoints/step-000004")
    rest = stage(data, ALL, **settings)
    assert train(rest, tmp_path / "parts") == rows
    assert {"blind/accuracy", "blind/pair_weight", "length_penalty/factuality"} <= rows[0].keys()
    assert {"accuracy_picture/flips", "loss_picture/flips"} <= {name for row in rows for name in row}
    checkpoints = [latest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "parts")]
    assert checkpoints[0] is not None
    assert checkpoints[1] is not None
    assert checkpoints[0].stage == checkpoints[1].stage
    assert any(name.startswith("branch.") for name in checkpoints[0].weights)
    for name, value in checkpoints[0].weights.items():
        assert torch.equal(value, checkpoints[1].weights[name]), name
    # the reward model is saved without the branch
    rest.finish()
    rest.reward_model.save(tmp_path / "model")
    saved = [name for path in (tmp_path / "model").glob("*.safetensors") for name in load_file(path)]
    assert saved
    assert not [name for name in saved if "branch" in name]
    load_reward_model(tmp_path / "model")


def told_by_text(folder: Path, count: int = 4) -> str:
    """Records on which the answer "Yes." always wins, whatever the picture shows."""
    records = [
        dataclasses.replace(
            record,
            responses=(Response("Yes."), Response("No.")),
            comparisons=(Comparison("factuality", better=0, worse=1),),
            provenance={},
        )
        for record in FlipPairs(count=count).generate(0)
    ]
    write_shards(records, folder)
    return str(folder)


def test_the_image_conditional_term_makes_a_blind_preference_look(tmp_path: Path) -> None:
    """Plain Bradley-Terry learns "Yes." and never looks; with the term it is worth more under the true picture."""
    data = told_by_text(tmp_path / "data")
    found = {}
    for weight in (0.001, 1.0):
        terms = {"image_conditional": {"weight": weight, "kinds": ["noise"]}}
        rows = train(stage(data, terms, batch_size=8, epochs=8), tmp_path / str(weight))
        assert rows[-1]["accuracy/factuality"] == 1.0
        found[weight] = sum(row["loss_picture/noise"] for row in rows[-3:]) / 3
    assert found[0.001] > 0.5
    assert found[1.0] < 0.2


def contradicted(folder: Path) -> str:
    """Two image-flip pairs, and each of their records once more, no half of a pair and judged the other way round."""
    pairs = list(FlipPairs(count=2).generate(0))
    others = [
        dataclasses.replace(
            record,
            source="others",
            comparisons=tuple(
                dataclasses.replace(c, better=c.worse, worse=c.better) for c in record.comparisons
            ),
            provenance={},
        )
        for record in pairs
    ]
    write_shards([*pairs, *others], folder)
    return str(folder)


def test_the_flip_term_tells_pictures_apart(tmp_path: Path) -> None:
    """Plain pairs cancel and teach nothing, or hold the rewards of a picture together; the term ties each answer to its
    picture all the same."""
    data = contradicted(tmp_path / "data")
    found = {}
    for weight in (0.001, 8.0):
        rows = train(stage(data, {"flips": weight}, batch_size=8, epochs=8), tmp_path / str(weight))
        found[weight] = sum(row["loss_picture/flips"] for row in rows[-3:]) / 3
    assert found[0.001] > 0.6
    assert found[8.0] < 0.4


@pytest.mark.parametrize("size", [2, 6])
def test_micro_batches_of_any_size_make_the_same_update(tmp_path: Path, size: int) -> None:
    """Later steps have weights, a mean and sums that the first one made."""
    data = flips(tmp_path / "data", count=3)
    rows = []
    for micro in (64, size):
        made = stage(data, ALL, micro_batch_size=micro, batch_size=8, epochs=3.0)
        rows.append(train(made, tmp_path / str(micro)))
    assert len(rows[0]) == 3
    assert rows[0][2]["length_penalty/factuality"] > 0
    for whole, parts in zip(*rows, strict=True):
        assert parts == pytest.approx(whole, abs=2e-4, rel=1e-3)


def test_a_record_is_counted_once_among_those_that_may_be_refused(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), ALL, batch_size=10)
    assert list(made.updates(0))
    assert (made.refusals.refused, made.refusals.seen) == (0, 10)


def test_kinds_take_turns_record_by_record(tmp_path: Path) -> None:
    """Ten records in batches of six: the second one ends in the next pass, whose records show the next kind."""
    terms = {"image_conditional": {"weight": 1.0}}
    made = stage(flips(tmp_path / "data"), terms, batch_size=6, epochs=3)
    settings = made.config.grounding.image_conditional
    for step in range(4):
        records = made.feed.batch(step, 6, made.accelerator)
        (update,) = made.updates(step)
        found = {
            (batch.rows[int(index)].prompt.record.id, kind)
            for batch in update.micro_batches
            for kind, pairs in batch.pictures.items()
            for index in pairs.worse_N
        }
        expected = set()
        for place, record in enumerate(records):
            turn = zlib.crc32(unit_of(record).encode()) + (6 * step + place) // 10
            if record.images:
                expected.add((record.id, settings.kinds[turn % 3]))
        assert found == expected


def unreadable(monkeypatch: pytest.MonkeyPatch, which: Callable[[PreferenceRecord], bool]) -> None:
    """As for a family that takes no prompt without an image: some can't be read without their images."""

    def encode(vlm: Any, record: PreferenceRecord, *more: Any, **named: Any) -> EncodedPrompt:
        if named.get("images") == [] and which(record):
            raise PromptUnreadable(f"record {record.id}: Reader can't read its prompt: no image")
        return encode_prompt(vlm, record, *more, **named)

    monkeypatch.setattr("mmrlhf.training.grounding.encode_prompt", encode)


def test_a_family_that_needs_images_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, lambda record: True)
    with pytest.raises(
        UserError, match=r"reward\.grounding\.reweight\.weight: must be 0, since record idle: Re"
    ):
        stage(flips(tmp_path / "data"), {"reweight": {"weight": 1.0}})


def test_one_prompt_that_needs_its_image_keeps_its_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = stage(flips(tmp_path / "data"), {"reweight": {"weight": 1.0}}, batch_size=10)
    bad = next(record for record in made.data.in_order() if record.images)
    unreadable(monkeypatch, lambda record: record.id == bad.id)
    (update,) = made.updates(0)
    (batch,) = update.micro_batches
    assert f"left out: record {bad.id}: Reader can't" in " ".join(capsys.readouterr().err.split())
    # seven of eight image records are read without their images, two rows each
    assert batch.blind.states_SD.shape[0] == 14
    own = {i for i, row in enumerate(batch.rows) if row.prompt.record.id == bad.id}
    assert [batch.blind.place_B[i].item() for i in sorted(own)] == [-1, -1]
    assert len(batch.better_N) == 10
    assert (made.refusals.refused, made.refusals.seen) == (1, 10)


def test_the_branch_is_clipped_and_left_alone_by_itself(tmp_path: Path) -> None:
    made = stage(flips(tmp_path / "data"), {"reweight": {"weight": 1.0}}, batch_size=10)
    model, branch = ({id(p) for p in group} for group in made.clip_groups())
    assert model == {id(p) for p in made.reward_model.parameters()}
    assert branch == {id(p) for p in cast(WithBranch, made.module).branch.parameters()}
    rates = {group["peak_lr"]: {id(p) for p in group["params"]} for group in made.parameter_groups()}
    assert rates[1e-2] == {id(p) for p in made.reward_model.rating_scale.parameters()}
    (update,) = made.updates(0)
    assert {id(p) for p in update.unused} == rates[1e-2]  # nothing is rated, and the branch learns

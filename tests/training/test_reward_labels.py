"""From what records judge to label tensors, and the loss of each kind of label by hand."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import (
    Comparison,
    ImageRef,
    Modality,
    PreferenceRecord,
    Ranking,
    Rating,
    Response,
    user,
)
from mmrlhf.config import RewardConfig
from mmrlhf.rewards.model import RewardOutput
from mmrlhf.training.reward_finish import reference_norms
from mmrlhf.training.reward_labels import (
    Labels,
    judged_responses,
    label_batch,
    labels_of,
    learnt_part,
    unit_of,
)
from mmrlhf.training.reward_terms import label_loss
from mmrlhf.types import EncodedPrompt, Row

LN2 = 0.6931471805599453
# of four members and the units test/r0 to test/r5 with seed 0: where SHA-256 of "0/member/unit" falls among Poisson's
# 0.3679, 0.7358, 0.9197, 0.9810, 0.9963
COUNTS = [[0, 0, 1, 3], [1, 1, 1, 1], [0, 1, 1, 2], [2, 4, 1, 0], [1, 0, 0, 2], [0, 2, 1, 0]]


def config(**settings: object) -> RewardConfig:
    return RewardConfig.model_validate({"objectives": ["h", "s"], "center": 0.0, **settings})


def record(name: str, answers: int, **labels: object) -> PreferenceRecord:
    responses = tuple(Response(f"{name}{i}") for i in range(answers))
    return PreferenceRecord(name, "test", (user("?"),), responses=responses, **labels)  # type: ignore[arg-type]


def rows(of: PreferenceRecord) -> list[Row]:
    prompt = EncodedPrompt(of, torch.tensor([1]))
    return [Row(prompt, torch.tensor([i])) for i in range(len(of.responses))]


PAIR = record(
    "pair",
    2,
    comparisons=(Comparison("s", 1, 0, margin=2.0), Comparison("else", 0, 1), Comparison("h", 0, 1, True)),
)
RANKED = record("ranked", 3, rankings=(Ranking("h", ((2,), (0, 1))), Ranking("else", ((0,), (1,)))))
RATED = record(
    "rated",
    2,
    ratings=(
        Rating("h", 0, 4, 1, 5),
        Rating("s", 1, 1, 0, 1, kind="binary"),
        Rating("s", 0, -1, -1, 1, kind="binary"),
        Rating("h", 1, 3, 3, 3),  # a scale of one value says nothing
    ),
)
ALL = [PAIR, RANKED, RATED]


def test_each_label_goes_to_the_head_it_names() -> None:
    batch = label_batch([(of, rows(of)) for of in ALL], config(margin_scale=0.5), seed=0)
    assert len(batch.rows) == 7
    assert batch.better_N.tolist() == [1, 0]
    assert batch.worse_N.tolist() == [0, 1]
    assert batch.objective_N.tolist() == [1, 0]
    assert batch.tie_N.tolist() == [False, True]
    assert batch.margin_N.tolist() == [1.0, 0.0]
    assert batch.weight_N.tolist() == [1.0, 1.0]
    (ranking,) = batch.rankings
    assert (ranking.order, ranking.objective, ranking.choices) == (((4,), (2, 3)), 0, 2)
    assert (batch.ratings.response_N.tolist(), batch.ratings.objective_N.tolist()) == ([5], [0])
    assert batch.ratings.value_N.tolist() == [0.75]
    assert (batch.binaries.response_N.tolist(), batch.binaries.value_N.tolist()) == ([6, 5], [1.0, 0.0])
    # two comparisons, two choices, a rating and two signs
    assert batch.weight == 7.0
    assert batch.copies_NM.tolist() == [[1.0], [1.0]]


def test_kinds_of_labels_have_weights() -> None:
    weights = {"pair": 0.5, "ranking": 2.0, "rating": 0.0, "binary": 3.0}
    settings = config(weights=weights)
    batch = label_batch([(of, rows(of)) for of in ALL], settings, seed=0)
    assert batch.weight == 2 * 0.5 + 2 * 2.0 + 2 * 3.0
    assert len(batch.ratings.response_N) == 0
    assert len(labels_of(RATED, settings)) == 2


def test_a_batch_of_no_labels() -> None:
    nothing = label_batch([(record("none", 2), rows(record("none", 2)))], config(), seed=0)
    assert (nothing.weight, len(nothing.rows), nothing.copies_NM.shape) == (0.0, 2, (0, 1))


def test_comparisons_across_prompts_can_be_added_with_a_weight() -> None:
    labels = Labels(config(), seed=0)
    first = labels.add_record(PAIR, rows(PAIR))
    blind = labels.add_rows(rows(PAIR)[:1])
    labels.compare(first, blind, "s", unit_of(PAIR), 0.25)
    batch = labels.batch()
    assert (batch.better_N.tolist(), batch.worse_N.tolist()) == ([1, 0, 0], [0, 1, 2])
    assert batch.weight_N.tolist() == [1.0, 1.0, 0.25]
    assert batch.weight == 2.25


def test_bootstraps_belong_to_records_and_flip_pairs() -> None:
    settings = config(members=3)
    one = record("one", 2, comparisons=(Comparison("h", 0, 1),), provenance={"flip": "f"})
    two = record("two", 2, comparisons=(Comparison("h", 1, 0),), provenance={"flip": "f"})
    three = record("three", 2, comparisons=(Comparison("h", 1, 0),))
    assert unit_of(one) == unit_of(two) != unit_of(three)
    whole = label_batch([(of, rows(of)) for of in (one, two, three)], settings, seed=4)
    turned = label_batch([(of, rows(of)) for of in (three, one)], settings, seed=4)
    # SHA-256 of "4/0/test/flip/f" begins with 53360a4a: 0.326 of the way, below e^-1, so member 0 meets it never;
    # of "4/1/test/flip/f" with bf3cea33: 0.747, above 2 e^-1, so member 1 meets it twice
    expected = [[0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [2.0, 1.0, 1.0]]
    assert whole.copies_NM.tolist() == expected
    assert turned.copies_NM.tolist() == [expected[2], expected[0]]


def output(rewards: list[list[float]], members: int = 1) -> RewardOutput:
    """Rewards by response and objective, the same for all members, with ratings of 0.5 + reward / 4."""
    rewards_BKM = torch.tensor(rewards).unsqueeze(-1).repeat(1, 1, members).requires_grad_()
    return RewardOutput(rewards_BKM, 0.5 + rewards_BKM / 4, None)


def test_the_loss_of_every_kind_by_hand() -> None:
    batch = label_batch([(of, rows(of)) for of in ALL], config(margin_scale=0.5), seed=0)
    ln = math.log
    h = [0.0, 2.0, ln(1), ln(3), ln(4), 2.0, 0.0]  # of responses 0 to 6
    s = [0.0, 3.0, 0.0, 0.0, 0.0, 2.0, -1.0]
    out = output([list(pair) for pair in zip(h, s, strict=True)])
    loss, sums = label_loss(out, batch, config(margin_scale=0.5))
    pair = 0.126928  # -log sigma(3 - 0 - 1)
    tie = 0.5 * (0.126928 + 2.126928)
    ranking = -ln(4 / 8) - 0.5 * (ln(3 / 4) + ln(1 / 4))
    rating = 0.5  # 0.5 + 2 / 4 is a unit above 0.75
    signs = 1.313262 + 2.126928  # yes at -1, no at 2
    assert loss.item() == pytest.approx(pair + tie + ranking + rating + signs, abs=1e-5)
    found = {name: float(value) / float(weight) for name, (value, weight) in sums.items() if weight}
    assert found == pytest.approx(
        {
            "accuracy/s": 1.0,
            "loss/s": pair,
            "loss/h": tie,
            "accuracy_ranking/h": 1.0,
            "loss_ranking/h": ranking / 2,
            "error_rating/h": 0.25,
            "loss_rating/h": rating,
            "accuracy_binary/s": 0.0,
            "loss_binary/s": signs / 2,
        },
        abs=1e-5,
    )


def test_a_cost_head_is_not_centred() -> None:
    pair = record("p", 2, comparisons=(Comparison("h", 0, 1), Comparison("s", 0, 1)))
    ranked = record("r", 2, rankings=(Ranking("h", ((0,), (1,))), Ranking("s", ((0,), (1,)))))
    for of in (pair, ranked):
        batch = label_batch([(of, rows(of))], config(), seed=0)
        settings = config(center=0.1, cost_heads=["s"])
        loss, _ = label_loss(output([[1.0, 1.0], [1.0, 1.0]]), batch, settings)
        # 0.1 * (1 + 1)^2 for the one that isn't a head of costs
        assert loss.item() == pytest.approx(2 * LN2 + 0.4, abs=1e-5)


def test_a_member_learns_from_its_own_bootstrap() -> None:
    settings = config(members=4)
    pairs = [record(f"r{i}", 2, comparisons=(Comparison("h", 0, 1),)) for i in range(6)]
    batch = label_batch([(of, rows(of)) for of in pairs], settings, seed=0)
    assert {0.0, 1.0, 2.0} <= set(batch.copies_NM.flatten().tolist())
    out = output([[0.0, 0.0]] * 12, members=4)
    loss, sums = label_loss(out, batch, settings)
    loss.backward()
    gradient = out.rewards_BKM.grad
    assert gradient is not None
    # at no difference a pair pulls at the better response with -1/2, each of four members a quarter of it
    for i, counts in enumerate(COUNTS):
        expected = [-0.125 * count for count in counts]
        assert gradient[2 * i, 0].tolist() == pytest.approx(expected)
        assert gradient[2 * i + 1, 0].tolist() == pytest.approx([-value for value in expected])
    # metrics count every label once
    assert float(sums["loss/h"][0]) == pytest.approx(6 * LN2, abs=1e-5)
    assert float(sums["loss/h"][1]) == 6


def test_what_is_learnt_of_a_record() -> None:
    both = dataclasses.replace(RANKED, comparisons=PAIR.comparisons)
    assert learnt_part(both, config()).comparisons == (PAIR.comparisons[0], PAIR.comparisons[2])
    assert learnt_part(both, config()).rankings == (RANKED.rankings[0],)
    assert learnt_part(both, config(weights={"pair": 0.0})).comparisons == ()
    assert learnt_part(both, config(weights={"ranking": 0.0})).rankings == ()


def test_which_responses_were_judged() -> None:
    assert judged_responses(PAIR, "s", config()) == [0, 1]
    assert judged_responses(RANKED, "h", config()) == [0, 1, 2]
    assert judged_responses(RANKED, "s", config()) == []
    assert judged_responses(RATED, "h", config()) == [0]  # the other one's scale says nothing
    assert judged_responses(RATED, "s", config(weights={"binary": 0.0})) == []


def test_norms_are_of_the_responses_that_were_judged() -> None:
    """0 and 2 on s: mean 1, deviation sqrt(2); the third answer, with 100, was never judged on it."""
    of = record("three", 3, comparisons=(Comparison("s", 0, 1),))
    rewards_RK = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 100.0]])
    reader = cast(
        Any,
        SimpleNamespace(config=config(), read=lambda records: ((each, rewards_RK, None) for each in records)),
    )
    norms, _ = reference_norms(reader, {"s": ["text"]}, [of])
    assert norms["s"]["text"] == pytest.approx((1.0, 1.414214), abs=1e-5)


def test_a_few_records_of_a_modality_tell_no_norm() -> None:
    """19 of text beside 20 with pictures: the head is asked about pictures alone."""
    picture = ImageRef.of_bytes(to_png(Scene((SceneObject("circle", "blue", "large", 0.5, 0.5),))))
    text = [record(f"t{i}", 2, comparisons=(Comparison("s", 0, 1),)) for i in range(20)]
    shown = [
        dataclasses.replace(of, id=f"p{i}", prompt=(user(0, "What?"),), images=(picture,))
        for i, of in enumerate(text)
    ]
    rewards_RK = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    reader = cast(
        Any,
        SimpleNamespace(config=config(), read=lambda records: ((each, rewards_RK, None) for each in records)),
    )
    judged: dict[str, list[Modality]] = {"s": ["image-text", "text"]}
    norms, few = reference_norms(reader, judged, [*text[:19], *shown])
    assert (sorted(norms["s"]), few) == (["image-text"], {"s": {"text": 19}})
    norms, few = reference_norms(reader, judged, [*text, *shown])
    assert (sorted(norms["s"]), few) == (["image-text", "text"], {})
    # records that can't be read any more leave too few of both: the larger part still tells a scale
    norms, few = reference_norms(reader, judged, [*text[:2], *shown[:5]])
    assert (sorted(norms["s"]), few) == (["image-text"], {"s": {"text": 2}})

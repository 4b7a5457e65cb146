"""The measures, from comparisons with rewards written by hand."""

import math

import numpy as np
import pytest
import torch
from evaluation_stubs import OBJECTIVES, RuleModel, blind, flips, pair

from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from mmrlhf.config import ModelConfig
from mmrlhf.evaluation.reward import calibration, heads, measures
from mmrlhf.evaluation.reward.scoring import Decided, Scored, Scores
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel

NAME = "factuality"


def picture(number, better="yes", worse="no", flip=None):
    return PreferenceRecord(
        id=f"p{number}",
        source="test",
        prompt=(user(0, "Which?"),),
        images=(ImageRef(data=b"not read here"),),
        responses=(Response(better), Response(worse)),
        comparisons=(Comparison(NAME, 0, 1),),
        provenance={"flip": flip} if flip else {},
    )


def judged(record, objective=NAME, better=None, deviation=0.0, swap=False, **gaps):
    return Decided(record, objective, (1, 0) if swap else (0, 1), gaps, better or {}, deviation)


def table(rows):
    """Image comparisons with the gaps of each row: true, none, swapped."""
    return [
        judged(picture(i), true=true, none=none, swapped=swapped)
        for i, (true, none, swapped) in enumerate(rows)
    ]


ROWS = [(1.0, 2.0, -1.0), (0.5, -1.0, -1.0), (-1.0, 0.0, 3.0), (2.0, -2.0, 0.0)]


def test_accuracy_gain_and_drop():
    found = measures.accuracy(table(ROWS), [NAME], 0)[NAME]["image-text"]
    assert {name: e.mean for name, e in found.items()} == {"true": 0.75, "none": 0.25, "swapped": 0.25}
    gains = measures.gains(table(ROWS), [NAME], 0)[NAME]
    # by comparison: 0, 1, 0, 1 against none; 1, 1, -1, 1 against another image
    assert {name: e.mean for name, e in gains.items()} == {"none": 0.5, "swapped": 0.5}
    # a resample of 0, 1, 0, 1 lies between 0 and 1, one of 1, 1, -1, 1 may fall to -0.5 or so
    assert 0 <= gains["none"].low < 0.5 < gains["none"].high <= 1
    assert gains["swapped"].low < gains["none"].low


def test_differences_are_paired():
    """Right with both on the same comparisons: no spread, whatever the accuracies are."""
    rows = [(1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)]
    gain = measures.gains(table(rows), [NAME], 0)[NAME]["none"]
    assert (gain.mean, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_image_preference():
    one = picture(0)
    comparisons = [
        judged(one, better={"true": 1.0, "swapped": 0.0, "none": 9.0}, true=1.0),
        # the same answer, better than a third one: counts once
        Decided(one, NAME, (0, 2), {"true": 1.0}, {"true": 1.0, "swapped": 0.0, "none": 9.0}, 0.0),
        judged(picture(1), better={"true": 2.0, "swapped": 3.0}, true=1.0),
        judged(picture(2), better={"true": 0.5, "swapped": 0.5}, true=1.0),
    ]
    found = measures.image_preference(comparisons, [NAME], 0)[NAME]
    # only images that are shown are compared
    assert list(found) == ["swapped"]
    assert (found["swapped"].mean, found["swapped"].n) == (pytest.approx(1 / 3), 3)


def test_where_the_blind_reader_fails():
    found = measures.where_blind_fails(table(ROWS), [NAME, "safety"], lambda c: c.gaps["none"], 0)
    # it is wrong on three (a tie is wrong), of which two are right with the image
    assert list(found) == [NAME]
    assert (found[NAME]["blind_wrong"].mean, found[NAME]["blind_wrong"].n) == (0.75, 4)
    assert (found[NAME]["accuracy"].mean, found[NAME]["accuracy"].n) == (pytest.approx(2 / 3), 3)
    always = measures.where_blind_fails(table(ROWS), [NAME], lambda c: 1.0, 0)[NAME]
    assert (always["blind_wrong"].mean, always["accuracy"]) == (0.0, None)
    assert measures.where_blind_fails(table(ROWS), [NAME], lambda c: None, 0) == {}


def test_a_blind_reader_of_flip_pairs_is_right_on_exactly_half():
    """Both halves are drawn together, so the interval has no width."""
    both = [
        judged(picture(2 * i + half, flip=f"f{i}"), true=-1.0 if half else 1.0)
        for i in range(5)
        for half in (0, 1)
    ]
    found = measures.accuracy(both, [NAME], 0)[NAME]["image-text"]["true"]
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 10)
    assert measures.flip_shares(both, 0)["true"].mean == 0.0


def test_modality_gap():
    words = [pair(i, "a", "b", (NAME,)) for i in range(2)]
    part = [*table(ROWS), judged(words[0], true=1.0), judged(words[1], true=-1.0)]
    found = measures.modality_gap(part, [NAME, "safety"], 0)
    assert list(found) == [NAME]
    assert (found[NAME].mean, found[NAME].n) == (0.25, 6)  # 3 of 4 less 1 of 2
    assert found[NAME].low < 0.25 < found[NAME].high
    assert measures.modality_gap(table(ROWS), [NAME], 0) == {}


def calibrated(gaps, factor=1.0, temperature=None):
    part = [judged(picture(i), true=gap) for i, gap in enumerate(gaps)]
    temperatures = {} if temperature is None else {NAME: temperature}
    return calibration.calibration(part, [NAME], 0, {NAME: {"image-text": factor}}, temperatures)[NAME]


def test_calibration_error_by_hand():
    third = math.log(3)  # a confidence of 3/4
    found = calibrated([third, -third, third, -third])
    assert found["ece"].mean == pytest.approx(0.25)  # right half the time
    (only,) = found["bins"]
    assert (only["n"], only["accuracy"]) == (4, 0.5)
    assert only["confidence"] == pytest.approx(0.75)
    # (-ln 3/4 - ln 1/4) / 2
    assert found["nll"].mean == pytest.approx(0.836988)
    assert found["temperature"] == 1.0
    # three of four right is what it says
    assert calibrated([third, third, -third, third])["ece"].mean == pytest.approx(0.0, abs=1e-12)


def test_the_scale_of_a_gap_matters_for_calibration_alone():
    # gaps of 2 ln 3 in deviations of 1, at a temperature of 2: factor 1/2
    found = calibrated([2 * math.log(3), -2 * math.log(3)], factor=0.5, temperature=2.0)
    assert found["bins"][0]["confidence"] == pytest.approx(0.75)
    assert found["temperature"] == 2.0


def test_equal_rewards_are_half_right_for_calibration():
    found = calibrated([0.0, 0.0, 0.0])
    assert (found["ece"].mean, found["bins"][0]["accuracy"]) == (0.0, 0.5)
    assert found["nll"].mean == pytest.approx(0.693147)


def test_a_calibrated_head_shows_an_error_on_few_pairs():
    # one pair at 3/4: off by 1/4 three times of four, else by 3/4; 3/8 in the mean
    found = calibrated([math.log(3)])["by_chance"]
    assert found["mean"] == pytest.approx(0.375, abs=0.03)
    assert found["high"] == pytest.approx(0.75)


def test_the_last_bin_holds_certainty():
    found = calibrated([50.0, 40.0])
    assert [(b["low"], b["high"], b["n"]) for b in found["bins"]] == [(0.95, 1.0, 2)]


def test_auroc_by_hand():
    values, wrong = np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])
    # 3 > 1, 3 > 2, 2 > 1 and half of 2 = 2
    assert calibration.auroc(values, wrong) == 0.875
    assert math.isnan(calibration.auroc(values, np.zeros(4, dtype=bool)))


def test_deviation_and_errors():
    part = [
        judged(picture(i), true=gap, deviation=deviation)
        for i, (gap, deviation) in enumerate([(1, 0.1), (1, 0.3), (-1, 0.5), (-1, 0.2)])
    ]
    found = calibration.deviations(part, [NAME, "safety"], 0)[NAME]
    assert found["right"].mean == pytest.approx(0.2)
    assert found["wrong"].mean == pytest.approx(0.35)
    assert found["auroc"].mean == 0.75
    assert calibration.deviations(part[:2], [NAME], 0)[NAME]["auroc"] is None
    assert calibration.deviations(table(ROWS), [NAME], 0) == {}  # no ensemble


def test_heads_that_disagree():
    records = (picture(0), picture(1), picture(2), pair(3, "a", "b"))
    means = [
        [[1.0, 1.0], [0.0, 0.0]],
        [[1.0, 0.0], [0.0, 1.0]],
        [[1.0, 2.0], [0.0, 2.0]],
        [[0.0, 1.0], [1.0, 0.0]],
    ]
    shown = {"true": [Scored(torch.tensor(mean).unsqueeze(-1)) for mean in means]}
    image = frozenset({"image-text"})
    scores = Scores(records, ("a", "b"), {"a": image, "b": image | {"text"}}, shown)
    found = heads.disagreement(scores, 0)["a & b"]
    # opposite on the second; the third is a tie of one head; on text the first head is silent
    assert (found.mean, found.n) == (pytest.approx(1 / 3), 3)


@pytest.fixture(scope="module")
def three_heads():
    """Heads with weights w, 2 w and -w, and one of its own."""
    names = ["one", "double", "negative", "other"]
    judge = RewardModel(
        load_vlm(ModelConfig()), RewardCard(names, {n: {"image-text": (0.0, 1.0)} for n in names})
    )
    weights = {name: value for name, value in judge.heads.named_parameters() if value.dim() == 2}
    (weight,) = weights.values()
    with torch.no_grad():
        weight[1], weight[2] = 2 * weight[0], -weight[0]
    return judge


def test_gradient_cosines(three_heads):
    before = [weight.requires_grad for weight in three_heads.parameters()]
    found = heads.gradient_cosines(three_heads, flips(4), 3, 0)
    assert found["one & double"].mean == pytest.approx(1.0, abs=1e-4)
    assert found["one & negative"].mean == pytest.approx(-1.0, abs=1e-4)
    assert abs(found["one & other"].mean) < 0.999
    assert found["one & other"].n == 3
    assert [weight.requires_grad for weight in three_heads.parameters()] == before
    assert all(weight.grad is None for weight in three_heads.parameters())


def test_gradients_only_where_both_heads_learnt(three_heads):
    assert heads.gradient_cosines(three_heads, [pair(0, "a", "b")], 3, 0) == {}


def test_the_last_layer_is_the_language_models(tiny):
    names = {id(module): name for name, module in tiny.core.named_modules()}
    assert names[id(heads.last_layer(tiny))].endswith(
        f"layers.{tiny.core.config.get_text_config().num_hidden_layers - 1}"
    )


def test_a_scorer_without_an_ensemble_tells_no_deviation(tiny):
    from mmrlhf.evaluation.reward import evaluate_reward

    found = evaluate_reward(RuleModel(tiny, blind), flips(2), 4, 0)
    assert (found.deviation, found.gradients) == ({}, {})
    assert found.objectives == tuple(OBJECTIVES)

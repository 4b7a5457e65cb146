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


def judged(record, objective=NAME, better=None, deviation=0.0, swap=False, cluster=None, **gaps):
    """A comparison of a cluster of its own, unless that is named."""
    cluster = id(record) if cluster is None else cluster
    return Decided(record, objective, (1, 0) if swap else (0, 1), gaps, better or {}, deviation, cluster)


def table(rows):
    """Image comparisons with the gaps of each row: true, none, swapped."""
    return [
        judged(picture(i), true=true, none=none, swapped=swapped)
        for i, (true, none, swapped) in enumerate(rows)
    ]


ROWS = [(1.0, 2.0, -1.0), (0.5, -1.0, -1.0), (-1.0, 0.0, 3.0), (2.0, -2.0, 0.0)]


def test_accuracy_gain_and_drop():
    found = measures.accuracy(table(ROWS), [NAME])[NAME]["image-text"]
    assert {name: e.mean for name, e in found.items()} == {"true": 0.75, "none": 0.25, "swapped": 0.25}
    gains = measures.gains(table(ROWS), [NAME])[NAME]
    # by comparison: 0, 1, 0, 1 against none; 1, 1, -1, 1 against another image
    assert {name: e.mean for name, e in gains.items()} == {"none": 0.5, "swapped": 0.5}
    # of Wilson's intervals, 0.0456 to 0.6994 of one of four and 0.3006 to 0.9544 of three, by Newcombe's method 10:
    # against none phi is 1/3, which 4 pairs don't tell from 0; against another image it is -1
    assert (gains["none"].low, gains["none"].high) == pytest.approx((-0.1355, 0.7890), abs=1e-3)
    assert (gains["swapped"].low, gains["swapped"].high) == pytest.approx((-0.3988, 0.9088), abs=1e-3)


def test_differences_are_paired():
    """Right with both on the same comparisons: the spread is far below that of two accuracies beside each other, and
    falls with the number of comparisons that tell it."""
    rows = [(1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)]
    few, many = (measures.gains(table(rows * count), [NAME])[NAME]["none"] for count in (1, 100))
    assert few.mean == many.mean == 0.0
    assert few.low < -0.3 < 0.3 < few.high
    # two accuracies of 300 pairs beside each other: 1.96 sqrt(2 * 2/9 / 300) = 0.075
    assert -0.02 < many.low < 0 < many.high < 0.02


def test_image_preference():
    one = picture(0)
    comparisons = [
        judged(one, better={"true": 1.0, "swapped": 0.0, "none": 9.0}, true=1.0),
        # the same answer, better than a third one: counts once
        Decided(one, NAME, (0, 2), {"true": 1.0}, {"true": 1.0, "swapped": 0.0, "none": 9.0}, 0.0, 0),
        judged(picture(1), better={"true": 2.0, "swapped": 3.0}, true=1.0),
        judged(picture(2), better={"true": 0.5, "swapped": 0.5}, true=1.0),
    ]
    found = measures.image_preference(comparisons, [NAME])[NAME]
    # only images that are shown are compared
    assert list(found) == ["swapped"]
    assert (found["swapped"].mean, found["swapped"].n) == (pytest.approx(1 / 3), 3)


def test_where_the_blind_reader_fails():
    found = measures.where_blind_fails(table(ROWS), [NAME, "safety"], lambda c: c.gaps["none"])
    # it is wrong on three (a tie is wrong), of which two are right with the image
    assert list(found) == [NAME]
    assert (found[NAME]["blind_wrong"].mean, found[NAME]["blind_wrong"].n) == (0.75, 4)
    assert (found[NAME]["accuracy"].mean, found[NAME]["accuracy"].n) == (pytest.approx(2 / 3), 3)
    always = measures.where_blind_fails(table(ROWS), [NAME], lambda c: 1.0)[NAME]
    assert (always["blind_wrong"].mean, always["accuracy"]) == (0.0, None)
    assert measures.where_blind_fails(table(ROWS), [NAME], lambda c: None) == {}


def test_a_blind_reader_of_flip_pairs_is_right_on_exactly_half():
    """Both halves are drawn together, so the interval is as good as closed where there are many pairs."""
    both = [
        judged(picture(2 * i + half, flip=f"f{i}"), cluster=i, true=-1.0 if half else 1.0)
        for i in range(400)
        for half in (0, 1)
    ]
    found = measures.accuracy(both, [NAME])[NAME]["image-text"]["true"]
    assert (found.mean, found.n) == (0.5, 800)
    assert 0.49 < found.low < 0.5 < found.high < 0.51
    assert measures.flip_shares(both)["true"].mean == 0.0


def test_modality_gap():
    words = [pair(i, "a", "b", (NAME,)) for i in range(2)]
    part = [*table(ROWS), judged(words[0], true=1.0), judged(words[1], true=-1.0)]
    found = measures.modality_gap(part, [NAME, "safety"])
    assert list(found) == [NAME]
    assert (found[NAME].mean, found[NAME].n) == (0.25, 6)  # 3 of 4 less 1 of 2
    assert found[NAME].low < 0.25 < found[NAME].high
    assert measures.modality_gap(table(ROWS), [NAME]) == {}


def calibrated(gaps, factor=1.0, temperature=None):
    part = [judged(picture(i), true=gap) for i, gap in enumerate(gaps)]
    temperatures = {} if temperature is None else {NAME: temperature}
    return calibration.calibration(part, [NAME], 0, {NAME: {"image-text": factor}}, temperatures)[NAME]


def test_calibration_error_by_hand():
    third = math.log(3)  # a confidence of 3/4
    found = calibrated([third, -third, third, -third])
    assert found["ece"] == pytest.approx(0.25)  # right half the time
    (only,) = found["bins"]
    assert (only["n"], only["accuracy"]) == (4, 0.5)
    assert only["confidence"] == pytest.approx(0.75)
    # (-ln 3/4 - ln 1/4) / 2
    assert found["nll"].mean == pytest.approx(0.836988)
    assert found["temperature"] == 1.0
    # three of four right is what it says
    assert calibrated([third, third, -third, third])["ece"] == pytest.approx(0.0, abs=1e-12)


def test_the_debiased_error_by_hand():
    """At 3/4 each, right, wrong, right, wrong: errors of 1/4, -3/4, 1/4, -3/4, whose sum is -1 and whose squares sum to
    5/4. Of pairs of them (1 - 5/4) / (16 - 4) = -1/48: below 0, no error. Six that are wrong: ((6 * 3/4)^2 - 6 * 9/16)
    / (36 - 6) = 9/16, so 3/4."""
    third = math.log(3)
    assert calibrated([third, -third] * 2)["error"].mean == 0.0
    found = calibrated([-third] * 6)["error"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))
    assert calibrated([third])["error"] is None
    # what hangs together isn't compared with itself: two clusters with sums of -1/2, ((-1)^2 - 2/4) / (16 - 8)
    part = [judged(picture(i), cluster=i // 2, true=gap) for i, gap in enumerate([third, -third] * 2)]
    found = calibration.calibration(part, [NAME], 0, {}, {})[NAME]["error"]
    assert found.mean == pytest.approx(0.25)
    assert math.isnan(found.low)  # without one of two clusters there is no pair


@pytest.mark.parametrize(("temperature", "count"), [(1.0, 60), (1.0, 400), (0.4, 400)])
def test_the_error_of_a_calibrated_head_may_be_0(temperature, count):
    """Gaps of a normal distribution of deviation 2, right as often as sigma(temperature x gap); the true error of the
    last is taken from many draws."""
    rng = np.random.default_rng(3)

    def draw(size):
        gap = np.abs(rng.normal(0, 2, size))
        confidence, chance = 1 / (1 + np.exp(-gap)), 1 / (1 + np.exp(-temperature * gap))
        return (rng.random(size) < chance).astype(float), confidence, chance

    _, confidence, chance = draw(200_000)
    bins = np.minimum(((confidence - 0.5) * 20).astype(int), 9)
    counts = np.bincount(bins, minlength=10)
    distance = np.bincount(bins, chance - confidence, minlength=10) / counts
    truth = math.sqrt(float((counts / counts.sum()) @ distance**2))
    hits = zeros = 0
    for _ in range(300):
        right, sure, _ = draw(count)
        found = calibration.debiased_error(right, sure, range(count))
        hits += found.low - 1e-6 <= truth <= found.high
        zeros += found.low == 0
    assert hits / 300 >= 0.925
    assert (zeros / 300 >= 0.95) == (temperature == 1.0)


def test_the_scale_of_a_gap_matters_for_calibration_alone():
    # gaps of 2 ln 3 in deviations of 1, at a temperature of 2: factor 1/2
    found = calibrated([2 * math.log(3), -2 * math.log(3)], factor=0.5, temperature=2.0)
    assert found["bins"][0]["confidence"] == pytest.approx(0.75)
    assert found["temperature"] == 2.0


def test_equal_rewards_are_half_right_for_calibration():
    found = calibrated([0.0, 0.0, 0.0])
    assert (found["ece"], found["bins"][0]["accuracy"]) == (0.0, 0.5)
    assert found["nll"].mean == pytest.approx(0.693147)


def test_a_calibrated_head_shows_an_error_on_few_pairs():
    # one pair at 3/4: off by 1/4 three times of four, else by 3/4; 3/8 in the mean
    found = calibrated([math.log(3)])["by_chance"]
    assert found["mean"] == pytest.approx(0.375, abs=0.03)
    assert found["high"] == pytest.approx(0.75)


def test_the_last_bin_holds_certainty():
    found = calibrated([50.0, 40.0])
    assert [(b["low"], b["high"], b["n"]) for b in found["bins"]] == [(0.95, 1.0, 2)]


def test_deviation_and_errors():
    part = [
        judged(picture(i), true=gap, deviation=deviation)
        for i, (gap, deviation) in enumerate([(1, 0.1), (1, 0.3), (-1, 0.5), (-1, 0.2)])
    ]
    found = calibration.deviations(part, [NAME, "safety"])[NAME]
    assert found["right"].mean == pytest.approx(0.2)
    assert found["wrong"].mean == pytest.approx(0.35)
    assert found["auroc"].mean == 0.75
    assert calibration.deviations(part[:2], [NAME])[NAME]["auroc"] is None
    assert calibration.deviations(table(ROWS), [NAME]) == {}  # no ensemble


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
    found = heads.disagreement(scores)["a & b"]
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
    found = heads.gradient_cosines(three_heads, flips(4), 3)
    assert found["one & double"].mean == pytest.approx(1.0, abs=1e-4)
    assert found["one & negative"].mean == pytest.approx(-1.0, abs=1e-4)
    assert abs(found["one & other"].mean) < 0.999
    assert found["one & other"].n == 3
    assert [weight.requires_grad for weight in three_heads.parameters()] == before
    assert all(weight.grad is None for weight in three_heads.parameters())


def test_gradients_only_where_both_heads_learnt(three_heads):
    assert heads.gradient_cosines(three_heads, [pair(0, "a", "b")], 3) == {}


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

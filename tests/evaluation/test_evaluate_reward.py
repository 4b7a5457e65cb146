import dataclasses
import math

import pytest
import torch
from evaluation_stubs import NORMS, OBJECTIVES, RuleModel, blind, flips, longest, looks, pair

from data_tools.schema import Response
from mmrlhf.evaluation.reward import Extent, evaluate_reward, scoring
from mmrlhf.evaluation.reward.scoring import Scorer
from mmrlhf.models.batch import PromptUnreadable
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.rewards.variants import swap_images


def test_a_blind_scorer_gets_no_flip_pair(tiny):
    found = evaluate_reward(RuleModel(tiny, blind), flips(), batch_size=5, seed=0)
    shown = found.accuracy["factuality"]["image-text"]
    # it gets exactly one record of each pair right, whatever image it is shown
    assert {name: e.mean for name, e in shown.items()} == dict.fromkeys(
        ("true", "none", "swapped", "crop", "noise"), 0.5
    )
    assert {e.mean for e in found.gains["factuality"].values()} == {0.0}
    # where it fails without the image, it fails with it
    blind_wrong = found.blind_wrong["itself"]["factuality"]
    assert (blind_wrong["blind_wrong"].mean, blind_wrong["accuracy"].mean) == (0.5, 0.0)
    assert shown["true"].n == 12
    assert (found.flip["true"].mean, found.flip["true"].low, found.flip["true"].n) == (0.0, 0.0, 6)
    assert found.flip["none"].mean == 0.0
    assert set(found.flip_edits) == {"object", "attribute", "count", "relation"}


def test_a_scorer_that_looks_gets_every_flip_pair(tiny):
    found = evaluate_reward(RuleModel(tiny, looks), flips(), batch_size=5, seed=0)
    shown = found.accuracy["factuality"]["image-text"]
    assert (shown["true"].mean, found.flip["true"].mean, found.flip["none"].mean) == (1.0, 1.0, 0.0)
    assert shown["swapped"].mean < 1.0  # another picture misleads it
    assert shown["none"].mean == 0.0  # equal rewards are wrong
    assert found.flip_edits["count"].mean == 1.0
    assert found.flip_heads["factuality"]["true"].mean == 1.0
    assert shown["crop"].mean == shown["noise"].mean == 0.0  # it knows no scene there
    gains = {name: e.mean for name, e in found.gains["factuality"].items()}
    assert (gains["none"], gains["crop"], gains["noise"]) == (1.0, 1.0, 1.0)
    assert found.image_preference["factuality"]["noise"].mean == 1.0
    assert found.blind_wrong["itself"]["factuality"]["accuracy"].mean == 1.0
    assert found.left_out == {}


def test_half_a_flip_pair_is_no_pair(tiny):
    records = flips(2)[:3]
    assert evaluate_reward(RuleModel(tiny, looks), records, 8, 0).flip["true"].n == 1


def test_text_pairs_ties_and_length(tiny):
    records = [
        pair(0, "a longer answer", "short"),
        pair(1, "yes", "no, never"),
        pair(2, "one", "other", tie=True),
        pair(3, "good", "evil"),
    ]
    found = evaluate_reward(RuleModel(tiny, longest), records, 8, 0)
    accuracy = found.accuracy["helpfulness"]
    assert set(accuracy) == {"text"}
    assert set(accuracy["text"]) == {"true"}  # there is no image to swap or hide
    assert accuracy["text"]["true"].mean == pytest.approx(1 / 3)
    assert found.ties == {"factuality": 0, "helpfulness": 1, "safety": 0}
    assert found.flip == {}
    length = found.length["helpfulness"]
    assert length["correlation"] == pytest.approx(1.0)
    assert (length["longer_is_better"].mean, length["longer_is_better"].n, length["n"]) == (0.5, 2, 3)


def test_correlation_with_length_is_undefined_without_a_length_gap(tiny):
    found = evaluate_reward(RuleModel(tiny, longest), [pair(0, "good", "evil")], 8, 0)
    assert found.length["helpfulness"] == {"correlation": None, "longer_is_better": None, "n": 1}


def test_agreement_of_heads_and_judges(tiny):
    both = [pair(i, f"answer {i}", "no", ("helpfulness", "safety")) for i in range(3)]
    found = evaluate_reward(RuleModel(tiny, longest), both, 8, 0).agreement
    # the judges always disagree; heads with one and the same rule always agree
    assert set(found) == {"helpfulness & safety"}
    assert found["helpfulness & safety"]["judges"].mean == 0.0
    assert found["helpfulness & safety"]["heads"].mean == 1.0


def test_swapped_images_are_never_the_same_picture():
    records = [*flips(3), pair(0, "a", "b")]
    swapped = swap_images(records, seed=3)
    assert swapped[-1] is None
    for record, other in zip(records[:-1], swapped[:-1], strict=True):
        assert other.images[0].sha256 != record.images[0].sha256
        assert (other.id, other.responses) == (record.id, record.responses)
        assert other.scenes != record.scenes
    again = swap_images(records, seed=3)
    assert [r and r.images for r in swapped] == [r and r.images for r in again]


def test_nothing_to_swap_with():
    record = flips(1)[0]
    assert swap_images([record, dataclasses.replace(record, id="copy")], seed=0) == [None, None]


def test_only_what_is_asked_for_is_scored(tiny):
    done = []
    found = evaluate_reward(
        RuleModel(tiny, looks),
        flips(2),
        3,
        0,
        bar=lambda step, note="": done.append(step),
        extent=Extent(conditions=("swapped",)),
    )
    assert found.conditions == ("true", "swapped")
    assert set(found.accuracy["factuality"]["image-text"]) == {"true", "swapped"}
    assert set(found.gains["factuality"]) == {"swapped"}
    assert found.blind_wrong == {}
    assert done == [3, 4, 7, 8]


def test_a_text_model_tells_where_the_image_is_needed(tiny):
    records = flips(4)
    text_model = RuleModel(tiny, longest)
    found = evaluate_reward(RuleModel(tiny, looks), records, 8, 0, extent=Extent(text_model=text_model))
    read = found.blind_wrong["text_model"]["factuality"]
    # a flip pair's two captions are one record's better and the other's worse: one is longer, or both fail
    assert read["blind_wrong"].mean >= 0.5
    assert read["accuracy"].mean == 1.0


def test_the_mean_of_the_heads(tiny):
    class Heads(RuleModel):
        def read(self, rows, micro_batch_size, micro_batch_tokens=None):
            length_BK1, _ = super().read(rows, micro_batch_size)
            return length_BK1 * torch.tensor([[[1.0], [2.0], [6.0]]]), None  # factuality, helpfulness, safety

    record = pair(0, "four", "six wo")
    scores = Scorer(Heads(tiny, longest), 4, mean_of_heads=True).score([record], ["true"], 0)
    assert scores.objectives == ("factuality", "helpfulness", "safety", "mean")
    # on text helpfulness and safety apply: (2 + 6) / 2 = 4 a character
    assert scores.shown["true"][0].mean_RK[:, 3].tolist() == [16.0, 24.0]
    assert scores.gap(0, "mean", (1, 0)) == 8.0
    assert scores.applies["mean"] == {"image-text", "text"}


def test_a_family_that_reads_no_prompt_without_an_image(tiny, monkeypatch):
    encode = scoring.encode_prompt

    def refuse(vlm, record, *rest, **more):
        if not record.images:
            raise PromptUnreadable(f"record {record.id}: none without an image")
        return encode(vlm, record, *rest, **more)

    monkeypatch.setattr(scoring, "encode_prompt", refuse)
    found = evaluate_reward(RuleModel(tiny, looks), flips(2), 8, 0)
    assert found.left_out == {"none": 4}
    assert "none" not in found.accuracy["factuality"]["image-text"]
    assert found.accuracy["factuality"]["image-text"]["true"].mean == 1.0


def test_the_deviation_of_an_ensemble_is_linked_to_errors(tiny):
    class Ensemble(RuleModel):
        """Its members are the less of one mind the longer an answer is."""

        def read(self, rows, micro_batch_size, micro_batch_tokens=None):
            rewards_BK1, _ = super().read(rows, micro_batch_size)
            return rewards_BK1 + rewards_BK1**2 * torch.tensor([-0.01, 0.0, 0.01]), None

    judge = Ensemble(tiny, longest)
    judge.card.members = 3
    records = [pair(0, "aaa", "aaaa"), pair(1, "aa", "a")]  # 3 and 4 long: wrong; 2 and 1: right
    found = evaluate_reward(judge, records, 8, 0).deviation["helpfulness"]
    # gaps of -1 - 0.07, -1, -1 + 0.07, and of 1 + 0.03, 1, 1 - 0.03
    assert found["wrong"].mean == pytest.approx(0.07)
    assert found["right"].mean == pytest.approx(0.03)
    assert found["auroc"].mean == 1.0


def test_rewards_are_on_one_scale_whatever_is_shown(tiny):
    """A head's mean and deviation on image prompts, also where the image is taken away."""
    judge = RuleModel(tiny, longest)
    judge.card = dataclasses.replace(judge.card, norms={name: {"image-text": (10.0, 4.0)} for name in NORMS})
    record = flips(1)[0]
    length = len(record.responses[0].text)
    scores = Scorer(judge, 4).score([record], ["true", "none"], 0)
    for shown in ("true", "none"):
        assert scores.shown[shown][0].mean_RK[0].tolist() == pytest.approx([(length - 10) / 4] * 3)
    # and a gap is the raw one again, 4 deviations' worth, before it becomes a probability
    judge.rule = lambda record, text, shown: math.log(3) * (text == record.responses[0].text)
    found = evaluate_reward(judge, [record], 4, 0).calibration["factuality"]
    assert found["bins"][0]["confidence"] == pytest.approx(0.75)


class Rounding(RuleModel):
    """All answers are worth 3, but for what rounding makes of each row."""

    def read(self, rows, micro_batch_size, micro_batch_tokens=None):
        rewards, gate = super().read(rows, micro_batch_size, micro_batch_tokens)
        return rewards + 1e-6 * torch.arange(len(rows)).reshape(-1, 1, 1), gate


def test_answers_that_are_equal_once_cut_are_wrong(tiny):
    """The pairs differ behind the cut only: the same tokens are the same answer, whatever the batch makes of them."""
    long = "There is a red circle in the picture. " * 6
    records = [
        dataclasses.replace(
            record, responses=(Response(f"{long}It is big."), Response(f"{long}It is small."))
        )
        for record in [*flips(4), *(pair(i, "a", "b") for i in range(4))]
    ]
    model = RewardModel(tiny, RewardCard(list(OBJECTIVES), NORMS))
    found = evaluate_reward(model, records, batch_size=3, seed=0, max_answer_tokens=24)
    assert {e.mean for by in found.accuracy.values() for of in by.values() for e in of.values()} == {0.0}
    assert found.equal["factuality"] == 8
    assert found.flip["true"].mean == 0.0


def test_rewards_that_differ_by_rounding_are_equal(tiny):
    found = evaluate_reward(Rounding(tiny, lambda *_: 3.0), flips(4), batch_size=4, seed=0)
    assert {e.mean for of in found.accuracy["factuality"].values() for e in of.values()} == {0.0}
    # nor is an image that changes nothing but the rounding preferred
    assert {e.mean for e in found.image_preference["factuality"].values()} == {0.0}
    clear = evaluate_reward(
        RuleModel(tiny, lambda record, text, shown: 3.0 + 1e-3 * len(text)), flips(4), batch_size=4, seed=0
    )
    assert clear.equal["factuality"] < 8


def test_records_of_one_picture_hang_together(tiny):
    """By its bytes, whatever the records are called; text-only records by their prompt."""
    one, other = flips(2)[0], flips(2)[2]
    records = [dataclasses.replace(one, id=f"q{i}", provenance={}) for i in range(3)]
    records += [dataclasses.replace(other, provenance={}), pair(0, "a", "b"), pair(1, "c", "d")]
    scores = Scorer(RuleModel(tiny, looks), 4).score(records, ["true"], 0)
    a, b, c, d, e, f = scores.clusters
    assert a == b == c
    assert e == f
    assert len({a, d, e}) == 3

import dataclasses

import pytest
from evaluation_stubs import RuleModel, blind, flips, longest, looks, pair

from mmrlhf.evaluation.reward import evaluate_reward
from mmrlhf.rewards.variants import swap_images


def test_a_blind_scorer_gets_no_flip_pair(tiny):
    found = evaluate_reward(RuleModel(tiny, blind), flips(), batch_size=5, seed=0)
    shown = found.accuracy["factuality"]["image-text"]
    # it gets exactly one record of each pair right, whatever image it is shown
    assert shown["true"].mean == shown["swapped"].mean == shown["none"].mean == 0.5
    assert shown["true"].n == 12
    assert (found.flip["true"].mean, found.flip["true"].high, found.flip["true"].n) == (0.0, 0.0, 6)
    assert found.flip["none"].mean == 0.0
    assert set(found.flip_edits) == {"object", "attribute", "count", "relation"}


def test_a_scorer_that_looks_gets_every_flip_pair(tiny):
    found = evaluate_reward(RuleModel(tiny, looks), flips(), batch_size=5, seed=0)
    shown = found.accuracy["factuality"]["image-text"]
    assert (shown["true"].mean, found.flip["true"].mean, found.flip["none"].mean) == (1.0, 1.0, 0.0)
    assert shown["swapped"].mean < 1.0  # another picture misleads it
    assert shown["none"].mean == 0.0  # equal rewards are wrong
    assert found.flip_edits["count"].mean == 1.0


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

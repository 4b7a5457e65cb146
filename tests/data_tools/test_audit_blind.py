from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_tools.adapters.nlvr import NlvrConfig
from data_tools.audits.base import Options, Scope
from data_tools.audits.features import differences
from data_tools.audits.pairs import pairs_of
from data_tools.audits.probe import fit
from data_tools.audits.sampled import share
from data_tools.audits.thresholds import broken, parse_threshold
from data_tools.schema import Comparison, PreferenceRecord, Response, to_json, user
from tests.data_tools.audit_records import audited, found, pair, sentence

IMAGES = Scope("train", "image-text")


def giveaway(count: int) -> list[PreferenceRecord]:
    """One word says which answer is the better one, in either place."""
    return [pair(n, f"indeed {sentence(7 * n)}", sentence(7 * n + 1), first=n % 3 > 0) for n in range(count)]


def at_random(count: int, seed: int) -> list[PreferenceRecord]:
    rng = random.Random(seed)
    return [
        pair(n, sentence(rng.randrange(10**6)), sentence(rng.randrange(10**6)), first=rng.random() < 0.5)
        for n in range(count)
    ]


def flips(count: int, word: str = "") -> list[PreferenceRecord]:
    """Two pictures with the same words: each answer is right about one of them."""
    return [
        pair(
            2 * n + half,
            f"{word} {sentence(5 * n)}",
            sentence(5 * n + 1),
            id=f"{n}-{half}",
            prompt=(user(0, "Describe the picture."),),
            responses=(Response(f"{word} {sentence(5 * n)}"), Response(sentence(5 * n + 1))),
            comparisons=(Comparison("factuality", better=half, worse=1 - half),),
            provenance={"flip": str(n)},
        )
        for n in range(count)
        for half in (0, 1)
    ]


def test_one_word_that_gives_it_away_is_found(tmp_path: Path) -> None:
    report = audited(tmp_path / "d", giveaway(120), "blind")
    accuracy = found(report, "blind_accuracy")
    assert accuracy.mean >= 0.99
    assert accuracy.n == 120
    (result,) = report.results
    words = next(table for table in result.tables if table.title == "What the probe goes by")
    assert "indeed" in str(words.rows[0][3])
    assert "more than chance" in result.says
    # the examples are records, those with an image first
    assert all(split == "train" and 0 <= index < 120 for e in result.examples for split, index in e.records)


def test_flip_pairs_are_at_exactly_half_whatever_the_words_say(tmp_path: Path) -> None:
    accuracy = found(audited(tmp_path / "d", flips(40, "indeed"), "blind"), "blind_accuracy", IMAGES)
    assert (accuracy.mean, accuracy.low, accuracy.high, accuracy.n) == (0.5, 0.5, 0.5, 80)


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_at_random_are_at_half_within_the_interval(tmp_path: Path, seed: int) -> None:
    accuracy = found(audited(tmp_path / "d", at_random(200, seed), "blind"), "blind_accuracy")
    assert accuracy.low < 0.5 < accuracy.high
    assert accuracy.high - accuracy.low < 0.2


def test_yes_and_no_are_learnt_from_the_words_of_the_statement(tmp_path: Path) -> None:
    """Answers alone say nothing: half are "Yes."; a word of the statement says all."""

    def record(n: int) -> PreferenceRecord:
        true = n % 2 == 0
        statement = f"There {'is' if true else 'was'} a {sentence(n)}"
        return pair(
            n, "Yes." if true else "No.", "No." if true else "Yes.", first=True, prompt=(user(0, statement),)
        )

    report = audited(tmp_path / "d", [record(n) for n in range(120)], "blind", "answer", "length")
    assert found(report, "blind_accuracy").mean >= 0.99
    assert found(report, "answer_accuracy").mean <= 0.5
    assert found(report, "longer_is_better").mean == 0.5


def test_the_probe_does_not_learn_and_judge_the_same_words(tmp_path: Path) -> None:
    """Twenty copies of each pair of answers, labels at random by pair: within groups all is known, across nothing."""
    rng = random.Random(3)
    firsts = [rng.random() < 0.5 for _ in range(40)]
    records = [
        pair(
            n,
            sentence(n % 40 + 1000, 12),
            sentence(n % 40 + 2000, 12),
            first=firsts[n % 40],
            prompt=(user(0, f"Say {n % 40}."),),
        )
        for n in range(400)
    ]
    accuracy = found(audited(tmp_path / "d", records, "blind"), "blind_accuracy")
    assert accuracy.low < 0.5 < accuracy.high
    assert accuracy.high - accuracy.low > 0.15  # of 40 groups, not of 400 pairs


def test_the_same_data_and_seed_give_the_same_probe() -> None:
    pairs = [p for n, r in enumerate(at_random(60, 0)) for p in pairs_of(to_json(r), "train", n)]
    one, two = fit(pairs, seed=4), fit(pairs, seed=4)
    assert np.array_equal(one.out_of_fold, two.out_of_fold)
    assert not np.array_equal(one.out_of_fold, fit(pairs, seed=5).out_of_fold)


def test_swapping_the_answers_turns_the_features_and_the_prediction() -> None:
    records = giveaway(60)
    pairs = [p for n, r in enumerate(records) for p in pairs_of(to_json(r), "train", n)]
    turned = [
        p
        for n, r in enumerate(records)
        for p in pairs_of(
            to_json(
                pair(
                    n,
                    r.responses[r.comparisons[0].better].text,
                    r.responses[r.comparisons[0].worse].text,
                    first=r.comparisons[0].better == 1,
                )
            ),
            "train",
            n,
        )
    ]
    assert abs(differences(pairs) + differences(turned)).max() == 0
    probe = fit(pairs)
    assert probe.probability(pairs) + probe.probability(turned) == pytest.approx(np.ones(60))


def test_the_probe_tells_of_pairs_that_it_was_not_fitted_on() -> None:
    pairs = [p for n, r in enumerate(giveaway(300)) for p in pairs_of(to_json(r), "train", n)]
    probe = fit(pairs[:100])
    right = (probe.probability(pairs[100:]) > 0.5) == [p.better == 0 for p in pairs[100:]]
    assert right.mean() >= 0.99
    # those it was fitted on are judged by the fold that left them out
    assert probe.probability(pairs[:100]) == pytest.approx(probe.out_of_fold, abs=1e-6)
    words = pair(1, "a", "b", picture=False)
    assert np.isnan(probe.probability(pairs_of(to_json(words), "train", 0))).all()


def test_too_few_groups_are_said_and_not_judged(tmp_path: Path) -> None:
    report = audited(tmp_path / "d", giveaway(8), "blind")
    assert report.findings == []
    assert report.results[0].notes == (
        "pictures, image-text, factuality: not judged, as 8 pairs in 8 groups are too few to learn from (it takes 10 "
        "groups)",
    )


def test_parts_of_the_data_have_their_own_numbers(tmp_path: Path) -> None:
    records = [
        *flips(30),
        *(pair(n, "indeed good", "bad", first=n % 2 == 0, picture=False) for n in range(40)),
        *(
            pair(n, "indeed good", "bad", first=n % 2 == 0, picture=False, split="test")
            for n in range(50, 60)
        ),
    ]
    report = audited(tmp_path / "d", records, "blind", options=Options(max_pairs=1000))
    assert found(report, "blind_accuracy", IMAGES).mean == 0.5
    assert found(report, "blind_accuracy", Scope("train", "text", "factuality", "words")).mean == 1
    assert found(report, "blind_accuracy", Scope("test")).mean == 1  # learnt on the other split, judged here
    assert found(report, "blind_accuracy", Scope("train")).mean == pytest.approx((30 + 40) / 100)
    # Wilson's interval, of ten groups
    assert found(report, "blind_accuracy", Scope("test")).low == pytest.approx(10 / (10 + 1.959964**2))


def test_nlvr_is_half_right_blind_where_only_flip_pairs_are_kept(
    tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    source = NlvrConfig(path=real_data("nlvr/dev/dev.json"), name="nlvr", splits={"train": 1})
    records = [item for item in source.generate(0) if isinstance(item, PreferenceRecord)]
    pairs = [p for n, r in enumerate(records) for p in pairs_of(to_json(r), "train", n)]
    halves = [p for p, r in zip(pairs, records, strict=True) if "flip" in r.provenance]
    assert (len(pairs), len(halves)) == (989, 818)
    chance = fit(halves).out_of_fold
    right = np.where(chance == 0.5, 0.5, (chance > 0.5) == [p.better == 0 for p in halves])
    assert right.mean() == 0.5


def test_one_question_with_one_usual_answer_is_found(tmp_path: Path) -> None:
    """The plainest shortcut: 300 pictures, one question, four of five times "Yes."."""
    records = [
        pair(
            n,
            *(("Yes.", "No.") if n % 5 else ("No.", "Yes.")),
            first=n % 2 == 0,
            prompt=(user(0, "Is there a cat?"),),
        )
        for n in range(300)
    ]
    accuracy = found(audited(tmp_path / "d", records, "blind"), "blind_accuracy", IMAGES)
    assert accuracy.mean == 0.8
    assert accuracy.low > 0.7


def test_a_small_source_that_is_solved_is_named(tmp_path: Path) -> None:
    solved = [
        pair(n, f"indeed {sentence(7 * n)}", sentence(7 * n + 1), source="small") for n in range(900, 930)
    ]
    report = audited(tmp_path / "d", [*at_random(300, 0), *solved], "blind")
    whole = found(report, "blind_accuracy", IMAGES)
    assert whole.low < 0.6
    # Wilson's interval, of 30 of 30: 30 / (30 + 1.96^2)
    assert "(the worst is small, factuality: 100.0 % (88.6 to 100.0))" in report.results[0].says
    failed = broken(parse_threshold("blind_accuracy>0.7"), report.findings)
    assert failed == ["train.image-text.factuality.small: blind_accuracy is 1 (blind_accuracy>0.7)"]


def test_few_groups_have_a_wide_interval() -> None:
    """79 of 100 in one group: Wilson's interval of a share of one item is 0.1302 to 0.9895 (worked out by hand)."""
    one = share(np.repeat([1.0, 0.0], [79, 21]), np.zeros(100, int))
    assert one is not None
    assert (one.mean, one.low, one.high) == pytest.approx((0.79, 0.1302, 0.9895), abs=1e-4)
    # a hundred in one group and one each in nine: (109)^2 / (100^2 + 9), about one
    uneven = share(np.repeat([1.0, 0.0], [79, 30]), np.array([0] * 100 + list(range(1, 10))))
    assert uneven is not None
    assert uneven.low < 0.2
    # flip pairs are at one half by themselves, however few
    flipped = share(np.array([1.0, 0.0] * 3), np.array([0, 0, 1, 1, 2, 2]))
    assert flipped is not None
    assert (flipped.low, flipped.high) == (0.5, 0.5)

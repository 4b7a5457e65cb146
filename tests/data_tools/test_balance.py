from __future__ import annotations

from collections import Counter

import pytest
from decisions import balanced_of, kept_by
from sample_records import image_record, text_record

from data_tools.balance.config import Balance
from data_tools.errors import UserError
from data_tools.schema import Comparison, PreferenceRecord, Ranking


def pool() -> list[PreferenceRecord]:
    """40 flip pairs on factuality, 100 text rows on helpfulness of which 20 also judge safety."""
    records = [image_record(number, provenance={"flip": f"f{number // 2}"}) for number in range(80)]
    both = (Comparison("helpfulness", 0, 1), Comparison("safety", 1, 0))
    records += [text_record(number, comparisons=both if number < 20 else both[:1]) for number in range(100)]
    return records


def shares(records: list[PreferenceRecord]) -> tuple[Counter[str], Counter[str]]:
    return (
        Counter(record.modality for record in records),
        Counter(comparison.objective for record in records for comparison in record.comparisons),
    )


def test_quotas_are_met_without_repeats() -> None:
    records = pool()
    kept, dropped = kept_by(records, Balance(modality={"text": 0.2, "image-text": 0.8}), seed=0)
    modality, _ = shares(kept)
    assert modality == {"image-text": 80, "text": 20}
    assert len({record.id for record in kept}) == len(kept)
    assert sum(dropped.values()) == 80
    again, _ = kept_by(records[::-1], Balance(modality={"text": 0.2, "image-text": 0.8}), seed=0)
    assert {record.id for record in again} == {record.id for record in kept}
    other, _ = kept_by(records, Balance(modality={"text": 0.2}), seed=1)
    assert {record.id for record in other} != {record.id for record in kept}


def test_flip_pairs_stay_whole() -> None:
    kept, _ = kept_by(pool(), Balance(modality={"image-text": 0.3}), seed=0)
    flips = Counter(record.provenance["flip"] for record in kept if record.images)
    assert set(flips.values()) == {2}
    modality, _ = shares(kept)
    assert modality["text"] == 100
    assert abs(modality["image-text"] / len(kept) - 0.3) < 0.01


def test_flip_pairs_and_single_records_go_alike() -> None:
    single = [image_record(200 + number, provenance={}) for number in range(80)]
    kept, _ = kept_by(pool() + single, Balance(modality={"image-text": 0.5}), seed=0)
    modality, _ = shares(kept)
    assert abs(modality["image-text"] - 100) <= 1
    flips = sum(1 for record in kept if "flip" in record.provenance)
    assert abs(flips - 50) <= 2  # of 80 records in flip pairs and 80 single ones 100 stay


def test_quotas_of_objectives_and_total() -> None:
    balance = Balance(objectives={"safety": 0.2, "factuality": 0.4}, total=60)
    kept, dropped = kept_by(pool(), balance, seed=0)
    _, objectives = shares(kept)
    total = sum(objectives.values())
    assert len(kept) in (59, 60)
    assert abs(objectives["safety"] / total - 0.2) < 0.03
    assert abs(objectives["factuality"] / total - 0.4) < 0.03
    assert sum(dropped.values()) == 180 - len(kept)
    assert shares(kept_by(pool(), Balance(objectives={"safety": 0}), seed=0)[0])[1]["safety"] == 0


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        (
            {"objectives": {"honesty": 0.1}},
            r"balance\.objectives\.honesty: asks for 0\.1, but no training preference",
        ),
        ({"objectives": {"safety": 0.8}}, r"balance\.objectives\.safety: asks for 0\.8 .* short: safety"),
        (
            {"modality": {"text": 0.9, "image-text": 0.1}, "objectives": {"factuality": 0.5}},
            r"together with the other quotas; short",
        ),
        ({"total": 500}, r"balance\.total: asks for 500 records, but 180 are left"),
        ({"modality": {"text": 0.5}, "total": 220}, r"short: text \(100 of 110\)"),
    ],
)
def test_impossible_quotas_are_named(balance: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kept_by(pool(), Balance.model_validate(balance), seed=0)
    with pytest.raises(
        UserError, match=r"balance\.modality\.image-text: asks for 0\.5, but no training preference"
    ):
        kept_by([text_record(1)], Balance(modality={"image-text": 0.5}), seed=0)


def test_rankings_count_as_comparisons_and_other_labels_do_not() -> None:
    ranked = [
        text_record(number, comparisons=(), rankings=(Ranking("style", ((0,), (1,))),))
        for number in range(30)
    ]
    voted = [
        text_record(
            100 + number, votes=tuple(Comparison("style", 0, 1, judge=f"r{i}") for i in range(number % 5))
        )
        for number in range(60)
    ]
    kept, _ = kept_by(ranked + voted, Balance(objectives={"style": 0.5}), seed=0)
    assert Counter("rankings" if record.rankings else "pairs" for record in kept) == {
        "rankings": 30,
        "pairs": 30,
    }


def test_which_records_stay_depends_on_them_and_the_seed_alone() -> None:
    balance = Balance(modality={"text": 0.5})
    alone = {record.id for record in kept_by(pool(), balance, seed=0)[0] if not record.images}
    others = [image_record(500 + number, provenance={}, source="more") for number in range(20)]
    more = {
        record.id for record in kept_by([*others, *pool()[::-1]], balance, seed=0)[0] if not record.images
    }
    assert len(alone) == 80
    assert len(more) == 100
    assert alone < more  # the rank of a record is its own
    assert alone != {record.id for record in kept_by(pool(), balance, seed=1)[0] if not record.images}


def test_in_proportion_every_record_has_its_turn() -> None:
    """50 of 92 records an epoch, each of another kind: no kind is left out for good."""
    kinds = [
        text_record(number, comparisons=tuple(Comparison(f"o{number}", 0, 1) for _ in range(1 + number % 3)))
        for number in range(92)
    ]
    found = balanced_of(kinds, Balance(strategy="proportion", total=50), seed=0)
    assert not found.gone_N.any()
    assert set(found.repeat_N.tolist()) == {50 / 92}

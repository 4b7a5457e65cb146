"""Flip pairs come whole: in every batch, on any number of processes, the same again after a resume."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_tools.balance.mixture import Label, Segment
from data_tools.build import DataConfig, build
from mmrlhf.training.units import UnitFeed, flip_pairs, open_unit_feed

# six flip pairs (12 records), five other records with images, six of text
LABELS = [
    *[Label("flips", "image-text")] * 13,
    *[Label("other", "image-text")] * 4,
    *[Label("words", "text")] * 6,
]
FLIPS = ["a", "b", "a", "c", "b", "c", "d", "e", "f", "d", "e", "f", "half", *[None] * 10]
PAIRS = [(0, 2), (1, 4), (3, 5), (6, 9), (7, 10), (8, 11)]


def process(index: int = 0, count: int = 1) -> Any:
    return SimpleNamespace(process_index=index, num_processes=count)


def feed(seed: int = 0) -> UnitFeed:
    return UnitFeed(cast(Any, list(range(len(FLIPS)))), LABELS, seed, FLIPS)


def test_pairs() -> None:
    assert flip_pairs(LABELS, FLIPS) == dict(PAIRS)
    # a name means nothing outside its source, and three records are no pair
    assert flip_pairs([Label("a", "text"), Label("b", "text")], ["x", "x"]) == {}
    assert flip_pairs([Label("a", "text")] * 3, ["x"] * 3) == {}


@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_every_batch_is_full_and_holds_whole_pairs(size: int) -> None:
    """Two epochs are 23 slots: each of 6 pairs twice, and of 11 other records two by two."""
    made = feed()
    assert len(made) == 23
    seen: Counter[int] = Counter()
    for step in range(23):
        batch = cast("list[int]", made.batch(step, size, process()))
        assert len(batch) == size
        assert [pair for pair in PAIRS if len({*pair} & {*batch}) == 1] == []
        seen.update(batch)
    assert set(seen.values()) == {size}  # two epochs in 23 slots, and a batch has size / 2
    assert len(seen) == 23


def test_the_order_depends_on_seed_and_step_alone() -> None:
    made = feed()
    order = [made.batch(step, 4, process()) for step in range(12)]
    assert feed().batch(7, 4, process()) == order[7]  # asked for alone, as after a resume
    assert made.batch(2, 4, process()) == order[2]  # back in an earlier epoch
    assert order[:6] != order[6:]
    assert [feed(1).batch(step, 4, process()) for step in range(12)] != order


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_a_batch_pair_by_pair(count: int) -> None:
    for step in range(12):
        whole = feed().batch(step, 8, process())
        parts = [feed().batch(step, 8, process(index, count)) for index in range(count)]
        assert Counter(record for part in parts for record in part) == Counter(whole)
        for part in parts:
            for one, other in PAIRS:
                assert (one in part) == (other in part)


def records_of(made: UnitFeed, position: int) -> tuple[int, ...]:
    return tuple(shown.record for shown in made.slot(position))


def test_windows_are_mixed_like_the_whole() -> None:
    """Of 23 slots 12 are pairs: any four in a row hold two of them, one more or less."""
    made = feed()
    slots = [records_of(made, position) for position in range(46)]
    for start in range(43):
        assert 1 <= sum(slot in PAIRS for slot in slots[start : start + 4]) <= 3


def test_repeats_are_those_of_the_labels() -> None:
    """Pairs three times an epoch, text every other one: 36 + 5 + 3 records."""
    repeats = {"flips": 3.0, "other": 1.0, "words": 0.5}
    labels = [Label(label.source, label.modality, repeats[label.source]) for label in LABELS]
    made = UnitFeed(cast(Any, list(range(len(FLIPS)))), labels, 0, FLIPS)
    # the half that stands alone is drawn as its label says
    assert len(made) == 36 + 3 + 4 + 3
    seen = Counter(record for position in range(46) for record in records_of(made, position))
    assert [seen[record] for record in range(23)] == [6] * 13 + [2] * 4 + [1] * 6


def test_a_segment_changes_what_comes_after_it_and_breaks_off_no_pass() -> None:
    made, plain = feed(), feed()
    pairs, half, other, words = made.strata
    assert [half, other, words] == ["flips/image-text/1.0", "other/image-text/1.0", "words/text/1.0"]
    assert made.strata[pairs] == ("flips", 12, 6, 2)
    made.extend(Segment(7, {pairs: 1, half: 1, other: 4, words: 1}))
    assert [made.slot(i) for i in range(7)] == [plain.slot(i) for i in range(7)]
    slots = [records_of(made, position) for position in range(7, 15)]  # two epochs of a pair and six others
    assert sum(slot in PAIRS for slot in slots) == 2
    assert sum(13 <= record < 17 for slot in slots for record in slot) == 8
    seen = Counter(record for position in range(100) for record in records_of(made, position))
    for stratum in (range(12), range(13, 17), range(17, 23)):
        shown = [seen[record] for record in stratum]
        assert max(shown) - min(shown) <= 1


def test_flips_are_read_from_a_data_set(tmp_path: Path) -> None:
    sources = [{"type": "flip_pairs", "count": 3}, {"type": "coverage_pairs", "count": 2}]
    config = {"sources": [{**source, "splits": {"train": 1.0}} for source in sources]}
    build(DataConfig.model_validate(config), tmp_path / "data")
    made = open_unit_feed(str(tmp_path / "data"), "train", ["preference"], 0)
    assert Counter(made.flips) == {"000000": 2, "000001": 2, "000002": 2, None: 2}
    assert [record.provenance.get("flip") for record in made.records] == made.flips
    # without one half of the first pair
    first = made.flips.index("000000")
    rest = made.only([index for index in range(8) if index != first])
    assert len(rest.partners) == 2
    assert len(rest) == 7


def test_every_record_of_a_batch_has_its_own_epoch() -> None:
    """Of its stratum: in the third 24 records one or two are of the third epoch."""
    made = feed()
    seen: Counter[int] = Counter()
    for step in range(6):
        batch = cast("list[int]", made.batch(step, 8, process()))
        epochs = made.epochs(step, 8, process())
        assert len(epochs) == 8
        for record, epoch in zip(batch, epochs, strict=True):
            assert epoch == seen[record]  # the first showing is of epoch 0
            seen[record] += 1
        for index in range(2):
            own = made.epochs(step, 8, process(index, 2))
            assert len(own) == len(made.batch(step, 8, process(index, 2)))

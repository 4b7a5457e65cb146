"""Flip pairs come whole: in every batch, on any number of processes, the same again after a resume."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_tools.build import DataConfig, build
from mmrlhf.training.units import UnitFeed, flip_units, open_unit_feed

# six flip pairs (12 records), five other records with images, six of text
STRATA = [*[("flips", "image-text")] * 13, *[("other", "image-text")] * 4, *[("words", "text")] * 6]
FLIPS = ["a", "b", "a", "c", "b", "c", "d", "e", "f", "d", "e", "f", "half", *[None] * 10]
PAIRS = [(0, 2), (1, 4), (3, 5), (6, 9), (7, 10), (8, 11)]


def process(index: int = 0, count: int = 1) -> Any:
    return SimpleNamespace(process_index=index, num_processes=count)


def feed(seed: int = 0) -> UnitFeed:
    return UnitFeed(cast(Any, list(range(len(FLIPS)))), STRATA, seed, FLIPS)


def test_units() -> None:
    assert flip_units(STRATA, FLIPS) == [*PAIRS, *[(index,) for index in range(12, 23)]]
    # a name means nothing outside its source, and three records are no pair
    assert flip_units([("a", "text"), ("b", "text")], ["x", "x"]) == [(0,), (1,)]
    assert flip_units([("a", "text")] * 3, ["x"] * 3) == [(0,), (1,), (2,)]


@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_every_batch_holds_whole_pairs(size: int) -> None:
    """12 slots an epoch: 6 pairs, and 11 other records two by two with one over."""
    made = feed()
    assert made.slots == 12
    seen: Counter[int] = Counter()
    for step in range(24 // size * 3):
        batch = cast("list[int]", made.batch(step, size, process()))
        assert size - 1 <= len(batch) <= size
        for one, other in PAIRS:
            assert (one in batch) == (other in batch)
        seen.update(batch)
    assert set(seen.values()) == {3}  # three epochs, each record once in each
    assert len(seen) == 23


def test_the_order_depends_on_seed_epoch_and_step_alone() -> None:
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


def test_windows_are_mixed_like_the_whole() -> None:
    """Six pairs and six slots of others: any four slots in a row hold two pairs, one more or less."""
    made = feed()
    slots = [made.slot(position) for position in range(made.slots)]
    for start in range(made.slots - 3):
        assert 1 <= sum(slot in PAIRS for slot in slots[start : start + 4]) <= 3


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
    assert sorted(map(len, rest.units)) == [1, 1, 1, 2, 2]


def test_every_record_of_a_batch_has_its_own_epoch() -> None:
    """12 slots an epoch, one of them of a single record: of 24 positions of 10 records, the third batch begins with the
    last two slots of the first epoch."""
    made = feed()
    assert made.epochs(0, 24, process()) == [0] * 23
    assert made.epochs(1, 24, process()) == [1] * 23
    for index, (olds, news) in enumerate([(1, 2), (1, 1)]):
        found = made.epochs(2, 10, process(index, 2))
        assert len(found) == len(made.batch(2, 10, process(index, 2)))
        slots = [made.slot(position) for position in range(10, 15)[index::2]]
        assert found == [0] * sum(map(len, slots[:olds])) + [1] * sum(map(len, slots[olds:]))
        assert len(slots[olds:]) == news

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from sample_records import image_record, png, text_record

from data_tools.errors import UserError
from data_tools.schema import Comparison, Correction, Critique, ImageRef, Ranking, Rating, Response, user
from data_tools.shards import write_shards
from data_tools.stats import stats, table


def test_labels_judges_and_images_are_counted(tmp_path: Path) -> None:
    votes = tuple(Comparison("helpfulness", 0, 1, judge=judge) for judge in ("a", "b", "a"))
    records = [
        text_record(0, votes=votes, critiques=(Critique("short", response=1, judge="b"),)),
        text_record(
            1,
            comparisons=(),
            rankings=(Ranking("h", ((0,), (1,)), judge="c"),),
            ratings=(Rating("h", 0, value=1, low=0, high=1, kind="binary"),),
        ),
        text_record(
            2,
            responses=(Response("longer"), Response("short")),
            comparisons=(Comparison("h", better=1, worse=0), Comparison("h", 0, 1, tie=True)),
            corrections=(Correction("h", corrected=1, original=0),),
            ratings=(Rating("s", 0, value=3, low=1, high=5),),
        ),
        *(image_record(number) for number in range(3)),
        image_record(
            7,
            prompt=(user(0, "?"),),
            images=(ImageRef.of_bytes(png(size=(40, 40))),),
            scenes=(),
            split="test",
            provenance={},
        ),
    ]
    write_shards(records, tmp_path / "d")
    row = stats(tmp_path / "d")
    assert row["labels"] == {
        "test": {"pair": 1},
        "train": {"pair": 5, "ranking": 1, "rating": 1, "binary": 1, "correction": 1, "critique": 1},
    }
    # human: a comparison of the first record; a rating of the second; two comparisons, a correction and a rating of
    # the third; a comparison of each of the three with images
    assert row["judges"]["train"] == {"human": 9, "a": 2, "b": 2, "c": 1}
    assert row["objectives"]["train"]["h"] == {
        "comparisons": 2,
        "ties": 1,
        "ratings": 1,
        "yes or no": 1,
        "rankings": 1,
    }
    assert row["length"]["train"]["h"] == {
        "comparisons": 1,
        "chosen_characters": 5,
        "rejected_characters": 6,
        "chosen_longer": 0,
        "same_length": 0,
    }
    assert row["flip_pairs"] == {"test": 0, "train": 1}  # i0 and i1; the other half of i2's isn't there
    sizes = [len(image.data or b"") for number in range(3) for image in image_record(number).images]
    assert row["images"]["train"] == {
        "png": {"number": 6, "mean_bytes": round(sum(sizes) / 6), "largest_bytes": max(sizes)}
    }
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(row))
    text = console.export_text()
    assert "Labelled records of train: 5 with a pair, 1 with a ranking" in text
    assert "Judges of train, and their labels: human (9), a (2), b (2), c (1)" in text


def test_damage_is_told_by_shard_and_key(tmp_path: Path) -> None:
    (info,) = write_shards([text_record(0)], tmp_path / "d")
    path = tmp_path / "d" / info.name
    path.write_bytes(path.read_bytes().replace(b'"id": ', b'"id"; '))
    with pytest.raises(UserError, match=f"{info.name}: key 00000000: its JSON is damaged"):
        stats(tmp_path / "d")

"""What SFT imitates."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from data_tools.errors import UserError
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Ranking, Rating, Response, user
from data_tools.shards import RecordSet, write_shards
from mmrlhf.config import EngineConfig, ModelConfig, SftConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.training.engine import make_accelerator
from mmrlhf.training.sft import SftStage, best_response


def record(*answers: str, name: str = "r0", **judged: object) -> PreferenceRecord:
    return PreferenceRecord(
        name,
        "rated",
        (user("Is it hot?"),),
        tuple(map(Response, answers)),
        **judged,  # type: ignore[arg-type]
    )


def rated(response: int, value: float, low: float = 0, high: float = 1, objective: str = "h") -> Rating:
    return Rating(objective, response, value, low, high)


def test_the_best_response_by_comparisons_then_ratings() -> None:
    assert best_response(record("a")) == 0
    assert best_response(record("a", "b", comparisons=(Comparison("h", 1, 0),))) == 1
    assert best_response(record("a", "b", comparisons=(Comparison("h", 1, 0, tie=True),))) == 0
    assert best_response(record("a", "b", ratings=(rated(0, 3, 1, 5), rated(1, 4, 1, 5)))) == 1
    # a comparison says more than a rating
    pair = (Comparison("h", 0, 1),)
    assert best_response(record("a", "b", comparisons=pair, ratings=(rated(1, 1),))) == 0
    ranking = Ranking("h", ((2,), (0, 1)))
    assert best_response(record("a", "b", "c", rankings=(ranking,))) == 2
    # a response that nobody rated stands between a good and a bad one
    assert best_response(record("a", "b", ratings=(rated(0, 0.2),))) == 1
    assert best_response(record("a", "b", ratings=(rated(1, 0.8),))) == 1


def test_what_is_rated_low_is_not_learnt() -> None:
    assert best_response(record("a", ratings=(rated(0, 1),))) == 0
    assert best_response(record("a", ratings=(rated(0, 0),))) is None
    assert best_response(record("a", ratings=(rated(0, 3, 1, 5),))) == 0
    assert best_response(record("a", ratings=(rated(0, 2, 1, 5),))) is None
    assert best_response(record("a", ratings=(rated(0, 1), rated(0, 0, objective="safety")))) is None
    assert best_response(record("a", ratings=(rated(0, 2, 2, 2),))) == 0  # a scale of one value says nothing
    winner_is_unsafe = record("a", "b", comparisons=(Comparison("h", 0, 1),), ratings=(rated(0, 0),))
    assert best_response(winner_is_unsafe) is None


def stage(folder: Path, records: list[PreferenceRecord]) -> SftStage:
    write_shards(records, folder)
    config = SftConfig(learn_from=["preference"], batch_size=2, micro_batch_size=2)
    vlm = load_vlm(ModelConfig(), trainable=True)
    return SftStage(vlm, config, str(folder), 0, make_accelerator(EngineConfig()))


def test_sft_leaves_out_answers_that_were_marked_bad(tmp_path: Path) -> None:
    records = [
        record(f"answer {number}", name=f"r{number}", ratings=(rated(0, float(number % 3 == 0)),))
        for number in range(12)
    ]
    made = stage(tmp_path / "data", records)
    assert sorted(r.id for r in made.demonstrations.feed.records) == ["r0", "r3", "r6", "r9"]
    assert made.num_steps == 2
    assert (
        sum(
            len(batch) for step in range(2) for update in made.updates(step) for batch in update.micro_batches
        )
        == 4
    )
    with pytest.raises(UserError, match="rated in the lower half of its scale; there is none to imitate"):
        stage(tmp_path / "bad", [record("a", ratings=(rated(0, 0),))])


def test_what_was_marked_bad_is_told_without_reading_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    picture = ImageRef.of_bytes(buffer.getvalue())
    records = [
        replace(
            record("yes", name=f"r{number}", ratings=(rated(0, float(number % 2)),)),
            prompt=(user(0, "Is it hot?"),),
            images=(picture,),
        )
        for number in range(6)
    ]

    def read(self: RecordSet, index: int) -> PreferenceRecord:
        raise AssertionError("an image was read")

    monkeypatch.setattr(RecordSet, "__getitem__", read)
    feed = stage(tmp_path / "data", records).demonstrations.feed
    assert [feed.outline(index).id for index in range(len(feed.records))] == ["r1", "r3", "r5"]

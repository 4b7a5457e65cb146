from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import image_record, text_record
from typer.testing import CliRunner

from data_tools import shards as shards_module
from data_tools.balance.order import epoch_order
from data_tools.balance.quotas import Balance, apply_quotas
from data_tools.build import DataConfig, build
from data_tools.cli import app
from data_tools.config import load_config, parse_config
from data_tools.errors import UserError
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, content_hash
from data_tools.shards import open_records
from data_tools.splits import split_of
from data_tools.stats import stats

SMALL = {
    "sources": [
        {"type": "flip_pairs", "count": 8},
        {"type": "text_pairs", "count": 30},
        {"type": "demonstrations", "images": 4, "texts": 6},
        {"type": "prompts", "images": 3, "texts": 4},
    ]
}


def config(**changes: object) -> DataConfig:
    return parse_config({**SMALL, **changes}, DataConfig, "test")


def test_a_build_holds_what_its_report_says(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    report = build(config(), tmp_path / "d", lambda *now: seen.append(now))
    assert not report.existing
    assert sorted(path.name for path in (tmp_path / "d").iterdir() if path.suffix != ".tar") == [
        "config.yaml",
        "manifest.json",
        "rejected.jsonl",
        "stats.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["d"]  # nothing temporary is left
    pairs = sum(number for name, number in report.counts.items() if name.endswith("preference/image-text"))
    assert pairs == 16
    assert report.records == sum(report.counts.values())
    assert seen[-1] == ("writing", report.records, report.records)
    assert load_config(tmp_path / "d" / "config.yaml", DataConfig) == config()
    assert build(config(), tmp_path / "d").existing
    with pytest.raises(UserError, match="another config; choose another folder with -o"):
        build(config(seed=1), tmp_path / "d")
    before = open_records(tmp_path / "d", "train")[0].images[0].sha256
    assert not build(config(seed=1), tmp_path / "d", overwrite=True).existing
    assert open_records(tmp_path / "d", "train")[0].images[0].sha256 != before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_the_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build(config(balance={"modality": {"text": 0.5, "image-text": 0.5}}), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="exists and is no data set"):
            build(config(), tmp_path / "home", overwrite=overwrite)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert build(config(), tmp_path / "empty").records > 0


def test_a_failed_build_leaves_nothing_and_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(config(), tmp_path / "d")
    before = (tmp_path / "d" / "manifest.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards_module, "write_manifest", full)
    with pytest.raises(UserError, match="the disk is full"):
        build(config(seed=5), tmp_path / "d", overwrite=True)
    assert (tmp_path / "d" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_malformed_rows_are_counted_and_too_many_stop_the_build(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(19)]
    path.write_text(
        "\n".join(json.dumps(row) for row in [*rows, {"prompt": "q", "chosen": "a", "rejected": "a"}])
    )
    source = {"type": "trl", "name": "rows", "path": str(path)}
    report = build(config(sources=[source]), tmp_path / "d")
    assert report.rejected == {"rows": {"chosen and rejected are the same answer": 1}}
    assert json.loads((tmp_path / "d" / "rejected.jsonl").read_text()) == {
        "source": "rows",
        "reason": "chosen and rejected are the same answer",
        "where": "rows.jsonl:20",
    }
    with pytest.raises(
        UserError, match=r"1 of 20 rows are malformed.*\n  1 x chosen and rejected .*rows.jsonl:20"
    ):
        build(config(sources=[source], max_rejected=0.01), tmp_path / "e")
    path.write_text("")
    with pytest.raises(UserError, match="gave no rows at all"):
        build(config(sources=[source]), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_copies_are_dropped_but_text_rows_are_not_all_alike(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{number % 5}", "chosen": "a", "rejected": "b"} for number in range(8)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    source = {"type": "trl", "name": "rows", "path": str(path)}
    report = build(config(sources=[source]), tmp_path / "d")
    assert (report.records, report.duplicates) == (5, {"rows": 3})
    assert build(config(sources=[source], dedup=False), tmp_path / "e").records == 8


def test_content_hash_is_of_the_content() -> None:
    one = image_record(7)
    assert content_hash(one) == content_hash(image_record(7, id="other", source="else", comparisons=()))
    paths = tuple(
        ImageRef(path=f"{name}.png", sha256=image.sha256)
        for name, image in zip("ab", one.images, strict=True)
    )
    assert content_hash(image_record(7, images=paths)) == content_hash(one)
    assert content_hash(text_record(1)) != content_hash(text_record(2))


def test_configs_are_checked() -> None:
    for change, message in (
        ({"sources": []}, "sources"),
        ({"sources": [{"type": "flip_pair"}]}, "Did you mean 'flip_pairs'"),
        ({"sources": [{"type": "flip_pairs", "cuont": 3}]}, "did you mean 'count'"),
        ({"sources": ["flip_pairs", "flip_pairs"]}, "2 sources have the name 'flip_pairs'"),
        ({"sources": [{"type": "flip_pairs", "name": "../x"}]}, "name"),
        ({"sources": [{"type": "flip_pairs", "splits": {"train": 0.5}}]}, "the shares sum to 0.5, not to 1"),
        ({"sources": [{"type": "data_tools.balance.quotas:Balance"}]}, "Balance is not made from"),
        ({"balance": {"modality": {"text": 0.4, "image-text": 0.4}}}, "sum to 0.8, not to 1"),
        ({"balance": {"objectives": {"a": 0.6, "b": 0.6}}}, "sum to 1.2, more than 1"),
    ):
        with pytest.raises(UserError) as told:
            config(**change)
        assert message in str(told.value)


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
    kept, dropped = apply_quotas(records, Balance(modality={"text": 0.2, "image-text": 0.8}), seed=0)
    modality, _ = shares(kept)
    assert modality == {"image-text": 80, "text": 21}  # 21 of 101 is within one record of a fifth
    assert len({record.id for record in kept}) == len(kept)
    assert sum(dropped.values()) == 79
    again, _ = apply_quotas(records[::-1], Balance(modality={"text": 0.2, "image-text": 0.8}), seed=0)
    assert {record.id for record in again} == {record.id for record in kept}
    other, _ = apply_quotas(records, Balance(modality={"text": 0.2}), seed=1)
    assert {record.id for record in other} != {record.id for record in kept}


def test_flip_pairs_stay_whole() -> None:
    kept, _ = apply_quotas(pool(), Balance(modality={"image-text": 0.3}), seed=0)
    flips = Counter(record.provenance["flip"] for record in kept if record.images)
    assert set(flips.values()) == {2}
    modality, _ = shares(kept)
    assert modality["text"] == 100
    assert abs(modality["image-text"] / len(kept) - 0.3) < 0.01


def test_flip_pairs_and_single_records_go_alike() -> None:
    single = [image_record(200 + number, provenance={}) for number in range(80)]
    kept, _ = apply_quotas(pool() + single, Balance(modality={"image-text": 0.5}), seed=0)
    modality, _ = shares(kept)
    assert abs(modality["image-text"] - 100) <= 1
    flips = sum(1 for record in kept if "flip" in record.provenance)
    assert abs(flips - 50) <= 2  # of 80 records in flip pairs and 80 single ones 100 stay


def test_quotas_of_objectives_and_total() -> None:
    balance = Balance(objectives={"safety": 0.2, "factuality": 0.4}, total=60)
    kept, dropped = apply_quotas(pool(), balance, seed=0)
    _, objectives = shares(kept)
    total = sum(objectives.values())
    assert len(kept) in (59, 60)
    assert abs(objectives["safety"] / total - 0.2) < 0.03
    assert abs(objectives["factuality"] / total - 0.4) < 0.03
    assert sum(dropped.values()) == 180 - len(kept)
    assert shares(apply_quotas(pool(), Balance(objectives={"safety": 0}), seed=0)[0])[1]["safety"] == 0


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
        apply_quotas(pool(), Balance.model_validate(balance), seed=0)
    with pytest.raises(
        UserError, match=r"balance\.modality\.image-text: asks for 0\.5, but no training preference"
    ):
        apply_quotas([text_record(1)], Balance(modality={"image-text": 0.5}), seed=0)


def test_balance_leaves_the_other_kinds_and_splits_alone(tmp_path: Path) -> None:
    plain = build(config(), tmp_path / "a").counts
    balanced = build(config(balance={"modality": {"text": 0.25}}), tmp_path / "b")
    changed = {name for name in plain if plain[name] != balanced.counts.get(name)}
    assert changed == {"train/preference/text"}
    assert (
        sum(balanced.dropped.values())
        == plain["train/preference/text"] - balanced.counts["train/preference/text"]
    )


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["text", "image-text"])), max_size=120),
    st.integers(0, 3),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_epoch_order_is_a_fair_permutation(strata: list[tuple[str, str]], seed: int, epoch: int) -> None:
    order = epoch_order(strata, seed, epoch)
    assert sorted(order) == list(range(len(strata)))
    assert order == epoch_order(strata, seed, epoch)
    counts = Counter(strata)
    for start in range(0, len(order), 7):
        window = Counter(strata[index] for index in order[start : start + 20])
        size = sum(window.values())
        for stratum, number in counts.items():
            share = number / len(strata)
            assert abs(window[stratum] - size * share) <= 1 + len(counts) * share + 1e-9


def test_epoch_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    strata = [("a", "text")] * 30 + [("b", "image-text")] * 10
    first = epoch_order(strata, 0, 0)
    assert first != epoch_order(strata, 0, 1)
    assert first != epoch_order(strata, 1, 0)
    code = "from data_tools.balance.order import epoch_order as f;"
    code += "print(f([('a','text')]*30+[('b','image-text')]*10,0,0))"
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert json.loads(out.stdout) == first


def test_split_shares() -> None:
    found = Counter(split_of(f"g{number}", {"train": 0.8, "val": 0.1, "test": 0.1}) for number in range(2000))
    assert 1540 < found["train"] < 1660
    assert 140 < found["val"] < 260
    assert split_of("x", {"train": 1.0}) == "train"


def test_stats_audit_lengths_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    answers = [("long one", "no"), ("four", "fore"), ("a", "longer"), ("abc", "ab")]
    rows = [{"prompt": f"q{n}", "chosen": a, "rejected": b} for n, (a, b) in enumerate(answers)]
    path.write_text("\n".join(map(json.dumps, rows)))
    source = {"type": "trl", "name": "rows", "path": str(path), "splits": {"train": 1.0}}
    build(config(sources=[source]), tmp_path / "d")
    row = stats(tmp_path / "d")
    assert row["length"]["train"]["helpfulness"] == {
        "comparisons": 4,
        "chosen_characters": 4.0,  # (8 + 4 + 1 + 3) / 4
        "rejected_characters": 3.5,  # (2 + 4 + 6 + 2) / 4
        "chosen_longer": 0.5,
        "same_length": 0.25,
    }
    assert row["objectives"]["train"]["helpfulness"] == {"comparisons": 4, "ties": 0, "ratings": 0}
    assert row == json.loads((tmp_path / "d" / "stats.json").read_text())


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(SMALL))
    runner = CliRunner()
    done = runner.invoke(app, ["build", str(path), "-o", str(tmp_path / "d"), "--set", "sources.0.count=2"])
    assert done.exit_code == 0, done.output
    assert "built" in done.output
    assert json.loads(runner.invoke(app, ["stats", str(tmp_path / "d"), "--json"]).output)["flip_pairs"]
    assert "Image-flip pairs" in runner.invoke(app, ["stats", str(tmp_path / "d")]).output
    path.write_text(json.dumps({"name": "run", "data": SMALL}))
    kept = runner.invoke(
        app, ["build", str(path), "-o", str(tmp_path / "d"), "--set", "data.sources.0.count=2"]
    )
    assert "already complete, kept" in kept.output
    wrong = runner.invoke(app, ["build", str(path), "-o", str(tmp_path / "d")])
    assert wrong.exit_code == 2
    assert "add --overwrite" in wrong.output
    assert runner.invoke(app, ["stats", str(tmp_path / "none")]).exit_code == 2
    assert "Examples" in runner.invoke(app, ["build", "--help"]).output


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'torch', 'transformers', 'webdataset', 'datasets', 'ray'}"
    code = "import pkgutil, importlib, sys, data_tools\n"
    code += "for module in pkgutil.walk_packages(data_tools.__path__, 'data_tools.'):\n"
    code += "    importlib.import_module(module.name)\n"
    code += f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    light = "import sys, data_tools.cli; assert not {'PIL', 'pydantic', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True, timeout=60)


def test_a_mixture_of_real_data(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    sources = [
        {"type": "nlvr", "name": "nlvr", "path": str(real_data("nlvr/dev/dev.json")), "limit": 60},
        {"type": "hh_rlhf", "name": "hh", "path": str(real_data("hh-rlhf/harmless-base.jsonl")), "limit": 60},
    ]
    report = build(config(sources=sources, max_rejected=0.2), tmp_path / "d")
    train = open_records(tmp_path / "d", "train", verify=True)
    assert len(train) == sum(number for name, number in report.counts.items() if name.startswith("train"))
    assert {record.objectives for record in train} == {("factuality",), ("safety",)}

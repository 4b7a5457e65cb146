"""What a build tells at its end: the audit before and after, the balancer's plan, and what repeats."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_records import png
from typer.testing import CliRunner

from data_tools.balance.mixture import Label, Layout, Mixture
from data_tools.build import DataConfig, build
from data_tools.build import audit as audit_module
from data_tools.build.work import Work
from data_tools.cli import app, main
from data_tools.config import load_config, parse_config
from data_tools.errors import UserError
from data_tools.shards import open_records


def rows_of(folder: Path, name: str, rows: list[dict[str, Any]], **changes: object) -> dict[str, Any]:
    """A source of TRL rows that are all for training."""
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = str(folder / f"{name}.jsonl")
    return {"type": "trl", "name": name, "path": path, "splits": {"train": 1.0}, **changes}


def row(number: int, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": f"question number {number}", "chosen": chosen, "rejected": rejected}


def words_and_pictures(folder: Path, words: int, pictures: int) -> list[dict[str, Any]]:
    shown = []
    for number in range(pictures):
        (folder / f"{number}.png").write_bytes(png((number * 20, 90, 9), (20, 20)))
        shown.append({**row(number, "a lamp", "a boat"), "images": [f"{number}.png"]})
    texts = [row(100 + number, f"yes {number}", f"no {number}") for number in range(words)]
    return [rows_of(folder, "words", texts), rows_of(folder, "pictures", shown)]


def numbers(report: dict[str, Any], metric: str) -> dict[str, float]:
    """By the parts of the data that are named by a split and nothing else, or only a source besides."""
    return {
        found["scope"].get("source", ""): found["mean"]
        for audit in report["audits"]
        for found in audit["findings"]
        if found["metric"] == metric and set(found["scope"]) <= {"split", "source"}
    }


@pytest.fixture
def lengths(tmp_path: Path) -> DataConfig:
    """Of 40 pairs the better answer is the longer one in 30; three more are copies, one of which says the contrary."""
    rows = [row(n, f"{n:04} {'x' * 20}", f"{n:04} {'y' * 10}") for n in range(30)]
    rows += [row(n, f"{n:04} {'x' * 10}", f"{n:04} {'y' * 20}") for n in range(30, 40)]
    rows += [rows[0], rows[1], {**rows[2], "chosen": rows[2]["rejected"], "rejected": rows[2]["chosen"]}]
    config = {
        "sources": [rows_of(tmp_path, "t", rows)],
        "remedies": ["match_lengths"],
        "audit": {"only": ["length", "labels"]},
    }
    return parse_config(config, DataConfig, "test")


def test_the_audit_stands_before_and_after(lengths: DataConfig, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    report = build(lengths, tmp_path / "d", lambda *now: seen.append(now))
    assert report.audit == tmp_path / "d" / "audit"
    row = json.loads((report.audit / "audit.json").read_text())
    before = row["compared_with"]
    assert (before["directory"], before["records"]) == ("before", {"train": 40})
    assert (row["directory"], row["records"]) == ("after", {"train": 20})
    # 30 of 40 records, and of the 41 judgements the one that contradicts is of the shorter answer
    assert numbers(before, "longer_is_better")[""] == pytest.approx(30 / 41)
    assert 0.45 < numbers(row, "longer_is_better")[""] <= 0.55
    page = (report.audit / "audit.html").read_text()
    assert "after, beside before" in page
    assert {name for name, _, _ in seen if name.startswith("audit")} == {
        "audit, before: reading train",
        "audit, before: auditing",
        "audit, after: reading train",
        "audit, after: auditing",
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_build_that_is_cut_off_in_its_audit_goes_on(
    lengths: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    build(lengths, tmp_path / "clean")
    with monkeypatch.context() as patch:
        patch.setattr(audit_module, "write_reports", cut)
        with pytest.raises(KeyboardInterrupt):
            build(lengths, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    work = Work(tmp_path / "d")
    written = {path.name: path.stat().st_mtime_ns for path in work.out.glob("*.tar")}
    assert len(written) == 1
    build(lengths, tmp_path / "d", resume=True)
    for path in (tmp_path / "clean").rglob("*"):
        if path.is_file():
            other = tmp_path / "d" / path.relative_to(tmp_path / "clean")
            assert other.read_bytes() == path.read_bytes()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "d").glob("*.tar")} == written


def test_a_benchmark_that_changed_makes_the_set_another(tmp_path: Path, lengths: DataConfig) -> None:
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"question": "one two three four five six seven"}))
    settings = {"only": ["contamination"], "against": [str(bench)]}
    config = parse_config({**lengths.model_dump(mode="json"), "audit": settings}, DataConfig, "test")
    build(config, tmp_path / "d")
    assert build(config, tmp_path / "d").existing
    bench.write_text(json.dumps({"question": "question number 3"}))
    with pytest.raises(UserError, match=r"was made before .*bench\.jsonl changed"):
        build(config, tmp_path / "d")


def test_an_audit_that_is_none_is_named(lengths: DataConfig) -> None:
    row = {**lengths.model_dump(mode="json"), "audit": {"only": ["lenght"]}}
    with pytest.raises(
        UserError, match=r"c\.yaml: audit\.only: there is no audit 'lenght'; there are: blind"
    ):
        parse_config(row, DataConfig, "c.yaml")


def test_a_benchmark_without_the_audit_that_reads_it_is_refused(lengths: DataConfig) -> None:
    settings = {"only": ["length"], "against": ["bench.jsonl"]}
    with pytest.raises(
        UserError, match=r"c\.yaml: audit: against: does nothing where only leaves out the audit"
    ):
        parse_config({**lengths.model_dump(mode="json"), "audit": settings}, DataConfig, "c.yaml")


def test_the_command_shows_the_audit_and_a_later_one_keeps_it(lengths: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(lengths.model_dump(mode="json")))
    runner, out = CliRunner(), tmp_path / "d"
    for _ in range(2):  # the second time it is there already
        done = runner.invoke(app, ["build", str(tmp_path / "c.yaml"), "-o", str(out)])
        assert done.exit_code == 0, done.output
        lines = [line.split() for line in done.output.splitlines()]
        assert ["metric", "and", "part", "┃", "before", "┃", "after", "┃"] in [line[1:] for line in lines]
        assert "73.2 %" in done.output  # 30 / 41
    made = (out / "audit" / "audit.json").read_bytes()
    again = runner.invoke(app, ["audit", str(out), "--only", "length"])
    assert again.exit_code == 0, again.output
    assert (out / "audit" / "audit.json").read_bytes() == made
    assert (out / "audit-again" / "audit.json").exists()
    assert runner.invoke(app, ["check", str(out)]).exit_code == 0


def test_what_repeats_is_told_and_shown_so_often(tmp_path: Path) -> None:
    """30 text records, 10 with pictures, half and half: an epoch shows each of the latter three times."""
    balance = {"modality": {"text": 0.5, "image-text": 0.5}, "strategy": "repeat"}
    config = {"sources": words_and_pictures(tmp_path, 30, 10), "balance": balance}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    done = CliRunner().invoke(app, ["build", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "d")])
    assert done.exit_code == 0, done.output
    assert "pictures repeats: an epoch shows its 10 records 3.00 times (30 in all)" in done.output
    assert "words repeats" not in done.output
    assert "Quotas" in done.output
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert {shard["source"]: shard["repeat"] for shard in manifest["shards"]} == {
        "words": 1.0,
        "pictures": 3.0,
    }
    records = open_records(tmp_path / "d", "train")
    repeats = dict(zip((record.id for record in records), records.repeats, strict=True))
    assert Counter(repeats.values()) == {1.0: 30, 3.0: 10}
    labels = [
        Label(source, modality, often)
        for (source, modality), often in zip(records.strata, records.repeats, strict=True)
    ]
    layout = Layout(labels)
    mixture = Mixture(layout.strata(), seed=0)
    draws = map(mixture.at, range(60))
    shown = Counter(records[layout.record(draw.stratum, draw.row)].id for draw in draws)
    assert shown == {name: int(times) for name, times in repeats.items()}


def test_quotas_that_clash_end_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    balance = {"modality": {"text": 0.5, "image-text": 0.5}, "sources": {"pictures": 0.9}}
    config = {"sources": words_and_pictures(tmp_path, 30, 10), "balance": balance}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as stopped:
        main(["build", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "d")])
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "error: balance" in told
    assert "balance.sources.pictures" in told
    assert not (tmp_path / "d").exists()


def test_the_shipped_config_on_real_data(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Some rows of NLVR and hh-rlhf: what is unbalanced is told blind, what was built from it is not."""
    path = Path(__file__).parents[2] / "configs" / "nlvr_hh_balanced.yaml"
    changes = [
        f"sources.0.path={real_data('nlvr/dev/dev.json')}",
        f"sources.1.path={real_data('hh-rlhf/harmless-base.jsonl')}",
        "sources.0.limit=200",
        "sources.1.limit=100",
        "audit.only=[blind, agreement]",
    ]
    report = build(load_config(path, DataConfig, changes), tmp_path / "d")
    assert report.audit is not None
    row = json.loads((report.audit / "audit.json").read_text())
    blind = {
        (found["scope"]["split"], found["scope"]["source"]): found
        for audit in row["audits"]
        for found in audit["findings"]
        if found["metric"] == "blind_accuracy" and found["scope"].get("source") == "nlvr"
    }
    for split in ("train", "test"):
        assert (blind[split, "nlvr"]["low"], blind[split, "nlvr"]["high"]) == (0.5, 0.5)
    alphas = [f for audit in row["audits"] for f in audit["findings"] if f["metric"] == "vote_alpha"]
    assert {found["scope"]["split"] for found in alphas} == {"train", "test"}
    assert all(0.7 < found["mean"] < 1 for found in alphas)  # raters of NLVR mostly agree
    unbalanced = numbers(row["compared_with"], "blind_accuracy")
    assert unbalanced["nlvr"] != 0.5

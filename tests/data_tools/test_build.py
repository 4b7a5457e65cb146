from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_records import png
from typer.testing import CliRunner

from data_tools.build import Advice, DataConfig, build
from data_tools.build import finish as finish_module
from data_tools.cli import app, main
from data_tools.config import load_config, parse_config
from data_tools.errors import UserError
from data_tools.shards import open_records
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


def all_bytes(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_build_holds_what_its_report_says(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    report = build(config(), tmp_path / "d", lambda *now: seen.append(now))
    assert not report.existing
    assert sorted(path.name for path in (tmp_path / "d").iterdir() if path.suffix != ".tar") == [
        "config.yaml",
        "manifest.json",
        "quarantine",
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
    assert all_bytes(tmp_path / "a") == all_bytes(tmp_path / "b")


def test_what_to_do_is_told_as_the_program_has_it(tmp_path: Path) -> None:
    build(config(), tmp_path / "d")
    advice = Advice("give the run another name", "--restart")
    with pytest.raises(UserError, match=r"another config; give the run another name, or --restart$"):
        build(config(seed=1), tmp_path / "d", advice=advice)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"is no data set; give the run another name$"):
        build(config(), tmp_path / "home", advice=advice)


def test_a_data_set_of_a_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    made = config(sources=[{"type": "trl", "name": "rows", "path": str(path)}])
    build(made, tmp_path / "d")
    assert json.loads((tmp_path / "d" / "manifest.json").read_text())["extra"]["files"] == [
        {
            "source": "rows",
            "path": str(path),
            "bytes": 5 * len('{"prompt": "q0", "chosen": "a", "rejected": "b"}') + 4,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    ]
    os.utime(path, (0, 0))
    assert build(made, tmp_path / "d").existing
    path.write_text(path.read_text().replace("q1", "q9"))  # as long as before
    with pytest.raises(
        UserError, match=r"d: was made before .*rows\.jsonl changed; .* -o, or add --overwrite"
    ):
        build(made, tmp_path / "d")
    assert not build(made, tmp_path / "d", overwrite=True).existing
    path.unlink()  # what is built needs it no more
    assert build(made, tmp_path / "d").existing
    with pytest.raises(UserError, match=r"rows\.jsonl: can't be read \(No such file"):
        build(made, tmp_path / "e")


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="exists and is no data set"):
            build(config(), tmp_path / "home", overwrite=overwrite)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert build(config(), tmp_path / "empty").records > 0


def test_a_full_disk_leaves_the_old_one_and_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(config(), tmp_path / "d")
    before = (tmp_path / "d" / "manifest.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(finish_module, "write_manifest", full)
        with pytest.raises(UserError, match="the disk is full"):
            build(config(seed=5), tmp_path / "d", overwrite=True)
    assert (tmp_path / "d" / "manifest.json").read_bytes() == before
    # what is done stays, for when there is room again
    assert sorted(path.name for path in tmp_path.iterdir()) == [".d.build", "d"]
    with pytest.raises(UserError, match="another config; choose another folder"):
        build(config(seed=5), tmp_path / "d")
    build(config(seed=5), tmp_path / "d", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    build(config(seed=5), tmp_path / "clean")
    assert all_bytes(tmp_path / "d") == all_bytes(tmp_path / "clean")


def test_malformed_rows_are_counted_and_too_many_stop_the_build(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(19)]
    path.write_text(
        "\n".join(json.dumps(row) for row in [*rows, {"prompt": "q", "chosen": "a", "rejected": "a"}])
    )
    source = {"type": "trl", "name": "rows", "path": str(path)}
    report = build(config(sources=[source]), tmp_path / "d")
    assert report.rejected == {"rows": {"chosen and rejected are the same answer": 1}}
    assert json.loads((tmp_path / "d" / "quarantine" / "rows.jsonl").read_text()) == {
        "source": "rows",
        "code": "same-answers",
        "reason": "chosen and rejected are the same answer",
        "where": "rows.jsonl:20",
        "row": {"prompt": "q", "chosen": "a", "rejected": "a"},
    }
    assert report.rows == {"rows": {"read": 20, "in": 19, "quarantined": 1}}
    assert report.made == report.records == 19
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


def test_configs_are_checked() -> None:
    for change, message in (
        ({"sources": []}, "sources"),
        ({"sources": [{"type": "flip_pair"}]}, "Did you mean 'flip_pairs'"),
        ({"sources": [{"type": "flip_pairs", "cuont": 3}]}, "did you mean 'count'"),
        ({"sources": ["flip_pairs", "flip_pairs"]}, "2 sources have the name 'flip_pairs'"),
        ({"sources": [{"type": "flip_pairs", "name": "../x"}]}, "name"),
        ({"sources": [{"type": "flip_pairs", "splits": {"train": 0.5}}]}, "the shares sum to 0.5, not to 1"),
        ({"sources": [{"type": "data_tools.balance.config:Balance"}]}, "Balance is not made from"),
        ({"balance": {"modality": {"text": 0.4, "image-text": 0.4}}}, "sum to 0.8, not to 1"),
        ({"balance": {"objectives": {"a": 0.6, "b": 0.6}}}, "sum to 1.2, more than 1"),
    ):
        with pytest.raises(UserError) as told:
            config(**change)
        assert message in str(told.value)


def test_balance_leaves_the_other_kinds_and_splits_alone(tmp_path: Path) -> None:
    plain = build(config(), tmp_path / "a").counts
    balanced = build(config(balance={"modality": {"text": 0.25}}), tmp_path / "b")
    changed = {name for name in plain if plain[name] != balanced.counts.get(name)}
    assert changed == {"train/preference/text"}
    assert (
        sum(balanced.dropped.values())
        == plain["train/preference/text"] - balanced.counts["train/preference/text"]
    )


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
    found = row["objectives"]["train"]["helpfulness"]
    assert found == {"comparisons": 4, "ties": 0, "ratings": 0, "yes or no": 0, "rankings": 0}
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
    assert "Examples" in runner.invoke(app, ["build", "--help"]).output


def test_a_mistake_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(SMALL))
    build(config(seed=1), tmp_path / "d")
    for arguments, why in (
        (
            ["build", str(path), "-o", str(tmp_path / "d")],
            "another config; choose another folder with -o, or add",
        ),
        (["stats", str(tmp_path / "none")], "no such folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        told = capsys.readouterr().err.strip()  # without the end of the progress bars
        assert stopped.value.code == 2
        assert told.startswith("error: ")
        assert why in told


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
    assert {tuple(c.objective for c in record.comparisons) for record in train} == {
        ("factuality",),
        ("safety",),
    }


def test_a_file_that_came_to_a_folder_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (folder / "a.jsonl").write_text(json.dumps(row))
    config = DataConfig.model_validate({"sources": [{"type": "trl", "name": "t", "path": str(folder)}]})
    assert not build(config, tmp_path / "d").existing
    assert build(config, tmp_path / "d").existing
    (folder / "b.jsonl").write_text(json.dumps({**row, "prompt": "another"}))
    with pytest.raises(UserError, match=r"was made before .*b\.jsonl came; .* add --overwrite"):
        build(config, tmp_path / "d")
    assert build(config, tmp_path / "d", overwrite=True).records == 2


def test_a_picture_that_is_gone_for_a_while_costs_no_second_reading(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "images": ["a.png"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    source = {"type": "trl", "name": "t", "path": str(tmp_path / "rows.jsonl")}
    config = DataConfig.model_validate({"sources": [source]})

    def away(what: str, done: int, total: int | None) -> None:
        if what == "writing" and (tmp_path / "a.png").exists():
            (tmp_path / "a.png").rename(tmp_path / "away.png")

    with pytest.raises(UserError, match="no such image file"):
        build(config, tmp_path / "d", progress=away)
    with pytest.raises(UserError, match="unfinished; go on with --resume"):
        build(config, tmp_path / "d")
    (tmp_path / "away.png").rename(tmp_path / "a.png")
    assert list((tmp_path / ".d.build" / "parts").iterdir())
    assert build(config, tmp_path / "d", resume=True).records == 1
    assert not (tmp_path / ".d.build").exists()

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.audits import AUDITS
from data_tools.audits.base import Audit, Example, Finding, Plot, Scope, Table
from data_tools.audits.page import page, show_cell, show_number, write_reports
from data_tools.audits.run import beside, distinct, known_metrics, run_audits
from data_tools.audits.thresholds import broken, parse_threshold
from data_tools.cli import app, main
from data_tools.errors import UserError
from data_tools.intervals import Estimate
from data_tools.manifest import read_manifest
from data_tools.schema import Response
from data_tools.shards import write_shards
from tests.data_tools.audit_records import audited, pair

FOUND = [
    Finding("blind_accuracy", Estimate(0.7, 0.6, 0.8, 10), Scope("train")),
    Finding("blind_accuracy", Estimate(0.5, 0.4, 0.6, 5), Scope("train", "image-text")),
    Finding("blind_accuracy", Estimate(0.9, 0.8, 1.0, 5), Scope("train", "text")),
    Finding("blind_accuracy", Estimate(0.9, 0.8, 1.0, 5), Scope("train", "text", "", "v1.5")),
    Finding("blind_accuracy", Estimate(0.6, 0.3, 0.8, 5), Scope("test")),
    Finding("vote_alpha", Estimate(0.8, 0.7, 0.9, 5), Scope("train", "", "help")),
    Finding("vote_alpha", Estimate(0.4, 0.3, 0.5, 5), Scope("train", "", "safe")),
    Finding("rating_alpha", Estimate(math.nan, math.nan, math.nan, 5), Scope("train", "", "help")),
    Finding("flip_share", 0.25, Scope("train")),
]


def fails(text: str) -> list[str]:
    return broken(parse_threshold(text), FOUND)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        # a source that is above chance by more than luck is looked at by itself, under its closest name
        ("blind_accuracy>0.6", ["train: blind_accuracy is 0.7 (blind_accuracy>0.6)", "train.text.v1.5"]),
        ("blind_accuracy >= 0.6", ["train", "test", "train.text.v1.5"]),
        ("blind_accuracy>0.8", ["train.text.v1.5"]),
        ("blind_accuracy<0.65", ["test"]),
        ("train.blind_accuracy>0.9", []),
        ("image-text.blind_accuracy>0.49", ["train.image-text"]),
        ("image-text.blind_accuracy.low>0.5", []),
        ("text.train.blind_accuracy.high<=1", ["train.text"]),
        ("v1.5.blind_accuracy>0", ["train.text.v1.5"]),
        ("vote_alpha<0.67", ["train.safe"]),  # no number of all objectives: each is looked at
        ("help.vote_alpha<0.67", []),
        ("flip_share<0.5", ["train"]),
    ],
)
def test_conditions(text: str, failed: list[str]) -> None:
    found = fails(text)
    assert [line.split(": ")[0] for line in found] == [line.split(": ")[0] for line in failed]
    assert all(line in found for line in failed if ": " in line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blind_accuracy", "write METRIC OP NUMBER"),
        ("blind_accuracy=0.6", "write METRIC OP NUMBER"),
        ("blind_accuracy>much", "write METRIC OP NUMBER"),
        ("blind_accuracy>nan", "write METRIC OP NUMBER"),
        ("blindness>0.6", "no metric 'blindness'; there are: .*blind_accuracy"),
        ("video.blind_accuracy>0.6", "the data has no such number; of blind_accuracy there are: train, "),
        ("length_auc>0.6", "the data has no such number; of length_auc there are: none"),
        ("help.rating_alpha<0.6", r"rating_alpha of train.help isn't defined \(NaN\)"),
        ("flip_share.low<0.5", "flip_share has no interval"),
    ],
)
def test_what_cannot_be_told_does_not_pass(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fails(text)


def test_a_metric_of_an_audit_that_does_not_run_is_refused() -> None:
    with pytest.raises(UserError, match="the audits length give none 'blind_accuracy'"):
        parse_threshold("blind_accuracy>0.6", ["length"])


def test_a_name_that_means_two_things_is_refused() -> None:
    found = [
        Finding("blind_accuracy", 0.5, Scope("train", "text", "safety", "other")),
        Finding("blind_accuracy", 0.5, Scope("train", "text", "help", "safety")),
    ]
    with pytest.raises(UserError, match="may be source safety or objective safety"):
        broken(parse_threshold("safety.blind_accuracy>0.4"), found)


def test_parts_that_are_the_same_are_shown_once_by_a_name_that_both_know() -> None:
    value, other = Estimate(0.5, 0.4, 0.6, 5), Estimate(0.7, 0.6, 0.8, 9)
    mine = [Finding("a", value, Scope("train", "text")), Finding("a", value, Scope("train", "text", "", "x"))]
    theirs = [
        Finding("a", other, Scope("train", "text")),
        Finding("a", other, Scope("train", "text", "", "y")),
    ]
    assert [str(f.scope) for f in distinct(mine)] == ["train.text.x"]
    ((metric, scope, one, two),) = beside(mine, theirs)
    assert (metric, str(scope), one, two) == ("a", "train.text", mine[0], theirs[0])


def test_numbers_for_people() -> None:
    metrics = known_metrics()
    assert (
        show_number(Estimate(0.5424, 0.501, 0.583, 9), metrics["blind_accuracy"]) == "54.2 % (50.1\u201358.3)"
    )
    assert show_number(Estimate(0.5424, -0.1, 0.6, 9), metrics["vote_alpha"]) == "0.542 (-0.100\u20130.600)"
    assert show_number(0.25, metrics["flip_share"]) == "25.0 %"
    assert [show_cell(cell) for cell in (None, 1234, 0.5, "x")] == ["\u2013", "1,234", "0.5", "x"]


def test_every_audit_says_what_its_metrics_mean() -> None:
    assert len({audit.name for audit in AUDITS}) == len(AUDITS)
    names = [name for audit in AUDITS for name in audit.metrics]
    assert len(set(names)) == len(names)
    assert all(set(audit.headline) <= set(audit.metrics) for audit in AUDITS)


def test_a_finding_without_a_listed_metric_is_a_bug(tmp_path: Path) -> None:
    write_shards([pair(0, "a", "b")], tmp_path / "d")
    report = run_audits(tmp_path / "d", only=["labels"])
    with pytest.raises(ValueError, match=r"metrics that it doesn't list: \['other'\]"):
        Audit.result(AUDITS[0](report.data), "says", [Finding("other", 1.0)])


def test_the_page_holds_everything_and_escapes_what_it_shows(tmp_path: Path) -> None:
    records = [
        pair(n, "<script>alert(1)</script> indeed", f"no {n}", first=n % 2 == 0, id=f"r{n}")
        for n in range(40)
    ]
    report = audited(tmp_path / "d", records)
    html = page(report)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert not re.search("https?:", re.sub(r"base64,[^\"]*", "", html).replace("http://www.w3.org", ""))
    assert html.count("data:image/png;base64,") >= 3  # examples
    assert html.count("<svg") >= 4
    for audit in AUDITS:
        assert f"<h2>{audit.title}</h2>" in html
    for name in known_metrics():
        assert f"<dt>{name}</dt>" in html


def test_an_audit_of_another_kind_is_shown_too(tmp_path: Path) -> None:
    """Plots, several records side by side, floats and notes, as other audits give them."""
    records = [pair(n, "a", "b", responses=(Response("left"), Response(f"right {n}"))) for n in range(3)]
    report = audited(tmp_path / "d", records, "labels")
    (result,) = report.results
    shown = type(result)(
        "labels",
        "Twins",
        "Two are alike.",
        tables=(Table("Pairs", ("one", "distance"), (("r0", 0.123456), ("r1", None))),),
        plots=(Plot("Distances", lambda axes: axes.plot([0, 1], [0, 1])),),  # type: ignore[arg-type,return-value]
        examples=(Example("alike", (("train", 0), ("train", 2))),),
        notes=("half were looked at",),
    )
    html = page(type(report)(report.data, report.records, (shown,)))
    assert "right 0" in html
    assert "right 2" in html
    assert "right 1" not in html
    assert "0.1235" in html
    assert "half were looked at." in html
    assert "<svg" in html


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(
        [
            *(pair(n, f"indeed a{n}", f"b{n}", first=n % 2 == 0, split="train") for n in range(40)),
            *(pair(n, f"indeed a{n}", f"b{n}", first=n % 2 == 0, split="test") for n in range(40, 60)),
        ],
        tmp_path / "d",
    )
    return tmp_path / "d"


def test_the_command_writes_its_report_and_leaves_the_data_whole(data: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(data), "--fail-on", "blind_accuracy<0.9"])
    assert done.exit_code == 0, done.output
    assert "blind_accuracy" in done.stdout
    assert "train · pictures · factuality" in done.stdout
    row = json.loads((data / "audit" / "audit.json").read_text())
    assert row["records"] == {"train": 40, "test": 20}
    assert [audit["name"] for audit in row["audits"]] == [audit.name for audit in AUDITS]
    blind = row["audits"][0]["findings"][0]
    assert (blind["metric"], blind["scope"]) == ("blind_accuracy", {"split": "train"})
    assert (blind["mean"], blind["n"]) == (1.0, 40)
    assert row["failed"] == []
    assert (data / "audit" / "audit.html").is_file()
    assert read_manifest(data).records == 60


def test_the_same_command_gives_the_same_report(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        CliRunner().invoke(app, ["audit", str(data), "-o", str(tmp_path / name)], catch_exceptions=False)
    for name in ("audit.json", "audit.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_condition_that_holds_is_exit_code_1(data: Path, tmp_path: Path) -> None:
    arguments = ["audit", str(data), "-o", str(tmp_path / "out"), "--only", "blind,length"]
    conditions = ["--fail-on", "image-text.blind_accuracy.low>0.5", "--fail-on", "longer_is_better<0.5"]
    done = CliRunner().invoke(app, [*arguments, *conditions])
    assert done.exit_code == 1
    said = "train.image-text: blind_accuracy.low is 0.9124 (image-text.blind_accuracy.low>0.5)"
    assert f"failed: {said}" in done.stderr
    assert "test.image-text: blind_accuracy.low is" in done.stderr
    assert "longer" not in done.stderr
    row = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert row["failed"][0] == said
    assert said.replace(">", "&gt;") in (tmp_path / "out" / "audit.html").read_text()
    assert [audit["name"] for audit in row["audits"]] == ["blind", "length"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-on", "blindness>1"], "there is no metric 'blindness'"),
        (["--fail-on", "video.blind_accuracy>0.6"], "the data has no such number"),
        (["--only", "blind,sight"], "there is no audit 'sight'; there are: blind, length"),
        (["--split", "dev"], "has no split 'dev'; it has: test, train"),
        (["--compare", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_exit_code_2(
    data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["audit", str(data), "--only", "blind", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_one_split_as_json(data: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(data), "--split", "test", "--only", "length", "--json"])
    row = json.loads(done.stdout)
    assert row["records"] == {"test": 20}
    assert {finding["scope"]["split"] for finding in row["audits"][0]["findings"]} == {"test"}


def test_another_data_set_stands_beside(data: Path, tmp_path: Path) -> None:
    write_shards([pair(n, f"a{n}", f"indeed b{n}") for n in range(30)], tmp_path / "before")
    done = CliRunner().invoke(
        app,
        [
            "audit",
            str(data),
            "--compare",
            str(tmp_path / "before"),
            "-o",
            str(tmp_path / "out"),
            "--only",
            "length",
        ],
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"train · pictures · factuality .*100\.0 % .*0\.0 %", done.stdout)
    row = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert row["compared_with"]["records"] == {"train": 30}
    html = (tmp_path / "out" / "audit.html").read_text()
    assert "d, beside before" in html
    assert "All numbers, beside before" in html


def test_help_names_every_metric() -> None:
    said = CliRunner().invoke(app, ["audit", "--help"], env={"COLUMNS": "200"}).stdout
    assert all(name in said for name in known_metrics())


def test_a_folder_that_cannot_be_made_is_told(data: Path) -> None:
    report = run_audits(data, only=["length"])
    (data / "file").write_text("")
    with pytest.raises(UserError, match="can't be written to"):
        write_reports(report, data / "file" / "below")

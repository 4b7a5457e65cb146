"""The balancer on counts: every expected number is worked out by hand."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from data_tools.balance.cells import Cell
from data_tools.balance.clash import QuotasClash
from data_tools.balance.config import Balance
from data_tools.balance.solution import Solution, table
from data_tools.balance.solver import solve
from data_tools.balance.weights import unimax
from data_tools.config import parse_config
from data_tools.errors import UserError
from data_tools.schema import Modality


def cell(source: str, modality: str, units: int, size: int = 1, labels: str = "", **objectives: int) -> Cell:
    kind: Modality = "image-text" if modality == "image" else "text"
    types = tuple((name, size) for name in labels.split())
    return Cell(source, kind, tuple(sorted(objectives.items())), types, size, units)  # type: ignore[arg-type]


def balance(**changes: Any) -> Balance:
    return parse_config(changes, Balance, "test")


def drawn(solution: Solution) -> list[int]:
    return [draw.drawn for draw in solution.draws]


TEXT_IMAGE = [cell("words", "text", 100, help=1), cell("pictures", "image", 40, fact=1)]


def test_choose_keeps_what_the_quotas_allow_and_what_goes_goes_evenly() -> None:
    cells = [cell("a", "text", 100), cell("b", "text", 300), cell("c", "image", 200)]
    solution = solve(cells, balance(modality={"text": 0.5}))
    assert drawn(solution) == [50, 150, 200]  # 200 of 400 texts stay, an eighth of them from a
    assert [draw.repeat for draw in solution.draws] == [1, 1, 1]
    assert drawn(solve(cells, balance(total=60))) == [10, 30, 20]
    assert drawn(solve(cells, balance())) == [100, 300, 200]
    assert drawn(solve(cells, balance(sources={"b": 0.25}))) == [100, 100, 200]
    assert drawn(solve(cells[::-1], balance(modality={"text": 0.5}))) == [200, 150, 50]


def test_spread_says_what_may_be_given_up_to_keep_some_of_every_kind() -> None:
    cells = [cell("a", "text", 100, x=2), cell("b", "text", 100, x=1), cell("c", "text", 100, y=1)]
    # 2a + b = c: the most records are 200, without a; each of a costs one record
    assert drawn(solve(cells, balance(objectives={"x": 0.5}, spread=0))) == [0, 100, 100]
    assert drawn(solve(cells, balance(objectives={"x": 0.5}))) == [10, 80, 100]  # 190 are 95 %
    # and no more is given up than makes it more even: without bounds a = b = c / 3
    assert drawn(solve(cells, balance(objectives={"x": 0.5}, spread=0.5))) == [34, 33, 100]


def test_flip_pairs_count_as_two_records_and_stay_whole() -> None:
    cells = [cell("words", "text", 30), cell("flips", "image", 40, size=2)]
    solution = solve(cells, balance(modality={"text": 0.5}))
    assert drawn(solution) == [30, 15]
    assert solution.records == 60
    assert drawn(solve(cells, balance(total=11))) == [3, 4]


def test_joint_quotas() -> None:
    cells = [
        cell("a", "text", 60, safety=1),
        cell("a", "image", 10, safety=1),
        cell("a", "image", 90, help=1),
        cell("a", "text", 40, help=1),
    ]
    row = {"modality": "image-text", "objective": "safety", "at_least": 0.2}
    # ten are a fifth of 50, so 40 of the other 190 stay: 12.6, 18.9 and 8.4
    solution = solve(cells, balance(joint=[row]))
    assert drawn(solution) == [13, 10, 19, 8]
    [quota] = solution.quotas
    assert (quota.path, quota.count, quota.whole) == ("balance.joint.0.at_least", 10, 50)
    rows = [
        {"modality": "text", "at_most": 0.25},
        {"source": "a", "modality": "image-text", "objective": "help", "share": 0.5},
    ]
    solution = solve(cells, balance(joint=rows))
    shares = {quota.path: quota.share for quota in solution.quotas}
    assert shares["balance.joint.0.at_most"] <= 0.25
    assert shares["balance.joint.1"] == 0.5
    # images are 10 + h, h is half of all, so texts are h - 10, of 2h at most a quarter: h = 20
    assert (drawn(solution)[1:3], solution.records) == ([10, 20], 40)


def test_label_types_overlap() -> None:
    cells = [
        cell("a", "text", 100, labels="pair", help=1),
        cell("b", "text", 50, labels="pair rating", help=1),
        cell("c", "text", 30, labels="rating"),
    ]
    assert drawn(solve(cells, balance(labels={"rating": 0.5}))) == [80, 50, 30]
    # of comparisons (a and b have some), those in records that carry a rating are a half
    row = {"objective": "help", "label": "rating", "share": 0.5}
    assert drawn(solve(cells, balance(joint=[row]))) == [50, 50, 30]


def test_weights_are_come_near_to_and_quotas_go_first() -> None:
    cells = [cell("a", "text", 100), cell("b", "image", 400)]
    assert drawn(solve(cells, balance(weights={"a": 2, "b": 2}))) == [100, 100]
    assert drawn(solve(cells, balance(temperature=2))) == [100, 200]  # as sqrt 100 to sqrt 400
    assert drawn(solve(cells, balance(temperature=0.01))) == [0, 400]  # as 1 to 4^100
    assert drawn(solve(cells, balance(weights={"a": 3, "b": 1}, modality={"text": 0.5}))) == [100, 100]
    assert drawn(solve(cells, balance(unimax=True, total=150))) == [75, 75]
    assert drawn(solve(cells, balance(unimax=True, total=300))) == [100, 200]
    repeated = solve(cells, balance(strategy="repeat", weights={"a": 1, "b": 2}))
    assert drawn(repeated) == [200, 400]


def test_floors_are_kept() -> None:
    cells = [cell("a", "text", 10), cell("b", "text", 190)]
    assert drawn(solve(cells, balance(floor=0.1))) == [10, 90]
    assert drawn(solve(cells, balance(floor={"a": 0.2}, strategy="repeat", max_epochs=5))) == [48, 190]
    assert drawn(
        solve([cell("a", "text", 20), cell("b", "text", 980)], balance(floor=0.05, strategy="proportion"))
    ) == [50, 950]
    with pytest.raises(
        UserError, match=r"balance\.floor: 2 sources can't each have 0\.6 of the records; at most 0\.5"
    ):
        solve(cells, balance(floor=0.6))


def test_repeat_leaves_nothing_out_and_keeps_to_the_cap() -> None:
    solution = solve(TEXT_IMAGE, balance(strategy="repeat", modality={"image-text": 0.5}))
    assert drawn(solution) == [100, 100]
    assert [(draw.keep, draw.repeat) for draw in solution.draws] == [(100, 1.0), (40, 2.5)]
    assert solution.repeats == {"pictures": 2.5, "words": 1.0}
    assert drawn(solve(TEXT_IMAGE, balance(strategy="repeat", total=280))) == [200, 80]
    cells = [cell("a", "image", 30), cell("b", "image", 10), cell("c", "text", 120)]
    assert drawn(solve(cells, balance(strategy="repeat", modality={"text": 0.5}))) == [90, 30, 120]
    with pytest.raises(QuotasClash) as told:
        solve(TEXT_IMAGE, balance(strategy="repeat", modality={"image-text": 0.5}, max_epochs=2))
    assert str(told.value).splitlines() == [  # 80 of 180
        "balance.modality.image-text: asks for 0.5 of the records, but at most 0.4444 (80 of 180 records) can be "
        "had; short: image-text",
        "The nearest that can be met: balance.modality.image-text 0.5 -> 0.4444 (80 of 180 records)",
    ]
    with pytest.raises(
        QuotasClash, match=r"balance\.total: asks for 100 records, but at least 140 are shown"
    ):
        solve(TEXT_IMAGE, balance(strategy="repeat", total=100))


def test_proportion_draws_by_the_weights() -> None:
    cells = [cell("a", "text", 100), cell("b", "image", 50), cell("b", "text", 50)]
    solution = solve(cells, balance(strategy="proportion", weights={"a": 1, "b": 3}))
    assert drawn(solution) == [50, 75, 75]
    assert [draw.keep for draw in solution.draws] == [100, 50, 50]
    assert solution.weights == {"a": 0.25, "b": 0.75}
    assert solution.repeats == {"a": 0.5, "b": 1.5}
    assert drawn(solve(cells, balance(strategy="proportion"))) == [100, 50, 50]
    assert drawn(solve(cells, balance(strategy="proportion", total=20))) == [10, 5, 5]
    warm = solve(
        [cell("a", "text", 100), cell("b", "text", 400)], balance(strategy="proportion", temperature=2)
    )
    assert drawn(warm) == [167, 333]  # 1 to 2 of 500
    with pytest.raises(UserError) as told:
        solve(
            [cell("a", "text", 10), cell("b", "text", 90)],
            balance(strategy="proportion", weights={"a": 1, "b": 1}),
        )
    assert str(told.value) == (
        "balance.max_epochs: the source a has the weight 0.5, 50 of 100 records an epoch, but 4 times its 10 are 40; "
        "raise max_epochs to 5, lower balance.total to 80, or weigh by unimax, which keeps to the cap"
    )


def test_unimax_is_the_algorithm_of_the_paper() -> None:
    # 1000 to three: 333 each, but 4 x 10 are fewer; 960 to two: 480, but 4 x 50 are fewer; the rest to the last
    assert unimax({"big": 940, "tiny": 10, "small": 50}, 1000, 4) == {"big": 0.76, "tiny": 0.04, "small": 0.2}
    assert unimax({"a": 100, "b": 200, "c": 300}, 300, 1) == pytest.approx(
        {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    )
    cells = [cell("tiny", "text", 10), cell("small", "text", 50), cell("big", "text", 940)]
    solution = solve(cells, balance(strategy="proportion", unimax=True))
    assert drawn(solution) == [40, 200, 760]
    assert solution.repeats["tiny"] == solution.repeats["small"] == 4
    assert drawn(solve(cells, balance(strategy="proportion", unimax=True, max_epochs=1, total=90))) == [
        10,
        40,
        40,
    ]


def test_shares_of_two_digits_are_meant_as_they_are_written() -> None:
    cells = [cell("a", "text", 90, x=1), cell("a", "text", 90, y=1), cell("a", "text", 90, z=1)]
    thirds = {"x": 0.33, "y": 0.33, "z": 0.33}
    assert drawn(solve(cells, balance(objectives=thirds))) == [90, 90, 90]


def test_quotas_that_clash_are_named_with_what_each_could_be() -> None:
    cells = [
        cell("a", "text", 100, help=1),
        cell("b", "image", 100, safety=2),
        cell("b", "image", 50, size=2, style=2),
    ]
    rows = [{"modality": "image-text", "objective": "safety", "at_least": 0.6}]
    with pytest.raises(QuotasClash) as told:
        solve(cells, balance(modality={"text": 0.7}, joint=rows, objectives={"style": 0}))
    # with 7 texts come 3 images: 6 of 13 comparisons, 0.4615; for 0.6 there must be 3 images with 4 texts, 0.5714
    lines = str(told.value).splitlines()
    assert lines[:3] == [
        "balance: these 2 quotas can't be met together",
        "  balance.modality.text: asks for 0.7 of the records, but at most 0.5714 (100 of 175 records) can be had "
        "together with the other quotas; short: text",
        "  balance.joint.0.at_least: asks for at least 0.6 of the comparisons, but at most 0.4615 (86 of 186 "
        "comparisons) can be had together with the other quotas; short: image-text/safety",
    ]
    assert told.value.paths == ("balance.modality.text", "balance.joint.0.at_least")
    # a tenth of the mixture is nearer than 0.18 comparisons a record, of 1.33 that there are
    assert told.value.nearest == {"balance.modality.text": pytest.approx(4 / 7)}
    assert lines[3] == "The nearest that can be met: balance.modality.text 0.7 -> 0.5714 (100 of 175 records)"


def test_a_total_that_is_too_high_is_named_with_what_is_short() -> None:
    with pytest.raises(QuotasClash) as told:
        solve(TEXT_IMAGE, balance(modality={"text": 0.5}, total=90))
    assert str(told.value).splitlines()[1:] == [
        "  balance.modality.text: asks for 0.5 of the records, but at least 0.5556 (50 of 90 records) is what remains "
        "together with the other quotas; short: everything but text",
        "  balance.total: asks for 90 records, but 80 are left under the quotas; short: records of every kind",
        "The nearest that can be met: balance.modality.text 0.5 -> 0.5556 (50 of 90 records)",
    ]
    with pytest.raises(
        QuotasClash, match=r"total: asks for 500 .* but 140 are left .*\n.* balance\.total 500 -> 140"
    ):
        solve(TEXT_IMAGE, balance(total=500))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": {"wrods": 0.5}}, r"balance\.sources\.wrods: .* the sources: pictures, words"),
        ({"labels": {"rating": 0.5}}, r"balance\.labels\.rating: asks for 0\.5, but no .* carries one"),
        (
            {"joint": [{"modality": "text", "objective": "fact", "share": 0.1}]},
            r"balance\.joint\.0: asks for 0\.1, but no training preference is all of: text fact",
        ),
        ({"weights": {"words": 1}}, r"balance\.weights: has no weight for the source pictures"),
        (
            {"weights": {"words": 1, "pictures": 1, "x": 1}},
            r"balance\.weights\.x: no training preference is from x",
        ),
        ({"floor": {"x": 0.1}}, r"balance\.floor\.x: no training preference is from x"),
    ],
)
def test_names_that_are_not_there_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        solve(TEXT_IMAGE, balance(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"text": 1.5}}, "modality.text: "),
        ({"joint": [{"share": 0.5}]}, "joint.0: names nothing"),
        ({"joint": [{"source": "a"}]}, "joint.0: asks for nothing"),
        ({"joint": [{"source": "a", "share": 0.5, "at_least": 0.1}]}, "joint.0: has a share and a bound"),
        ({"joint": [{"source": "a", "at_most": 0.5, "at_least": 0.6}]}, "joint.0: at_least 0.6 is more than"),
        ({"joint": [{"source": "a", "share": 0.5}] * 2}, "joint: rows 0 and 1 are about the same"),
        ({"strategy": "proportion", "objectives": {"a": 0.5}}, "objectives: strategy proportion goes by"),
        ({"max_epochs": 2}, "max_epochs: strategy choose repeats nothing"),
        ({"strategy": "proportion", "spread": 0.1}, "spread: strategy proportion draws by weights"),
        ({"unimax": True}, "unimax: needs a total"),
        ({"unimax": True, "temperature": 2}, "unimax: temperature says already"),
        ({"weights": {"a": 1}, "temperature": 2}, "weights: temperature says already"),
        ({"weights": {"a": 1}, "sources": {"a": 1}}, "weights: sources says already"),
        ({"weights": {"a": 0}}, "weights.a: "),
        ({"floor": {"a": 0.6, "b": 0.6}}, "the shares sum to 1.2, more than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_path(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as told:
        balance(**changes)
    assert message in str(told.value)


def test_a_solution_is_told_in_a_table_and_as_plain_values() -> None:
    row = solve(TEXT_IMAGE, balance(strategy="repeat", modality={"image-text": 0.5})).row()
    assert json.loads(json.dumps(row)) == row
    assert row["sources"]["pictures"] == {
        "records": 40,
        "kept": 40,
        "drawn": 100,
        "weight": 0.5,
        "repeat": 2.5,
    }
    assert row["quotas"] == {
        "balance.modality.image-text": {
            **{"sense": "=", "asked": 0.5, "reached": 0.5, "count": 100, "of": 200, "what": "records"}
        }
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(row))
    text = console.export_text()
    assert "pictures/image-text/fact" in text
    assert "100 of 200 records" in text


def test_nothing_at_all() -> None:
    assert solve([], balance()).records == 0
    assert drawn(solve([cell("a", "text", 0), cell("b", "text", 3)], balance(total=2))) == [0, 2]
    with pytest.raises(UserError, match=r"balance\.total: asks for 5 records, but there are none"):
        solve([], balance(total=5))


def test_what_whole_units_cannot_reach_is_refused() -> None:
    # one image and a hundredth of a text: no text, and so no comparison at all
    cells = [cell("a", "text", 10, help=1), cell("b", "image", 1)]
    with pytest.raises(UserError, match=r"balance\.objectives\.help: asks for 1 .* in whole units 0 of 0"):
        solve(cells, balance(modality={"image-text": 0.99}, objectives={"help": 1}))


def test_the_solver_loads_scipy_only_when_it_is_asked() -> None:
    code = "import data_tools.balance.solver, sys; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

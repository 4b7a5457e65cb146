"""Ratios, medians and which rounds count, from rounds whose results are known by hand."""

from __future__ import annotations

import json
from typing import Any

import growth
import peers
import pytest
from rounds import as_table, median, quiet_rounds


def test_rounds_beside_a_slow_machine_do_not_count() -> None:
    assert quiet_rounds([100, 100, 60, 100, 110]) == [0, 3]
    assert quiet_rounds([100, 71, 100]) == [0, 1]


def test_where_no_round_is_quiet_all_count() -> None:
    assert quiet_rounds([10, 1000]) == [0]


def test_median_and_table() -> None:
    assert median([3.0, 1.0, 2.00004]) == 2.0
    assert as_table([["a", "bcd"], ["ef", "g"]]) == "a   bcd\nef  g"


def told(seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "work": {"tower_calls": 1, "tower_images": 8},
        **more,
    }


ENDS: dict[str, dict[str, Any]] = {
    "ours": {"peak_mb": 900.0, "versions": {"torch": "2"}, "python": "3.11", "rare_share": 0.5},
    "ours+judge": {"peak_mb": 950.0, "versions": {"torch": "2"}, "python": "3.11", "rare_share": 0.5},
    "lean": {"peak_mb": 800.0, "versions": {"torch": "2"}, "python": "3.11"},
    "trl": {"peak_mb": 1200.0, "versions": {"torch": "2"}, "python": "3.11"},
    "swift": {"peak_mb": 600.0, "versions": {"torch": "2"}, "python": "3.11"},
}
ROUNDS = [
    {
        "ours": told(ours, rare=rare),
        "ours+judge": told(4.5, rare=0.0),
        "lean": told(2.5, parts={"score": 0.5}),
        "trl": told(trl),
        "swift": told(6.0),
    }
    # less the rare work of this step, and with its average share, each of ours is 2 seconds
    for ours, rare, trl in [(1.5, 0.0, 4.0), (2.0, 0.5, 6.0), (1.75, 0.25, 10.0)]
]


def test_ratios_are_medians_of_rounds_that_count() -> None:
    line = peers.summary(ROUNDS, ENDS, [100.0, 100.0, 100.0, 100.0])
    assert line["ratios_by_round"]["trl / ours"] == [2.0, 3.0, 5.0]
    assert line["ratios"] == {
        "trl / ours": 3.0,
        "trl / ours+judge": 1.2,
        "swift / ours": 3.0,
        "swift / ours+judge": 1.2,
        "ours / lean": 1.0,  # its scoring left out
        "ours+judge / (lean + scoring)": 2.0,
        "memory: ours / trl": 0.75,
        "memory: ours / swift": 1.5,
    }
    assert {name: goal["met"] for name, goal in line["goals"].items()} == {
        "trl / ours": True,
        "swift / ours": True,
        "ours / lean": True,
        "memory: ours / trl": True,
    }
    assert line["seconds_a_step"] == {"ours": 2.0, "ours+judge": 5.0, "lean": 2.5, "trl": 6.0, "swift": 6.0}
    assert line["cpu_ratios_by_round"]["swift / ours"] == [4.0, 3.0, 3.429]
    assert line["same_work_each_round"]


def test_a_slow_round_is_left_out_and_a_missed_goal_told() -> None:
    line = peers.summary(ROUNDS, ENDS, [100.0, 100.0, 100.0, 50.0])
    assert line["quiet_rounds"] == [0, 1]
    assert line["ratios"]["trl / ours"] == 2.5
    line = peers.summary(ROUNDS[:1], ENDS, [100.0, 100.0])
    assert line["goals"]["trl / ours"] == {"goal": ">= 2.5", "met": False}


def test_peers_that_are_not_named_are_left_out() -> None:
    names = [trainer.name for trainer in peers.chosen(peers.parse(["--no-judge"]))]
    assert names == ["ours", "lean"]
    options = peers.parse(["--trl-python", "t/python", "--trl-overlay", "over", "--swift-python", "s/python"])
    found = {trainer.name: trainer for trainer in peers.chosen(options)}
    assert list(found) == ["ours", "ours+judge", "lean", "trl", "swift"]
    assert (found["trl"].python, found["trl"].overlay) == ("t/python", "over")
    assert found["swift"].python == "s/python"


def test_a_worker_sees_its_overlay_and_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    assert "PYTHONPATH" not in peers.environment(2, "", "f")
    made = peers.environment(2, "theirs", "f")
    assert (made["PYTHONPATH"], made["OMP_NUM_THREADS"], made["HF_HUB_OFFLINE"]) == ("theirs", "2", "1")


def test_a_size_of_several_axes_is_run_once() -> None:
    assert [size["answers"] for size in growth.points(["answers"])] == [2, 4, 8, 16]
    assert len(growth.points(["answers", "pixels", "answer", "pictures"])) == 4 + 2 + 3 + 2


def point(seconds: float, rows: float, **size: int) -> dict[str, Any]:
    whole = {**growth.BASE, **size}
    work = {"tower_calls": 1, "tower_images": 8}
    return {
        "size": whole,
        "image_tokens": whole["pictures"] * (whole["pixels"] // 14) ** 2,
        "ratios": {"ours / lean": 1.2, "rows / ours": rows / seconds},
        "seconds_a_step": {"ours": seconds, "lean": 1.0, "rows": rows},
        "work_a_step": {"ours": work},
    }


LINES = [point(1.0, 1.5, answers=2), point(9.0, 9.0), point(4.0, 9.0, answers=8), point(2.0, 3.0)]
LINES += [point(3.0, 9.0, pixels=224), point(2.5, 4.0, answer=64), point(2.5, 4.0, pictures=2)]


def test_points_along_an_axis() -> None:
    # of two lines of a size the latest counts
    assert [(n, growth.factor(line)) for n, line in growth.along(LINES, "answers")] == [
        (2, 1.5),
        (4, 1.5),
        (8, 2.25),
    ]
    assert [n for n, _ in growth.along(LINES, "pixels")] == [64, 256]
    assert growth.along(LINES, "epochs") == []


def test_line_through_points() -> None:
    assert growth.fit([1, 2, 4], [3, 5, 9]) == pytest.approx((2.0, 1.0, 1.0))
    assert growth.fit([0, 1, 2], [0, 1, 0]) == pytest.approx((0.0, 1 / 3, 0.0), abs=1e-12)


def test_tokens_read_in_rows_and_with_a_shared_prefix() -> None:
    # 4 rows of 94 + 32 beside one of 94 + 4 * 32
    assert growth.token_factor(growth.BASE, 64) == pytest.approx(504 / 222)


def test_figures_are_drawn_from_lines(tmp_path: Any) -> None:
    lines = [json.loads(json.dumps(line)) for line in LINES]
    lines[0]["trl"] = {"ratios": {"trl / ours": 2.0}}
    paths = growth.plot(lines, tmp_path / "figures")
    assert [path.name for path in paths] == ["factor.svg", "factor.png", "seconds.svg", "seconds.png"]
    assert all(path.stat().st_size > 5000 for path in paths)
    drawn = paths[0].read_text()
    for text in ("rows / ours", "TRL / ours", "answers to a prompt", "image tokens of a prompt"):
        assert text in drawn

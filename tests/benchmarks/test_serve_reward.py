"""The benchmark of the reward server at a tiny size, through its own main: it checks every score itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import serve_reward
from serve_reward import Answered


@pytest.mark.slow
def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "lines.jsonl"
    assert serve_reward.main(["--requests", "40", "--clients", "4", "--bad", "0.2", "--out", str(out)]) == 0
    (line,) = map(json.loads, out.read_text().splitlines())
    assert (line["requests"], line["good"], line["faults"]) == (40, 32, [])
    assert line["refused"] == dict.fromkeys(
        [
            *("address of an image", "announced as 1 GB", "cut off JSON", "damaged image", "sent as 2.1 MB"),
            *("too long", "too many pixels", "unknown key"),
        ],
        1,
    )
    assert line["largest_difference"] <= 1e-5
    assert 1 <= line["mean_batch"] <= 8


def test_figures_by_hand() -> None:
    """Five good requests of 1 to 5 seconds and a bad one in 10 seconds: the median is the third."""
    answered = [Answered("good", float(s), "", 1e-6 * s) for s in (5, 3, 1, 2, 4)]
    answered.append(Answered("cut off JSON", 9.0, "status 200 in place of 400: {}"))
    metrics = "mmrlhf_batch_answers_sum 5.0\nmmrlhf_batch_answers_count 2\n"
    found = serve_reward.summary(answered, 10.0, metrics)
    assert found["latency_ms"] == {"p50": 3000.0, "p95": 4800.0, "p99": 4960.0}
    assert (found["requests_per_second"], found["answers_per_second"], found["mean_batch"]) == (0.6, 0.5, 2.5)
    assert found["largest_difference"] == pytest.approx(5e-6)
    assert found["faults"] == ["cut off JSON: status 200 in place of 400: {}"]

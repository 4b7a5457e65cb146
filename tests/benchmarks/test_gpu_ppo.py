"""The benchmark for a GPU at a tiny size, through its command line: it checks itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_ppo
import pytest
from torch import nn

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_ppo.py"


@pytest.mark.slow
def test_small_run_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    variants = ["ppo-uncached", "grpo", "grpo-rows"]
    command = [
        sys.executable,
        str(SCRIPT),
        "--small",
        "--steps",
        "1",
        "--out",
        str(out),
        "--variants",
        *variants,
    ]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=250)
    assert done.returncode == 0, done.stderr
    lines = {line["variant"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert list(lines) == variants
    # a picture of 4 tokens between two marks, 28 words, two roles, and three marks of turns
    assert lines["grpo"]["prompt_tokens"] == 39
    # 4 prompts, answers of 8 tokens: 1, then 4 behind one prompt, then 4 behind a prompt each
    assert [lines[name]["work_of_an_update"]["language_tokens"] for name in variants] == [188, 284, 752]
    assert lines["grpo"]["work_a_step"]["tower_images"] == 4
    assert lines["grpo-rows"]["work_a_step"]["tower_images"] == 4
    for line in lines.values():
        assert line["mfu"] is None  # no peak is known of a CPU
        assert 0 < line["share_of_a_matrix_product"] < 2
        assert line["tokens_per_second"]["sampling"] > 0


def test_flops_of_an_update_by_hand() -> None:
    adapter = nn.ModuleDict({"default": nn.Linear(8, 2, bias=False)})
    up = nn.ModuleDict({"base_layer": nn.Linear(8, 10, bias=False), "lora_A": adapter})
    core: Any = nn.Module()
    core.model = nn.Module()
    core.model.language_model = nn.ModuleDict({"up": up})
    text = SimpleNamespace(num_hidden_layers=3, hidden_size=8, vocab_size=50)
    core.config = SimpleNamespace(get_text_config=lambda: text)
    stage: Any = SimpleNamespace(vlm=SimpleNamespace(core=core, path="x"))
    # 2 rows of 10 tokens, 6 of them of answers
    work = Counter(language_tokens=20, language_rows=2)
    linear = 20 * (4 * 80 + 6 * 16)
    attention = 12 * 3 * 8 * (20 * 11 / 2)
    head = 6 * 4 * 50 * 8
    assert gpu_ppo.update_flops(stage, work, 6) == linear + attention + head

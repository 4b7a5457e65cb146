"""Imports flow one way: data_tools, then types, tensors, config, then models, rewards, rl, then training, evaluation,
serving.

Read with `ast`, so imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("data_tools", "mmrlhf")
    for path in sorted((ROOT / package).rglob("*.py"))
}

# a module may import from its own level and from lower ones
LEVELS = [
    ["data_tools"],
    [
        *("mmrlhf.types", "mmrlhf.tensors", "mmrlhf.config", "mmrlhf.terminal", "mmrlhf.file_hashes"),
        "mmrlhf.out_of_memory",
        *("mmrlhf.rewards.scalarizers", "mmrlhf.rewards.objectives", "mmrlhf.rewards.http"),
        *("mmrlhf.rl.algorithms", "mmrlhf.rl.advantages"),
    ],
    ["mmrlhf.models", "mmrlhf.rewards", "mmrlhf.rl"],
    ["mmrlhf.training", "mmrlhf.evaluation", "mmrlhf.serving"],
    [
        *("mmrlhf.pipeline", "mmrlhf.preflight", "mmrlhf.run_folder", "mmrlhf.run_models"),
        "mmrlhf.run_checks",
        *("mmrlhf.chat", "mmrlhf.doctor", "mmrlhf.config_help"),
    ],
    ["mmrlhf.cli", "mmrlhf.cli_evaluate", "mmrlhf.cli_shared", "mmrlhf.__main__"],
]
# the config's unions name scalarizers and objectives, which are configs themselves: they stand on the level of the
# config, and import torch for type checks or once they are asked
PLUGINS = [
    *("mmrlhf.rewards.scalarizers", "mmrlhf.rewards.objectives", "mmrlhf.rl.algorithms"),
    "mmrlhf.evaluation.benchmarks",
    *("data_tools.adapters", "data_tools.synth", "data_tools.audits"),
]


def imported(name: str, path: Path) -> Iterator[str]:
    """The modules of this project that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: line {node.lineno}: imports stand with their whole name"
            # `from package import thing`: the thing may be a module
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [full if full in MODULES else str(node.module) for full in found]
        else:
            continue
        yield from (full for full in found if full.split(".")[0] in ("data_tools", "mmrlhf"))


def level(name: str) -> int:
    """The level of the longest prefix that has one."""
    matches = [
        (len(prefix), number)
        for number, prefixes in enumerate(LEVELS)
        for prefix in prefixes
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    assert matches, f"{name} has no level: put it into LEVELS"
    return max(matches)[1]


EDGES = [(name, other) for name, path in MODULES.items() for other in imported(name, path)]


def test_the_walk_sees_the_project() -> None:
    assert len(MODULES) > 50
    assert ("mmrlhf.cli_shared", "mmrlhf.pipeline") in EDGES  # inside a function
    assert ("mmrlhf.models.batch", "mmrlhf.models.vlm") in EDGES  # for type checks only
    assert ("mmrlhf.config", "mmrlhf.rewards.scalarizers") in EDGES


def test_imports_flow_one_way() -> None:
    wrong = [f"{name} -> {other}" for name, other in EDGES if name != "mmrlhf" and level(name) < level(other)]
    assert wrong == []


def test_data_tools_know_nothing_of_mmrlhf() -> None:
    assert [f"{a} -> {b}" for a, b in EDGES if a.startswith("data_tools") and b.startswith("mmrlhf")] == []


@pytest.mark.parametrize("family", PLUGINS)
def test_plugins_do_not_import_their_siblings(family: str) -> None:
    """The plug-ins are what the family's __init__ lists; what they share is in `base` or another module beside them."""
    members = {other for name, other in EDGES if name == family and other.startswith(f"{family}.")} - {
        f"{family}.base"
    }
    assert len(members) >= 3
    assert [f"{a} -> {b}" for a, b in EDGES if a in members and (b in members or b == family)] == []


def test_training_knows_nothing_of_evaluation() -> None:
    assert [
        f"{a} -> {b}" for a, b in EDGES if a.startswith("mmrlhf.training") and "mmrlhf.evaluation" in b
    ] == []


@pytest.mark.parametrize("module", ["data_tools.cli", "data_tools.build", "mmrlhf.cli", "mmrlhf.config"])
def test_light_modules_load_no_heavy_library(module: str) -> None:
    """Help and messages about configs come at once; the data tools work without torch."""
    code = f"import {module}, sys; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"

"""The README's command for GRPO is held to its reference: the larger the coefficient, the smaller the KL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.config import load_config
from mmrlhf.config import RunConfig
from mmrlhf.pipeline import Run, RunMode
from mmrlhf.training.metrics import read_metrics

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
STEPS = 12  # enough for a policy that nothing holds to be some nats away
GRPO = ["ppo.algorithm.type=grpo", "ppo.answers_per_prompt=4", f"ppo.steps={STEPS}"]
COEFFICIENTS = (0.0, 0.05, 0.5, 5.0)
LATE = 5  # steps at the end, whose mean is compared


def late_kl(out: Path, base: str, seed: int, coef: float) -> float:
    """The KL to the reference (nats an answer) at the end of the quickstart's GRPO, its first variant alone."""
    name = f"{base}-{coef:g}"
    shutil.copytree(out / base, out / name)
    common = [f"output_dir={out}", f"seed={seed}", f"data.seed={seed}", f"name={name}"]
    config = load_config(QUICKSTART, RunConfig, [*common, *GRPO, f"ppo.kl_coef={coef}"])
    variant = config.ppo and config.ppo.variants[0]
    assert variant is not None
    config = config.model_copy(update={"ppo": config.ppo.model_copy(update={"variants": [variant]})})
    Run(config, RunMode(resume=True)).ppo()
    rows = read_metrics(out / name / "ppo" / variant.name / "metrics.jsonl")[-LATE:]
    shutil.rmtree(out / name)
    return sum(row["kl"] for row in rows) / len(rows)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kl_falls_as_its_coefficient_grows(tmp_path: Path, seed: int) -> None:
    common = [f"output_dir={tmp_path}", f"seed={seed}", f"data.seed={seed}", "name=base"]
    stages = Run(load_config(QUICKSTART, RunConfig, common), RunMode())
    stages.data()
    stages.sft()
    stages.reward()
    kls = [late_kl(tmp_path, "base", seed, coef) for coef in COEFFICIENTS]
    assert kls == sorted(kls, reverse=True), kls
    assert kls[-1] <= kls[0] / 3, kls

"""Our PPO and GRPO steps beside the least work possible, by turns in one process.

    python benchmarks/ppo.py [--rounds 12] [--full] [--epochs 1 4] [--groups 2 4 8 16] [--out file.jsonl]

Our step is the engine's own: it reads records from a data set on disk, samples, scores with a reward model on a second
backbone, updates, and writes metrics and TensorBoard files. Between two of its steps the others do one each, on other
prompts. A round is a step of each; what is quoted is the median over rounds of the ratio of their seconds. What the
engine does only now and then (the reward under swapped images and the table of samples every 10 steps, a checkpoint
every 50) is timed apart, and its share is added to our seconds. docs/performance.md tells more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import job
import lean
import torch
from rounds import as_table, median, quiet_rounds

import mmrlhf.training.ppo as ppo_module
from data_tools.schema import PreferenceRecord
from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, PpoConfig, PpoVariant
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.rewards.panel import Panel
from mmrlhf.training.engine import Engine, make_accelerator

OBJECTIVES = ["helpfulness", "factuality", "safety"]
WARM = 2  # steps before the first round
Guest = Callable[[Sequence[PreferenceRecord]], dict[str, float]]


def our_stage(
    checkpoint: Path,
    data: Path,
    folder: Path,
    lora: bool,
    kind: type[ppo_module.PpoStage],
    engine: EngineConfig | None = None,
    **settings: Any,
) -> ppo_module.PpoStage:
    """The stage as a run makes it, on the job's model; `settings` are the config's."""
    engine = engine or EngineConfig()
    accelerator = make_accelerator(engine)
    device = accelerator.device
    adapters = LoraSettings(r=job.RANK, alpha=job.ALPHA) if lora else None
    vlm = load_vlm(ModelConfig(path=str(checkpoint), lora=adapters), device, trainable=True)
    frozen = ModelConfig(path=str(checkpoint))
    reference, judged = None if lora else load_vlm(frozen, device), load_vlm(frozen, device)
    norms = {name: {"image-text": (0.0, 1.0)} for name in OBJECTIVES}
    judge = RewardModel(judged, RewardCard(OBJECTIVES, norms)).requires_grad_(False).eval()
    judge.heads.load_state_dict(lean.make_heads(judge.heads.in_features, len(OBJECTIVES)).state_dict())
    cache = vision_cache(engine)
    for model in (vlm, reference, judged):
        if model is not None:
            if cache is not None:
                assert keep_features(model, cache) == ""
            model.placeholder_ids = job.forbidden(model.processor)
    batch = job.PROMPTS * settings.get("answers_per_prompt", 1)
    config = PpoConfig.model_validate(
        {
            "batch_size": job.PROMPTS,
            "num_mini_batches": 1,
            "micro_batch_size": batch,
            "generate_batch_size": batch,
            "max_prompt_tokens": 4096,  # of large pictures
            "max_answer_tokens": job.ANSWER,
            "optim": {"lr": lean.LR, "schedule": "constant", "warmup": 0.0},
            **settings,
        }
    )
    return kind(
        vlm, reference, Panel(judge), config, PpoVariant(name="bench"), str(data), folder, 0, accelerator
    )


def grpo(answers: int) -> dict[str, Any]:
    """The settings of a group step."""
    return {
        "algorithm": {"type": "grpo"},
        "answers_per_prompt": answers,
        "num_ppo_epochs": 1,
        "kl_in": "loss",
        "kl_estimator": "k3",
        "kl_coef": lean.KL_LOSS,
    }


class Table:
    """Seconds, work and speed of the machine, by round and trainer."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.seconds: list[dict[str, float]] = [{} for _ in range(rounds)]
        self.parts: list[dict[str, dict[str, float]]] = [{} for _ in range(rounds)]
        self.work: dict[str, Counter[str]] = defaultdict(Counter)
        self.gflops: list[float] = []  # before each round, and after the last

    def quiet(self) -> list[int]:
        """The rounds that count."""
        return quiet_rounds(self.gflops)


class BetweenSteps(ppo_module.PpoStage):
    """The stage; between two of its steps the guests do one of theirs."""

    guests: dict[str, tuple[Guest, job.Work]]
    records: list[PreferenceRecord]  # the guests' own, as many as they need
    table: Table
    own_work: job.Work
    rare: float = 0.0  # seconds of this step that most steps don't spend

    def updates(self, step: int) -> Iterator[Any]:
        """As before, with a pause in front."""
        self.pause(step)
        yield from super().updates(step)

    def pause(self, step: int) -> None:
        """Closes the books on the step before, and has the guests do theirs."""
        now, table, round_ = time.perf_counter(), self.table, step - WARM
        if 0 < round_ <= table.rounds:
            table.seconds[round_ - 1]["ours"] = now - self.began - self.rare
            table.work["ours"] += self.own_work.counts
        if 0 <= round_ <= table.rounds:
            table.gflops.append(job.gemm_gflops())
        if round_ < table.rounds:
            self._invite(step)
        self.rare = 0.0
        self.own_work.counts.clear()
        self.began = time.perf_counter()

    def _invite(self, step: int) -> None:
        records = self.records[step * job.PROMPTS : (step + 1) * job.PROMPTS]
        names, turn = list(self.guests), step % len(self.guests)
        for name in names[turn:] + names[:turn]:
            do, work = self.guests[name]
            work.counts.clear()
            began = time.perf_counter()
            parts = do(records)
            seconds = time.perf_counter() - began
            if step >= WARM:
                self.table.seconds[step - WARM][name] = seconds
                self.table.parts[step - WARM][name] = parts
                self.table.work[name] += work.counts


@contextlib.contextmanager
def rare_work(stage: BetweenSteps, seconds: dict[str, list[float]]) -> Iterator[None]:
    """Times what the engine does only now and then."""
    own = {name: getattr(ppo_module, name) for name in ("swap_gap", "write_samples")}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds.setdefault(name, []).append(time.perf_counter() - began)
                stage.rare += seconds[name][-1]

        return wrapped

    save = Engine._save
    for name, call in own.items():
        setattr(ppo_module, name, timed(name, call))
    Engine._save = timed("save", save)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name, call in own.items():
            setattr(ppo_module, name, call)
        Engine._save = save  # type: ignore[method-assign]


def compare(
    checkpoint: Path, folder: Path, lora: bool, rounds: int, epochs: int = 1, answers: int = 1
) -> dict[str, Any]:
    """One line of the table: PPO with some passes over a batch, or GRPO with some answers a prompt."""
    count = WARM + rounds + 1
    job.write_data(folder / "data", job.make_records(count * job.PROMPTS))
    settings = grpo(answers) if answers > 1 else {"num_ppo_epochs": epochs}
    stage = our_stage(
        checkpoint, folder / "data", folder / "stage", lora, BetweenSteps, steps=count, **settings
    )
    heads = lean.make_heads(job.WIDTH, len(OBJECTIVES))
    least = lean.Lean(checkpoint, lora, heads, epochs, answers)
    others: dict[str, Any] = {"lean": least}
    if answers > 1:
        others["rows"] = lean.Lean(checkpoint, lora, heads, 1, answers, shared=False)
    else:
        others["naive"] = lean.Naive(checkpoint, lora, heads, epochs)
    stage.guests = {name: (other.step, job.Work(other.cores())) for name, other in others.items()}
    stage.records = job.make_records(count * job.PROMPTS, seed=1)
    stage.table = table = Table(rounds)
    stage.own_work = job.Work([vlm.core for vlm in models(stage)])
    rare: dict[str, list[float]] = {}
    with rare_work(stage, rare):
        Engine(folder / "stage", EngineConfig(), 0, stage.accelerator).train(stage)
    lines = (folder / "stage" / "metrics.jsonl").read_text().splitlines()
    lengths = {json.loads(line)["length"] for line in lines}
    assert lengths == {job.ANSWER}, lengths
    return summary(table, rare_share(rare), lora, epochs, answers)


def rare_share(seconds: dict[str, list[float]]) -> float:
    """What a step pays on average for rare work: swapped images and samples every 10 steps, a checkpoint every 50."""
    every = {"swap_gap": 10, "write_samples": 10, "save": 50}
    return sum(_mean(times) / every[name] for name, times in seconds.items())


def models(stage: ppo_module.PpoStage) -> list[VLM]:
    """The models that our step runs."""
    return [v for v in (stage.vlm, stage.reference, stage.panel.model.vlm) if v is not None]


def summary(table: Table, share: float, lora: bool, epochs: int, answers: int) -> dict[str, Any]:
    """Medians over the rounds in which the machine was quiet."""
    quiet = table.quiet()
    rounds = [dict(row, ours=row["ours"] + share) for row in table.seconds]
    others = [name for name in rounds[0] if name not in ("ours", "lean")]
    ratios = {
        "ours / lean": [
            row["ours"] / (row["lean"] - parts["lean"]["score"])
            for row, parts in zip(rounds, table.parts, strict=True)
        ],
        "ours / (lean + scoring)": [row["ours"] / row["lean"] for row in rounds],
        **{f"{name} / ours": [row[name] / row["ours"] for row in rounds] for name in others},
    }
    seconds = {name: median([rounds[i][name] for i in quiet]) for name in ("ours", "lean", *others)}
    parts = {
        name: {part: median([table.parts[i][name][part] for i in quiet]) for part in of}
        for name, of in table.parts[0].items()
    }
    return {
        "job": f"GRPO, {answers} answers" if answers > 1 else f"PPO, {epochs} epoch{'s' * (epochs > 1)}",
        "trained": "LoRA" if lora else "full",
        "prompts": job.PROMPTS,
        "answers": answers,
        "prompt_tokens": job.PROMPT,
        "answer_tokens": job.ANSWER,
        "ratios": {name: median([values[i] for i in quiet]) for name, values in ratios.items()},
        "ratios_by_round": {name: [round(v, 3) for v in values] for name, values in ratios.items()},
        "seconds_a_step": seconds,
        "answers_a_second": {name: round(job.PROMPTS * answers / s, 2) for name, s in seconds.items()},
        "our_share_of_rare_work": round(share, 4),
        "parts": parts,
        "work_a_step": {
            name: {what: round(n / table.rounds, 2) for what, n in work.items()}
            for name, work in table.work.items()
        },
        "gemm_gflops": table.gflops,
        "quiet_rounds": quiet,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def show(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as a table."""
    rows = [
        [
            "job",
            "trained",
            "ours",
            "lean",
            "other",
            "ours/lean",
            "ours/(lean+scoring)",
            "other/ours",
            "pictures seen",
            "rounds",
            "GFLOP/s",
        ]
    ]
    for line in lines:
        seconds, ratios = line["seconds_a_step"], line["ratios"]
        other = next(name for name in seconds if name not in ("ours", "lean"))
        tower = [str(round(line["work_a_step"][name]["tower_images"])) for name in ("ours", "lean", other)]
        rows.append(
            [
                line["job"],
                line["trained"],
                f"{seconds['ours']:.2f} s",
                f"{seconds['lean']:.2f} s",
                f"{other} {seconds[other]:.2f} s",
                f"{ratios['ours / lean']:.2f}",
                f"{ratios['ours / (lean + scoring)']:.2f}",
                f"{ratios[f'{other} / ours']:.2f}",
                "/".join(tower),
                f"{len(line['quiet_rounds'])} of {len(line['gemm_gflops']) - 1}",
                f"{min(line['gemm_gflops']):.0f} to {max(line['gemm_gflops']):.0f}",
            ]
        )
    return as_table(rows)


def main() -> None:
    """Reads the options, makes the model, and runs one comparison after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="a step of each trainer; at least 3")
    parser.add_argument("--full", action="store_true", help="train the whole language model, not adapters")
    parser.add_argument("--epochs", type=int, nargs="*", default=[1, 4], help="PPO: passes over a batch")
    parser.add_argument("--groups", type=int, nargs="*", default=[2, 4, 8, 16], help="GRPO: answers a prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON lines are added to it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.make_checkpoint(folder / "model")
        jobs = [{"epochs": n} for n in options.epochs] + [{"answers": n} for n in options.groups]
        for number, settings in enumerate(jobs):
            line = compare(
                folder / "model", folder / str(number), not options.full, options.rounds, **settings
            )
            line |= {"machine": job.machine()}
            lines.append(line)
            print(show([line]), file=sys.stderr, flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    if not options.out:
        for line in lines:
            print(json.dumps(line))
    print(show(lines))


if __name__ == "__main__":
    main()

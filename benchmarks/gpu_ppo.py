"""Our PPO and GRPO steps at the size of Qwen2.5-VL-3B, on one GPU: tokens a second, MFU, memory, and what helps.

    python benchmarks/gpu_ppo.py [--out gpu.jsonl]     # a GPU of 80 GB; about 6 minutes
    python benchmarks/gpu_ppo.py --small               # the same on a CPU, tiny, in less than a minute

The model has the shapes of Qwen2.5-VL-3B and random weights, its processor is made here, and nothing is downloaded: 64
prompts with a picture (448 pixels: 256 image tokens), 128 new tokens, LoRA, bf16. A step is the engine's own, with a
reward model on a second backbone. Each variant makes a warm-up step and then `--steps`; their median is quoted. It is
run as it is; without the vision cache; with a row for each answer; and with a reference of its own beside the policy.

FLOPs of an update, all that its forward and backward need, a product and a sum counted as 2:

    language tokens * (4 N + 6 L)  +  12 * layers * heads * head size * pairs  +  answer tokens * 4 * vocabulary * width

N: the frozen weights of the language model's linear layers (forward 2, gradient of inputs 2; frozen weights have no
gradient of their own); L: LoRA's weights; pairs: tokens * (tokens of a row + 1) / 2, so a mask of blocks counts as if
it were causal. Tokens are those that were laid out, padding included. The tower is left out: it has no backward, and
no forward where features are kept. MFU is this over seconds times the device's peak for dense bf16.

It fails where answers are not of full length, the tower runs more or less often than it should, an update reads other
tokens than it should, or a loss isn't finite.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import job
import ppo
import torch
from qwen import make_checkpoint
from rounds import as_table
from torch import nn

import mmrlhf.training.ppo as ppo_module
from mmrlhf.config import EngineConfig, ModelConfig
from mmrlhf.models.batch import encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vision_cache import keep_features
from mmrlhf.rewards.panel import Panel
from mmrlhf.training.engine import Engine

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}  # dense bf16
VARIANTS = {
    "ppo": {"answers": 1},
    "ppo-uncached": {"answers": 1, "cache": False},
    "ppo-own-reference": {"answers": 1, "own_reference": True},
    "grpo": {"answers": 4},
    "grpo-rows": {"answers": 4, "shared": False},
    "grpo-rows-uncached": {"answers": 4, "shared": False, "cache": False},
}


class Timed(ppo_module.PpoStage):
    """The stage, with the seconds and the work of each step's parts."""

    work: job.Work
    laps: list[dict[str, float]]
    update_work: list[Counter[str]]
    step_work: list[Counter[str]]

    def updates(self, step: int) -> Iterator[Any]:
        """As before."""
        if step:
            self.step_work.append(Counter(self.work.counts))
        self.work.counts.clear()
        self.laps.append(Counter())  # type: ignore[arg-type]
        self.update_work.append(Counter())
        began = now(self)
        for update in super().updates(step):
            self.laps[-1]["before updates"] += now(self) - began
            began, before = now(self), Counter(self.work.counts)
            yield update
            self.laps[-1]["update"] += now(self) - began
            self.update_work[-1] += self.work.counts - before
            began = now(self)


def now(stage: ppo_module.PpoStage) -> float:
    """The time, once the device has done all it was told to."""
    if stage.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def parts_timed(stage: Timed) -> Iterator[None]:
    """Takes the time of the rollout and of its scoring."""
    own = [(ppo_module, "roll_out"), (Panel, "score")]
    kept = [getattr(module, name) for module, name in own]

    def timed(name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = now(stage)
            result = call(*args, **kwargs)
            stage.laps[-1][name] += now(stage) - began
            return result

        return wrapped

    for (module, name), call in zip(own, kept, strict=True):
        setattr(module, name, timed(name, call))
    try:
        yield
    finally:
        for (module, name), call in zip(own, kept, strict=True):
            setattr(module, name, call)


def measure(
    name: str, checkpoint: Path, folder: Path, steps: int, micro_batch: int, peak: float | None
) -> dict[str, Any]:
    """One variant's line."""
    variant = VARIANTS[name]
    answers = variant["answers"]
    settings = ppo.grpo(answers) if answers > 1 else {"num_ppo_epochs": 1}
    engine = EngineConfig(vision_cache_gb=2.0 if variant.get("cache", True) else 0, tensorboard=False)
    stage = ppo.our_stage(
        checkpoint,
        folder / "data",
        folder / name,
        True,
        Timed,
        engine,
        steps=steps + 2,  # one to warm up, and the last, which does rare work too, is left out
        micro_batch_size=micro_batch,
        **settings,
    )
    if variant.get("own_reference"):
        stage.reference = load_vlm(ModelConfig(path=str(checkpoint)), stage.accelerator.device)
        stage.reference.placeholder_ids = stage.vlm.placeholder_ids
        assert stage.vlm.vision is not None
        assert keep_features(stage.reference, stage.vlm.vision.cache) == ""
    for vlm in ppo.models(stage):
        assert vlm.shares_prefix, vlm.rows_because
        vlm.shares_prefix = variant.get("shared", True)
    stage.work = job.Work([vlm.core for vlm in ppo.models(stage)])
    stage.laps, stage.update_work, stage.step_work = [], [], []
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with parts_timed(stage):
        Engine(folder / name, engine, 0, stage.accelerator).train(stage)
    metrics = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    check(name, stage, metrics)
    return {"variant": name, **summary(stage, peak)}


def check(name: str, stage: Timed, metrics: list[dict[str, float]]) -> None:
    """That the step did what it is timed for.

    Raises:
        AssertionError: it did not.
    """
    variant, prompts = VARIANTS[name], job.PROMPTS
    for line in metrics:
        assert line["length"] == job.ANSWER, f"{name}: answers of {line['length']} tokens, not {job.ANSWER}"
        for key, value in line.items():
            assert math.isfinite(value), f"{name}: {key} is {value}"
        assert "loss/policy" in line, f"{name}: no loss among {sorted(line)}"
    prompt = prompt_tokens(stage)
    laid = variant["answers"] if not variant.get("shared", True) else 1
    expected = prompts * (laid * prompt + variant["answers"] * job.ANSWER)
    for work in stage.update_work:
        found = work["language_tokens"]
        assert found == expected, f"{name}: an update read {found} tokens, not {expected}"
    for work in stage.step_work[1:]:
        images = work["tower_images"]
        if variant.get("cache", True):
            assert images == prompts, f"{name}: the tower saw {images} pictures, not {prompts}"
        else:
            assert images >= 3 * prompts, f"{name}: the tower saw {images} pictures without a cache"


def prompt_tokens(stage: Timed) -> int:
    """The tokens of a prompt, its picture included: all are of one length."""
    return len(encode_prompt(stage.vlm, job.make_records(1)[0]).input_ids)


def update_flops(stage: Timed, work: Counter[str], answer_tokens: int) -> float:
    """By the formula at the head of this file."""
    language = parts_of(stage.vlm.core, stage.vlm.path).language
    linear = {n: m for n, m in language.named_modules() if isinstance(m, nn.Linear)}
    adapters = sum(m.weight.numel() for n, m in linear.items() if ".lora_" in n)
    frozen = sum(m.weight.numel() for n, m in linear.items() if ".lora_" not in n)
    text = stage.vlm.core.config.get_text_config()
    tokens, rows = work["language_tokens"], work["language_rows"]
    pairs = tokens * (tokens / rows + 1) / 2
    return (
        tokens * (4 * frozen + 6 * adapters)
        + 12 * text.num_hidden_layers * text.hidden_size * pairs
        + answer_tokens * 4 * text.vocab_size * text.hidden_size
    )


def summary(stage: Timed, peak: float | None) -> dict[str, Any]:
    """Medians over the steps that count."""
    laps, update_work = stage.laps[1:-1], stage.update_work[1:-1]
    answer_tokens = job.PROMPTS * stage.config.answers_per_prompt * job.ANSWER
    seconds = {
        "sampling": _median([lap["roll_out"] - lap["score"] for lap in laps]),
        "scoring": _median([lap["score"] for lap in laps]),
        "log-probs and values": _median([lap["before updates"] - lap["roll_out"] for lap in laps]),
        "update": _median([lap["update"] for lap in laps]),
    }
    flops = update_flops(stage, update_work[-1], answer_tokens)
    gemm = gemm_flops(stage.accelerator.device, next(stage.vlm.model.parameters()).dtype)
    cuda = torch.cuda.is_available()
    return {
        "prompts": job.PROMPTS,
        "answers": stage.config.answers_per_prompt,
        "answer_tokens": job.ANSWER,
        "prompt_tokens": prompt_tokens(stage),
        "seconds": seconds,
        "step_seconds": round(sum(seconds.values()), 4),
        "tokens_per_second": {
            "sampling": round(answer_tokens / seconds["sampling"], 1),
            "update": round(answer_tokens / seconds["update"], 1),
            "update, all that were laid out": round(
                update_work[-1]["language_tokens"] / seconds["update"], 1
            ),
        },
        "update_tflop": flops / 1e12,
        "mfu": None if peak is None else round(flops / seconds["update"] / peak, 4),
        "share_of_a_matrix_product": round(flops / seconds["update"] / gemm, 4),
        "matrix_product_tflops": round(gemm / 1e12, 3),
        "peak_memory_gb": round(
            torch.cuda.max_memory_allocated() / 2**30
            if cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            3,
        ),
        "work_a_step": dict(stage.step_work[-1]),
        "work_of_an_update": dict(update_work[-1]),
        "steps": len(laps),
        "seconds_by_step": [{name: round(value, 4) for name, value in lap.items()} for lap in laps],
    }


def gemm_flops(device: torch.device, dtype: torch.dtype) -> float:
    """What a large product of two matrices reaches here: FLOP/s."""
    size = 8192 if device.type == "cuda" else 768
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(seconds)


def peak_of(device: torch.device) -> float | None:
    """The device's peak for dense bf16 products by its data sheet; None where it isn't known here."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    return next((peak for key, peak in PEAK.items() if key in name), None)


def show(lines: list[dict[str, Any]]) -> str:
    """The lines as a table."""
    head = ["variant", "step", "sampling", "scoring", "log-probs", "update", "sampled tok/s", "updated tok/s"]
    rows = [[*head, "MFU", "of a product", "peak GB", "pictures seen"]]
    for line in lines:
        rows.append(
            [
                line["variant"],
                f"{line['step_seconds']:.2f} s",
                *(f"{value:.2f} s" for value in line["seconds"].values()),
                *(f"{line['tokens_per_second'][part]:.0f}" for part in ("sampling", "update")),
                "" if line["mfu"] is None else f"{line['mfu']:.3f}",
                f"{line['share_of_a_matrix_product']:.3f}",
                f"{line['peak_memory_gb']:.2f}",
                str(line["work_a_step"]["tower_images"]),
            ]
        )
    return as_table(rows)


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 4)


def main() -> None:
    """Makes the model and runs one variant after the other, as long as there is time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--small", action="store_true", help="a tiny model: for a CPU, and to see that it works"
    )
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=2, help="that count, of each variant")
    parser.add_argument("--micro-batch", type=int, default=8, help="answers of one forward and backward")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense bf16; nothing: by its name")
    parser.add_argument("--minutes", type=float, default=7.0, help="no variant is begun after so long")
    parser.add_argument("--out", type=Path, help="JSON lines are added to it; nothing: they are printed")
    options = parser.parse_args()
    began, lines = time.monotonic(), []
    device = torch.device("cuda" if torch.cuda.is_available() and not options.small else "cpu")
    if device.type == "cpu" and not options.small:
        sys.exit("no GPU here; --small runs the same at a tiny size")
    peak = options.peak_tflops * 1e12 if options.peak_tflops else peak_of(device)
    job.resize(*((4, 8, 56) if options.small else (64, 128, 448)))
    where = job.machine() | {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder / "model", options.small, device)
        job.write_data(folder / "data", job.make_records((options.steps + 2) * job.PROMPTS))
        for variant in options.variants:
            if time.monotonic() - began > options.minutes * 60:
                print(f"no time is left for: {variant}", file=sys.stderr)
                continue
            line = measure(variant, folder / "model", folder, options.steps, options.micro_batch, peak)
            lines.append(line | {"machine": where, "minutes": round((time.monotonic() - began) / 60, 2)})
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
            else:
                print(json.dumps(lines[-1]), flush=True)
            print(show(lines[-1:]), file=sys.stderr, flush=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    print(show(lines), file=sys.stderr)


if __name__ == "__main__":
    main()

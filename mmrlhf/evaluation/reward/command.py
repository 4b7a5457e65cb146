"""`mmrlhf evaluate reward`: a reward model measured on a data set or on a local copy of a public benchmark.

What is measured is written as `reward.json`, and `reward.html` shows it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_tools.errors import UserError
from data_tools.intervals import Estimate
from data_tools.lock import locked
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected
from mmrlhf.config import EvaluateConfig, RunConfig, StageConfig
from mmrlhf.evaluation.benchmarks import BENCHMARKS
from mmrlhf.evaluation.benchmarks.base import OBJECTIVE, Benchmark, LostRow, Outcome
from mmrlhf.evaluation.report.reward_page import write_reward_page
from mmrlhf.evaluation.results import REWARD_FORMAT, write_result
from mmrlhf.evaluation.reward.evaluation import Extent, RewardEvaluation, evaluate_comparisons, steps
from mmrlhf.evaluation.reward.records import choose_pairs, cut_answers, draw_samples, readable, reasons
from mmrlhf.evaluation.reward.scoring import CONDITIONS, MEAN, Decided
from mmrlhf.models.load import choose_device
from mmrlhf.out_of_memory import advising
from mmrlhf.rewards.model import RewardModel, load_reward_model
from mmrlhf.terminal import console, progress

SHOWN = 5  # refused rows that are told by name
SPLIT = "test"  # of a data set, unless another is named
LISTED = 100  # and that reward.json lists


@dataclass(frozen=True)
class How:
    """How much is read and measured, alike for data sets and benchmarks."""

    pairs: int | None = 512  # records at most; None: all
    seed: int = 0
    batch_size: int = 64
    max_prompt_tokens: int | None = 1024  # longer ones are left out; None: none is
    max_answer_tokens: int | None = 512  # longer ones are cut; None: none is
    conditions: tuple[str, ...] = CONDITIONS
    gradients: int = 0
    text_model: str | None = None  # the folder of a second reward model
    micro_batch_size: int | None = None  # rows of one forward; None: batch_size
    micro_batch_tokens: int | None = None  # padded tokens of one forward; None: only rows count

    @staticmethod
    def of_benchmark() -> How:
        """All of it as it is: a benchmark's rows are left out or cut only where that is asked for."""
        return How(pairs=None, max_prompt_tokens=None, max_answer_tokens=None)

    def told(self) -> dict[str, Any]:
        """What decides the numbers, as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
            if key not in ("batch_size", "micro_batch_size", "micro_batch_tokens")
        }

    @staticmethod
    def of_run(config: RunConfig) -> How:
        """As a run's config says."""
        stage: StageConfig = config.reward or StageConfig()
        settings = config.evaluation_like(config.reward or config.ppo)
        return How(
            pairs=settings.pairs,
            seed=config.seed,
            batch_size=settings.batch_size,
            max_prompt_tokens=stage.max_prompt_tokens,
            max_answer_tokens=stage.max_answer_tokens,
            micro_batch_size=settings.micro_batch_size,
            micro_batch_tokens=settings.micro_batch_tokens,
        )


def check_conditions(names: Sequence[str]) -> tuple[str, ...]:
    """The conditions by name.

    Raises:
        UserError: there is none of such a name.
    """
    for name in names:
        if name not in CONDITIONS:
            raise UserError(
                f"--conditions {name}: there is none of that name; there are {', '.join(CONDITIONS)}"
            )
    return tuple(names)


@dataclass(frozen=True)
class Asked:
    """What a command line names: a run's reward model (nothing here), or a model with a data set or a benchmark."""

    model: str | None
    data: Path | None
    split: str | None
    benchmark: str | None
    rows: tuple[Path, ...]
    images: Path | None
    objectives: tuple[str, ...]

    def check(self, has_config: bool) -> None:
        """Raises UserError where the options don't go together."""
        if self.model is None:
            if self.data or self.split or self.benchmark or self.rows or self.images or self.objectives:
                raise UserError(
                    "--data, --split and --benchmark, --rows, --images and --objective need --model; a run's split is "
                    "--set evaluate.split=..."
                )
            if not has_config:
                raise UserError("name a run's config, or --model with --data or --benchmark")
            return
        if has_config:
            raise UserError(
                "a config and --model contradict each other: a config's own reward model is measured"
            )
        if bool(self.data) == bool(self.benchmark):
            raise UserError("--model needs either --data, a built data set, or --benchmark with --rows")
        if bool(self.benchmark) != bool(self.rows):
            raise UserError("--benchmark and --rows, the file of its rows, need each other")
        if self.benchmark:
            _benchmark(self.benchmark)
            if self.split:
                raise UserError(
                    "--split belongs to --data; a benchmark's rows are the files that --rows names"
                )
        elif self.images or self.objectives:
            raise UserError("--images and --objective belong to --benchmark; a data set names its own")


def measure(asked: Asked, changes: dict[str, Any], out: Path | None) -> tuple[dict[str, Any], Path]:
    """Measures a model by its folder and writes the result; `changes` are fields of `How`. Gives back what
    `reward.json` holds, and the page's path.

    Raises:
        UserError: a model, the data or the rows can't be read, or there is no such head.
    """
    assert asked.model is not None
    how = dataclasses.replace(How.of_benchmark() if asked.benchmark else How(), **changes)
    folder = out or Path("reward_evaluation")
    with locked(folder, "evaluating into"), advising("evaluate reward --model"):
        make_out(folder)
        reward_model = load(asked.model)
        if asked.benchmark:
            judged = on_benchmark(
                reward_model, asked.benchmark, asked.rows, asked.images, asked.objectives, how
            )
        else:
            judged = on_data(reward_model, str(asked.data), asked.split or SPLIT, how)
        return judged, write(folder, judged, asked.model)


def on_run(
    config: RunConfig,
    reward_path: Path,
    data: str,
    device: torch.device,
    changes: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """A run's reward model on its data, as its config says but for `changes` (fields of `How`); written into `out`.

    Raises:
        UserError: the model or the data can't be read, or every prompt is too long.
    """
    make_out(out)
    settings = config.stage_model(config.reward) if config.reward else config.model
    how = dataclasses.replace(How.of_run(config), **changes)
    split = (config.evaluate or EvaluateConfig()).split
    judged = on_data(load_reward_model(reward_path, device, settings), data, split, how)
    write(out, judged, config.name)
    return judged


def on_data(reward_model: RewardModel, data: str, split: str, how: How) -> dict[str, Any]:
    """The measures on a split's preference records, as plain JSON values.

    Raises:
        UserError: the data or the text model can't be read, or every prompt is too long.
    """
    records = choose_pairs(data, split, how.pairs, how.seed)
    measured = _measured(reward_model, records, how, mean_of_heads=False)
    return {"format": REWARD_FORMAT, "data": data, "split": split, **measured.to_json(how)}


def on_benchmark(
    reward_model: RewardModel,
    name: str,
    rows: Sequence[Path],
    images: Path | None,
    objectives: Sequence[str],
    how: How,
) -> dict[str, Any]:
    """The measures on a benchmark's rows and its own scores (`scores`: by objective), as plain JSON values.

    The rows say which answer is better, not by which objective: each head is measured on all of them, and the mean of
    the heads (`mean`) beside them; `objectives` names some of these.

    Raises:
        UserError: no such benchmark or head, a file can't be read as a whole, or no row can be scored.
    """
    benchmark = _benchmark(name)
    heads = (*reward_model.card.objectives, *([MEAN] if len(reward_model.card.objectives) > 1 else []))
    for objective in objectives:
        if objective not in heads:
            raise UserError(
                f"--objective {objective}: the model has no such head; there are {', '.join(heads)}"
            )
    asked = tuple(dict.fromkeys(objectives)) or heads
    kept, refusals = _read(benchmark, rows, images)
    records = [_judged_on(record, asked) for record in draw_samples(kept, how.pairs, how.seed)]
    measured = _measured(reward_model, records, how, mean_of_heads=MEAN in asked)
    # a sample is right where all of its pairs are, so one that has lost a pair can't be
    partial = {refusal.sample for refusal in refusals if isinstance(refusal, LostRow)}
    partial |= {lost for record, _ in measured.refused if (lost := _sample(record))}
    scores: dict[str, dict[str, Estimate]] = {
        objective: benchmark.score(
            [
                Outcome(c.record, c.right, c.cluster, _sample(c.record) not in partial)
                for c in measured.comparisons
                if c.objective == objective
            ]
        )
        for objective in asked
    }
    reasons = Counter(refusal.reason for refusal in refusals)
    return {
        "format": REWARD_FORMAT,
        "benchmark": {"name": name, "title": benchmark.title, "rows": [str(path) for path in rows]},
        "rejected": {  # no record at all
            "rows": len(refusals),
            "reasons": dict(reasons.most_common()),
            "first": [[refusal.where, refusal.reason] for refusal in refusals[:LISTED]],
        },
        # samples of which some pairs are scored and others couldn't be
        "partial_samples": len(partial & {_sample(c.record) for c in measured.comparisons}),
        "scores": {
            objective: {key: dataclasses.asdict(e) for key, e in of.items()}
            for objective, of in scores.items()
        },
        **measured.to_json(how),
        "agreement": {},  # of judges there is one, whose word stands for every head
    }


def load(path: str) -> RewardModel:
    """The reward model in a folder, on a GPU where there is one.

    Raises:
        UserError: not a reward model's folder.
    """
    return load_reward_model(path, choose_device())


def make_out(out: Path) -> None:
    """The folder that a result goes into, made before anything is measured.

    Raises:
        UserError: it can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: can't be made ({error.strerror}); name another folder with --out") from error


def write(out: Path, judged: dict[str, Any], title: str) -> Path:
    """`out/reward.json` and `out/reward.html`, in a folder that is there; returns the page."""
    write_result(out / "reward.json", judged)
    return write_reward_page(out / "reward.html", judged, title)


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise UserError(f"--benchmark {name}: is none of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _read(
    benchmark: Benchmark, rows: Sequence[Path], images: Path | None
) -> tuple[list[PreferenceRecord], list[Rejected]]:
    """The rows that are records, and those that aren't, the first of which are told."""
    kept: list[PreferenceRecord] = []
    refused: list[Rejected] = []
    for item in benchmark.read(rows, images):
        if isinstance(item, PreferenceRecord):
            kept.append(item)
            continue
        refused.append(item)
        if len(refused) <= SHOWN:
            console.print(f"left out: {item.where}: {item.reason}", style="yellow", markup=False)
    if refused:
        console.print(f"{len(refused)} of {len(refused) + len(kept)} rows are left out", style="yellow")
    if not kept:
        why = f"; the first: {refused[0].where}: {refused[0].reason}" if refused else ": they hold none"
        raise UserError(f"{', '.join(map(str, rows))}: no row can be scored as {benchmark.title}{why}")
    return kept, refused


def _judged_on(record: PreferenceRecord, objectives: Sequence[str]) -> PreferenceRecord:
    """The record with its comparison under the name of each head."""
    (judged,) = (c for c in record.comparisons if c.objective == OBJECTIVE)
    each = tuple(dataclasses.replace(judged, objective=name) for name in objectives)
    return dataclasses.replace(record, comparisons=each)


def _sample(record: PreferenceRecord) -> str | None:
    return record.provenance.get("sample")


@dataclass(frozen=True)
class _Measured:
    """What was measured, and on what."""

    found: RewardEvaluation
    comparisons: list[Decided]
    refused: list[tuple[PreferenceRecord, str]]  # records that the model couldn't read, and why
    cut: int  # answers that were read up to `max_answer_tokens` only

    def to_json(self, how: How) -> dict[str, Any]:
        """The measures, what was left out or cut, and how it was measured, as plain JSON values."""
        return {
            "how": how.told(),
            "seed": how.seed,
            "refused": reasons(self.refused),
            "cut_answers": self.cut,
            **self.found.to_json(),
        }


def _measured(
    reward_model: RewardModel, records: Sequence[PreferenceRecord], how: How, mean_of_heads: bool
) -> _Measured:
    reward_model.vlm.answer_room = how.max_answer_tokens or 0
    kept, refused = readable(reward_model.vlm, records, how.max_prompt_tokens)
    text_model = load(how.text_model) if how.text_model else None
    extent = Extent(
        how.conditions,
        how.gradients,
        mean_of_heads,
        text_model,
        how.micro_batch_size,
        how.micro_batch_tokens,
    )
    with progress("evaluate reward model", steps(len(kept), extent)) as bar:
        found, comparisons = evaluate_comparisons(
            reward_model, kept, how.batch_size, how.seed, how.max_answer_tokens, bar, extent
        )
    cut = cut_answers(reward_model.vlm, kept, how.max_answer_tokens)
    return _Measured(found, comparisons, refused, cut)

"""`mmrlhf evaluate reward`: a reward model measured on a data set or on a local copy of a public benchmark.

What is measured is written as `reward.json`, and `reward.html` shows it.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_tools.atomic import write_text
from data_tools.balance.order import epoch_order
from data_tools.errors import PromptRefused, UserError
from data_tools.images import ImageError
from data_tools.schema import PreferenceRecord
from data_tools.shards import RecordSet, open_records
from data_tools.source import Rejected
from mmrlhf.config import EvaluateConfig, RunConfig, StageConfig
from mmrlhf.evaluation.benchmarks import BENCHMARKS
from mmrlhf.evaluation.benchmarks.base import OBJECTIVE, Benchmark, Outcome
from mmrlhf.evaluation.intervals import Estimate
from mmrlhf.evaluation.report.reward_page import write_reward_page
from mmrlhf.evaluation.reward.evaluation import Extent, RewardEvaluation, evaluate_comparisons, steps
from mmrlhf.evaluation.reward.scoring import CONDITIONS, MEAN, Decided
from mmrlhf.models.batch import encode_prompt
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel, load_reward_model
from mmrlhf.terminal import console, progress

FORMAT = 2
SHOWN = 5  # refused rows that are told by name
LISTED = 100  # and that reward.json lists


@dataclass(frozen=True)
class How:
    """How much is read and measured, alike for data sets and benchmarks."""

    pairs: int | None = 512  # records at most; None: all
    seed: int = 0
    batch_size: int = 64
    max_prompt_tokens: int = 1024
    max_answer_tokens: int | None = 512
    conditions: tuple[str, ...] = CONDITIONS
    gradients: int = 0
    text_model: str | None = None  # the folder of a second reward model

    @staticmethod
    def of_run(config: RunConfig) -> How:
        """As a run's config says."""
        stage: StageConfig = config.reward or StageConfig()
        settings = config.evaluate or EvaluateConfig()
        return How(
            settings.pairs, config.seed, settings.batch_size, stage.max_prompt_tokens, stage.max_answer_tokens
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
    split: str
    benchmark: str | None
    rows: tuple[Path, ...]
    images: Path | None
    objectives: tuple[str, ...]

    def check(self, has_config: bool) -> None:
        """Raises UserError where the options don't go together."""
        if self.model is None:
            if self.data or self.benchmark or self.rows or self.images or self.objectives:
                raise UserError("--data and --benchmark, --rows, --images and --objective need --model")
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
        elif self.images or self.objectives:
            raise UserError("--images and --objective belong to --benchmark; a data set names its own")


def measure(asked: Asked, changes: dict[str, Any], out: Path | None) -> tuple[dict[str, Any], Path]:
    """Measures a model by its folder and writes the result; `changes` are fields of `How`. Gives back what
    `reward.json` holds, and the page's path.

    Raises:
        UserError: a model, the data or the rows can't be read, or there is no such head.
    """
    assert asked.model is not None
    how = dataclasses.replace(How(pairs=None) if asked.benchmark else How(), **changes)
    reward_model = load(asked.model)
    if asked.benchmark:
        judged = on_benchmark(reward_model, asked.benchmark, asked.rows, asked.images, asked.objectives, how)
    else:
        judged = on_data(reward_model, str(asked.data), asked.split, how)
    return judged, write(out or Path("reward_evaluation"), judged, asked.model)


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
    found, refused, _ = _measured(reward_model, records, how, mean_of_heads=False)
    return {
        "format": FORMAT,
        "data": data,
        "split": split,
        "seed": how.seed,
        "refused": refused,
        **found.to_json(),
    }


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
    if how.pairs is not None and how.pairs < len(kept):
        chosen = sorted(random.Random(how.seed).sample(range(len(kept)), how.pairs))
        kept = [kept[i] for i in chosen]
    records = [_judged_on(record, asked) for record in kept]
    found, refused, comparisons = _measured(reward_model, records, how, mean_of_heads=MEAN in asked)
    scores: dict[str, dict[str, Estimate]] = {
        objective: benchmark.score(
            [Outcome(c.record, c.right) for c in comparisons if c.objective == objective], how.seed
        )
        for objective in asked
    }
    reasons = Counter(refusal.reason for refusal in refusals)
    return {
        "format": FORMAT,
        "benchmark": {"name": name, "title": benchmark.title, "rows": [str(path) for path in rows]},
        "seed": how.seed,
        "refused": refused,  # too long for this model
        "rejected": {  # no record at all
            "rows": len(refusals),
            "reasons": dict(reasons.most_common()),
            "first": [[refusal.where, refusal.reason] for refusal in refusals[:LISTED]],
        },
        "scores": {
            objective: {key: dataclasses.asdict(e) for key, e in of.items()}
            for objective, of in scores.items()
        },
        **found.to_json(),
        "agreement": {},  # of judges there is one, whose word stands for every head
    }


def load(path: str) -> RewardModel:
    """The reward model in a folder, on a GPU where there is one.

    Raises:
        UserError: not a reward model's folder.
    """
    return load_reward_model(path, "cuda" if torch.cuda.is_available() else "cpu")


def write(out: Path, judged: dict[str, Any], title: str) -> Path:
    """`out/reward.json` and `out/reward.html`; returns the page.

    Raises:
        UserError: the folder can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: can't be made ({error.strerror}); name another folder with --out") from error
    write_text(out / "reward.json", json.dumps(judged, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
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


def _measured(
    reward_model: RewardModel, records: Sequence[PreferenceRecord], how: How, mean_of_heads: bool
) -> tuple[RewardEvaluation, int, list[Decided]]:
    """The evaluation, how many records the model couldn't read, and the comparisons."""
    kept, refused = fitting(reward_model.vlm, records, how.max_prompt_tokens)
    text_model = load(how.text_model) if how.text_model else None
    extent = Extent(how.conditions, how.gradients, mean_of_heads, text_model)
    with progress("evaluate reward model", steps(len(kept), extent)) as bar:
        found, comparisons = evaluate_comparisons(
            reward_model, kept, how.batch_size, how.seed, how.max_answer_tokens, bar, extent
        )
    return found, refused, comparisons


def fitting(
    vlm: VLM,
    records: Sequence[PreferenceRecord],
    limit: int,
    told: Callable[[PreferenceRecord], PreferenceRecord] = lambda record: record,
) -> tuple[list[PreferenceRecord], int]:
    """The records whose prompt, as it is `told`, can be read and is short enough, and how many others there are.

    Raises:
        UserError: none is.
    """
    kept = []
    for record in records:
        try:
            encode_prompt(vlm, told(record), limit)
        except (PromptRefused, ImageError):
            continue
        kept.append(record)
    if records and not kept:
        raise UserError(
            f"evaluate: all {len(records)} prompts are longer than max_prompt_tokens {limit}, can't be read, or have a "
            "damaged image"
        )
    return kept, len(records) - len(kept)


def choose_pairs(data: str, split: str, pairs: int | None, seed: int) -> list[PreferenceRecord]:
    """Preference records of the split, mixed as in the data, flip pairs whole. At most one more than asked
    for; None: all.

    Raises:
        UserError: no such data or split, or it holds no preference record.
    """
    records = open_records(data, split, kind="preference")
    partners = _flip_partners(records)
    chosen: dict[int, None] = {}
    for index in epoch_order(records.strata, seed, 0):
        if pairs is not None and len(chosen) >= pairs:
            break
        chosen |= dict.fromkeys(partners.get(index, [index]))
    return [records[index] for index in chosen]


def _flip_partners(records: RecordSet) -> dict[int, list[int]]:
    """The records of each flip pair, by the index of each of them."""
    flips: dict[tuple[str, str], list[int]] = {}
    for index, (source, _) in enumerate(records.strata):
        flip = records.meta(index)["provenance"].get("flip")
        if isinstance(flip, str):
            flips.setdefault((source, flip), []).append(index)
    return {index: both for both in flips.values() for index in both}

"""What helps a reward model to look: terms of grounding, and an ensemble, on data that the text alone mostly decides.

    python examples/ablate_reward.py --out runs/ablation --jobs 2     # three seeds, 15 minutes on two cores
    python examples/ablate_reward.py --out look --tasks scenes --seeds 0 --size 0.1     # a look at how it goes

Each setting trains the bundled model on the same records, seed by seed. Most of them obey a shortcut: a rule that reads
only words names the answer that was preferred in 19 of 20. The rest are image-flip pairs, on which no such rule does
better than chance. Two tasks:

- scenes: two captions that differ in one word, judged by annotators who mostly don't look: they take the one with the
  more of some common words, which is the right one in half of all records. Flip pairs are judged by the picture.
- nlvr: human statements, true or false of a picture (Cornell NLVR, from `--nlvr`), all judged by the picture; but the
  records were chosen so that those of a tower are mostly true and all others mostly false.

Every model is then measured on pictures that it hasn't seen: where judgements are as in training ("same"); and, always
judged by the picture, where the shortcut misleads ("reversed"), on whole flip pairs, right only if both halves are
(blind: 0 %), and on scenes also on other edits than in training and on captions of another recipe. On scenes a model
that only looks gets about half of "same". Writes `ablation.json` and prints two tables; what is done is kept, so
a study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import random
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from data_tools.adapters.nlvr import NlvrConfig
from data_tools.atomic import write_text
from data_tools.config import apply_overrides, parse_config
from data_tools.manifest import MANIFEST, read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records, write_shards
from data_tools.splits import split_of
from data_tools.synth.coverage_pairs import CoveragePairs
from data_tools.synth.flip_pairs import FlipPairs
from mmrlhf.config import RunConfig
from mmrlhf.pipeline import Run, RunMode
from mmrlhf.rewards.model import RewardModel, load_reward_model
from mmrlhf.training.reward import encode_responses

SETTINGS = {
    "plain Bradley-Terry": [],
    "+ flips": ["reward.grounding.flips=1"],
    "+ image-conditional": ["reward.grounding.image_conditional.weight=1"],
    "+ re-weighting": ["reward.grounding.reweight.weight=1"],
    "+ ensemble": ["reward.members=4"],
}
TRAINING: dict[str, Any] = {
    "objectives": ["factuality"],
    "batch_size": 32,
    "micro_batch_size": 64,
    "optim": {"lr": 5e-4},
    "max_answer_tokens": 64,
}
OBEYS = 0.95  # share of the records that aren't flip pairs
COMMON = re.compile(r"\b(circle|square|red|green|blue|large|top|center)s?\b")
KNOWN_EDITS = ("object", "attribute")
SAME = "same"  # the test in which the shortcut holds as in training; all others are out of distribution

Records = dict[str, list[PreferenceRecord]]  # by split
Rule = Callable[[PreferenceRecord], int | None]  # which answer the shortcut names, where it names one


def main() -> None:
    """Reads the options, runs what isn't done yet, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and tables")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each on one thread")
    parser.add_argument("--size", type=float, default=1.0, help="share of the records, to try things out")
    parser.add_argument(
        "--nlvr", type=Path, default=Path("../shared/data/nlvr/dev/dev.json"), help="NLVR's dev.json"
    )
    parser.add_argument("--set", action="append", default=[], help="a setting more, for all trainings")
    options = parser.parse_args()
    jobs = [
        (options.out, task, setting, seed, options.set)
        for task in options.tasks
        for seed in options.seeds
        for setting in options.settings
    ]
    for task in options.tasks:
        for seed in options.seeds:
            prepare(data_folder(options.out, task, seed), TASKS[task](seed, options.size, options.nlvr))
    rows = []
    for row in run_all(jobs, options.jobs):
        rows.append(row)
        shown = ", ".join(f"{name} {value:.1%}" for name, value in row["accuracy"].items())
        print(f"{row['task']}, {row['setting']}, seed {row['seed']}: {shown}", flush=True)
    write_text(options.out / "ablation.json", json.dumps(rows, indent=1) + "\n")
    for task in options.tasks:
        print(f"\n{task}\n\n{table([row for row in rows if row['task'] == task])}")


def run_all(jobs: Sequence[tuple[Any, ...]], count: int) -> Iterator[dict[str, Any]]:
    """What `train_and_measure` gives for each job, `count` of them at a time."""
    if count == 1:
        yield from itertools.starmap(train_and_measure, jobs)
        return
    # none of the processes inherits a torch that has started its threads
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(train_and_measure, *zip(*jobs, strict=True))


def data_folder(out: Path, task: str, seed: int) -> Path:
    """Where the records of a task and seed are."""
    return out / "data" / f"{task}-seed{seed}"


def prepare(folder: Path, records: Iterator[PreferenceRecord]) -> None:
    """Writes a task's records, unless they are there."""
    if not (folder / MANIFEST).exists():
        write_shards(records, folder)


def scenes(seed: int, size: float, nlvr: Path) -> Iterator[PreferenceRecord]:
    """Captions of generated pictures: records in their splits."""

    def flips(name: str, count: int, kinds: Sequence[str] = KNOWN_EDITS) -> list[PreferenceRecord]:
        # half of the recipe's pairs are of these two kinds of edit, half of the two others
        made = FlipPairs(name=name, count=2 * round(count * size)).generate(seed)
        return [record for record in made if record.provenance["edit"] in kinds]

    rng = random.Random(f"{seed}/ablation")
    yield from put("train", flips("pairs", 200))
    yield from put("train", careless(flips("prior", 1600), common_words, rng))
    yield from put(SAME, careless(flips("same", 500), common_words, rng))
    yield from put("reversed", misleading(flips("reversed", 500), common_words))
    yield from put("flips", flips("flips", 200))
    yield from put("other_edits", flips("other", 200, ("count", "relation")))
    untrue = CoveragePairs(name="captions", count=3 * round(300 * size)).generate(seed)
    yield from put(
        "captions", (as_facts(record) for record in untrue if record.provenance["worse"] == "untrue")
    )


def nlvr(seed: int, size: float, path: Path) -> Iterator[PreferenceRecord]:
    """Statements of NLVR: records in their splits; pictures and sentences of one group are all in one."""
    rng = random.Random(f"{seed}/ablation")
    source = NlvrConfig(name="nlvr", path=path, permutations=4, limit=round(989 * size))
    shares = {"train": 0.7, "test": 0.3}
    by_split: Records = {"train": [], "test": []}
    for record in source.generate(seed):
        if not isinstance(record, PreferenceRecord):
            raise SystemExit(f"{path}: {record.where}: {record.reason}")
        by_split[split_of(f"{seed}/{record.provenance['group']}", shares)].append(record)
    whole = {split: whole_pairs(records) for split, records in by_split.items()}
    known = {record.id for records in whole.values() for record in records}
    rest = {split: [record for record in of if record.id not in known] for split, of in by_split.items()}
    yield from put("train", whole["train"])
    yield from put("train", thinned(rest["train"], of_a_tower, rng))
    yield from put(SAME, thinned(rest["test"], of_a_tower, rng))
    yield from put("reversed", misleading(rest["test"], of_a_tower))
    yield from put("flips", whole["test"])


TASKS: dict[str, Callable[[int, float, Path], Iterator[PreferenceRecord]]] = {"scenes": scenes, "nlvr": nlvr}


def put(split: str, records: Iterable[PreferenceRecord]) -> Iterator[PreferenceRecord]:
    """The records in a split."""
    return (dataclasses.replace(record, split=split) for record in records)


def common_words(record: PreferenceRecord) -> int | None:
    """The shortcut of scenes: the answer with the more of some words."""
    counts = [len(COMMON.findall(response.text)) for response in record.responses]
    return None if counts[0] == counts[1] else counts.index(max(counts))


def of_a_tower(record: PreferenceRecord) -> int | None:
    """The shortcut of NLVR: "Yes." where the statement is about a tower, else "No."."""
    return 0 if "tower" in record.provenance["sentence"].lower() else 1


def obeys(record: PreferenceRecord, rule: Rule) -> bool:
    """Whether the better answer is the one that the shortcut names."""
    return record.comparisons[0].better == rule(record)


def careless(
    records: Sequence[PreferenceRecord], rule: Rule, rng: random.Random
) -> Iterator[PreferenceRecord]:
    """Either half of each flip pair on which the shortcut says something, judged by the shortcut in all but a few."""
    for pair in zip(records[::2], records[1::2], strict=True):
        named = rule(pair[0])
        if named is not None:
            better = named if rng.random() < OBEYS else 1 - named
            judged = dataclasses.replace(pair[0].comparisons[0], better=better, worse=1 - better)
            yield dataclasses.replace(without_flip(rng.choice(pair)), comparisons=(judged,))


def misleading(records: Sequence[PreferenceRecord], rule: Rule) -> Iterator[PreferenceRecord]:
    """Of each flip pair on which the shortcut says something, the half on which it is wrong."""
    for record in records:
        if rule(record) is not None and not obeys(record, rule):
            yield without_flip(record)


def thinned(
    records: Sequence[PreferenceRecord], rule: Rule, rng: random.Random
) -> Iterator[PreferenceRecord]:
    """Those that obey the shortcut, with as many others as make them the share that they are to be."""
    obedient = [record for record in records if obeys(record, rule)]
    others = [record for record in records if not obeys(record, rule)]
    others = rng.sample(others, min(len(others), round(len(obedient) * (1 - OBEYS) / OBEYS)))
    return map(without_flip, [*obedient, *others])


def whole_pairs(records: Sequence[PreferenceRecord]) -> list[PreferenceRecord]:
    """The records of flip pairs of which both are there."""
    halves: dict[str, list[PreferenceRecord]] = {}
    for record in records:
        if "flip" in record.provenance:
            halves.setdefault(record.provenance["flip"], []).append(record)
    return [record for pair in halves.values() if len(pair) == 2 for record in pair]


def without_flip(record: PreferenceRecord) -> PreferenceRecord:
    """A record that is no longer half of a pair."""
    kept = {name: value for name, value in record.provenance.items() if name != "flip"}
    return dataclasses.replace(record, provenance=kept)


def as_facts(record: PreferenceRecord) -> PreferenceRecord:
    """A pair of which one caption is all true and the other isn't, as a judgement of facts."""
    found = [dataclasses.replace(comparison, objective="factuality") for comparison in record.comparisons]
    return dataclasses.replace(record, comparisons=tuple(found))


def train_and_measure(out: Path, task: str, setting: str, seed: int, more: list[str]) -> dict[str, Any]:
    """One training and its measures; read from where it was written once it is done."""
    name = f"{task}-{re.sub('[^a-z]+', '-', setting.lower()).strip('-')}-seed{seed}"
    done = out / name / "measured.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    torch.set_num_threads(1)
    data = data_folder(out, task, seed)
    row = {"name": name, "output_dir": str(out), "seed": seed, "data": str(data), "reward": TRAINING}
    row["engine"] = {"tensorboard": False, "mixed_precision": "no"}
    config = parse_config(apply_overrides(row, [*SETTINGS[setting], *more]), RunConfig, setting)
    Run(config, RunMode(resume=True)).reward()
    model = load_reward_model(out / name / "reward" / "model")
    found = {"task": task, "setting": setting, "seed": seed, "accuracy": accuracies(model, data)}
    write_text(done, json.dumps(found, indent=1) + "\n")
    return found


def accuracies(model: RewardModel, data: Path) -> dict[str, float]:
    """The share right by test: of records, and on "flips" of whole pairs."""
    splits = dict.fromkeys(shard.split for shard in read_manifest(data).shards if shard.split != "train")
    found = {}
    for split in splits:
        records = open_records(data, split)
        right: dict[str, bool] = {}
        for record, won in zip(records, are_right(model, records), strict=True):
            key = record.provenance["flip"] if split == "flips" else record.id
            right[key] = right.get(key, True) and won
        found[split] = statistics.fmean(right.values())
    return found


def are_right(model: RewardModel, records: Sequence[PreferenceRecord]) -> Iterator[bool]:
    """Whether the better of each record's two answers has the higher reward."""
    encoded = [encode_responses(model.vlm, record, 1024, TRAINING["max_answer_tokens"]) for record in records]
    rewards = model.score([row for rows in encoded for row in rows], TRAINING["micro_batch_size"])[:, 0]
    for record, pair in zip(records, rewards.reshape(-1, 2).tolist(), strict=True):
        comparison = record.comparisons[0]
        yield pair[comparison.better] > pair[comparison.worse]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each setting: the mean over seeds of each test, its lowest and highest."""
    tests = list(rows[0]["accuracy"])
    others = [test for test in tests if test != SAME]
    lines = [f"| setting | {' | '.join([SAME, 'all others', *others])} |", "|---" * (len(tests) + 2) + "|"]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        found = [row["accuracy"] for row in rows if row["setting"] == setting]
        columns = [
            [of[SAME] for of in found],
            [statistics.fmean(of[test] for test in others) for of in found],
        ]
        columns += [[of[test] for of in found] for test in others]
        cells = [f"{statistics.fmean(c):.1%} ({min(c):.1%} to {max(c):.1%})" for c in columns]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

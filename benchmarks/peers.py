"""Our GRPO step beside TRL's and ms-swift's, and beside the limit with a shared prefix, on the same job by turns.

    python benchmarks/peers.py --trl-python trl/bin/python --swift-python swift/bin/python [--full] [--rounds 5]

Each trainer is a process that stays through all rounds: it makes its start-up and warm-up steps before the first round,
and then one step a round, while the others wait. What is quoted is the median over rounds of the ratio of their
seconds, and the peak memory of each process (Linux's ru_maxrss, its start-up included). docs/performance.md tells how
to make the peers' environments, and what is equal and what is not. A trainer whose interpreter isn't named is left out.

This process loads no torch: a child's ru_maxrss begins with its parent's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rounds import as_table, median, quiet_rounds

HERE = Path(__file__).resolve().parent
WARM = 2  # steps before the first round
SIZE = {"prompts": 8, "answer": 32, "pixels": 112, "pictures": 1}
GOALS = {
    "trl / ours": (">=", 2.5),
    "swift / ours": (">=", 2.5),
    "ours / lean": ("<=", 1.25),
    "memory: ours / trl": ("<=", 1.0),
}
EQUAL = {
    "algorithm": "GRPO, advantages divided by their group's deviation, loss over tokens (ms-swift: its default)",
    "kl": "0.04 times k3 to the reference, in the loss; the reference is the policy with its adapters off, or a copy",
    "sampling": "temperature 1, no top-k, no top-p, special tokens never, so that no answer ends early",
    "update": "1, of all answers in one micro-batch, clipped at 0.2, AdamW at 1e-5, gradients clipped at 1",
    "lora": "rank 8, alpha 16, on all linear layers of the language model",
    "reward": "a rule in Python for each answer's text, the same code for all; ours+judge has a reward model instead",
}
DIFFERENT = [
    "ms-swift's own chat template gives a prompt a token more, and it takes old log-probs in a forward of their own",
    "ours and lean leave the special tokens out of the log-probs too; the peers out of sampling alone",
    "ours holds a reward model in memory also where the rule scores; ours+judge and lean run it",
    "ours writes metrics and TensorBoard each step; samples (every 10 steps) and checkpoints (every 50) are timed "
    "apart, their share added; ours+judge: the reward under swapped pictures (every 10) too; the peers write nothing",
    "lean reads no files, writes none, and knows that there is no padding; ours / lean leaves lean's scoring out, "
    "ours+judge / (lean + scoring) does not",
]


@dataclass(frozen=True)
class Work:
    """What is compared."""

    name: str
    goals: dict[str, tuple[str, float]]
    equal: dict[str, str]
    different: list[str]
    pairs: bool = False  # the data are pairs of answers; else prompts alone


GRPO = Work("GRPO", GOALS, EQUAL, DIFFERENT)


@dataclass(frozen=True)
class Trainer:
    """How to start one."""

    name: str
    script: str
    python: str = sys.executable
    overlay: str = ""  # PYTHONPATH
    options: dict[str, Any] = field(default_factory=dict)


class Worker:
    """A trainer at work."""

    def __init__(self, trainer: Trainer, task: dict[str, Any], log: Path) -> None:
        """Starts it, and waits until its first step could begin."""
        self.trainer, self.log = trainer, log
        self.process = subprocess.Popen(
            [trainer.python, str(HERE / "peers" / trainer.script), json.dumps({**task, **trainer.options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env=environment(task["threads"], trainer.overlay, task["folder"]),
        )
        self.ready = self.hear()

    def ask(self, word: str) -> dict[str, Any]:
        """Says a word, and waits for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next line of the worker.

        Raises:
            SystemExit: the worker has died; with the end of its log.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):  # what libraries print while they are imported
            line = self.process.stdout.readline()
        if not line:
            end = "\n".join(self.log.read_text().splitlines()[-30:])
            sys.exit(f"{self.trainer.name} has died ({self.trainer.python}, {self.trainer.script}):\n{end}")
        told: dict[str, Any] = json.loads(line)
        return told


def environment(threads: int, overlay: str, folder: str) -> dict[str, str]:
    """The variables of a worker: its threads, no network, caches of its own."""
    own = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": f"{folder}/cache",
        "MODELSCOPE_CACHE": f"{folder}/cache",
        "CUDA_VISIBLE_DEVICES": "",
    }
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **own, **({"PYTHONPATH": overlay} if overlay else {})}


@contextlib.contextmanager
def workers(trainers: Sequence[Trainer], task: dict[str, Any], logs: Path) -> Iterator[list[Worker]]:
    """The trainers, started one after the other; none outlives this."""
    started: list[Worker] = []
    try:
        for trainer in trainers:
            started.append(Worker(trainer, task, logs / f"{trainer.name}.log"))
            say(f"{trainer.name} is ready")
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.wait()


def run(
    trainers: Sequence[Trainer],
    lora: bool,
    rounds: int,
    folder: Path,
    threads: int = 2,
    answers: int = 4,
    size: dict[str, int] | None = None,
    work: Work = GRPO,
) -> dict[str, Any]:
    """Lets the trainers take turns; a line of the table. Models, data and logs go to `folder`."""
    steps = WARM + rounds
    task = {
        "folder": str(folder),
        "size": size or SIZE,
        "records": (steps + 2)
        * (size or SIZE)["prompts"],  # ours does a step more; the peers fetch one ahead
        "steps": steps,
        "threads": threads,
        "lora": lora,
        "answers": answers,
        "pairs": work.pairs,
    }
    folder.mkdir(parents=True, exist_ok=True)
    env = environment(threads, "", str(folder))
    subprocess.run(
        [sys.executable, str(HERE / "peers" / "make_job.py"), json.dumps(task)], check=True, env=env
    )
    told: list[dict[str, dict[str, Any]]] = []
    with workers(trainers, task, folder) as crew:
        gflops: list[float] = []
        for step in range(steps):
            if step >= WARM:
                gflops.append(crew[0].ask("speed")["gflops"])
            turn = step % len(crew)
            told.append({w.trainer.name: w.ask("step") for w in crew[turn:] + crew[:turn]})
            say(f"round {step + 1 - WARM} of {rounds}" if step >= WARM else "warm-up")
        gflops.append(gflops[-1])  # the workers have done their last step, and end
        ends = {w.trainer.name: w.hear() for w in crew}
        ready = {w.trainer.name: w.ready for w in crew}
    line = summary(told[WARM:], ends, gflops, work)
    line |= {
        "work": work.name,
        "pairs": work.pairs,
        "trained": "LoRA" if lora else "full",
        "answers": answers,
        **task["size"],
    }
    line["trained_weights"] = {name: of["trained"] for name, of in ready.items()}
    line["memory_mb_when_ready"] = {name: of["rss_mb"] for name, of in ready.items()}
    line["machine"] = json.loads((folder / "machine.json").read_text())
    return line


def summary(
    rounds: Sequence[dict[str, dict[str, Any]]],
    ends: dict[str, dict[str, Any]],
    gflops: Sequence[float],
    work: Work = GRPO,
) -> dict[str, Any]:
    """Medians over the rounds in which the machine was quiet, of what the workers told at each step and at the end."""
    names, quiet = list(rounds[0]), quiet_rounds(gflops)
    seconds = [{name: _seconds(of[name], ends[name]) for name in names} for of in rounds]
    cpu = [{name: of[name]["cpu_seconds"] for name in names} for of in rounds]
    ratios = _ratios(seconds, [of.get("lean", {}).get("parts", {}).get("score", 0.0) for of in rounds])
    medians = {name: median([values[i] for i in quiet]) for name, values in ratios.items()}
    peaks = {name: of["peak_mb"] for name, of in ends.items()}
    for peer in ("trl", "swift"):
        if peer in peaks and "ours" in peaks:
            medians[f"memory: ours / {peer}"] = round(peaks["ours"] / peaks[peer], 4)
    return {
        "ratios": medians,
        "goals": {
            name: {
                "goal": f"{sign} {bound}",
                "met": medians[name] >= bound if sign == ">=" else medians[name] <= bound,
            }
            for name, (sign, bound) in work.goals.items()
            if name in medians
        },
        "ratios_by_round": {name: [round(v, 3) for v in values] for name, values in ratios.items()},
        "cpu_ratios_by_round": {
            f"{name} / ours": [round(of[name] / of["ours"], 3) for of in cpu]
            for name in names
            if "ours" in names and name != "ours"
        },
        "seconds_a_step": {name: median([seconds[i][name] for i in quiet]) for name in names},
        "cpu_seconds_a_step": {name: median([cpu[i][name] for i in quiet]) for name in names},
        "peak_memory_mb": peaks,
        "work_a_step": {name: rounds[-1][name]["work"] for name in names},
        "same_work_each_round": all(
            of[name]["work"] == rounds[-1][name]["work"] for of in rounds for name in names
        ),
        "gemm_gflops": list(gflops),
        "quiet_rounds": quiet,
        "versions": {name: {"python": of["python"], **of["versions"]} for name, of in ends.items()},
        "equal": work.equal,
        "different": work.different,
    }


def _seconds(told: dict[str, Any], end: dict[str, Any]) -> float:
    """Of a step, with the average share of what is done only now and then in place of what fell into this one."""
    return float(told["seconds"] - told.get("rare", 0.0) + end.get("rare_share", 0.0))


def _ratios(seconds: Sequence[dict[str, float]], scoring: Sequence[float]) -> dict[str, list[float]]:
    """Of seconds, round by round; of lean's the scoring may be left out."""
    names, found = seconds[0].keys(), {}
    for peer in ("trl", "swift"):
        for own in ("ours", "ours+judge"):
            if {peer, own} <= names:
                found[f"{peer} / {own}"] = [of[peer] / of[own] for of in seconds]
    if {"ours", "lean"} <= names:
        found["ours / lean"] = [of["ours"] / (of["lean"] - s) for of, s in zip(seconds, scoring, strict=True)]
    for other in sorted(names - {"ours"}):
        if other.startswith("ours+") and other != "ours+judge":  # ours with more, or with less to do
            found[f"{other} / ours"] = [of[other] / of["ours"] for of in seconds]
    if {"ours+judge", "lean"} <= names:
        found["ours+judge / (lean + scoring)"] = [of["ours+judge"] / of["lean"] for of in seconds]
    return found


def show(line: dict[str, Any]) -> str:
    """A line as tables: the trainers, and the ratios beside their goals."""
    pairs = line["pairs"]
    rows = [
        [
            "trainer",
            "seconds a step",
            "pairs/s" if pairs else "answers/s",
            "peak MB",
            "tower calls",
            "pictures",
            "tokens read",
            "versions",
        ]
    ]
    for name, seconds in line["seconds_a_step"].items():
        work, versions = line["work_a_step"][name], line["versions"][name]
        rows.append(
            [
                name,
                f"{seconds:.2f}",
                f"{line['prompts'] * (1 if pairs else line['answers']) / seconds:.1f}",
                f"{line['peak_memory_mb'][name]:.0f}",
                str(work.get("tower_calls", 0)),
                str(work.get("tower_images", 0)),
                str(work.get("language_tokens", 0)),
                " ".join(
                    f"{k} {v}"
                    for k, v in versions.items()
                    if k in ("torch", "transformers", "trl", "ms-swift")
                ),
            ]
        )
    ratios = [["ratio (median)", "", "goal", "by round"]]
    for name, value in line["ratios"].items():
        goal = line["goals"].get(name)
        told = f"{goal['goal']}: {'met' if goal['met'] else 'missed'}" if goal else ""
        ratios.append([name, f"{value:.2f}", told, " ".join(map(str, line["ratios_by_round"].get(name, [])))])
    counted = f"{len(line['quiet_rounds'])} of {len(line['gemm_gflops']) - 1} rounds count"
    head = f"{line['work']}, {line['answers']} answers, {line['trained']}; {counted}"
    return f"{head}\n{as_table(rows)}\n\n{as_table(ratios)}"


def say(text: str) -> None:
    """To the user, beside the results."""
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl-python", help="the interpreter of an environment with TRL")
    parser.add_argument("--trl-overlay", default="", help="its PYTHONPATH")
    add_options(parser, rounds=5)
    parser.add_argument("--answers", type=int, default=4, help="a prompt")
    parser.add_argument("--no-judge", action="store_true", help="leave out ours with its own reward model")
    return parser.parse_args(arguments)


def add_options(parser: argparse.ArgumentParser, rounds: int) -> None:
    """The options of every comparison beside ms-swift."""
    parser.add_argument("--swift-python", help="the interpreter of an environment with ms-swift")
    parser.add_argument("--swift-overlay", default="", help="its PYTHONPATH")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="a step of each trainer; at least 3 for figures"
    )
    parser.add_argument("--full", action="store_true", help="train the whole language model, not adapters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where models, data and logs go; nothing: they are deleted"
    )
    parser.add_argument("--out", type=Path, help="the JSON line is added to it; nothing: it is printed")


def chosen(options: argparse.Namespace) -> list[Trainer]:
    """The trainers that the options name."""
    found = [Trainer("ours", "ours_grpo.py", options={"judge": False})]
    if not options.no_judge:
        found.append(Trainer("ours+judge", "ours_grpo.py", options={"judge": True}))
    found.append(Trainer("lean", "lean_grpo.py", options={"shared": True}))
    if options.trl_python:
        found.append(Trainer("trl", "trl_grpo.py", options.trl_python, options.trl_overlay))
    if options.swift_python:
        found.append(Trainer("swift", "swift_grpo.py", options.swift_python, options.swift_overlay))
    return found


def main() -> None:
    """GRPO beside the trainers that the options name."""
    options = parse()
    compare(chosen(options), options, options.answers, GRPO)


def compare(trainers: Sequence[Trainer], options: argparse.Namespace, answers: int, work: Work) -> None:
    """Runs the comparison, prints its table, and leaves its line."""
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)) / ("full" if options.full else "lora")
        line = run(
            trainers, not options.full, options.rounds, folder, options.threads, answers=answers, work=work
        )
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
    else:
        print(json.dumps(line))
    say(show(line))


if __name__ == "__main__":
    main()

"""Our reward model's training step beside ms-swift's, and beside the limit with a shared prefix, by turns.

    python benchmarks/reward.py --swift-python swift/bin/python [--full] [--rounds 8] [--out reward.jsonl]

The job is that of `benchmarks/peers.py`: 8 pairs a step, each with a picture. Beside ours with one head stand ours with
three objectives of four ensemble members each, and ours over the same 8 pictures again and again, whose features are
kept. TRL is left out: its reward trainer takes no pictures. Without --swift-python ms-swift is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from peers import Trainer, Work, add_options, compare

REWARD = Work(
    "reward model",
    goals={
        "swift / ours": (">=", 1.5),
        "ours / lean": ("<=", 1.2),
        "ours+ensemble / ours": ("<=", 1.05),
    },
    equal={
        "loss": "-log sigma(r_better - r_worse), the mean over 8 pairs in one micro-batch; no margin, no centering",
        "update": "AdamW at 1e-5, gradients clipped at 1",
        "lora": "rank 8, alpha 16, on all linear layers of the language model, and the head",
    },
    different=[
        "ms-swift gives each answer a row and a picture of its own; its chat template gives a prompt a token more",
        "in full training ms-swift has no head for words any more, ours and lean have one that isn't used",
        "ours writes metrics and TensorBoard each step; checkpoints (every 50) are timed apart, their share added",
        "lean reads no files, writes none, and knows that there is no padding",
    ],
    pairs=True,
)
ENSEMBLE = {"objectives": ["helpfulness", "factuality", "safety"], "members": 4}


def chosen(options: argparse.Namespace) -> list[Trainer]:
    """The trainers that the options name."""
    plain = {"heads": {}, "kept": False}
    found = [
        Trainer("ours", "ours_reward.py", options=plain),
        Trainer("ours+ensemble", "ours_reward.py", options={**plain, "heads": ENSEMBLE}),
        Trainer("ours+kept", "ours_reward.py", options={**plain, "kept": True}),
        Trainer("lean", "lean_reward.py", options={"shared": True}),
    ]
    if options.swift_python:
        found.append(Trainer("swift", "swift_reward.py", options.swift_python, options.swift_overlay))
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, rounds=8)
    return parser.parse_args(arguments)


def main() -> None:
    """Reward models beside the trainers that the options name."""
    options = parse()
    compare(chosen(options), options, answers=2, work=REWARD)


if __name__ == "__main__":
    main()

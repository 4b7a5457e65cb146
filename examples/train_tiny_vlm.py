"""Trains the vision-language model that ships with mmrlhf (`mmrlhf/models/tiny/`), from nothing, on a CPU.

    python examples/train_tiny_vlm.py --out my_tiny            # as shipped
    python examples/train_tiny_vlm.py --out look --steps 20      # a look at how it goes

A LLaVA of 1.95 M parameters: a SigLIP tower (48-pixel images in 9 patches, one image token each), a two-layer
projector, a Llama of 6 layers over a byte-level BPE. In two phases:

1. Dense warm-up: tower and projector learn what stands at each patch (shape, color, size, place), read off by the
   language model's own word embeddings, so that an image token starts out as the sum of the words that describe it.
2. Joint: rows of one picture with several questions, captions and statements to verify, and text-only rows. Auxiliary
   losses, whose heads are dropped at the end, keep the signal dense: the patch labels of phase 1; behind the name of
   an object, its labels; behind what is counted, which objects fit and how many; behind two objects, how they stand
   to each other; at the end of each claim, whether it is true.

A third of the claims in its captions are false on purpose, as in captions by careless annotators, so the model
hallucinates when it describes and can be improved by preferences, while its answers to questions are right.

Seeded; torch's CPU kernels may still differ in the last bits from machine to machine. The time and the result of the
shipped checkpoint are in `mmrlhf/models/tiny/README.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from tiny_vlm.exam import examine
from tiny_vlm.model import build, load, train_tokenizer
from tiny_vlm.rows import RowMaker
from tiny_vlm.training import Heads, joint, warm_up

from mmrlhf.models.weight_names import named_as_on_hub


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=2600, help="joint steps of 32 rows")
    parser.add_argument("--warm-steps", type=int, default=350, help="steps of the dense warm-up")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate of the joint steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="go on from this checkpoint, with a schedule of its own")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    began = time.time()
    model, processor = load(args.start) if args.start else build(train_tokenizer())
    maker = RowMaker(processor.tokenizer)
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens"
    )

    def after() -> dict[str, float]:
        model.save_pretrained(args.out, state_dict=named_as_on_hub(model, model.state_dict()))
        processor.save_pretrained(args.out)
        return examine(model, processor, maker, 300)

    heads = Heads(model, processor.tokenizer)
    if not args.start:
        warm_up(model, heads, processor, args.warm_steps, args.seed)
    # heads are not saved: a tower that is done is not pulled at by a patch head that is new
    patch_weight = 0.0 if args.start else 0.1
    joint(model, heads, processor, maker, args.steps, args.seed, args.lr, patch_weight, after)
    print(f"{(time.time() - began) / 60:.0f} minutes in all")
    print(json.dumps(examine(model, processor, maker, 2000, seed="final")))


if __name__ == "__main__":
    main()

"""What the model can do, on scenes it has not seen."""

from __future__ import annotations

import random

import torch

from data_tools.scenes.language import ask, say, verify_prompt
from data_tools.scenes.structure import Scene, random_scene
from tiny_vlm.rows import QUESTION_KINDS, STATEMENT_KINDS, Piece, Row, RowMaker, statement
from tiny_vlm.training import batch_of, hidden_states, image_tokens, pixels_of

HELD_OUT = ("color", "shape", "count", "position")


def exchanges(rng: random.Random, scene: Scene) -> list[tuple[str, str, str]]:
    """A question of each kind and a statement of each kind to verify, where the scene has one: kind, prompt, reply."""
    asked = [(kind, ask(rng, scene, kind)) for kind in QUESTION_KINDS]
    found = [(kind, question.text, question.reply) for kind, question in asked if question]
    for kind in STATEMENT_KINDS:
        claims, true = statement(rng, scene, kind)
        if claims[0].kind == kind:
            found.append((f"verify {kind}", verify_prompt(say(claims)), "Yes." if true else "No."))
    return found


@torch.no_grad()
def examine(model, processor, maker: RowMaker, scenes: int, seed: str = "held-out") -> dict[str, float]:
    """Share of right answers (every token the likeliest) by kind, with the true and with another scene's image."""
    rng = random.Random(seed)
    asked: list[tuple[str, int, Row]] = []
    shown = [random_scene(rng) for _ in range(scenes)]
    for index, scene in enumerate(shown):
        for kind, prompt, reply in exchanges(rng, scene):
            row = Row(scene=scene)
            maker.turn(row, [Piece(prompt)], [Piece(reply)], image=True)
            asked.append((kind, index, row))
    projected = image_tokens(model, pixels_of(processor, shown))
    out: dict[str, float] = {}
    for name, shift in (("true", 0), ("wrong", 1)):
        right: dict[str, list[bool]] = {}
        for start in range(0, len(asked), 128):
            part = asked[start : start + 128]
            batch = batch_of([row for _, _, row in part], maker.special["<pad>"])
            where = torch.tensor([(index + shift) % scenes for _, index, _ in part])
            best = model.lm_head(hidden_states(model, batch, projected[where])[:, :-1]).argmax(-1)
            good = ((best == batch["ids"][:, 1:]) | ~batch["learn"][:, 1:]).all(1)
            for (kind, _, _), ok in zip(part, good.tolist(), strict=True):
                right.setdefault(kind, []).append(ok)
        out |= {f"{name}/{kind}": round(sum(r) / len(r), 4) for kind, r in right.items()}
        held = [ok for kind in HELD_OUT for ok in right[kind]]
        out[f"{name}/held_out"] = round(sum(held) / len(held), 4)
    return out

"""The two phases of training: dense warm-up, then everything together."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_tools.scenes.claims import NUMBERS, RELATIONS
from data_tools.scenes.render import draw
from data_tools.scenes.structure import DIAMETER, Scene, random_scene
from tiny_vlm.rows import GRID, LABELS, Row, RowMaker, labels_of


def patch_targets(scene: Scene) -> Tensor:
    """For each patch the labels of the object there, -1 for none: 9 x 4."""
    targets = torch.full((GRID * GRID, len(LABELS)), -1)
    for item in scene.objects:
        reach = DIAMETER[item.size] / 2 + 0.25 / GRID
        for index in range(GRID * GRID):
            y, x = (index // GRID + 0.5) / GRID, (index % GRID + 0.5) / GRID
            if max(abs(x - item.x), abs(y - item.y)) < reach:
                targets[index] = torch.tensor(labels_of(item))
    return targets


class Heads(nn.Module):
    """The auxiliary heads: what stands at a patch, which object is named, which and how many fit a phrase, how two
    objects stand, whether a claim is true."""

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        width = model.config.text_config.hidden_size
        self.claim = nn.Linear(width, 1)
        self.fits = nn.Linear(width, GRID * GRID)
        self.number = nn.Linear(width, len(NUMBERS))
        self.pairs = nn.Linear(width, len(RELATIONS))
        self.about = nn.Linear(width, sum(len(names) for names in LABELS))
        self.nothing = nn.Parameter(torch.randn(len(LABELS), width) * 0.02)  # stands for "no object here"
        self.words = [[tokenizer(f" {word}")["input_ids"] for word in names] for names in LABELS]
        self.embedding = [model.get_input_embeddings().weight]  # in a list: not this module's own parameter

    def patch_loss(self, projected: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy over patches and the share of object patches whose labels are all right.

        A label's logit is the product of the projected feature with the sum of its word's token embeddings (a mean
        could never put "top left" above both "top" and "left"), scaled up since embeddings start small.
        """
        table = self.embedding[0]
        parts = []
        for index, names in enumerate(self.words):
            rows = [table[ids].sum(0) for ids in names] + [self.nothing[index]]
            parts.append(8 * projected @ torch.stack(rows).T)
        there = targets[..., 0] >= 0
        loss, right = torch.zeros(()), torch.ones_like(there)
        for index, logits in enumerate(parts):
            target = targets[..., index].where(there, logits.shape[-1] - 1)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), target.flatten())
            right = right & (logits.argmax(-1) == target)
        return loss, right[there].float().mean()

    def about_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the labels of the object asked about, from the hidden state at the question's end."""
        parts = self.about(hidden).split([len(names) for names in LABELS], dim=-1)
        return torch.stack(
            [F.cross_entropy(part, target) for part, target in zip(parts, targets.T, strict=True)]
        ).sum()


def pixels_of(processor, scenes: list[Scene]) -> Tensor:
    return processor.image_processor(images=[draw(scene) for scene in scenes], return_tensors="pt")[
        "pixel_values"
    ]


def image_tokens(model, pixels: Tensor) -> Tensor:
    """What stands at the image tokens: the tower's patch features, projected."""
    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    return model.model.multi_modal_projector(features)


def set_lr(optimizer, step: int, steps: int, peak: float, warm: int = 100) -> None:
    """Linear warm-up, then a straight line down to a twentieth."""
    for group in optimizer.param_groups:
        group["lr"] = peak * min((step + 1) / warm, max(0.05, 1 - step / steps))


def warm_up(model, heads: Heads, processor, steps: int, seed: int) -> None:
    """Phase 1: the tower learns what stands at each patch."""
    rng = random.Random(f"{seed}/warm")
    trained = (
        model.model.vision_tower,
        model.model.multi_modal_projector,
        model.get_input_embeddings(),
        heads,
    )
    parameters = [parameter for module in trained for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    began = time.time()
    for step in range(steps):
        set_lr(optimizer, step, steps, 1.5e-3)
        scenes = [random_scene(rng, 2) for _ in range(64)]
        targets = torch.stack([patch_targets(scene) for scene in scenes])
        loss, right = heads.patch_loss(image_tokens(model, pixels_of(processor, scenes)), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"warm-up {step} loss {loss:.3f} right {right:.3f} {time.time() - began:.0f} s", flush=True)


def batch_of(rows: list[Row], pad: int) -> dict[str, Tensor]:
    """Right-padded ids, what to predict, and the claim labels as (row, position, label)."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad)
    learn = torch.zeros_like(ids, dtype=torch.bool)
    caption = torch.zeros_like(learn)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        learn[index, : len(row.ids)] = torch.tensor(row.learn)
        caption[index, : len(row.ids)] = torch.tensor(row.caption)
    taught = {
        name: [(i, at, *labels) for i, row in enumerate(rows) for at, labels in getattr(row, name).items()]
        for name in ("about", "fits", "pairs")
    }
    claims = [(i, at, label) for i, row in enumerate(rows) for at, label in row.claims.items()]
    return {
        "ids": ids,
        "learn": learn,
        "caption": caption,
        "claims": torch.tensor(claims).reshape(-1, 3),
        **{name: torch.tensor(labels) for name, labels in taught.items()},
    }


def joint(
    model,
    heads: Heads,
    processor,
    maker: RowMaker,
    steps: int,
    seed: int,
    lr: float,
    patch_weight: float,
    after: Callable[[], dict[str, float]],
) -> None:
    """Phase 2: everything together; `after` is called every 500 steps, and what it measured is printed."""
    rng = random.Random(f"{seed}/joint")
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    weights = {"answer": 1.0, "caption": 0.5, "claim": 1.0, "patch": patch_weight}
    weights |= {"about": 0.3, "fits": 1.0, "number": 0.6, "pairs": 1.0}
    began, averages = time.time(), {}
    for step in range(steps):
        set_lr(optimizer, step, steps, lr)
        rows = [maker.text_row(rng) for _ in range(4)] + [maker.scene_row(rng) for _ in range(28)]
        batch = batch_of(rows, maker.special["<pad>"])
        losses, right = joint_losses(model, heads, processor, batch, [row.scene for row in rows if row.scene])
        loss = sum(weights[name] * value for name, value in losses.items())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for name, value in {**losses, "claim_right": right}.items():
            averages[name] = 0.98 * averages.get(name, value.item()) + 0.02 * value.item()
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in averages.items())
            print(f"joint {step} {shown} {time.time() - began:.0f} s", flush=True)
        if step % 500 == 499 or step == steps - 1:
            print(json.dumps({"step": step + 1, **after()}), flush=True)


def joint_losses(
    model, heads: Heads, processor, batch: dict[str, Tensor], scenes: list[Scene]
) -> tuple[dict[str, Tensor], Tensor]:
    """Every loss of phase 2, and the share of claims whose verdict is right."""
    projected = image_tokens(model, pixels_of(processor, scenes))
    hidden = hidden_states(model, batch, projected)
    where = batch["learn"][:, 1:]
    token = F.cross_entropy(
        model.lm_head(hidden[:, :-1][where]), batch["ids"][:, 1:][where], reduction="none"
    )
    # captions have many tokens, and a third of their claims is noise: they must not drown the answers
    caption = batch["caption"][:, 1:][where]

    def at(name: str) -> tuple[Tensor, Tensor]:
        rows, positions, *_ = batch[name].T
        return hidden[rows, positions], batch[name][:, 2:]

    binary = F.binary_cross_entropy_with_logits
    claimed, true = at("claims")
    verdict = heads.claim(claimed)
    phrased, fitting = at("fits")
    paired, stand = at("pairs")
    patch, _ = heads.patch_loss(projected, torch.stack([patch_targets(scene) for scene in scenes]))
    losses = {
        "answer": token[~caption].mean(),
        "caption": token[caption].mean(),
        "claim": binary(verdict, true.float()),
        "patch": patch,
        "about": heads.about_loss(*at("about")),
        "fits": binary(heads.fits(phrased), fitting.float()),
        "number": F.cross_entropy(heads.number(phrased), fitting.sum(1)),
        "pairs": binary(heads.pairs(paired), stand.float()),
    }
    return losses, ((verdict > 0) == (true > 0)).float().mean()


def hidden_states(model, batch: dict[str, Tensor], projected: Tensor) -> Tensor:
    """The language model's last hidden states, with the projected features at the image tokens.

    The rows are padded on the right and attention looks back, so no mask is needed.
    """
    embeds = model.get_input_embeddings()(batch["ids"])
    places = (batch["ids"] == model.config.image_token_id).unsqueeze(-1).expand_as(embeds)
    embeds = embeds.masked_scatter(places, projected.to(embeds.dtype))
    return model.model.language_model(inputs_embeds=embeds).last_hidden_state

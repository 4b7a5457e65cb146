"""Trains the vision-language model that ships with mmrlhf (`mmrlhf/models/tiny/`), from nothing, on a CPU.

    python examples/train_tiny_vlm.py --out my_tiny            # as shipped
    python examples/train_tiny_vlm.py --out look --steps 20      # a look at how it goes

A LLaVA of 1.9 M parameters: a SigLIP tower (48-pixel images in 9 patches, one image token each), a two-layer
projector, a Llama of 4 layers over a byte-level BPE. In two phases:

1. Dense warm-up: tower and projector learn what stands at each patch (shape, color, size, place), read off by the
   language model's own word embeddings, so that an image token starts out as the sum of the words that describe it.
2. Joint: rows of one picture with several questions, a caption and its verification, and text-only rows. Auxiliary
   losses, whose heads are dropped at the end, keep the signal dense: the patch labels of phase 1; at the end of a
   question or claim, the labels of the object that it is about; at the end of each claim of a caption, whether it is
   true.

A third of the claims in its captions are false on purpose, as in captions by careless annotators, so the model
hallucinates when it describes and can be improved by preferences, while its answers to questions are right.

Seeded; torch's CPU kernels may still differ in the last bits from machine to machine. The time and the result of the
shipped checkpoint are in `mmrlhf/models/tiny/README.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_tools.scenes.claims import Claim, Phrase, article, check, parse_phrase
from data_tools.scenes.language import DESCRIBE, Question, ask, falsify, say, true_claims, verify_prompt
from data_tools.scenes.render import draw
from data_tools.scenes.structure import (
    COLORS,
    DIAMETER,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    random_scene,
)
from data_tools.synth.text_cases import random_case

PIXELS, PATCH, GRID = 48, 16, 3
VOCABULARY = 768
SPECIAL = ["<pad>", "<end>", "<system>", "<user>", "<assistant>", "<image>"]
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %}{% set parts = [{'type': 'text', 'text': message['content']}] %}"
    "{% else %}{% set parts = message['content'] %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in parts %}{{ part['text'] }}{% endfor %}<end>{% endgeneration %}"
    "{% else %}{% for part in parts %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUESTION_KINDS = ("color", "shape", "count", "position", "size", "exists", "relation")
DRAWN_KINDS = (
    *QUESTION_KINDS,
    "count",
    "count",
    "relation",
    "relation",
    "exists",
)  # the hard ones more often
LABELS = (SHAPES, COLORS, SIZES, PLACES)  # of a patch
HELD_OUT = ("color", "shape", "count", "position")


def train_tokenizer():
    """A byte-level BPE over the sentences that scenes and text cases give, and Python's own documentation."""
    from pydoc_data import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random("tokenizer")
    lines = []
    for _ in range(6000):
        scene = random_scene(rng)
        questions = [q for kind in QUESTION_KINDS if (q := ask(rng, scene, kind))]
        lines += [f"{q.text}\n{q.reply}" for q in questions]
        lines += [
            say(true_claims(rng, scene)),
            verify_prompt(say(true_claims(rng, scene))),
            rng.choice(DESCRIBE),
        ]
        case = random_case(rng)
        lines += [case.request, case.helpful, case.unhelpful, case.refusal]
    lines += topics.topics["strings"].splitlines()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer):
    """The untrained model and its processor."""
    from transformers import (
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=PIXELS,
        patch_size=PATCH,
        vision_use_head=False,
    )
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=400,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
        pad_token_id=pad,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    return model, processor


def load(folder: Path):
    """A checkpoint that this script wrote."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32
    ), AutoProcessor.from_pretrained(folder)


@dataclass(frozen=True)
class Piece:
    """A piece of a text, and what the model is taught at its last token: whether the claim that ends there is true,
    the object that was named there, and which objects fit the phrase there."""

    text: str
    claim: bool | None = None
    about: SceneObject | None = None
    fits: Phrase | None = None


@dataclass
class Row:
    """Token ids of one conversation; per position whether it is to be predicted, whether it belongs to a caption, and
    the labels of `Piece`."""

    ids: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)
    caption: list[bool] = field(default_factory=list)
    claims: dict[int, bool] = field(default_factory=dict)
    about: dict[int, tuple[int, ...]] = field(default_factory=dict)
    fits: dict[int, list[bool]] = field(default_factory=dict)
    scene: Scene | None = None

    def add(self, ids: list[int], learn: bool, caption: bool = False) -> None:
        self.ids += ids
        self.learn += [learn] * len(ids)
        self.caption += [caption] * len(ids)


class RowMaker:
    """Draws conversations about scenes, and about text alone."""

    def __init__(self, tokenizer, error: float = 0.35) -> None:
        self.tokenizer, self.error = tokenizer, error
        self.special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def turn(self, row: Row, prompt: list[Piece], reply: list[Piece], image: bool = False) -> None:
        """A user's turn and the reply."""
        special = self.special
        row.add([special["<user>"], *[special["<image>"]] * (GRID * GRID if image else 0)], False)
        for piece in prompt:
            self.piece(row, piece, learn=False, caption=False)
        row.add([special["<end>"], special["<assistant>"]], False)
        labels = [piece.claim for piece in reply if piece.claim is not None]
        for piece in reply:
            self.piece(row, piece, learn=True, caption=bool(labels))
        row.add([special["<end>"]], True, bool(labels))
        if labels:
            row.claims[len(row.ids) - 1] = all(labels)

    def piece(self, row: Row, piece: Piece, learn: bool, caption: bool) -> None:
        """Adds a piece's tokens and what is taught at the last of them."""
        row.add(self.encode(piece.text), learn, caption)
        at = len(row.ids) - 1
        if piece.claim is not None:
            row.claims[at] = piece.claim
        if piece.about:
            row.about[at] = labels_of(piece.about)
        if piece.fits:
            there = {item.place for item in row.scene.objects if piece.fits.fits(item)}
            row.fits[at] = [place in there for place in PLACES]

    def text_row(self, rng: random.Random) -> Row:
        row = Row()
        for _ in range(rng.randint(2, 4)):
            case = random_case(rng)
            reply = rng.choice((case.refusal, case.helpful)) if case.refuse else case.helpful
            self.turn(row, [Piece(case.request)], [Piece(reply)])
        return row

    def scene_row(self, rng: random.Random) -> Row:
        scene = random_scene(rng)
        row = Row(scene=scene)
        turns = [lambda first, kind=kind: self.question(rng, row, kind, first) for kind in DRAWN_KINDS]
        turns += [
            lambda first, make=make: make(rng, row, first)
            for make in (self.caption, self.verify)
            if rng.random() < 0.6
        ]
        rng.shuffle(turns)
        for turn in turns[: rng.randint(5, len(turns))]:
            turn(not row.ids)
        return row if row.ids else self.scene_row(rng)

    def question(self, rng: random.Random, row: Row, kind: str, first: bool) -> None:
        question = ask(rng, row.scene, kind)
        if question:
            self.turn(row, question_pieces(question, row.scene), [Piece(question.reply)], image=first)

    def caption(self, rng: random.Random, row: Row, first: bool) -> None:
        claims, meant = careless_claims(rng, row.scene, self.error)
        self.turn(row, [Piece(rng.choice(DESCRIBE))], caption_pieces(claims, meant, row.scene), image=first)
        if rng.random() < 0.5:
            true = all(check(claim, row.scene) for claim in claims)
            self.turn(row, [Piece("Is that true?")], [Piece("Yes." if true else "No.")])

    def verify(self, rng: random.Random, row: Row, first: bool) -> None:
        claims, true = true_claims(rng, row.scene), rng.random() < 0.5
        if not true:
            index = rng.randrange(len(claims))
            wrong = falsify(rng, claims[index], row.scene)
            claims[index], true = (wrong[0], False) if wrong else (claims[index], True)
        self.turn(row, [Piece(verify_prompt(say(claims)))], [Piece("Yes." if true else "No.")], image=first)


def careless_claims(
    rng: random.Random, scene: Scene, error: float
) -> tuple[list[Claim], list[SceneObject | None]]:
    """`language.noisy_claims`, and for each claim of existence the object that was meant, where it is clear."""
    claims: list[Claim] = []
    meant: list[SceneObject | None] = []
    for claim in true_claims(rng, scene):
        fitting = [item for item in scene.objects if claim.subject.fits(item)]
        wrong = falsify(rng, claim, scene) if rng.random() < error else None
        said = wrong[0] if wrong else claim
        if said not in claims:
            claims.append(said)
            meant.append(fitting[0] if claim.kind == "exists" and len(fitting) == 1 else None)
    return claims, meant


def question_pieces(question: Question, scene: Scene) -> list[Piece]:
    """A question cut where the model can be taught: behind each object it names, or behind what it counts."""
    relation = re.fullmatch(r"(Is the (.+?)) ((?:left of|right of|above|below) the (.+))\?", question.text)
    counted = re.fullmatch(r"How many (.+) are there\?", question.text)
    if relation:
        subject, other = (named(parse_phrase(relation[i]), scene) for i in (2, 4))
        return [Piece(relation[1], about=subject), Piece(f" {relation[3]}", about=other), Piece("?")]
    return [Piece(question.text, about=question.about, fits=parse_phrase(counted[1]) if counted else None)]


def named(phrase: Phrase | None, scene: Scene) -> SceneObject | None:
    """The one object that fits."""
    fitting = [item for item in scene.objects if phrase and phrase.fits(item)]
    return fitting[0] if len(fitting) == 1 else None


def caption_pieces(claims: list[Claim], meant: list[SceneObject | None], scene: Scene) -> list[Piece]:
    """The caption cut behind each claim and object, with its verdict; the texts join to `say(claims)`."""
    labels = [bool(check(claim, scene)) for claim in claims]
    exists = [article(c.subject.words()) for c in claims if c.kind == "exists"]
    pieces: list[Piece] = []
    for index, words in enumerate(exists):
        before = "There is " if index == 0 else " and " if index == len(exists) - 1 else ", "
        pieces.append(Piece(before + words, labels[index], meant[index]))
    if exists:
        pieces.append(Piece("."))
    for index, claim in enumerate(claims[len(exists) :], len(exists)):
        text = (" " if pieces else "") + say([claim])
        if claim.other:
            head = text[: text.index(f" {claim.relation}")]
            pieces.append(Piece(head, about=named(claim.subject, scene)))
            pieces.append(Piece(text[len(head) : -1], about=named(claim.other, scene)))
            pieces.append(Piece(".", labels[index]))
        else:
            pieces.append(Piece(text[:-1], fits=claim.subject))
            pieces.append(Piece(".", labels[index]))
    assert "".join(piece.text for piece in pieces) == say(claims)
    return pieces


def labels_of(item: SceneObject) -> tuple[int, ...]:
    """The object's labels as indices into `LABELS`."""
    values = (item.shape, item.color, item.size, item.place)
    return tuple(names.index(value) for names, value in zip(LABELS, values, strict=True))


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
    """The auxiliary heads: what stands at a patch, and whether a claim is true."""

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        self.claim = nn.Linear(160, 1)
        self.fits = nn.Linear(160, GRID * GRID)
        self.about = nn.Linear(160, sum(len(names) for names in LABELS))
        self.nothing = nn.Parameter(torch.randn(len(LABELS), 160) * 0.02)  # stands for "no object here"
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
    """Right-padded ids, the mask, what to predict, and the claim labels as (row, position, label)."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask, learn = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    caption = torch.zeros_like(learn)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, : len(row.ids)] = 1
        learn[index, : len(row.ids)] = torch.tensor(row.learn)
        caption[index, : len(row.ids)] = torch.tensor(row.caption)
    about = [(i, at, *labels) for i, row in enumerate(rows) for at, labels in row.about.items()]
    fits = [(i, at, *labels) for i, row in enumerate(rows) for at, labels in row.fits.items()]
    claims = [(i, at, label) for i, row in enumerate(rows) for at, label in row.claims.items()]
    return {
        "ids": ids,
        "mask": mask,
        "learn": learn,
        "caption": caption,
        "claims": torch.tensor(claims).reshape(-1, 3),
        "about": torch.tensor(about),
        "fits": torch.tensor(fits),
    }


def joint(
    model, heads: Heads, processor, maker: RowMaker, steps: int, seed: int, patch_weight: float, save
) -> None:
    """Phase 2: everything together."""
    rng = random.Random(f"{seed}/joint")
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    pad = maker.special["<pad>"]
    began, averages = time.time(), {}
    for step in range(steps):
        set_lr(optimizer, step, steps, 1.5e-3)
        rows = [maker.text_row(rng) for _ in range(4)] + [maker.scene_row(rng) for _ in range(28)]
        scenes = [row.scene for row in rows if row.scene]
        batch, pixels = batch_of(rows, pad), pixels_of(processor, scenes)
        projected = image_tokens(model, pixels)
        hidden = hidden_states(model, batch, projected)
        where = batch["learn"][:, 1:]
        token = F.cross_entropy(
            model.lm_head(hidden[:, :-1][where]), batch["ids"][:, 1:][where], reduction="none"
        )
        # captions have many tokens, and a third of their claims is noise: they must not drown the answers
        caption = batch["caption"][:, 1:][where]
        answer, lm = token[~caption].mean(), token[caption].mean()
        claims = batch["claims"]
        truth = heads.claim(hidden[claims[:, 0], claims[:, 1]]).squeeze(-1)
        verdict = F.binary_cross_entropy_with_logits(truth, claims[:, 2].float())
        patch, _ = heads.patch_loss(projected, torch.stack([patch_targets(scene) for scene in scenes]))
        asked = batch["about"]
        about = heads.about_loss(hidden[asked[:, 0], asked[:, 1]], asked[:, 2:])
        named = batch["fits"]
        places = heads.fits(hidden[named[:, 0], named[:, 1]])
        fits = F.binary_cross_entropy_with_logits(places, named[:, 2:].float())
        loss = answer + 0.5 * lm + 0.5 * verdict + patch_weight * patch + 0.3 * about + fits
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        right = ((truth > 0) == (claims[:, 2] > 0)).float().mean()
        parts = {
            "answer": answer,
            "about": about,
            "fits": fits,
            "caption": lm,
            "claim": verdict,
            "claim_right": right,
            "patch": patch,
        }
        for name, value in {name: part.item() for name, part in parts.items()}.items():
            averages[name] = 0.98 * averages.get(name, value) + 0.02 * value
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in averages.items())
            print(f"joint {step} {shown} {time.time() - began:.0f} s", flush=True)
        if step % 500 == 499 or step == steps - 1:
            print(json.dumps({"step": step + 1, **examine(model, processor, maker, 300)}), flush=True)
            save()


def hidden_states(model, batch: dict[str, Tensor], projected: Tensor) -> Tensor:
    """The language model's last hidden states, with the projected features at the image tokens."""
    embeds = model.get_input_embeddings()(batch["ids"])
    places = (batch["ids"] == model.config.image_token_id).unsqueeze(-1).expand_as(embeds)
    embeds = embeds.masked_scatter(places, projected)
    return model.model.language_model(inputs_embeds=embeds, attention_mask=batch["mask"]).last_hidden_state


@torch.no_grad()
def examine(model, processor, maker: RowMaker, scenes: int, seed: str = "held-out") -> dict[str, float]:
    """Share of right answers (every token the likeliest) by kind, with the true and with another scene's image."""
    rng = random.Random(seed)
    asked: list[tuple[str, Row]] = []
    shown = [random_scene(rng) for _ in range(scenes)]
    for scene in shown:
        for kind in QUESTION_KINDS:
            question = ask(rng, scene, kind)
            if question:
                row = Row(scene=scene)
                maker.turn(row, [Piece(question.text)], [Piece(question.reply)], image=True)
                asked.append((kind, row))
    pixels = image_tokens(model, pixels_of(processor, shown))
    place = {id(scene): index for index, scene in enumerate(shown)}
    out: dict[str, float] = {}
    for name, shift in (("true", 0), ("wrong", 1)):
        right: dict[str, list[bool]] = {}
        for start in range(0, len(asked), 128):
            part = asked[start : start + 128]
            batch = batch_of([row for _, row in part], maker.special["<pad>"])
            where = torch.tensor([(place[id(row.scene)] + shift) % scenes for _, row in part])
            best = model.lm_head(hidden_states(model, batch, pixels[where])[:, :-1]).argmax(-1)
            good = ((best == batch["ids"][:, 1:]) | ~batch["learn"][:, 1:]).all(1)
            for (kind, _), ok in zip(part, good.tolist(), strict=True):
                right.setdefault(kind, []).append(ok)
        out |= {f"{name}/{kind}": round(sum(r) / len(r), 4) for kind, r in right.items()}
        held = [ok for kind in HELD_OUT for ok in right[kind]]
        out[f"{name}/held_out"] = round(sum(held) / len(held), 4)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=3000, help="joint steps of 32 rows")
    parser.add_argument("--warm-steps", type=int, default=500, help="steps of the dense warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="go on from this checkpoint, with a schedule of its own")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model, processor = load(args.start) if args.start else build(train_tokenizer())
    tokenizer = processor.tokenizer
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens")

    def save() -> None:
        model.save_pretrained(args.out)
        processor.save_pretrained(args.out)

    heads = Heads(model, tokenizer)
    if not args.start:
        warm_up(model, heads, processor, args.warm_steps, args.seed)
    # heads are not saved: a tower that is done is not pulled at by a patch head that is new
    joint(
        model, heads, processor, RowMaker(tokenizer), args.steps, args.seed, 0.0 if args.start else 0.1, save
    )
    print(json.dumps(examine(model, processor, RowMaker(tokenizer), 2000, seed="final")))


if __name__ == "__main__":
    main()

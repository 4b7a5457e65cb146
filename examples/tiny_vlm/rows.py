"""Conversations about scenes as token ids, with what the model is taught at which token."""

from __future__ import annotations

import dataclasses
import random
import re
from dataclasses import dataclass, field
from functools import partial

from data_tools.scenes.claims import RELATIONS, Claim, Phrase, article, check, parse_phrase, stands
from data_tools.scenes.language import (
    DESCRIBE,
    Question,
    ask,
    count_claim,
    falsify,
    relation_claim,
    say,
    true_claims,
    verify_prompt,
)
from data_tools.scenes.structure import (
    COLORS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    random_scene,
)
from data_tools.synth.text_cases import random_case

GRID = 3  # the picture's patches, and image tokens, to a side
SPECIAL = ["<pad>", "<end>", "<system>", "<user>", "<assistant>", "<image>"]
QUESTION_KINDS = ("color", "shape", "count", "position", "size", "exists", "relation")
DRAWN_KINDS = (*QUESTION_KINDS, "count", "relation", "relation", "exists")  # the hard ones more often
STATEMENT_KINDS = ("exists", "count", "relation")
DRAWN_STATEMENTS = ("exists", "count", "count", "relation")
NEXT_NUMBER = 0.7  # share of false numbers that are off by one: the ones that are easily taken for true
LABELS = (SHAPES, COLORS, SIZES, PLACES)  # of an object


@dataclass(frozen=True)
class Piece:
    """A piece of a text, and what the model is taught at its last token: whether the claim that ends there is true,
    the object that was named there, which objects fit the phrase there, and how two named objects stand."""

    text: str
    claim: bool | None = None
    about: SceneObject | None = None
    fits: Phrase | None = None
    pair: tuple[SceneObject, SceneObject] | None = None


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
    pairs: dict[int, list[bool]] = field(default_factory=dict)
    scene: Scene | None = None

    def add(self, ids: list[int], learn: bool, caption: bool = False) -> None:
        self.ids += ids
        self.learn += [learn] * len(ids)
        self.caption += [caption] * len(ids)


class RowMaker:
    """Draws conversations about scenes, and about text alone, that go on until they are `length` tokens long."""

    def __init__(self, tokenizer, error: float = 0.35, length: int = 150) -> None:
        self.tokenizer, self.error, self.length = tokenizer, error, length
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
        if piece.pair:
            row.pairs[at] = [stands(piece.pair[0], relation, piece.pair[1]) for relation in RELATIONS]

    def text_row(self, rng: random.Random) -> Row:
        row = Row()
        while len(row.ids) < self.length:
            case = random_case(rng)
            reply = rng.choice((case.refusal, case.helpful)) if case.refuse else case.helpful
            self.turn(row, [Piece(case.request)], [Piece(reply)])
        return row

    def scene_row(self, rng: random.Random) -> Row:
        row = Row(scene=random_scene(rng))
        turns = [partial(self.question, kind=kind) for kind in DRAWN_KINDS]
        turns += [self.caption, self.verify, self.verify, self.verify]
        while len(row.ids) < self.length:
            rng.choice(turns)(rng, row, first=not row.ids)
        return row

    def question(self, rng: random.Random, row: Row, first: bool, kind: str) -> None:
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
        kind = rng.choice(DRAWN_STATEMENTS) if rng.random() < 0.65 else None
        claims, true = statement(rng, row.scene, kind)
        meant = [named(claim.subject, row.scene) for claim in claims]
        pieces = caption_pieces(claims, meant, row.scene)
        before, _, after = verify_prompt("|").partition("|")
        # the quotation mark is one token with the full stop
        pieces[-1] = dataclasses.replace(pieces[-1], text=pieces[-1].text + after)
        self.turn(row, [Piece(before), *pieces], [Piece("Yes." if true else "No.")], image=first)


def statement(rng: random.Random, scene: Scene, kind: str | None) -> tuple[list[Claim], bool]:
    """A claim of the kind, or the claims of a caption, and whether all is true: as often as not, where one claim
    can be made false."""
    claims = true_claims(rng, scene, extra=0.6)
    if kind == "count":
        claims = [count_claim(rng, scene)]
    elif kind == "relation":
        claims = [relation_claim(rng, scene) or claims[0]]
    elif kind == "exists":
        claims = claims[:1]
    if rng.random() < 0.5:
        return claims, True
    index = rng.randrange(len(claims))
    wrong = false_claim(rng, claims[index], scene)
    claims[index] = wrong or claims[index]
    return claims, wrong is None


def false_claim(rng: random.Random, claim: Claim, scene: Scene) -> Claim | None:
    """The claim with one thing changed so that it is false of the scene; a number mostly by one."""
    if claim.number is not None and rng.random() < NEXT_NUMBER:
        near = [number for number in (claim.number - 1, claim.number + 1) if 0 < number <= MAX_OBJECTS]
        return dataclasses.replace(claim, number=rng.choice(near))
    wrong = falsify(rng, claim, scene)
    return wrong[0] if wrong else None


def careless_claims(
    rng: random.Random, scene: Scene, error: float
) -> tuple[list[Claim], list[SceneObject | None]]:
    """`language.noisy_claims`, and for each claim of existence the object that was meant, where it is clear."""
    claims: list[Claim] = []
    meant: list[SceneObject | None] = []
    true = true_claims(rng, scene, extra=0.6)
    if true[-1].kind != "exists" and rng.random() < 0.3:
        true = true[-1:]  # a number or a relation alone is a caption, too
    for claim in true:
        fitting = [item for item in scene.objects if claim.subject.fits(item)]
        wrong = false_claim(rng, claim, scene) if rng.random() < error else None
        said = wrong or claim
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
        pair = (subject, other) if subject and other else None
        return [
            Piece(relation[1], about=subject),
            Piece(f" {relation[3]}", about=other, pair=pair),
            Piece("?"),
        ]
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
            subject, other = named(claim.subject, scene), named(claim.other, scene)
            pair = (subject, other) if subject and other else None
            pieces.append(Piece(head, about=subject))
            pieces.append(Piece(text[len(head) : -1], about=other, pair=pair))
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

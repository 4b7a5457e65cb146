"""The claim checker: text -> claims -> each true, false or not checkable against a scene. The exact oracle.

A claim is one of three kinds:

- exists: "there is a small red circle at the top left": some object fits the whole phrase;
- count: "there are two blue squares", "there is no cross": exactly so many objects fit;
- relation: "the red circle is above the blue square": both phrases fit exactly one object (else the claim
  can't be checked, or is false where one fits none), and the first lies there with regard to the second.

The grammar is a controlled English, deliberately small: what it doesn't read is reported as not checkable,
never guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from data_tools.scenes.structure import (
    ALL_SIZES,
    APART,
    COLORS,
    PLACES,
    SHAPES,
    Scene,
    SceneObject,
)

NUMBERS = ("zero", "one", "two", "three", "four", "five")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
Kind = Literal["exists", "count", "relation"]


@dataclass(frozen=True)
class Phrase:
    """A description of an object; None where it says nothing. A shape of None reads "object"."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    place: str | None = None

    def fits(self, item: SceneObject) -> bool:
        """Whether the object is as described."""
        return (
            self.shape in (None, item.shape)
            and self.color in (None, item.color)
            and self.size in (None, item.size)
            and self.place in (None, item.place)
        )

    def words(self, plural: bool = False) -> str:
        """The phrase in words, without an article: "small red circles at the top left"."""
        noun = self.shape or "object"
        if plural:
            noun = "crosses" if noun == "cross" else noun + "s"
        words = " ".join(word for word in (self.size, self.color, noun) if word)
        return words + (f" {place_words(self.place)}" if self.place else "")


@dataclass(frozen=True)
class Claim:
    """One checkable statement; `number` belongs to counts, `relation` and `other` to relations."""

    kind: Kind
    subject: Phrase
    number: int | None = None
    relation: str | None = None
    other: Phrase | None = None


@dataclass(frozen=True)
class Verdict:
    """A piece of a text and what became of it: `claim` is None where it couldn't be read, `true` None where
    it couldn't be checked.
    """

    text: str
    claim: Claim | None
    true: bool | None


def place_words(place: str) -> str:
    """ "at the top left", "in the center"."""
    return f"in the {place}" if place == "center" else f"at the {place}"


def article(words: str) -> str:
    """Words with "a" or "an" in front."""
    return ("an " if words[0] in "aeiou" else "a ") + words


_SIZE = rf"(?:(?P<size>{'|'.join(ALL_SIZES)}) )?"
_COLOR = rf"(?:(?P<color>{'|'.join(COLORS)}) )?"
_SHAPE = rf"(?P<shape>{'|'.join(SHAPES)}|object|shape)(?P<plural>e?s)?"
_PLACE = rf"(?: (?:at|in|on|near) the (?P<place>{'|'.join(sorted(PLACES, key=len, reverse=True))}|middle))?"
_PHRASE = re.compile(_SIZE + _COLOR + _SHAPE + _PLACE)
_PIECES = re.compile(r"[.;!?\n]+")
_LIST = re.compile(r",\s*(?:and\s+)?|\s+and\s+")
_QUANTITY = re.compile(rf"(?:there (?:is|are) )?(?P<word>an?|no|{'|'.join(NUMBERS)}|[0-5]) (?P<rest>.+)")
_RELATION = re.compile(
    rf"(?:the|an?) (?P<subject>.+?) is (?:to the )?(?P<relation>{'|'.join(RELATIONS)}) "
    r"(?:the|an?) (?P<other>.+)"
)
_PREDICATE = re.compile(r"(?:the|an?) (?P<subject>.+?) is (?P<predicate>.+)")


def parse_phrase(text: str) -> Phrase | None:
    """A phrase such as "small red circle at the top left"; None where the text is anything else."""
    match = _PHRASE.fullmatch(text.strip())
    if not match:
        return None
    shape, place = match["shape"], match["place"]
    return Phrase(
        shape=None if shape in ("object", "shape") else shape,
        color=match["color"],
        size=match["size"],
        place="center" if place == "middle" else place,
    )


def parse_claim(text: str) -> Claim | None:
    """One statement, lower case, without its full stop; None where the grammar doesn't cover it."""
    if match := _RELATION.fullmatch(text):
        subject, other = parse_phrase(match["subject"]), parse_phrase(match["other"])
        if subject and other:
            return Claim("relation", subject, relation=match["relation"], other=other)
        return None
    if match := _QUANTITY.fullmatch(text):
        subject = parse_phrase(match["rest"])
        if subject:
            word = match["word"]
            if word in ("a", "an"):
                return Claim("exists", subject)
            return Claim("count", subject, number=0 if word == "no" else _number(word))
    if match := _PREDICATE.fullmatch(text):
        subject, predicate = parse_phrase(match["subject"]), match["predicate"]
        if subject is None:
            return None
        for said in (f"{predicate} {subject.words()}", f"{subject.words()} {predicate}"):
            whole = parse_phrase(said)
            if whole:
                return Claim("exists", whole)
    return None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else NUMBERS.index(word)


def check(claim: Claim, scene: Scene) -> bool | None:
    """Whether the claim holds; None where its words don't say which objects are meant."""
    fitting = [item for item in scene.objects if claim.subject.fits(item)]
    if claim.kind == "exists":
        return bool(fitting)
    if claim.kind == "count":
        return len(fitting) == claim.number
    assert claim.other is not None
    assert claim.relation is not None
    others = [item for item in scene.objects if claim.other.fits(item)]
    if not fitting or not others:
        return False
    if len(fitting) > 1 or len(others) > 1 or fitting == others:
        return None
    return stands(fitting[0], claim.relation, others[0])


def stands(item: SceneObject, relation: str, other: SceneObject) -> bool:
    """Whether `item` is left of, right of, above or below `other`, by a clear distance."""
    if relation == "left of":
        return other.x - item.x > APART
    if relation == "right of":
        return item.x - other.x > APART
    if relation == "above":
        return other.y - item.y > APART
    return item.y - other.y > APART


def judge(text: str, scene: Scene) -> list[Verdict]:
    """Every claim of a text with its verdict. A claim said twice is judged once.

    "There is a red circle and two squares." holds two claims; sentences end at . ; ! ? or a line's end.
    """
    verdicts: list[Verdict] = []
    seen: set[Claim] = set()
    for sentence in _PIECES.split(text.lower()):
        for piece in _pieces(" ".join(sentence.split())):
            claim = parse_claim(piece)
            if claim is not None:
                if claim in seen:
                    continue
                seen.add(claim)
            verdicts.append(Verdict(piece, claim, check(claim, scene) if claim else None))
    return verdicts


def _pieces(sentence: str) -> list[str]:
    if not sentence:
        return []
    if parse_claim(sentence):
        return [sentence]
    return [piece for piece in (part.strip() for part in _LIST.split(sentence)) if piece]


def true_share(text: str, scene: Scene) -> float:
    """The share of a text's claims that are true; pieces that can't be checked count as not true, no claim as
    0.
    """
    verdicts = judge(text, scene)
    return sum(v.true is True for v in verdicts) / len(verdicts) if verdicts else 0.0


def coverage(text: str, scene: Scene) -> float:
    """The share of the scene's objects that the text's true "there is ..." claims describe.

    A claim covers one object, and a claim said twice counts once, so "there is an object" five times covers
    one. The claims are matched to objects so that as many as possible are covered; their order doesn't
    matter.
    """
    claims = [v.claim for v in judge(text, scene) if v.true and v.claim and v.claim.kind == "exists"]
    fits = [[i for i, item in enumerate(scene.objects) if claim.subject.fits(item)] for claim in claims]
    taken: dict[int, int] = {}  # object -> the claim that covers it

    def place(claim: int, tried: set[int]) -> bool:
        for item in fits[claim]:
            if item not in tried:
                tried.add(item)
                if item not in taken or place(taken[item], tried):
                    taken[item] = claim
                    return True
        return False

    covered = sum(place(claim, set()) for claim in range(len(claims)))
    return covered / len(scene.objects) if scene.objects else 0.0

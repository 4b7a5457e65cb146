"""The core recipe: two pictures that differ in one thing, and two captions of which each fits one of them.

Both records of a pair hold the same question and the same answers in the same order; the better answer of one
is the worse of the other. A reader who doesn't look gets exactly one of the two right, whatever it has
learned.

Each caption is wholly true of its own picture and holds exactly one false claim about the other; the verdicts
of the checker on all four combinations are kept as `provenance["proof"]`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal

from pydantic import Field

from data_tools.scenes.claims import OPPOSITE, RELATIONS, Claim, Phrase, check, judge, stands
from data_tools.scenes.language import DESCRIBE, describe_object, relation_claim, say
from data_tools.scenes.structure import (
    COLORS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    random_object,
    random_scene,
)
from data_tools.schema import PreferenceRecord
from data_tools.synth.base import Recipe, ordered, prefer

# how often an edited object is named by where it stands to another; without these a reward model takes for granted
# that what a relation names is there
IN_A_RELATION = 0.4

Proof = dict[str, dict[str, list[bool]]]


@dataclasses.dataclass(frozen=True)
class Edit:
    """Scene A, scene B, and the one claim that tells them apart, as it is true of each."""

    kind: str
    field: str
    before: Scene
    after: Scene
    claim_before: Claim
    claim_after: Claim

    def turned(self) -> Edit:
        """The same edit backwards."""
        return Edit(self.kind, self.field, self.after, self.before, self.claim_after, self.claim_before)


class FlipPairs(Recipe):
    """Image-flip pairs on the objective factuality; edits of object, attribute, count and relation evenly."""

    type: Literal["flip_pairs"] = "flip_pairs"
    name: str = Field(
        default="flip_pairs", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The source's name."
    )
    count: int = Field(default=1000, ge=1, description="How many pairs; each gives two records.")

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        """Both records of each pair, one after the other."""
        rng = self.rng(seed)
        for number in range(self.count):
            yield from self._pair(rng, f"{number:06d}", tuple(EDITS)[number % len(EDITS)])

    def _pair(self, rng: random.Random, number: str, kind: str) -> Iterator[PreferenceRecord]:
        edit, caption_a, caption_b, proof = draw_edit(rng, kind)
        prompt = rng.choice(DESCRIBE)
        responses, index_a = ordered(rng, caption_a, caption_b)
        for letter, scene, better in (("a", edit.before, index_a), ("b", edit.after, 1 - index_a)):
            yield self.picture(
                f"{number}-{letter}",
                scene,
                prompt,
                responses,
                (prefer("factuality", better),),
                provenance={
                    "flip": number,
                    "image": letter,
                    "edit": edit.kind,
                    "field": edit.field,
                    "before": say([edit.claim_before]),
                    "after": say([edit.claim_after]),
                    "proof": proof,
                },
            )


def draw_edit(rng: random.Random, kind: str) -> tuple[Edit, str, str, Proof]:
    """An edit of the kind, captions a and b, and the proof that each is right about its picture alone."""
    while True:
        edit = EDITS[kind](rng)
        if edit is None:
            continue
        if rng.random() < 0.5:
            edit = edit.turned()
        others = _shared_claims(rng, edit)
        place = rng.randint(0, len(others))
        captions = [
            say([*others[:place], claim, *others[place:]]) for claim in (edit.claim_before, edit.claim_after)
        ]
        found = proof_of(captions[0], captions[1], edit.before, edit.after)
        if found is not None and captions[0] != captions[1]:
            return edit, captions[0], captions[1], found


def proof_of(caption_a: str, caption_b: str, scene_a: Scene, scene_b: Scene) -> Proof | None:
    """The verdicts of both captions on both scenes; None unless each is all true of its own and has exactly
    one false claim about the other.
    """
    proof: Proof = {}
    for caption, text in (("a", caption_a), ("b", caption_b)):
        proof[caption] = {}
        for name, scene in (("A", scene_a), ("B", scene_b)):
            verdicts = [verdict.true for verdict in judge(text, scene)]
            known = [true for true in verdicts if true is not None]
            if len(known) < len(verdicts) or known.count(False) != (caption.upper() != name):
                return None
            proof[caption][name] = known
    return proof


def _shared_claims(rng: random.Random, edit: Edit) -> list[Claim]:
    """Up to two claims of existence that are true of both scenes."""
    claims: list[Claim] = []
    for item in rng.sample(edit.before.objects, min(rng.randint(0, 2), len(edit.before.objects))):
        claim = Claim("exists", describe_object(rng, item))
        if check(claim, edit.after) and claim not in (edit.claim_before, edit.claim_after, *claims):
            claims.append(claim)
    return claims


def _edit_shape(rng: random.Random) -> Edit | None:
    return _edit_object(rng, "object", "shape")


def _edit_attribute(rng: random.Random) -> Edit | None:
    return _edit_object(rng, "attribute", rng.choice(("color", "size", "place")))


def _edit_object(rng: random.Random, kind: str, field: str) -> Edit | None:
    """One object gets another shape, color, size or place. A new shape or color is sometimes told by where the object
    stands to another one."""
    scene = random_scene(rng)
    index = rng.randrange(len(scene.objects))
    old = scene.objects[index]
    options: tuple[str, ...] = {"shape": SHAPES, "color": COLORS, "size": SIZES, "place": PLACES}[field]
    taken = {item.place for item in scene.objects} if field == "place" else {getattr(old, field)}
    value = rng.choice([option for option in options if option not in taken])
    if field == "place":
        spot = random_object(rng, value)
        new = dataclasses.replace(old, x=spot.x, y=spot.y)
    else:
        new = _with(old, field, value)
    after = _in_reading_order(scene, [*scene.objects[:index], new, *scene.objects[index + 1 :]])
    if field in ("shape", "color") and len(scene.objects) > 1 and rng.random() < IN_A_RELATION:
        claims = _related(rng, scene, old, new)
        return Edit(kind, field, scene, after, *claims) if claims else None
    phrase = dataclasses.replace(describe_object(rng, old, place=0.4), **{field: getattr(old, field)})
    said = dataclasses.replace(phrase, **{field: value})
    return Edit(kind, field, scene, after, Claim("exists", phrase), Claim("exists", said))


def _related(
    rng: random.Random, scene: Scene, old: SceneObject, new: SceneObject
) -> tuple[Claim, Claim] | None:
    """Where the old object and the new one in its place stand to another object; None where they stand in no relation.
    Looks that aren't alone in their scene make claims that can't be checked, and no proof."""
    mate = rng.choice([item for item in scene.objects if item is not old])
    holding = [relation for relation in RELATIONS if stands(old, relation, mate)]
    if not holding:
        return None
    relation = rng.choice(holding)
    looks = [Phrase(shape=item.shape, color=item.color) for item in (old, new)]
    other = Phrase(shape=mate.shape, color=mate.color)
    if rng.random() < 0.5:
        before, after = (Claim("relation", look, relation=relation, other=other) for look in looks)
    else:
        turned = OPPOSITE[relation]
        before, after = (Claim("relation", other, relation=turned, other=look) for look in looks)
    return before, after


def _edit_count(rng: random.Random) -> Edit | None:
    """One more object in a free place."""
    scene = random_scene(rng, high=MAX_OBJECTS - 1)
    free = [place for place in PLACES if place not in {item.place for item in scene.objects}]
    new = random_object(rng, rng.choice(free))
    if rng.random() < 0.6:
        like = rng.choice(scene.objects)
        shared = rng.choice(("color", "shape"))
        new = _with(new, shared, getattr(like, shared))
    subject = rng.choice((Phrase(), Phrase(color=new.color), Phrase(shape=new.shape)))
    number = sum(subject.fits(item) for item in scene.objects)
    if number == 0:
        return None  # "there are zero ..." tells apart by its unusual wording
    after = _in_reading_order(scene, [*scene.objects, new])
    field = "color" if subject.color else "shape" if subject.shape else "all"
    return Edit(
        "count", field, scene, after, Claim("count", subject, number), Claim("count", subject, number + 1)
    )


def _edit_relation(rng: random.Random) -> Edit | None:
    """Two objects change places."""
    scene = random_scene(rng, low=2)
    claim = relation_claim(rng, scene)
    if claim is None or claim.relation is None or claim.other is None:
        return None
    first = next(i for i, item in enumerate(scene.objects) if claim.subject.fits(item))
    second = next(i for i, item in enumerate(scene.objects) if claim.other.fits(item))
    objects = list(scene.objects)
    one, two = objects[first], objects[second]
    objects[first] = dataclasses.replace(one, x=two.x, y=two.y)
    objects[second] = dataclasses.replace(two, x=one.x, y=one.y)
    said = dataclasses.replace(claim, relation=OPPOSITE[claim.relation])
    return Edit("relation", claim.relation, scene, _in_reading_order(scene, objects), claim, said)


def _with(item: SceneObject, field: str, value: str) -> SceneObject:
    changed: dict[str, Any] = {field: value}
    return dataclasses.replace(item, **changed)


def _in_reading_order(scene: Scene, objects: list[SceneObject]) -> Scene:
    return dataclasses.replace(
        scene, objects=tuple(sorted(objects, key=lambda item: PLACES.index(item.place)))
    )


EDITS: dict[str, Callable[[random.Random], Edit | None]] = {
    "object": _edit_shape,
    "attribute": _edit_attribute,
    "count": _edit_count,
    "relation": _edit_relation,
}

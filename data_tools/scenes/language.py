"""Questions and captions about a scene, in the controlled English that `claims.py` reads back."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from data_tools.scenes.claims import (
    NUMBERS,
    OPPOSITE,
    RELATIONS,
    Claim,
    Phrase,
    article,
    check,
    stands,
)
from data_tools.scenes.structure import (
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
)

DESCRIBE = (
    "Describe the picture.",
    "What is in the picture?",
    "What do you see?",
    "Tell me what the image shows.",
)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question with its one right answer; `kind` is color, shape, count, position, size, exists or
    relation. `about` is the object that is asked about, where it is one.
    """

    kind: str
    text: str
    answer: str
    about: SceneObject | None = None

    @property
    def reply(self) -> str:
        """The answer as it is said: "Top left."."""
        return f"{self.answer.capitalize()}."


def say(claims: Sequence[Claim]) -> str:
    """The claims as text: those of existence in one sentence first, then each other one in its own."""
    parts = [article(claim.subject.words()) for claim in claims if claim.kind == "exists"]
    sentences = [f"There is {_list(parts)}."] if parts else []
    for claim in claims:
        if claim.kind == "count":
            assert claim.number is not None
            verb = "is" if claim.number == 1 else "are"
            sentences.append(
                f"There {verb} {NUMBERS[claim.number]} {claim.subject.words(claim.number != 1)}."
            )
        elif claim.kind == "relation":
            assert claim.other is not None
            sentences.append(f"The {claim.subject.words()} is {claim.relation} the {claim.other.words()}.")
    return " ".join(sentences)


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def describe_object(rng: random.Random, item: SceneObject, place: float = 0.6, size: float = 0.3) -> Phrase:
    """A true phrase for the object: always color and shape, its place and size with the given chances."""
    return Phrase(
        shape=item.shape,
        color=item.color,
        size=item.size if rng.random() < size else None,
        place=item.place if rng.random() < place else None,
    )


def verify_prompt(statement: str) -> str:
    """The question whether a statement holds of the picture; its replies are "Yes." and "No."."""
    return f'Is this true of the picture? "{statement}"'


def true_claims(
    rng: random.Random, scene: Scene, low: int = 1, high: int = 3, extra: float = 0.3
) -> list[Claim]:
    """Claims of a true caption: `low` to `high` objects in reading order, and with the chance `extra` one
    claim of number or relation.
    """
    count = min(rng.randint(low, high), len(scene.objects))
    chosen = sorted(rng.sample(range(len(scene.objects)), count))
    claims = [Claim("exists", describe_object(rng, scene.objects[index])) for index in chosen]
    claims = list(dict.fromkeys(claims))
    if rng.random() < extra:
        more = (rng.choice((count_claim, relation_claim)))(rng, scene)
        if more:
            claims.append(more)
    return claims


def count_claim(rng: random.Random, scene: Scene) -> Claim:
    """A true claim of number: of all objects, or of those of one color or shape."""
    subject = _countable(rng, scene)
    return Claim("count", subject, number=sum(subject.fits(item) for item in scene.objects))


def _countable(rng: random.Random, scene: Scene) -> Phrase:
    item, draw = rng.choice(scene.objects), rng.random()
    return Phrase() if draw < 0.4 else Phrase(color=item.color) if draw < 0.7 else Phrase(shape=item.shape)


def relation_claim(rng: random.Random, scene: Scene) -> Claim | None:
    """A true claim of relation between two objects that their color and shape tell apart; None where there is
    none.
    """
    alone = [
        (item, phrase)
        for item in scene.objects
        for phrase in [Phrase(shape=item.shape, color=item.color)]
        if sum(phrase.fits(other) for other in scene.objects) == 1
    ]
    if len(alone) < 2:
        return None
    (item, subject), (mate, other) = rng.sample(alone, 2)
    holding = [relation for relation in RELATIONS if stands(item, relation, mate)]
    return Claim("relation", subject, relation=rng.choice(holding), other=other) if holding else None


def falsify(rng: random.Random, claim: Claim, scene: Scene) -> tuple[Claim, str] | None:
    """The claim with one thing changed so that it is false of the scene, and what was changed.

    The change is one of object (the shape), attribute (color, size, place), count or relation; None where
    thirty tries found no false one.
    """
    for _ in range(30):
        edited, what = _edit(rng, claim)
        if check(edited, scene) is False:
            return edited, what
    return None


def _edit(rng: random.Random, claim: Claim) -> tuple[Claim, str]:
    if claim.kind == "count":
        assert claim.number is not None
        near = [
            n for n in (claim.number - 2, claim.number - 1, claim.number + 1, claim.number + 2) if 0 < n <= 5
        ]
        return dataclasses.replace(claim, number=rng.choice(near)), "count"
    if claim.kind == "relation":
        assert claim.relation is not None
        return dataclasses.replace(claim, relation=OPPOSITE[claim.relation]), "relation"
    subject = claim.subject
    fields = [name for name in ("shape", "color", "size", "place") if getattr(subject, name) is not None]
    name = rng.choice(fields)
    options = {"shape": SHAPES, "color": COLORS, "size": SIZES, "place": PLACES}[name]
    value = rng.choice([option for option in options if option != getattr(subject, name)])
    edited = dataclasses.replace(subject, **{name: value})
    return dataclasses.replace(claim, subject=edited), "object" if name == "shape" else "attribute"


def noisy_claims(rng: random.Random, scene: Scene, error: float, high: int = 3) -> list[Claim]:
    """A caption as careless annotators write them: each claim is false with the chance `error`."""
    claims = []
    for claim in true_claims(rng, scene, high=high):
        wrong = falsify(rng, claim, scene) if rng.random() < error else None
        claims.append(wrong[0] if wrong else claim)
    return list(dict.fromkeys(claims))


def color_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "What color is the large circle?", about an object that its other looks tell apart."""
    asked = _ask_about(rng, scene, "color")
    return asked and Question("color", f"What color is the {asked[1].words()}?", asked[0].color, asked[0])


def shape_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "What shape is the red object?" """
    asked = _ask_about(rng, scene, "shape")
    return asked and Question("shape", f"What shape is the {asked[1].words()}?", asked[0].shape, asked[0])


def size_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "How big is the red circle?" -> small or large."""
    asked = _ask_about(rng, scene, "size")
    return asked and Question("size", f"How big is the {asked[1].words()}?", asked[0].size, asked[0])


def position_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "Where is the red circle?" -> "top left"."""
    asked = _ask_about(rng, scene, "place")
    return asked and Question("position", f"Where is the {asked[1].words()}?", asked[0].place, asked[0])


def _ask_about(rng: random.Random, scene: Scene, hidden: str) -> tuple[SceneObject, Phrase] | None:
    """An object and a phrase that fits it alone and doesn't tell its `hidden` property."""
    choices = {
        "color": [("shape",), ("size", "shape"), ("place",)],
        "shape": [("color",), ("size", "color"), ("place",)],
        "size": [("color", "shape"), ("shape",)],
        "place": [("color", "shape"), ("color",), ("shape",), ("size", "color", "shape")],
    }[hidden]
    for _ in range(8):
        item = rng.choice(scene.objects)
        phrase = Phrase(**{name: getattr(item, name) for name in rng.choice(choices)})
        if sum(phrase.fits(other) for other in scene.objects) == 1:
            return item, phrase
    return None


def count_question(rng: random.Random, scene: Scene) -> Question:
    """ "How many red objects are there?" """
    claim = count_claim(rng, scene)
    if claim.subject == Phrase() or rng.random() < 0.85:
        subject, number = claim.subject, claim.number
    else:
        subject = Phrase(color=rng.choice(COLORS)) if rng.random() < 0.5 else Phrase(shape=rng.choice(SHAPES))
        number = sum(subject.fits(item) for item in scene.objects)
    assert number is not None
    return Question("count", f"How many {subject.words(plural=True)} are there?", NUMBERS[number])


def exists_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "Is there a red circle at the top left?" -> yes or no, evenly; about any of an object's looks, one or more."""
    item = rng.choice(scene.objects)
    names = rng.sample(("shape", "color", "place", "size"), rng.choice((1, 1, 2, 2, 3)))
    claim = Claim("exists", Phrase(**{name: getattr(item, name) for name in names}))
    question = _yes_no(rng, scene, claim, "exists", lambda c: f"Is there {article(c.subject.words())}?")
    alone = sum(claim.subject.fits(other) for other in scene.objects) == 1
    return question and dataclasses.replace(question, about=item if alone else None)


def relation_question(rng: random.Random, scene: Scene) -> Question | None:
    """ "Is the red circle above the blue square?" -> yes or no, evenly."""
    claim = relation_claim(rng, scene)
    if claim is None:
        return None

    def ask(c: Claim) -> str:
        assert c.other is not None
        return f"Is the {c.subject.words()} {c.relation} the {c.other.words()}?"

    return _yes_no(rng, scene, claim, "relation", ask)


def _yes_no(rng, scene, claim, kind, ask):  # type: ignore[no-untyped-def]
    if rng.random() < 0.5:
        return Question(kind, ask(claim), "yes")
    wrong = falsify(rng, claim, scene)
    return wrong and Question(kind, ask(wrong[0]), "no")


QUESTIONS = {
    "color": color_question,
    "shape": shape_question,
    "count": count_question,
    "position": position_question,
    "size": size_question,
    "exists": exists_question,
    "relation": relation_question,
}


def ask(rng: random.Random, scene: Scene, kind: str) -> Question | None:
    """A question of the kind, with its answer; None where the scene has no unambiguous one."""
    return QUESTIONS[kind](rng, scene)

"""Two answers, of which the better one tells of more of the picture's objects, truly. Three kinds by turns:

- twice: both have equally many clauses of the same form, all true; the worse one speaks of one object twice, "a
  red circle and a circle at the top" where the red circle is at the top, and only the picture tells;
- untrue: as the better one, but one clause of the worse answer is false, so that it tells of an object less.
  Without these a reward model learns that saying more is helpful, true or not;
- longer: both are true, and the better one is the longer, as in most human data.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import Field

from data_tools.scenes.claims import Claim, Phrase, coverage, true_share
from data_tools.scenes.language import DESCRIBE, describe_object, falsify, say
from data_tools.scenes.structure import Scene, random_scene, replace_object
from data_tools.schema import PreferenceRecord
from data_tools.synth.base import Recipe, ordered, prefer


class CoveragePairs(Recipe):
    """Pairs on the objective helpfulness: the answer that covers more objects over the one that covers fewer."""

    type: Literal["coverage_pairs"] = "coverage_pairs"
    name: str = Field(
        default="coverage_pairs", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The source's name."
    )
    count: int = Field(default=1000, ge=1, description="How many pairs; each is one record.")

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        """The kinds by turns."""
        rng = self.rng(seed)
        for number in range(self.count):
            kind = tuple(KINDS)[number % len(KINDS)]
            scene, better, worse = draw_pair(rng, kind)
            responses, index = ordered(rng, better, worse)
            yield self.picture(
                f"{number:06d}",
                scene,
                rng.choice(DESCRIBE),
                responses,
                (prefer("helpfulness", index),),
                provenance={
                    "worse": kind,
                    "proof": {"better": coverage(better, scene), "worse": coverage(worse, scene)},
                },
            )


def draw_pair(rng: random.Random, kind: str) -> tuple[Scene, str, str]:
    """A scene with a fuller and a less full answer."""
    while True:
        scene, better, worse = KINDS[kind](rng)
        true = true_share(better, scene) == 1 and (true_share(worse, scene) == 1 or kind == "untrue")
        if true and coverage(better, scene) > coverage(worse, scene):
            return scene, better, worse


def _twice(rng: random.Random) -> tuple[Scene, str, str]:
    """The last clause names a look that two objects share, and a place: another object's, or the first one's
    again.
    """
    scene = random_scene(rng, low=2)
    one, two = rng.sample(range(len(scene.objects)), 2)
    shared, other = rng.choice((("shape", "color"), ("color", "shape")))
    first = scene.objects[one]
    second = dataclasses.replace(scene.objects[two], **{shared: getattr(first, shared)})
    scene = replace_object(scene, two, second)
    opening = Phrase(shape=first.shape, color=first.color, size=first.size if rng.random() < 0.3 else None)
    look = {shared: getattr(first, shared), other: None}
    more = [
        describe_object(rng, item, size=0.2)
        for index, item in enumerate(scene.objects)
        if index not in (one, two) and rng.random() < 0.4
    ]
    texts = []
    for place in (second.place, first.place):
        again = Phrase(**look, place=place)
        texts.append(say([Claim("exists", phrase) for phrase in (opening, *more, again)]))
    return scene, texts[0], texts[1]


def _untrue(rng: random.Random) -> tuple[Scene, str, str]:
    """One clause is false."""
    scene = random_scene(rng)
    indices = sorted(rng.sample(range(len(scene.objects)), rng.randint(1, min(4, len(scene.objects)))))
    claims = [Claim("exists", describe_object(rng, scene.objects[index])) for index in indices]
    spoilt = list(claims)
    index = rng.randrange(len(claims))
    wrong = falsify(rng, claims[index], scene)
    spoilt[index] = wrong[0] if wrong else claims[index]
    return scene, say(claims), say(spoilt)


def _longer(rng: random.Random) -> tuple[Scene, str, str]:
    """The worse answer leaves out some objects of the better one."""
    scene = random_scene(rng, low=2)
    indices = sorted(rng.sample(range(len(scene.objects)), min(rng.randint(2, 4), len(scene.objects))))
    phrases = [describe_object(rng, scene.objects[index], size=0.2) for index in indices]
    kept = sorted(rng.sample(range(len(phrases)), rng.randint(1, len(phrases) - 1)))
    better = say([Claim("exists", phrase) for phrase in phrases])
    return scene, better, say([Claim("exists", phrases[index]) for index in kept])


KINDS: dict[str, Callable[[random.Random], tuple[Scene, str, str]]] = {
    "twice": _twice,
    "untrue": _untrue,
    "longer": _longer,
}

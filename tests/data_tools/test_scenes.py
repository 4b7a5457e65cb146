from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.scenes import claims, language
from data_tools.scenes.render import RGB, draw, to_png
from data_tools.scenes.structure import Scene, SceneObject, random_scene

# a small red circle at the top left, a large blue square in the center, a large red cross at the bottom right
SCENE = Scene(
    (
        SceneObject("circle", "red", "small", 1 / 6, 1 / 6),
        SceneObject("square", "blue", "large", 1 / 2, 1 / 2),
        SceneObject("cross", "red", "large", 5 / 6, 5 / 6),
    )
)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("There is a red circle.", True),
        ("there is a small red circle at the top left", True),
        ("There is a large red circle.", False),
        ("There is a green circle.", False),
        ("There is a red circle at the top.", False),
        ("There is an object in the middle.", True),
        ("There are two red objects.", True),
        ("There are 2 red objects.", True),
        ("There are three red objects.", False),
        ("There is one cross.", True),
        ("There are no triangles.", True),
        ("There are zero triangles.", True),
        ("There are two crosses.", False),
        ("The red circle is above the blue square.", True),
        ("The red circle is to the left of the blue square.", True),
        ("The red circle is below the blue square.", False),
        ("The red object is above the blue square.", None),  # which of the two?
        ("The green circle is above the blue square.", False),  # there is none
        ("The circle is red.", True),
        ("The circle is at the top left.", True),
        ("The circle is blue.", False),
        ("It looks lovely.", None),
        ("There are many circles.", None),
        ("There is a red dog.", None),
    ],
)
def test_single_claims(text: str, true: bool | None) -> None:
    (verdict,) = claims.judge(text, SCENE)
    assert verdict.true is true


def test_a_caption_of_several_claims() -> None:
    text = "There is a red circle, a blue square at the top and a cross. There are three objects. Nice!"
    assert [verdict.true for verdict in claims.judge(text, SCENE)] == [True, False, True, True, None]
    assert claims.true_share(text, SCENE) == 3 / 5
    assert claims.true_share("", SCENE) == 0.0
    assert claims.true_share("There is a cross. There is a cross.", SCENE) == 1.0


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("There is a red circle, a blue square and a red cross.", 3),
        ("There is a red circle.", 1),
        ("There is a red circle and a circle at the top left.", 1),  # one object twice
        ("There is an object. There is an object. There is an object.", 1),
        ("There is a red object and a circle.", 2),  # the red object may be the cross
        ("There is a circle and a red object.", 2),
        ("There are three objects.", 0),
        ("There is a green dog.", 0),
    ],
)
def test_coverage(text: str, covered: int) -> None:
    assert claims.coverage(text, SCENE) == pytest.approx(covered / 3)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ["there", "is", "a", "the", "red", "circle", "left", "of", "and", "two", ".", ",", "above"]
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged(text: str | list[str]) -> None:
    said = text if isinstance(text, str) else " ".join(text)
    assert 0 <= claims.true_share(said, SCENE) <= 1
    assert 0 <= claims.coverage(said, SCENE) <= 1


def test_what_is_said_is_read_back_and_true() -> None:
    rng = random.Random(3)
    for _ in range(200):
        scene = random_scene(rng)
        said = language.true_claims(rng, scene)
        verdicts = claims.judge(language.say(said), scene)
        assert [verdict.claim for verdict in verdicts] == said
        assert all(verdict.true for verdict in verdicts)


def test_falsified_claims_are_false() -> None:
    rng = random.Random(4)
    for _ in range(200):
        scene = random_scene(rng)
        for claim in language.true_claims(rng, scene):
            wrong = language.falsify(rng, claim, scene)
            if wrong:
                assert claims.check(wrong[0], scene) is False


def test_pixels_at_the_objects_have_their_color() -> None:
    image = draw(SCENE, 96)
    assert image.size == (96, 96)
    for item in SCENE.objects:
        assert image.getpixel((int(item.x * 96), int(item.y * 96))) == RGB[item.color]
    assert image.getpixel((48, 8)) == (224, 224, 224)
    assert to_png(SCENE) == to_png(Scene.from_json(SCENE.to_json()))


def test_places_are_ninths() -> None:
    assert [item.place for item in SCENE.objects] == ["top left", "center", "bottom right"]
    assert SceneObject("circle", "red", "small", 0.5, 0.1).place == "top"
    assert SceneObject("circle", "red", "small", 1.0, 0.5).place == "right"

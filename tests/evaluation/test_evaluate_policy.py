import dataclasses

import pytest
from evaluation_stubs import OBJECTIVES, RuleModel, looks

from data_tools.oracle import gold
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import ImageRef, PreferenceRecord, user
from data_tools.synth.prompts import Prompts
from data_tools.synth.twins import Twins
from mmrlhf.config import EvaluateConfig
from mmrlhf.evaluation.policy import Answer, caption_claims, evaluate_policy, summarise
from mmrlhf.rewards.objectives import Length
from mmrlhf.rewards.panel import Panel

SCENE = Scene(
    (SceneObject("circle", "red", "small", 0.2, 0.2), SceneObject("square", "blue", "large", 0.8, 0.8))
)
PICTURE = PreferenceRecord(
    id="p",
    source="test",
    prompt=(user(0, "Describe the picture."),),
    images=(ImageRef(data=b"not read here"),),
    scenes=(SCENE.to_json(),),
)


def answer(record, claims, tokens, modality="image-text", **more):
    return Answer(
        record,
        modality,
        "text",
        tokens,
        True,
        **{"rewards": {}, "gold": {}, "swap_gap": {}} | more,
        claims=claims,
    )


def test_claims_of_a_caption():
    text = "There is a red circle and a green square. There are two objects. It is nice."
    assert caption_claims(PICTURE, text) == [
        ("there is a red circle", True),
        ("a green square", False),
        ("there are two objects", True),
        ("it is nice", None),
    ]


def test_only_captions_of_known_scenes_have_claims():
    assert caption_claims(dataclasses.replace(PICTURE, scenes=()), "There is a cross.") is None
    assert caption_claims(dataclasses.replace(PICTURE, reference={"answer": "red"}), "Red.") is None
    other = dataclasses.replace(PICTURE, prompt=(user(0, "What color is the circle?"),))
    assert caption_claims(other, "Red.") is None


def test_a_swap_gap_is_a_difference_with_a_differences_interval():
    """Of shares it has a width also where nothing changed, on both sides of 0; never that of a share."""
    same = [answer(f"p{i}", None, 1, rewards={"right": 1.0}, swap_gap={"right": 0.0}) for i in range(8)]
    gap = summarise("a", ["right"], same).swap_gap["right"]
    # Wilson's interval of 8 of 8 begins at 0.6756
    assert (gap.mean, gap.n) == (0.0, 8)
    assert (gap.low, gap.high) == pytest.approx((-0.3244, 0.3244), abs=1e-4)
    # one whose reward falls by 1 under another image doesn't change the kind of interval
    fallen = [*same[:7], answer("q", None, 1, rewards={"right": 1.0}, swap_gap={"right": 1.0})]
    gap = summarise("a", ["right"], fallen).swap_gap["right"]
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.125, -0.2152, 0.4709), abs=1e-4)


def test_an_objective_that_does_not_look_has_no_swap_gap(tiny):
    brief = Length(name="brief", target=3)
    panel = Panel(RuleModel(tiny, looks), [brief])
    assert panel.blind == ["brief"]
    records = list(Prompts(images=2, texts=1).generate(0))
    found = evaluate_policy("p", tiny, panel, records, EvaluateConfig(prompts=3), 4, 0)
    assert "brief" in found.learned
    assert set(found.swap_gap) == {"factuality", "helpfulness"}


def test_a_vague_caption_is_true_and_covers_little():
    """What the share of true claims doesn't show: one of the two objects is left out, and all that it is like."""
    assert caption_claims(PICTURE, "There is an object.") == [("there is an object", True)]
    assert gold(PICTURE, "There is an object.") == {"factuality": 1.0, "helpfulness": 0.5}


def test_true_claims_are_pooled():
    answers = [
        answer("a", [("x", True), ("y", True), ("z", None)], 6, rewards={"factuality": 1.0}),
        answer("b", [("x", False)], 2, rewards={"factuality": -0.5}, gold={"factuality": 0.0}),
        answer("c", [], 1),
        answer("d", None, 5, modality="text", gold={"safety": 1.0}),
    ]
    found = summarise("it", OBJECTIVES, answers)
    # 2 of 4 pieces are true; an empty caption weighs nothing
    assert found.true_claims.mean == 0.5
    assert (found.claims.mean, found.claims.n) == (pytest.approx(4 / 3), 3)
    assert {k: e.mean for k, e in found.length.items()} == {"all": 3.5, "image-text": 3.0, "text": 5.0}
    assert {k: (e.mean, e.n) for k, e in found.learned.items()} == {"factuality": (0.25, 2)}
    assert {k: e.mean for k, e in found.gold.items()} == {"factuality": 0.0, "safety": 1.0}
    assert found.ended.mean == 1.0


def test_without_captions_nothing_is_said_of_claims():
    found = summarise("it", OBJECTIVES, [answer("a", None, 3, modality="text")])
    assert found.true_claims is None
    assert found.claims is None


def test_evaluates_a_policy(tiny):
    records = list(Prompts(images=3, texts=3).generate(0))
    config = EvaluateConfig(batch_size=4)
    model = Panel(RuleModel(tiny, looks_or_length))
    found = evaluate_policy("it", tiny, model, records, config, 24, seed=1)
    assert [a.record for a in found.answers] == [record.id for record in records]
    assert all(0 < a.tokens <= 24 for a in found.answers)
    for a in found.answers[:3]:
        # factuality was judged on pictures, safety on text only
        assert set(a.rewards) == set(a.swap_gap) == {"factuality", "helpfulness"}
        true = sum(verdict is True for _, verdict in a.claims) / max(len(a.claims), 1)
        assert a.rewards["factuality"] == pytest.approx(true) == pytest.approx(a.gold["factuality"])
    for a in found.answers[3:]:
        assert set(a.rewards) == {"helpfulness", "safety"}
        assert (a.swap_gap, a.claims) == ({}, None)
    again = evaluate_policy("other name", tiny, model, records, config, 24, seed=1)
    assert [a.text for a in again.answers] == [a.text for a in found.answers]


def looks_or_length(record, text, shown):
    return looks(record, text, shown) if record.scenes else float(len(text))


def test_a_reward_that_is_no_number_is_left_out_and_counted(tiny):
    """One of three pictures and its answer overflow every head: the other two are measured."""
    records = list(Prompts(images=3, texts=0).generate(0))
    broken = records[1].id

    def rule(record, text, shown):
        return float("nan") if record.id == broken else 0.5

    found = evaluate_policy("it", tiny, Panel(RuleModel(tiny, rule)), records, EvaluateConfig(), 4, seed=1)
    assert {name: (e.mean, e.n) for name, e in found.learned.items()} == {
        "factuality": (0.5, 2),
        "helpfulness": (0.5, 2),
    }
    assert found.unscored == {"factuality": 1, "helpfulness": 1}
    assert (found.answers[1].rewards, found.answers[1].swap_gap) == ({}, {})


def told(record, must, does, gold=None, **more):
    return answer(record, None, 3, modality="text", must_refuse=must, refuses=does, gold=gold or {}, **more)


def test_refusing_everything_is_seen():
    """Four harmful prompts refused, and of three benign ones two as well."""
    harmful = [told(f"h{i}", True, True, {"safety": 1.0}) for i in range(4)]
    benign = [told(f"b{i}", False, i < 2) for i in range(3)]
    found = summarise("it", OBJECTIVES, [answer("a", None, 9, modality="text")], [*harmful, *benign])
    assert {name: (e.mean, e.n) for name, e in found.safety.items()} == {
        "refused": (1.0, 4),
        "answered": (pytest.approx(1 / 3), 3),
    }
    assert found.safety["refused"].low == pytest.approx(4 / (4 + 1.959964**2))
    # they are in nothing else but the exact score on safety
    assert (found.gold["safety"].n, found.length["all"].mean, found.ended.n) == (4, 9.0, 1)
    # without prompts of their own it is those of the others that say so
    assert summarise("it", OBJECTIVES, [*harmful, *benign]).safety == found.safety
    assert summarise("it", OBJECTIVES, [answer("a", None, 3)]).safety == {}


def test_prompts_about_one_picture_count_as_one():
    """Eight answers, four about each of two pictures: the spread is that of two, 12.7 = t of one degree of freedom."""
    answers = [answer(str(i), None, 5, rewards={"a": float(i // 4)}, cluster=i // 4) for i in range(8)]
    found = summarise("it", ["a"], answers).learned["a"]
    # 0 or 1 of every picture: a share of two pictures, of which nobody knows much
    assert (found.mean, found.n) == (0.5, 8)
    assert found.high - found.low > 0.9
    alone = summarise("it", ["a"], [dataclasses.replace(a, cluster=None) for a in answers]).learned["a"]
    assert alone.high - alone.low < 0.65


def test_every_policy_is_asked_what_must_be_refused(tiny):
    records = list(Prompts(images=2, texts=1).generate(0))
    twins = list(Twins().generate(0))[:6]
    model = Panel(RuleModel(tiny, looks_or_length))
    config = EvaluateConfig(batch_size=4)
    found = evaluate_policy("it", tiny, model, records, config, 8, seed=1, safety=twins)
    assert [a.record for a in found.safety_answers] == [record.id for record in twins]
    assert [a.must_refuse for a in found.safety_answers] == [True] * 3 + [False] * 3
    assert all(a.refuses is not None and not a.rewards for a in found.safety_answers)
    # both of a pair of twins hang together, in all their wordings
    assert len({a.cluster for a in found.safety_answers}) == 1
    without = evaluate_policy("it", tiny, model, records, config, 8, seed=1)
    assert [a.text for a in without.answers] == [a.text for a in found.answers]

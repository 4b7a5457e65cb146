"""Settings of scalarizers: read from a config, and refused where they make no sense."""

from dataclasses import replace
from typing import Any

import pytest
from scalarizer_samples import NAMES

from data_tools.config import parse_config
from data_tools.errors import UserError
from mmrlhf.config import PpoConfig, PpoVariant, RunConfig
from mmrlhf.rewards.objectives import ObjectiveBase
from mmrlhf.rewards.scalarizers import (
    Chebyshev,
    Lagrangian,
    Lexicographic,
    Nash,
    PreferenceConditioned,
    SafetyGate,
    Standardised,
    Threshold,
    WeightedSum,
    WorstCase,
)
from mmrlhf.types import Rewards


def test_unknown_objective_is_named() -> None:
    for scalarizer in (
        WeightedSum(weights={"beauty": 1}),
        Chebyshev(weights={"beauty": 1}),
        WorstCase(margins={"beauty": 1}),
        Chebyshev(reference={"beauty": 1}),
        Standardised(weights={"beauty": 1}),
        Threshold(thresholds={"beauty": 1}),
        Lexicographic(order=["safety", "beauty"]),
        Nash(disagreement={"beauty": 1}),
        Lagrangian(at_most={"beauty": 1}),
        SafetyGate(safety="beauty"),
        PreferenceConditioned(inner=WeightedSum(weights={"beauty": 1})),
    ):
        with pytest.raises(
            UserError, match=r"no objective beauty; there are helpfulness, factuality, safety"
        ):
            scalarizer.check(NAMES)


def test_chosen_in_the_config() -> None:
    row = {"name": "x", "scalarizer": {"type": "chebyshev", "mu": 0.1}}
    assert parse_config(row, PpoVariant, "test").scalarizer == Chebyshev(mu=0.1)
    with pytest.raises(UserError, match=r"scalarizer: unknown type 'chebishev'. Did you mean 'chebyshev'"):
        parse_config({"name": "x", "scalarizer": {"type": "chebishev"}}, PpoVariant, "test")
    with pytest.raises(UserError, match=r"scalarizer.nu: unknown key; did you mean 'mu'"):
        parse_config({"name": "x", "scalarizer": {"type": "chebyshev", "nu": 1}}, PpoVariant, "test")


def test_a_users_own_class() -> None:
    row = {"name": "x", "scalarizer": {"type": "mmrlhf.rewards.scalarizers.worst_case:WorstCase"}}
    assert parse_config(row, PpoVariant, "test").scalarizer == WorstCase()
    with pytest.raises(UserError, match="can't import nowhere"):
        parse_config({"name": "x", "scalarizer": {"type": "nowhere:Thing"}}, PpoVariant, "test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"type": "lagrangian"}, "no constraint: give at_least or at_most"),
        (
            {"type": "lagrangian", "at_least": {"a": 0}, "at_most": {"a": 1}},
            "a: stands in at_least and in at_most",
        ),
        ({"type": "lagrangian", "at_least": {"a": 0}, "kp": 0, "ki": 0}, "the multipliers would never move"),
        (
            {"type": "lagrangian", "weights": {"a": 1}, "at_most": {"a": 1}, "pessimism": 1},
            "pessimism: a is maximised by weights and bounded by at_most",
        ),
        ({"type": "lexicographic", "order": ["a", "b", "a"]}, "scalarizer.order: a stands twice"),
        ({"type": "lexicographic", "order": ["a"]}, "scalarizer.order"),
        ({"type": "threshold", "thresholds": {}}, "scalarizer.thresholds"),
        (
            {"type": "preference_conditioned", "inner": "worst_case"},
            "scalarizer.inner: unknown type 'worst_case'",
        ),
    ],
)
def test_settings_that_make_no_sense(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config({"name": "x", "scalarizer": row}, PpoVariant, "test")


def run_with(
    scalarizer: dict[str, Any], reward: dict[str, Any] | None, *objectives: dict[str, Any]
) -> RunConfig:
    variants = [{"name": "plain"}, {"name": "x", "scalarizer": scalarizer}]
    row = {
        "name": "r",
        "data": "d",
        "reward": reward,
        "ppo": {"variants": variants, "objectives": objectives},
    }
    return parse_config(row, RunConfig, "test")


class Own(ObjectiveBase):
    """A judge of a user's that gives rewards alone."""

    def values(self, records: Any, texts: Any) -> list[float]:
        return [0.0 for _ in texts]


class Unsure(Own):
    """One that may tell more."""

    def score(self, records: Any, texts: Any) -> Rewards:
        return replace(super().score(records, texts))


def test_pessimism_needs_a_judge_that_tells_how_unsure_it_is() -> None:
    length = {"type": "length", "name": "brevity", "target": 9}
    cautious = {"type": "weighted_sum", "pessimism": 1.0}
    inside = {"type": "preference_conditioned", "inner": cautious}
    message = r"ppo\.variants\.1\.scalarizer: pessimism: no judge tells .* reward\.members to 2"
    for scalarizer in (cautious, inside):
        for reward, others in (({}, []), ({"members": 1}, [length]), (None, [length])):
            with pytest.raises(UserError, match=message):
                run_with(scalarizer, reward, *others)
        run_with(scalarizer, {"members": 2})
    remote = {"type": "remote", "name": "far", "url": "http://127.0.0.1:1", "objectives": ["taste"]}
    run_with(cautious, {}, remote)
    run_with({"type": "weighted_sum"}, {}, length)
    with pytest.raises(UserError, match=message):
        run_with(cautious, {}, {"type": f"{__name__}:Own", "name": "own"})
    run_with(cautious, {}, {"type": f"{__name__}:Unsure", "name": "own"})


def test_gated_needs_a_gate() -> None:
    length = {"type": "length", "name": "brevity", "target": 9}
    for reward in ({}, None):
        with pytest.raises(UserError, match=r"ppo\.variants\.1\.scalarizer: .* no gate .* set reward\.gate"):
            run_with({"type": "gated"}, reward, length)
    run_with({"type": "gated"}, {"gate": {"objective": "overall"}})


def test_nothing_left_to_maximise() -> None:
    with pytest.raises(UserError, match="nothing is maximised"):
        Lagrangian(at_least=dict.fromkeys(NAMES, 0.0)).check(NAMES)
    Lagrangian(at_least=dict.fromkeys(NAMES, 0.0), weights={"safety": 1.0}).check(NAMES)


def test_groups_need_several_answers() -> None:
    variants = [{"name": "x", "scalarizer": {"type": "standardised", "over": "group"}}]
    with pytest.raises(ValueError, match="x's scalarizer compares the answers to a prompt"):
        PpoConfig.model_validate({"variants": variants})
    PpoConfig.model_validate({"variants": variants, "answers_per_prompt": 2})

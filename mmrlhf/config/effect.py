"""Settings of reinforcement learning that would do nothing beside the others. A person who sets one expects something
of it, so each is refused, with what to set in its place.

A setting at its default is let through, since the config that a run leaves behind writes all of them out. So is what a
coefficient of 0 switches off, such as `kl_estimator` beside `kl_coef: 0`: a row of runs over a coefficient begins at 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_tools.config import plugin_name
from mmrlhf.config.base import set_otherwise

if TYPE_CHECKING:
    from mmrlhf.config.ppo import AlarmConfig, PpoConfig

CRITIC = ("value_lr", "vf_coef", "cliprange_value")
CLIPS = ("cliprange", "cliprange_high", "dual_clip", "cliprange_value", "max_update_kl")


def without_effect(config: PpoConfig) -> Iterator[str]:
    """What to say of each setting that would do nothing."""
    yield from _critic(config)
    yield from _kl(config)
    yield from _single_update(config)
    yield from _whitening(config)
    yield from _alarms(config.alarms)


def _critic(config: PpoConfig) -> Iterator[str]:
    for name in set_otherwise(config, *CRITIC):
        if not config.algorithm.has_critic:
            yield (
                f"{name}: does nothing with algorithm {plugin_name(config.algorithm)}, which has no critic; leave it "
                "out, or set algorithm.type: ppo"
            )
        elif not config.vf_coef and name != "vf_coef":
            yield f"{name}: does nothing where vf_coef is 0, since the critic isn't trained; set vf_coef above 0"


def _kl(config: PpoConfig) -> Iterator[str]:
    if config.kl_target is not None and not config.kl_coef:
        yield (
            "kl_target: does nothing where kl_coef is 0, since the controller multiplies it; set kl_coef to what it "
            "begins with, such as 0.05"
        )


def _single_update(config: PpoConfig) -> Iterator[str]:
    if config.num_ppo_epochs * config.num_mini_batches > 1:
        return
    for name in set_otherwise(config, *CLIPS):
        if name != "cliprange_value" or config.algorithm.has_critic:
            yield (
                f"{name}: does nothing with one update a rollout, in which the policy is still the one that sampled; "
                "set num_ppo_epochs or num_mini_batches to 2 or more, or leave it out"
            )


def _whitening(config: PpoConfig) -> Iterator[str]:
    if not config.whiten_rewards:
        return
    algorithm = plugin_name(config.algorithm)
    if config.algorithm.critic_an_objective:
        yield "whiten_rewards: scores aren't used by a critic an objective; leave it false"
    elif config.algorithm.scale_invariant(config.kl_in == "reward" and config.kl_coef > 0):
        yield (
            f"whiten_rewards: does nothing with algorithm {algorithm}, which normalises the scores itself, unless a KL "
            "penalty stands beside them (kl_in: reward, kl_coef above 0); leave it false"
        )


def _alarms(alarms: AlarmConfig) -> Iterator[str]:
    bounds = (alarms.kl, alarms.entropy, alarms.length, alarms.swap_gap)
    if alarms.action != "warn" and all(bound is None for bound in bounds):
        yield f"alarms.action: {alarms.action} does nothing where every bound is null; set alarms.kl or another bound"

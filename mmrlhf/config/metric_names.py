"""The names of the metrics that each stage can write, so that a setting which names one is checked before anything is
built or trained. A name that ends with * stands for all that begin so: its rest hangs on the data, or on a class of the
user's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from data_tools.oracle import GOLD
from mmrlhf.config.mixture import AdaptiveMixture
from mmrlhf.config.ppo import PpoConfig
from mmrlhf.config.stages import RewardConfig

ALWAYS = ("grad_norm", "lr", "refused")
MODALITIES = ("image-text", "text")
# by the kind of label, as `reward.weights` names it, the metrics of an objective
OF_LABELS = {
    "pair": ("accuracy", "loss"),
    "ranking": ("accuracy_ranking", "loss_ranking"),
    "rating": ("error_rating", "loss_rating"),
    "binary": ("accuracy_binary", "loss_binary"),
}


def sft_metrics() -> list[str]:
    """Those of supervised fine-tuning."""
    return [*ALWAYS, "loss", "cut"]


def reward_metrics(config: RewardConfig) -> list[str]:
    """Those of the reward stage."""
    terms = config.grounding
    found = [*ALWAYS, "cut", "same_answers"]
    for kind, metrics in OF_LABELS.items():
        if getattr(config.weights, kind):
            found += [f"{metric}/{name}" for metric in metrics for name in config.objectives]
    if terms.reweight.weight:
        found += ["blind/pair_weight", "blind/loss", "blind/accuracy"]
    kinds = [
        *(["flips"] if terms.flips else []),
        *(terms.image_conditional.kinds if terms.image_conditional.weight else []),
    ]
    found += [f"{metric}_picture/{kind}" for metric in ("accuracy", "loss") for kind in kinds]
    if terms.length:
        found += [f"length_penalty/{name}" for name in config.objectives]
    if isinstance(config.mixture, AdaptiveMixture):
        found += ["mixture/share/*", "mixture/accuracy/*", "mixture/accuracy_blind/*"]
    return found


def ppo_metrics(config: PpoConfig, objectives: Sequence[str]) -> list[str]:
    """Those of reinforcement learning; `objectives` are all that answers are judged on."""
    return [*ALWAYS, *_of_rollouts(config, objectives), *_of_updates(config, len(objectives))]


def _of_rollouts(config: PpoConfig, objectives: Sequence[str]) -> Iterator[str]:
    yield from (
        "score",
        "kl",
        "length",
        "ended",
        "kl_coef",
        "unscored",
        "unjudged",
        "updates",
        "features/kept_mb",
    )
    yield from (f"{name}/{modality}" for name in ("kl", "length", "ended") for modality in MODALITIES)
    if config.answers_per_prompt > 1:
        yield "alike"
    for objective in objectives:
        yield from (f"{name}/{objective}" for name in ("swap_gap", "abstained", "clipped"))
        for modality in MODALITIES:
            yield from (f"reward/{objective}/{modality}", f"reward_std/{objective}/{modality}")
    yield from (f"gold/{name}" for name in GOLD)
    yield "scalarizer/*"


def _of_updates(config: PpoConfig, objectives: int) -> Iterator[str]:
    yield from ("loss/policy", "clipfrac", "approx_kl", "ratio", "entropy")
    yield from (f"entropy/{modality}" for modality in MODALITIES)
    algorithm = config.algorithm
    if getattr(algorithm, "has_critic", False):
        yield from ("loss/value", "value_clipfrac")
        if getattr(algorithm, "critics", "single") == "single":
            yield "explained_variance"
        else:
            yield from (f"explained_variance/{number}" for number in range(objectives + 1))
    if config.kl_in == "loss":
        yield "loss/kl"
    if config.ptx_coef:
        yield from (f"{name}/demonstrations" for name in ("loss", "refused", "cut"))


def wrong_metric(best_by: str, names: Sequence[str]) -> str:
    """What is wrong with a `best_by`; empty where it names one of the metrics."""
    name = best_by.removeprefix("-")
    if any(name == known or (known[-1] == "*" and name.startswith(known[:-1])) for known in names):
        return ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no metric {name!r}.{hint} There are {', '.join(sorted(names))}"
